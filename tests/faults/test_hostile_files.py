"""Files of others' formats that are made to do harm: one line, and nothing of them is run.

``python benchmarks/hostile_files.py`` reads many changed files of each kind, each in a process of
its own; here is what was found, and what would be worst.
"""

import io
import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from tests import torch_files
from tests.data.rows import read_shard
from tests.encoders.hub_folders import CONFIG, write_folder
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.parsing.record_layout import record_checksum
from tfxc.data.store.records.record_writer import encode_example
from tfxc.data.text.subwords import PretrainedTokens
from tfxc.encoders.pretrained.encoder import Pretrained
from tfxc.imports.pecos import import_run
from tfxc.labels.pecos_tree import load_tree
from tfxc.pretrained import sentencepiece
from tfxc.pretrained.sentencepiece import model_of_pieces, read_pieces
from tfxc.pretrained.torch_files import load_state_dict

PECOS = Path(__file__).parents[1] / "ranker" / "data" / "pecos_model"


class RunsCode:
    """A pickle of it makes a folder when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


# ---------------------------------------------------------------------------------------------
# TFRecords


FIELDS = {
    "labels": np.arange(6), "label_vals": np.ones(6, "f4"), "input_idxs": np.arange(6),
    "input_vals": np.ones(6, "f4"),
}  # fmt: skip
COUNTS = {"label_counts": np.full(3, 2), "input_counts": np.full(3, 2)}


def framed(record, length=None):
    """A record of a TFRecord file with right checksums, whatever length it claims."""
    head = (len(record) if length is None else length).to_bytes(8, "little")
    return head + record_checksum(head) + record + record_checksum(record)


def claiming(fields, claimed):
    """A record whose list of floats claims a length."""
    record = encode_example(fields)
    place = record.index(b"input_vals") + len(b"input_vals")
    return record[: place + 5] + claimed + record[place + 5 :]


BAD_RECORDS = {
    # TensorFlow's parser reads beyond the end of the first, its reader reserves what others claim.
    "a list of 2^62 bytes": lambda fields: framed(claiming(fields, b"\xff" * 8 + b"\x3f")),
    "a record of 2^62 bytes": lambda fields: framed(encode_example(fields), 1 << 62),
    "a record of 2^64 bytes": lambda fields: framed(encode_example(fields), (1 << 64) - 1),
    "no text as a name": lambda fields: framed(
        encode_example(fields).replace(b"input_vals", b"input_v\xff\xfe\xfd")
    ),
    "an unknown field": lambda fields: framed(
        encode_example(fields).replace(b"\x0a\x18\x0a\x0ainput_idxs", b"\x2a\x18\x0a\x0ainput_idxs")
    ),
    "a negative id": lambda fields: framed(
        encode_example(fields | {"labels": np.array([2**64 - 1] * 6, np.uint64)})
    ),
    "an id of 62 bits": lambda fields: framed(
        encode_example(fields | {"input_idxs": np.array([2**62] * 6, np.uint64)})
    ),
    "numbers of another type": lambda fields: framed(
        encode_example(fields | {"input_idxs": np.ones(6, "f4")})
    ),
    "random bytes": lambda fields: framed(bytes(range(256))),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
@pytest.mark.parametrize("layout", ["blocks", "examples"])
def test_records(tmp_path, layout, name):
    """Of a shard of prepared data, and of a file that MACH's original code would write."""
    path = tmp_path / "rows.tfrecords"
    fields = FIELDS | (COUNTS if layout == "blocks" else {})
    path.write_bytes(framed(encode_example(fields)) + BAD_RECORDS[name](fields))
    with pytest.raises(DataError, match=r"rows\.tfrecords"):
        read_shard(path, layout, num_features=10)
    if layout == "examples":
        with pytest.raises(DataError, match="Write the file again"):
            list(open_reader(path).chunks())


