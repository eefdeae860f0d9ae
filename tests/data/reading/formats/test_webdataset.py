"""WebDataset shards, written by Python's tarfile."""

import gzip
import io
import json
import tarfile

import pytest

from tests.contracts.formats import ReaderContract, concatenated
from tfxc.core.errors import DataError
from tfxc.data.reading.formats import open_reader

SAMPLES = [(f"n{i:03d}", f"jpeg {i}".encode(), i % 4) for i in range(9)]


def write_tar(path, members):
    """Writes ``[(name, content)]``, compressed where the name says so."""
    mode = "w" if path.suffix == ".tar" else "w:gz"
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def members_of(samples):
    for name, image, label in samples:
        yield f"{name}.jpg", image
        yield f"{name}.cls", str(label).encode()


class TestWebDataset(ReaderContract):
    format = "webdataset"
    label_type = int

    def write_sample(self, folder):
        return write_tar(folder / "sample.tar", members_of(SAMPLES))

    def write_compressed(self, folder):
        for name in ("a.tar.gz", "a.tgz"):
            path = write_tar(folder / name, members_of(SAMPLES))
            yield path, path

    def read(self, path, **options):
        return concatenated(open_reader(path, **options).chunks(4))

    def test_samples(self, tmp_path):
        chunk = self.read(self.write_sample(tmp_path))
        assert chunk.images == [image for _, image, _ in SAMPLES]
        assert chunk.labels == [[label] for _, _, label in SAMPLES]
        assert chunk.names[0] == "sample.tar: n000"

    @pytest.mark.parametrize(
        "given", ["", "s-{008..010}.tar", "s-*.tar", "s-0{08..09}.tar", "s-{000..010}-[ab].tar"]
    )
    def test_several_shards(self, tmp_path, given):
        shards = {
            "": ["s-008.tar", "s-010.tar.gz", "s-009.tar"],
            "s-{000..010}-[ab].tar": [f"s-{i:03d}-{'ba'[i % 2]}.tar" for i in range(11)],
        }.get(given, [f"s-{i:03d}.tar" for i in (8, 9, 10)])
        for shard in shards:
            write_tar(tmp_path / shard, members_of([("x", shard.encode(), 1)]))
        (tmp_path / "README.md").write_text("not a shard")
        expected = sorted(shards)[:2] if given == "s-0{08..09}.tar" else sorted(shards)
        chunk = self.read(tmp_path / given)
        assert chunk.images == [shard.encode() for shard in expected]

    def test_what_a_member_is(self, tmp_path):
        members = [
            ("./a.b/x.PNG", b"1"), ("./a.b/x.cls", b" 7\n"), ("./a.b/x.seg.png", b"-"),
            ("./a.b/.hidden.jpg", b"-"), ("./a.b/LICENSE", b"-"),
            ("x.txt", b"-"), ("x.cls", b"2"), ("x.jpeg", b"2"), ("x.json", b"-"),
        ]  # fmt: skip
        chunk = self.read(write_tar(tmp_path / "a.tar", members))
        assert (chunk.labels, chunk.images) == ([[7], [2]], [b"1", b"2"])
        assert chunk.names == ["a.tar: ./a.b/x", "a.tar: x"]

    def test_names_and_json(self, tmp_path):
        path = write_tar(tmp_path / "a.tar", [("x.jpg", b"1"), ("x.txt", "é \n".encode())])
        assert self.read(path).labels == [["é"]]
        found = [3, [3, 1, 3.0], None]
        members = [
            (f"{number}.{kind}", content)
            for number, label in enumerate(found)
            for kind, content in (("jpg", b"1"), ("json", json.dumps({"id": label}).encode()))
        ]
        path = write_tar(tmp_path / "b.tar", members)
        assert self.read(path, label_key="id").labels == [[3], [3, 1], []]

    def test_without_labels(self, tmp_path):
        path = write_tar(tmp_path / "a.tar", [("x.jpg", b"1"), ("y.cls", b"-"), ("y.png", b"2")])
        chunk = self.read(path, labelled=False)
        assert (chunk.labels, chunk.images) == ([[], []], [b"1", b"2"])

    @pytest.mark.parametrize(
        ("members", "sample", "message"),
        [
            ([("a.cls", b"1")], "a", r"one image .* its members are \.cls"),
            ([("a.jpg", b""), ("a.png", b"")], "a", r"one image .* its members are \.jpg, \.png"),
            ([("a.jpg", b"")], "a", r"a label \(\.cls or \.txt\): its members are \.jpg"),
            ([("a.jpg", b""), ("a.jpg", b"")], "a", r"two members \.jpg"),
            ([("ok.jpg", b""), ("ok.cls", b"1"), ("a.jpg", b""), ("a.txt", b"cat")], "a",
             r"a label \(\.cls\): "),
            ([("a.jpg", b""), ("b.jpg", b""), ("a.cls", b"1"), ("b.cls", b"1")], "a", "a label"),
            ([("a.jpg", b""), ("a.cls", b"cat")], "a", r"\.cls contains b'cat', .*an integer"),
            ([("a.jpg", b""), ("a.cls", b"-1")], "a", "the label id -1 is not one of"),
            ([("a.jpg", b""), ("a.txt", b"\xff")], "a", r"\.txt contains .* not a UTF-8 text"),
            ([("a.jpg", b""), ("a.txt", b"x\ny")], "a", "the label name .* is not one"),
        ],
    )  # fmt: skip
    def test_bad_samples(self, tmp_path, members, sample, message):
        path = write_tar(tmp_path / "a.tar", members)
        with pytest.raises(DataError, match=message) as caught:
            self.read(path)
        assert str(caught.value).startswith(f"{path}: sample '{sample}': ")

    @pytest.mark.parametrize(
        ("contents", "message"),
        [
            ([b"[1]"], "a JSON object with the key 'id'"),
            ([b"{"], "a JSON object with the key 'id'"),
            ([b"{}"], "a JSON object with the key 'id'"),
            ([b'{"id": 1.5}'], "'id': '1.5' is not a label"),
            ([b'{"id": 1}', b'{"id": "x"}'], "the label 'x' is not an id"),
        ],
    )
    def test_bad_json(self, tmp_path, contents, message):
        members = [
            (f"{number}.{kind}", content)
            for number, text in enumerate(contents)
            for kind, content in (("jpg", b"1"), ("json", text))
        ]
        path = write_tar(tmp_path / "a.tar", members)
        with pytest.raises(DataError, match=message):
            self.read(path, label_key="id")

    @pytest.mark.parametrize("kept", [512, 1000, 1024, 1100, 2048, 9 * 2048])
    def test_a_cut_or_damaged_shard(self, tmp_path, kept):
        path = self.write_sample(tmp_path)
        whole = path.read_bytes()
        for name, content in (
            ("cut.tar", whole[:kept]),
            ("packed.tar.gz", gzip.compress(whole[:kept])),
            ("wrong.tar", whole[:kept] + b"x" * 512 + whole[kept + 512 :]),
        ):
            bad = tmp_path / name
            bad.write_bytes(content)
            if name == "wrong.tar" and kept % 1024:
                continue  # an image is changed, which a tar archive does not notice
            with pytest.raises(DataError, match=rf"{name}: .*truncated or damaged"):
                self.read(bad)

    def test_missing_shards(self, tmp_path):
        write_tar(tmp_path / "0.tar", members_of(SAMPLES))
        with pytest.raises(DataError, match=r"1\.tar: no such file"):
            open_reader(tmp_path / "{0..1}.tar")
        with pytest.raises(DataError, match=r"x\*\.tar: no such file"):
            open_reader(tmp_path / "x*.tar")
