"""Small files that ask for gigabytes are refused in one line, before the memory is taken."""

import functools
import gzip
import io
import json
import lzma
import os
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError, MachineError
from tfxc.core.settings import MAX_LINE_BYTES, DataSettings
from tfxc.data.examples import label_ids
from tfxc.data.examples.label_ids import LabelNumbering, own_labels
from tfxc.data.reading import typed_examples
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.parsing import archives
from tfxc.data.reading.parsing.arrays import load_matrix
from tfxc.data.reading.parsing.lines import Lines
from tfxc.data.store.feature_sets.extraction import read_labels
from tfxc.data.store.feature_sets.split import import_arrays
from tfxc.data.store.preparation import prepare

STRAY = 10**9
MAX_BYTES = 6 * MAX_LINE_BYTES


@pytest.fixture(autouse=True)
def bounded():
    """No test here may take more than 100 MB of Python's and NumPy's memory."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MAX_BYTES, f"{peak / 1e6:,.0f} MB"


def svmlight(folder):
    path = folder / "train.svm"
    path.write_text(f"0 1:1\n{STRAY} 2:1\n")
    return path


def json_lines(folder):
    path = folder / "train.jsonl"
    path.write_text(f'{{"text": "word", "labels": 0}}\n{{"text": "word", "labels": [{STRAY}]}}\n')
    return path


def matrix(folder):
    path = folder / "train.npz"
    np.savez(path, features=np.ones((2, 3)), labels=[0, STRAY])
    return path


def header(folder):
    path = folder / "train.txt"
    path.write_text(f"2 5 {STRAY + 1}\n1 2:1\n3 4:1\n")
    return path


def pecos(folder):
    ones = scipy.sparse.csr_matrix(np.ones((2, 3), np.float32))
    scipy.sparse.save_npz(folder / "X.trn.npz", ones)
    labels = scipy.sparse.csr_matrix(([1.0, 1.0], [0, STRAY], [0, 1, 2]), (2, STRAY + 1))
    scipy.sparse.save_npz(folder / "Y.trn.npz", labels)
    return folder


@pytest.mark.parametrize("write", [svmlight, json_lines, matrix, header, pecos])
def test_a_stray_label_id_is_refused(tmp_path, write):
    path = write(tmp_path)
    texts = {"text_features": {"name": "tfidf", "min_df": 1}} if write is json_lines else {}
    settings = DataSettings(name="stray", train=str(path), **texts)
    with pytest.raises(DataError) as caught:
        prepare(settings, tmp_path / "prepared", jobs=1)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "1,000,000,001" in message
    assert f"data.num_labels to {STRAY + 1}" in message
    assert ("in example 2" in message) == (write not in (header, pecos))
    assert not (tmp_path / "prepared").exists()


def test_many_labels_can_be_confirmed(tmp_path, monkeypatch):
    assert label_ids._UNSEEN_GRANTED == 100_000
    monkeypatch.setattr(label_ids, "_UNSEEN_GRANTED", 1000)
    path = tmp_path / "train.svm"
    path.write_text("0 1:1\n1500 2:1\n")
    settings = {"name": "many", "train": str(path)}
    with pytest.raises(DataError, match="1,501"):
        prepare(DataSettings(**settings), tmp_path / "refused", jobs=1)
    found = prepare(DataSettings(**settings, num_labels=1501), tmp_path / "prepared", jobs=1)
    assert found.num_labels == 1501
    with pytest.raises(DataError, match="label ids go from 0 to 1499"):
        prepare(DataSettings(**settings, num_labels=1500), tmp_path / "small", jobs=1)


@pytest.mark.parametrize(
    ("labels", "kwargs", "message"),
    [
        ([[0, 1]], {"num_labels": 5}, "it is 7, but .* have 5 labels"),
        ([["a", "b"]], {}, "it is 7, but the labels are names"),
    ],
)
def test_a_number_of_labels_that_says_something_else(labels, kwargs, message):
    with pytest.raises(ConfigError, match=rf"data\.num_labels: {message}"):
        numbering = LabelNumbering(**kwargs, confirmed=7)
        numbering.count(own_labels(labels, "train", 0, numbering.limit)[0], "train")
        numbering.freeze(1, "train")


def test_counts_are_those_of_a_dense_count():
    rng, numbering = np.random.default_rng(0), LabelNumbering()
    chunks = [rng.integers(0, 90_000, (300, 3)).tolist() for _ in range(5)]
    for number, lists in enumerate(chunks):
        numbering.count(own_labels(lists, "train", 300 * number, None)[0], "train")
    vocabulary = numbering.freeze(1, "train")
    expected = np.bincount(np.array(chunks).ravel())
    assert vocabulary.names == [str(i) for i in range(len(expected))]
    np.testing.assert_array_equal(numbering.label_counts, expected)


def test_feature_sets_refuse_a_stray_label_too(tmp_path):
    with pytest.raises(DataError, match=r"1,000,000,001 .*example 2.*--num-labels"):
        read_labels(open_reader(svmlight(tmp_path)))
    with pytest.raises(DataError, match=r"1,000,000,001 .*example 2.*--num-labels"):
        import_arrays(np.ones((2, 3), np.float32), np.array([0, STRAY]), tmp_path / "set")


def write_long_line(path, opener, size=12 * MAX_LINE_BYTES):
    with opener(path) as stream:
        stream.write(b"0 1:1\n")
        for _ in range(size >> 20):
            stream.write(b"a" * (1 << 20))


@pytest.mark.parametrize(
    ("name", "opener"),
    [
        ("train.svm.gz", functools.partial(gzip.open, mode="wb", compresslevel=1)),
        ("train.svm.xz", functools.partial(lzma.open, mode="wb", preset=0)),
        ("train.svm", functools.partial(open, mode="wb")),
    ],
)
def test_a_long_line_is_refused_unread(tmp_path, name, opener):
    path = tmp_path / name
    write_long_line(path, opener)
    with pytest.raises(DataError) as caught:
        open_reader(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: the line is longer than {MAX_LINE_BYTES:,} bytes")
    assert "data.max_line_bytes" in message


def test_the_limit_is_a_setting(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"text": "a" * 100, "labels": ["x"]}) + "\n")
    texts = {"text_features": {"name": "tfidf", "min_df": 1}}
    settings = {"name": "long", "train": str(path), **texts}
    with pytest.raises(DataError, match=r":1: the line is longer than 99 bytes"):
        prepare(DataSettings(**settings, max_line_bytes=99), tmp_path / "p", jobs=1)
    assert prepare(DataSettings(**settings), tmp_path / "p", jobs=1).num_labels == 1
    with pytest.raises(ConfigError, match=r"data\.max_line_bytes: does not apply to ImageFolder"):
        open_reader(tmp_path, "image_folder", 99)
    with pytest.raises(ConfigError, match="max_line_bytes"):
        open_reader(path, max_line_bytes=0)


def test_blocks_and_chunks_end_by_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxc.data.reading.parsing.lines.BLOCK_BYTES", 1000)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{"x" * 300}", "labels": {i}}}\n' for i in range(9)))
    assert [len(lines) for _, lines in Lines(path).blocks(100)] == [4, 4, 1]
    chunks = list(open_reader(path).chunks(100))
    assert [len(chunk) for chunk in chunks] == [4, 4, 1]
    assert [labels for chunk in chunks for labels in chunk.labels] == [[i] for i in range(9)]


def test_an_open_quote_does_not_swallow_the_file(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('text,labels\n"a,b\n' + "c,d\n" * 100)
    with pytest.raises(
        DataError, match=r"train\.csv:2: .*max_line_bytes \(50\): perhaps its quotation"
    ):
        list(open_reader(path, max_line_bytes=50).chunks())


def write_claim(archive, name, dtype, shape, megabytes):
    """A member whose header claims an array and whose content is zeros."""
    head = io.BytesIO()
    entries = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, entries)
    with archive.open(f"{name}.npy", "w") as stream:
        stream.write(head.getvalue())
        for _ in range(megabytes):
            stream.write(bytes(1 << 20))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ((1, 1 << 26), (1,), "features: the row is longer than"),
        ((2, 3), (2, 1 << 25), "labels: the row is longer than"),
        ((2, 3), (1 << 25,), r"labels: the shape .* is neither \(2,\) nor"),
    ],
)
def test_an_inflated_archive_is_read_in_pieces(tmp_path, features, labels, message):
    path = tmp_path / "train.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        write_claim(archive, "features", "float32", features, 256 if features[0] == 1 else 1)
        write_claim(archive, "labels", "int64", labels, 256)
    assert path.stat().st_size < 4 << 20
    with pytest.raises(DataError, match=message):
        list(open_reader(path).chunks())


def test_labels_of_a_large_archive_take_a_piece_at_a_time(tmp_path):
    """40,000 rows of 512 padded labels are 164 MB; they are read, and pass the bound above."""
    path = tmp_path / "train.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        write_claim(archive, "features", "float32", (40_000, 1), 1)
        write_claim(archive, "labels", "int64", (40_000, 512), 157)
    chunks = open_reader(path).chunks(1000)
    assert sum(len(chunk) for chunk in chunks if chunk.labels == [[0]] * len(chunk)) == 40_000


def test_a_sparse_matrix_beyond_the_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "X.npz"
    scipy.sparse.save_npz(path, scipy.sparse.eye(1000, format="csr"))
    assert load_matrix(path).shape == (1000, 1000)
    monkeypatch.setattr("tfxc.core.resources.available_bytes", lambda: 10_000)
    with pytest.raises(MachineError, match=r"X\.npz: it needs .* GB of memory"):
        load_matrix(path)


def test_a_large_member_of_a_tar_archive_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in (("a.cls", b"1"), ("a.jpg", bytes(2000))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(archives, "_MAX_BYTES", 1000)
    with pytest.raises(DataError, match=r"shard\.tar: a\.jpg has 2,000 bytes, more than the 1,000"):
        list(open_reader(path).chunks())


def test_an_endless_line_of_a_pipe_is_refused(monkeypatch):
    monkeypatch.setattr(typed_examples, "MAX_LINE_BYTES", 1000)
    source, sink = os.pipe()
    os.write(sink, b"first\n" + b"x" * 2000)
    os.close(sink)
    with pytest.raises(DataError, match=r"standard input:2: the line is longer than 1,000 bytes"):
        list(typed_examples.available_lines(source))
    os.close(source)


def test_numbers_of_thousands_of_digits(tmp_path):
    digits = "1" * 5000
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "a", "labels": [{digits}]}}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:1: "):
        list(open_reader(path).chunks())
    path = tmp_path / "a.txt"
    path.write_text(f"1 {digits} 3\n1 2:1\n")
    with pytest.raises(DataError, match=r"a\.txt:1: "):
        open_reader(path, "xc_repository")