def test_counts_of_lists_that_overflow(tmp_path):
    """Four counts of 2^62 sum up to 0 in 64 bits."""
    path = tmp_path / "rows.tfrecords"
    for counts in ([2**62] * 4, [2**64 - 2, 6, 2]):
        fields = FIELDS | COUNTS | {"label_counts": np.array(counts, np.uint64)}
        if len(counts) == 4:
            fields |= {"labels": np.zeros(0, int), "label_vals": np.zeros(0, "f4")}
        path.write_bytes(framed(encode_example(fields)))
        with pytest.raises(DataError):
            read_shard(path, "blocks", num_features=10)


# ---------------------------------------------------------------------------------------------
# SentencePiece models


def model_with(pieces=(), table=b"", trainer=b""):
    """A model of some pieces, and of a table of normalisation rules."""
    import base64

    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "▁", "a", "b"]
    content = {
        "model": {"unk_id": 1, "vocab": [[piece, -1.0] for piece in [*special, *pieces]]},
        "normalizer": {"precompiled_charsmap": base64.b64encode(table).decode()},
        "added_tokens": [{"content": name} for name in special if name[0] == "["],
    }
    return model_of_pieces(content, "tokenizer.json") + trainer


def rules(units, replacements=b"b\0"):
    """A table whose trie begins with these units."""
    values = np.zeros(256, "<u4")
    values[: len(units)] = units
    return struct.pack("<I", values.nbytes) + values.tobytes() + replacements


BAD_MODELS = {
    # What the library's native code would crash on.
    "a NUL": model_with(["\0"]),
    "an empty piece": model_with([""]),
    "a piece of a million letters": model_with(["x" * 10**6]),
    "rules beyond their end": model_with(table=rules([(1 << 21) << 10])),
    "a replacement that is not there": model_with(table=rules([1 << 8 | 1 << 10, 2**30])),
    "rules that are cut off": model_with(table=rules([0])[:900]),
    "rules of 2 GB": model_with(table=struct.pack("<I", 2**31) + bytes(2000)),
    # What it refuses.
    "a piece twice": model_with(["a"]),
    "bytes without their pieces": model_with(trainer=b"\x12\x03\x98\x02\x01"),
    "random bytes": bytes(range(256)),
    "nothing": b"",
}


def albert(folder, model):
    write_folder(folder, model_type="albert")
    (folder / "spiece.model").write_bytes(model)
    return PretrainedTokens(str(folder), max_length=16)


@pytest.fixture(scope="module")
def text():
    return pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")


@pytest.mark.parametrize("name", BAD_MODELS)
def test_sentencepiece(tmp_path, text, name):
    with pytest.raises(ConfigError, match="model"):
        albert(tmp_path / "model", BAD_MODELS[name]).fit([]).transform(["a b"])


def test_the_model_in_a_run_is_looked_at_as_well(tmp_path, text):
    from tfxc.data.text.registry import load_text_features

    albert(tmp_path / "model", model_with()).fit([]).save(tmp_path / "saved")
    load_text_features(tmp_path / "saved").transform(["a b"])
    (tmp_path / "saved" / "subwords.model").write_bytes(BAD_MODELS["a NUL"])
    with pytest.raises(DataError, match=r"subwords\.model.* holds a NUL"):
        load_text_features(tmp_path / "saved")


