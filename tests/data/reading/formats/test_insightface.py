"""Record files of InsightFace, written by the tests' own writer."""

import struct

import numpy as np
import pytest

from tests.contracts.formats import ReaderContract, concatenated
from tests.data.reading.formats.recordio_writer import (
    MAGIC,
    image_record,
    part,
    record,
    write_records,
)
from tfxc.core.errors import DataError
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.parsing.recordio import read_record

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 2]
# The magic number where the file has to cut the record, and where it has not.
IMAGES = [
    b"\xff\xd8" + bytes([i]) * i + (MAGIC if i % 3 == 0 else b"") + b"\x01" * (i % 4)
    for i in range(len(LABELS))
]


def face_set(labels=LABELS, images=IMAGES):
    """Payloads of a set: the overview, the images, one record per identity."""
    people = sorted(set(labels))
    first = len(labels) + 1
    payloads = [image_record([float(first), float(first + len(people))], b"")]
    payloads += [image_record(float(label), i) for label, i in zip(labels, images, strict=True)]
    bounds = [(labels.index(p) + 1, len(labels) - labels[::-1].index(p) + 1) for p in people]
    return payloads + [image_record([float(a), float(b)], b"") for a, b in bounds]


class TestInsightFace(ReaderContract):
    format = "insightface"
    label_type = int

    def write_sample(self, folder):
        write_records(folder / "train.rec", face_set())
        (folder / "property").write_text("3,112,112")
        return folder / "train.rec"

    def write_compressed(self, folder):
        flat, plain = folder / "flat.rec", folder / "plain.rec"
        payloads = [image_record(float(label), b"image" * label + b"x") for label in range(8)]
        write_records(flat, payloads)
        yield flat, flat
        write_records(plain, payloads)
        plain.with_suffix(".idx").unlink()
        yield plain, plain

    @pytest.mark.parametrize("indexed", [True, False])
    @pytest.mark.parametrize("given", ["train.rec", "."])
    def test_a_set(self, tmp_path, indexed, given):
        path = self.write_sample(tmp_path)
        if not indexed:
            path.with_suffix(".idx").unlink()
        reader = open_reader(tmp_path / given)
        assert (reader.num_examples, reader.num_labels) == (9, 3)
        chunk = concatenated(reader.chunks(4))
        assert chunk.images == IMAGES
        assert chunk.labels == [[label] for label in LABELS]
        assert chunk.names[0] == "train.rec[1]"

    def test_records_of_any_order_in_the_file(self, tmp_path):
        payloads = face_set()
        order = np.random.default_rng(5).permutation(len(payloads)).tolist()
        offsets = write_records(tmp_path / "a.rec", [payloads[number] for number in order])
        lines = [f"{number} {offset}" for number, offset in zip(order, offsets, strict=False)]
        (tmp_path / "a.idx").write_text("\n".join(lines))
        chunk = concatenated(open_reader(tmp_path / "a.rec").chunks())
        assert chunk.images == IMAGES
        assert chunk.names[-1] == "a.rec[9]"

    @pytest.mark.parametrize("indexed", [True, False])
    def test_without_overview(self, tmp_path, indexed):
        payloads = [image_record(3.0, b"a"), image_record([5.0], b"b"), image_record(4.0, b"c")]
        write_records(tmp_path / "a.rec", payloads)
        if not indexed:
            (tmp_path / "a.idx").unlink()
        reader = open_reader(tmp_path)
        chunk = concatenated(reader.chunks())
        assert (chunk.labels, chunk.images) == ([[3], [5], [4]], [b"a", b"b", b"c"])
        assert (reader.num_labels, reader.num_examples) == (None, 3 if indexed else None)

    @pytest.mark.parametrize(
        "payload",
        [b"", b"abc", MAGIC, MAGIC * 3, b"abcd" + MAGIC, MAGIC + b"x", b"x" + MAGIC, b"\n" * 70],
    )
    def test_records_come_back(self, tmp_path, payload):
        path = tmp_path / "a"
        path.write_bytes(record(payload) + record(b"next"))
        with open(path, "rb") as stream:
            assert read_record(stream, path, 0) == payload
            assert read_record(stream, path, stream.tell()) == b"next"
            assert read_record(stream, path, stream.tell()) is None

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (b"\0" * 8, "starts with 0x00000000 instead of 0xced7230a"),
            (part(2, b"abcd"), "a part of kind 2 is out of order"),
            (part(1, b"abcd") + record(b"x"), "a part of kind 0 is out of order"),
            (part(0, b"x" * 9)[:-1], "ends within a record of 9 bytes"),
            (MAGIC, "ends within the header of a record"),
            (record(b"short"), "has 5 bytes, its header alone 24"),
            (record(struct.pack("<IfQQ", 9, 0, 0, 0)), "fewer than 9 labels"),
            (record(image_record(1.0, b"")), "record 1 has no image"),
            (record(image_record(1.5, b"x")), "the label id 1.5 is not one of 0 to 2,147,483,646?"),
            (record(image_record(-1.0, b"x")), "the label id -1.0 is not one of 0 to"),
            (record(image_record(float("nan"), b"x")), "label id nan is not one of"),
        ],
    )
    def test_bad_records_name_the_byte(self, tmp_path, bad, message):
        good = record(image_record(0.0, b"x"))
        (tmp_path / "a.rec").write_bytes(good + bad)
        with pytest.raises(DataError, match=message.replace("6?", "7")) as caught:
            list(open_reader(tmp_path / "a.rec").chunks())
        place = len(good) + (12 if "kind 0" in message else 0)
        assert str(caught.value).startswith(f"{tmp_path / 'a.rec'}: byte {place}: ")

    def test_labels_beyond_the_property(self, tmp_path):
        path = self.write_sample(tmp_path)
        (tmp_path / "property").write_text("2,112,112")
        with pytest.raises(
            DataError, match=r"train\.rec: byte \d+: the label id 2\.0 is not one of 0 to 1"
        ):
            list(open_reader(path).chunks())
        (tmp_path / "property").write_text("many")
        with pytest.raises(
            DataError, match=r"property: the first value of 'classes,height,width' is"
        ):
            open_reader(path)

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            ("0\t0\n1\n", r"train\.idx:2: b'1' is not 'number offset'"),
            ("0\t0\n1\tx\n", r"train\.idx:2: .* is not 'number offset'"),
            ("0\t0\n1\t99\n1\t120\n", r"train\.idx:3: record 1 occurs twice"),
            ("", r"train\.idx:1: the file is empty"),
            ("0\t0\n1\t40\n", r"train\.idx: the index lists only 1 of the records 1 to 9"),
            ("0\t99999\n", r"train\.rec: byte 99999: .* ends before record 0"),
            ("0\t4\n", r"train\.rec: byte 4: .* a record starts with"),
        ],
    )
    def test_bad_index(self, tmp_path, index, message):
        path = self.write_sample(tmp_path)
        path.with_suffix(".idx").write_text(index)
        with pytest.raises(DataError, match=message):
            list(open_reader(path).chunks())

    @pytest.mark.parametrize("indexed", [True, False])
    def test_fewer_images_than_announced(self, tmp_path, indexed):
        path = tmp_path / "a.rec"
        offsets = write_records(path, face_set()[:4])
        if not indexed:
            path.with_suffix(".idx").unlink()
        message = "of the records 1 to 9" if indexed else f"byte {offsets[4]}: .* before record 4"
        with pytest.raises(DataError, match=message):
            list(open_reader(path).chunks())

    def test_which_file_of_a_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"the folder has no \.rec file"):
            open_reader(tmp_path, "insightface")
        write_records(tmp_path / "a.rec", [image_record(1.0, b"a")])
        write_records(tmp_path / "b.rec", [image_record(2.0, b"b")])
        with pytest.raises(DataError, match=r"several \.rec files: a\.rec, b\.rec"):
            open_reader(tmp_path)
        write_records(tmp_path / "train.rec", [image_record(3.0, b"c")])
        assert concatenated(open_reader(tmp_path).chunks()).labels == [[3]]
