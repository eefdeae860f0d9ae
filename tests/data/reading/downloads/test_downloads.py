"""Downloads from a server on this machine: resumed, verified, converted."""

import hashlib
import io
import json
import lzma
import random
import tarfile

import pytest

from tests.commands.calls import call
from tests.data.reading.downloads.server import serving
from tests.data.reading.formats import data_folder
from tests.source_tree import ROOT
from tfxc.commands import fetch as command
from tfxc.core.errors import DataError, MachineError
from tfxc.core.storage.reading import checksum
from tfxc.data.reading.downloads import sets
from tfxc.data.reading.downloads.download import download
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.inspection.completion import load_config

CONTENT = random.Random(0).randbytes(3 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving() as files:
        files.content["/a.bin"] = CONTENT
        yield files


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once(server, tmp_path):
    assert download(f"{server.address}/a.bin", tmp_path / "a.bin", SHA256) == SHA256
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert download(f"{server.address}/a.bin", tmp_path / "a.bin") == SHA256
    assert len(server.requests) == 1 and listing(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["known", "unknown"])
def test_a_broken_download_is_continued(server, tmp_path, sha256):
    server.break_at = 2 << 20
    with pytest.raises(MachineError, match=r"a.bin: cannot be downloaded.*start again"):
        download(f"{server.address}/a.bin", tmp_path / "a.bin", sha256)
    assert not (tmp_path / "a.bin").exists()
    download(f"{server.address}/a.bin", tmp_path / "a.bin", sha256)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.requests == [("/a.bin", None), ("/a.bin", f"bytes={2 << 20}-")]
    assert listing(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_another_file_is_not_continued(server, tmp_path, ranges):
    """Its ETag has changed, or the server continues nothing."""
    server.break_at, server.ranges = 1 << 20, ranges
    with pytest.raises(MachineError):
        download(f"{server.address}/a.bin", tmp_path / "a.bin")
    server.content["/a.bin"] = CONTENT[::-1]
    download(f"{server.address}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[::-1]


def test_a_damaged_part_is_noticed(server, tmp_path):
    server.break_at = 1 << 20
    with pytest.raises(MachineError):
        download(f"{server.address}/a.bin", tmp_path / "a.bin", SHA256)
    (tmp_path / ".a.bin.part").write_bytes(bytes(1 << 20))
    assert download(f"{server.address}/a.bin", tmp_path / "a.bin", SHA256) == SHA256


def test_a_complete_part_is_fetched_again(server, tmp_path):
    """As a kill before the last rename leaves it."""
    server.break_at = 1 << 20
    with pytest.raises(MachineError):
        download(f"{server.address}/a.bin", tmp_path / "a.bin")
    (tmp_path / ".a.bin.part").write_bytes(CONTENT)
    assert download(f"{server.address}/a.bin", tmp_path / "a.bin") == SHA256


def test_another_content_is_refused(server, tmp_path):
    with pytest.raises(DataError, match=f"SHA-256 is {SHA256} instead of {'0' * 64}"):
        download(f"{server.address}/a.bin", tmp_path / "a.bin", "0" * 64)
    assert not listing(tmp_path)


def test_what_is_not_there(server, tmp_path):
    with pytest.raises(DataError, match=r"/b.bin: the server has no such file \(404"):
        download(f"{server.address}/b.bin", tmp_path / "b.bin")
    with serving() as closed:
        address = closed.address
    with pytest.raises(MachineError, match="cannot be downloaded"):
        download(f"{address}/a.bin", tmp_path / "a.bin")
    assert not listing(tmp_path)


def lines_of(path):
    with lzma.open(path, "rt") as stream:
        return [json.loads(line) for line in stream]


def clinc():
    pairs = [["how do i say füchsin", "translate"], ["hi", "greeting"]]
    return {"data_full.json": json.dumps({"train": pairs, "val": pairs[1:], "test": []}).encode()}


def banking():
    rows = 'text,category\n"Where, is it?\n",card_arrival\nok,"x"\n'
    return {"train.csv": rows.encode(), "test.csv": b"text,category\nno,y\n"}


def cooking():
    lines = [f"__label__a __label__b-{n} text number {n}?" for n in range(15404)]
    text, archive = "\n".join(lines).encode() + b"\n", io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as stream:
        info = tarfile.TarInfo("./cooking.stackexchange.txt")
        info.size = len(text)
        stream.addfile(info, io.BytesIO(text))
    return {"cooking.stackexchange.tar.gz": archive.getvalue()}


def published(monkeypatch, server, name, files):
    """Lets a set of the table be on the server, with these files."""
    known = {file.name for file in sets.SETS[name].files}
    assert known == {*files}
    for file, content in files.items():
        server.content[f"/{file}"] = content
    downloads = tuple(
        sets.dataclasses.replace(
            file,
            url=f"{server.address}/{file.name}",
            sha256=hashlib.sha256(files[file.name]).hexdigest(),
        )
        for file in sets.SETS[name].files
    )
    here = sets.dataclasses.replace(sets.SETS[name], files=downloads)
    monkeypatch.setitem(sets.SETS, name, here)


def test_sets_are_written_as_configs_expect_them(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFXC_DATA", str(tmp_path))
    for name, files in {"clinc150": clinc(), "banking77": banking(), "cooking": cooking()}.items():
        published(monkeypatch, server, name, files)
        outcome = call(capsys, command, name)
        assert outcome.code == 0 and "licence: CC BY" in outcome.out, outcome.err
    assert lines_of(tmp_path / "clinc150/train.jsonl.xz") == [
        {"text": "how do i say füchsin", "labels": ["translate"]},
        {"text": "hi", "labels": ["greeting"]},
    ]
    assert lines_of(tmp_path / "banking77/train.jsonl.xz") == [
        {"text": "Where, is it?", "labels": ["card_arrival"]}, {"text": "ok", "labels": ["x"]},
    ]  # fmt: skip
    train, dev = (lines_of(tmp_path / f"cooking/{s}.jsonl.xz") for s in ("train", "dev"))
    assert (len(train), len(dev)) == (12404, 3000)
    assert train[7] == {"text": "text number 7?", "labels": ["a", "b-7"]}
    assert dev[-1]["text"] == "text number 15403?"
    assert sum(map(len, open_reader(tmp_path / "clinc150/train.jsonl.xz").chunks())) == 2
    before = len(server.requests)
    assert call(capsys, command, "clinc150").code == 0
    assert len(server.requests) == before, "what is there stays"


def test_files_that_are_read_as_they_are(server, tmp_path, monkeypatch):
    published(monkeypatch, server, "cifar10", {"cifar-10-python.tar.gz": CONTENT})
    assert sets.fetch("cifar10", tmp_path) == [tmp_path / "cifar-10-python.tar.gz"]
    assert (tmp_path / "cifar-10-python.tar.gz").read_bytes() == CONTENT
    published(monkeypatch, server, "duee", {"train_dataset.csv": b"a", "test_dataset.csv": b"b"})
    assert sets.fetch("duee", tmp_path) == [tmp_path / "duee/train.csv", tmp_path / "duee/test.csv"]
    assert (tmp_path / "duee/test.csv").read_bytes() == b"b"


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("clinc150", {"data_full.json": b'{"train": [["a"]]}'}),
        ("banking77", {"train.csv": b"a,b\n1,2\n", "test.csv": b""}),
    ],
)
def test_another_form_is_refused(server, tmp_path, monkeypatch, name, files):
    published(monkeypatch, server, name, files)
    with pytest.raises(DataError, match="not as the authors of the set describe it"):
        sets.fetch(name, tmp_path)
    assert [path.name for path in (tmp_path / name).iterdir()] == [".original"]


#: What the makers of sets write, see test_catalogues.py.
MADE = {
    "debian": {
        "sources_train.jsonl.xz", "sources_dev.jsonl.xz", "sources_label_texts.jsonl.xz",
        "debtags_train.jsonl.xz", "debtags_dev.jsonl.xz",
    },
    "go": {
        "train.jsonl.xz", "dev.jsonl.xz", "label_texts.jsonl.xz",
        "genes_train.jsonl.xz", "genes_dev.jsonl.xz",
    },
    "icd10cm": {"train.jsonl.xz", "dev.jsonl.xz", "label_texts.jsonl.xz"},
    "revdict": {"train.jsonl.xz", "dev.jsonl.xz"},
}  # fmt: skip


def test_configs_read_what_is_written():
    read = set()
    for path in (ROOT / "configs").rglob("*.json"):
        data = load_config(path).data
        read |= {data.train, data.dev, data.label_texts}
    for name, public in sets.SETS.items():
        first = public.files[0]
        own = first.path or first.name
        if public.convert:
            own = f"{name}/train.jsonl.xz"
        if name == "debian":
            own = "debian/sources_train.jsonl.xz"
        assert f"${{TFXC_DATA}}/{own}" in read, name
        if name in MADE:
            folder = f"${{TFXC_DATA}}/{name}/"
            named = {file.removeprefix(folder) for file in read if str(file).startswith(folder)}
            assert named <= MADE[name], name


def test_configs_say_what_can_be_downloaded():
    written = {
        f"${{TFXC_DATA}}/{file.path or file.name}": name
        for name, public in sets.SETS.items()
        for file in public.files
        if not public.convert
    }
    for path in (ROOT / "configs").rglob("*.json"):
        data = load_config(path).data
        name = written.get(data.train) or data.train.removeprefix("${TFXC_DATA}/").split("/")[0]
        if name in sets.SETS:
            assert f"tfxc fetch {name} downloads" in data.where, path


@pytest.mark.parametrize("name", ["duee", "sentiment"])
def test_checksums_are_those_of_the_data_of_the_tests(name):
    for file in sets.SETS[name].files:
        assert checksum(data_folder(name) / file.path.partition("/")[2]) == file.sha256


def test_a_moved_file(server, tmp_path):
    """As GitHub and mirrors redirect, also in the middle of a file."""
    server.moved["/old.bin"] = "/a.bin"
    server.break_at = 2 << 20
    with pytest.raises(MachineError):
        download(f"{server.address}/old.bin", tmp_path / "a.bin", SHA256)
    assert download(f"{server.address}/old.bin", tmp_path / "a.bin", SHA256) == SHA256
    assert server.requests[-1] == ("/a.bin", f"bytes={2 << 20}-")
    server.moved["/loop"] = "/loop"
    with pytest.raises(MachineError, match="redirect"):
        download(f"{server.address}/loop", tmp_path / "b.bin")


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_server_that_refuses(server, tmp_path, status):
    server.status["/a.bin"] = status
    with pytest.raises(MachineError, match=f"cannot be downloaded: {status}"):
        download(f"{server.address}/a.bin", tmp_path / "a.bin")
    assert not listing(tmp_path)


def test_the_table(capsys):
    outcome = call(capsys, command)
    assert all(name in outcome.out for name in sets.SETS)
    for public in sets.SETS.values():
        for file in public.files:
            assert file.url.startswith("https://") and len(file.sha256 or "0" * 64) == 64
    problem = call(capsys, command, "clink150").problem()
    assert "did you mean 'clinc150'" in problem and "data.where" in problem