def test_usual_rules_are_sound():
    trainer = pytest.importorskip("sentencepiece", reason="it is not installed")
    model = io.BytesIO()
    trainer.SentencePieceTrainer.train(
        sentence_iterator=iter(["a fox, an owl", "½ ﬁsh"] * 9),
        model_writer=model, vocab_size=30, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    pieces, unknown = read_pieces(model.getvalue(), "spiece.model")
    assert pieces[unknown] == "<unk>" and len(pieces) > 10
    content = sentencepiece._message_class().FromString(model.getvalue())
    assert len(content.normalizer.rules) > 100_000


# ---------------------------------------------------------------------------------------------
# Weights


def test_torch_files(tmp_path):
    ran = tmp_path / "ran"
    state = {"weight": np.ones((3, 4), "f4")}
    torch_files.save(tmp_path / "good.pt", state)
    good = (tmp_path / "good.pt").read_bytes()
    legacy = b"".join(pickle.dumps(part, 2) for part in (torch_files.MAGIC, 1001))
    bad = {
        "a pickle": pickle.dumps(RunsCode(ran), 2),
        "an old file": legacy + pickle.dumps(RunsCode(ran), 2),
        "code in a dict": legacy
        + pickle.dumps({"little_endian": True}, 2)
        + pickle.dumps({"weight": RunsCode(ran)}, 2),
        "an object of a huge number": pickle.dumps([], 2)[:2] + b"r\xff\xff\xff\x7f.",
        "half": good[: len(good) // 2],
    }
    for name, content in bad.items():
        (tmp_path / "model.pt").write_bytes(content)
        with pytest.raises(DataError, match=r"model\.pt"):
            load_state_dict(tmp_path / "model.pt")
        assert not ran.exists(), name


def with_header(path, change):
    """Changes the header of a file of safetensors."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = change(json.loads(content[8 : 8 + size]), content[8 + size :])
    header, data = header if isinstance(header, tuple) else (header, content[8 + size :])
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + data)


NAME = "encoder.layer.0.attention.self.query.weight"
BAD_HEADERS = {
    "no dimension": lambda head, data: _alone(head, shape=[]),
    "one dimension": lambda head, data: _alone(head, shape=[256]),
    "floats of 8 bits": lambda head, data: _alone(head, dtype="F8_E5M2"),
    "2^80 values": lambda head, data: head | {NAME: head[NAME] | {"shape": [2**40, 2**40]}},
    "an end beyond the file": lambda head, data: (
        head | {NAME: head[NAME] | {"data_offsets": [0, 2**60]}}
    ),
    "a list": lambda head, data: [head],
}


def _alone(head, **changes):
    """One tensor has another shape or type, the others follow."""
    head[NAME] |= changes
    end = 0
    for item in head.values():
        begin, width = end, {"F8_E5M2": 1}.get(item["dtype"], 4)
        end = begin + int(np.prod(item["shape"])) * width
        item["data_offsets"] = [begin, end]
    return head, bytes(end)


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_safetensors(tmp_path, name):
    write_folder(tmp_path / "model", num_hidden_layers=1)
    with_header(tmp_path / "model" / "model.safetensors", BAD_HEADERS[name])
    with pytest.raises(ConfigError, match="model") as caught:
        Pretrained(CONFIG["vocab_size"], tmp_path / "model").build()
    assert "numpy" not in str(caught.value)


def test_a_length_of_safetensors_that_is_claimed(tmp_path):
    write_folder(tmp_path / "model", num_hidden_layers=1)
    for length in (2**40, 2**64 - 1):
        content = length.to_bytes(8, "little") + b"{}"
        (tmp_path / "model" / "model.safetensors").write_bytes(content)
        with pytest.raises(ConfigError, match=r"model\.safetensors"):
            Pretrained(CONFIG["vocab_size"], tmp_path / "model").build()


# ---------------------------------------------------------------------------------------------
# PECOS


def array_file(values=None, shape=None):
    """The bytes of an ``.npy`` file: of values, or that claims a shape."""
    stream = io.BytesIO()
    if shape is None:
        np.save(stream, values, allow_pickle=True)
    else:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def with_member(path, name, content):
    """Replaces a member of an archive of arrays."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, own in (members | {name: content}).items():
            archive.writestr(member, own)


@pytest.mark.parametrize("part", ["W", "C"])
@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 62,), (-5,), None])
def test_pecos(tmp_path, part, shape):
    """Arrays that claim more than the machine has, and a pickle."""
    shutil.copytree(PECOS, tmp_path / "model", copy_function=shutil.copyfile)
    os.chmod(tmp_path / "model", 0o755)
    path = tmp_path / "model" / "ranker" / "1.model" / f"{part}.npz"
    path.parent.chmod(0o755)
    ran = tmp_path / "ran"
    content = array_file(np.array([RunsCode(ran)])) if shape is None else array_file(shape=shape)
    with_member(path, "data.npy", content)
    with pytest.raises(DataError, match=rf"{part}\.npz"):
        import_run(tmp_path / "model", tmp_path / "run")
    if part == "C":
        with pytest.raises(DataError, match=rf"{part}\.npz"):
            load_tree(path)
    assert not ran.exists() and not (tmp_path / "run").exists()
