"""Choosing the format."""

import math
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.source_tree import ROOT
from tfxc.core import registry
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import detect_format, open_reader, open_unlabelled
from tfxc.data.reading.inspection.contents import options_of

DOCUMENT = ROOT / "docs" / "data.md"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", "jsonl"),
        ("a.b.jsonl.gz", "jsonl"),
        ("a.jsonl.xz", "jsonl"),
        ("a.csv", "delimited"),
        ("a.tsv.xz", "delimited"),
        ("A.CSV", "delimited"),
        ("a.JSONL.gz", "jsonl"),
        ("a.json", "jsonl"),
        ("a.svm", "svmlight"),
        ("a.libsvm.gz", "svmlight"),
        ("a.npz", "matrix"),
        ("a.rec", "insightface"),
    ],
)
def test_by_name(tmp_path, name, expected):
    (tmp_path / name).touch()
    assert detect_format(tmp_path / name) == expected


def test_by_content(tmp_path):
    (tmp_path / "a.txt").write_text("0 1 2\n")
    assert detect_format(str(tmp_path / "a.txt")) == "xc_repository"
    for line, expected in (
        ("0 0:1 5:0.5\n", "svmlight"),
        ("3,17 2:1 # a comment", "svmlight"),
        (" 7:1e-3", "svmlight"),
        ("+1 7:1", "svmlight"),
        ("__label__a text", "fasttext_lines"),
        ("a b\ttext", "libmultilabel"),
    ):
        (tmp_path / "a.txt").write_text(line)
        assert detect_format(tmp_path / "a.txt") == expected, line
    (tmp_path / "a.txt").write_text('"Text"\t"Label"\na\tb\n')
    assert detect_format(tmp_path / "a.txt") == "delimited"
    assert detect_format(tmp_path / "a.txt", "text") == "delimited"
    for line in (
        "text,labels of it",
        "at 12:30 we met",
        "12:30 is the time",
        "3 4",
        "1" * 1_000_000,
    ):
        (tmp_path / "a.txt").write_text(line)
        with pytest.raises(DataError, match=r"the first line, .* is of no known format") as caught:
            detect_format(tmp_path / "a.txt")
        problem = caught.value.problem
        assert line[:50] in problem and "Parquet" not in problem
        assert detect_format(tmp_path / "a.txt", "text") == "lines"


def test_folders_of_nothing_known(tmp_path):
    with pytest.raises(DataError, match="the folder has no files"):
        detect_format(tmp_path)
    (tmp_path / "settings.json").touch()
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(DataError, match=r"_SUCCESS, settings\.json;.*Name one of its files"):
        detect_format(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["Y.trn.npz", "X.trn.npz", "raw/a"], "pecos"),
        (["cat/1.jpg", "dog/2.jpg"], "image_folder"),
        (["meta/1.jpg", "train/2.jpg"], "image_folder"),
        (["1.PNG", "2.png"], "image_folder"),
        (["0.tar", "1.tar"], "webdataset"),
        (["0.tar.gz", "README.md"], "webdataset"),
        (["train.rec", "train.idx", "property", "lfw.bin"], "insightface"),
        (["data_batch_1", "batches.meta", "readme.html"], "cifar"),
        (["train", "test", "meta"], "cifar"),
        (["train.bin", "fine_label_names.txt"], "cifar"),
        (["data_batch_1.bin", "batches.meta.txt"], "cifar"),
    ],
)
def test_folders(tmp_path, files, expected):
    for name in [*files, ".cache/a.rec"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert detect_format(tmp_path) == expected


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_archives(tmp_path, name):
    content = tmp_path / "content"
    content.touch()
    for member, expected in (
        ("0001.jpg", "webdataset"),
        ("cifar-10-batches-py/test_batch", "cifar"),
        ("./cifar-100-binary/train.bin", "cifar"),
    ):
        with tarfile.open(tmp_path / name, "w" if name == "a.tar" else "w:gz") as archive:
            archive.add(tmp_path, Path(member).parts[0], recursive=False)
            archive.add(content, member)
        assert detect_format(tmp_path / name) == expected
    assert detect_format(tmp_path / "{00..99}.tar") == detect_format(tmp_path / "*.tar.gz")


@pytest.mark.parametrize("name", ["images", "images_packed"])
def test_arrays(tmp_path, name):
    np.savez(tmp_path / "a.npz", **{name: np.zeros(1), "features": np.zeros(1)})
    assert detect_format(tmp_path / "a.npz") == "image_arrays"
    np.savez(tmp_path / "a.npz", features=np.zeros(1))
    assert detect_format(tmp_path / "a.npz") == "matrix"


def test_unknown_shape_lists_what_is_readable(tmp_path):
    (tmp_path / "a.orc").touch()
    with pytest.raises(
        DataError, match=r"a\.orc: the ending \.orc is of no known format"
    ) as caught:
        open_reader(tmp_path / "a.orc")
    message = str(caught.value)
    readers = {name: registry.get("reader", name) for name in registry.names("reader")}
    assert len(readers) > 12
    for name, reader in readers.items():
        assert (f" {name}" in message) == reader.has_labels
        if reader.has_labels:
            assert reader.summary_of_files() in message
    assert ".csv, .tsv, or " in message and "compressed (.gz, .xz, .bz2, .zst)" in message


def test_recognising_is_light(tmp_path):
    (tmp_path / "a.csv").touch()
    code = "import sys; from tfxc.data.reading.formats import detect_format as d; "
    code += f"d({str(tmp_path)!r} + '/a.csv'); "
    code += "print([m for m in ('tensorflow', 'keras', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_format_has_a_row():
    rows = [line.split("|")[1] for line in DOCUMENT.read_text("utf-8").splitlines() if "|" in line]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(registry.names("reader")) <= named


def test_unknown_names():
    with pytest.raises(ConfigError, match=r"unknown reader 'json', did you mean 'jsonl'"):
        open_reader("a", "json")
    with pytest.raises(ConfigError, match=r"unknown built-in data set 'apidoc'.*'apidocs'"):
        open_reader("builtin:apidoc")
    with pytest.raises(ConfigError, match=r"'builtin:apidocs' has no argument 'spilt'.*'split'"):
        open_reader("builtin:apidocs", spilt="dev")
    with pytest.raises(DataError, match="no such file"):
        open_reader("absent.jsonl")


@pytest.mark.parametrize(
    ("name", "option", "value", "problem"),
    [
        ("a.csv", "quotes", 1, "must be true or false, not 1"),
        ("a.csv", "max_line_bytes", math.inf, "must be an integer of at least 1, not inf"),
        ("a.csv", "delimiter", ";;", "';;' cannot separate cells"),
        ("a.csv", "labels_field", [], "must be a text or a list of at least one item"),
        ("a.csv", "label_separator", "", "must be a text that is not empty, not ''"),
        ("a.jsonl", "text_feild", "x", "reader 'jsonl' has no argument 'text_feild', did you mean"),
        ("a.svm", "num_features", math.nan, "must be an integer of at least 1, not nan"),
        ("a.svm", "zero_based", "yes", "must be true or false or 'auto', not 'yes'"),
        ("a.npz", "labelled", "no", "must be true or false, not 'no'"),
        # Not names of what opens the reader.
        ("a.csv", "path", "b.csv", "reader 'delimited' has no argument 'path'"),
        ("a.csv", "name", "jsonl", "reader 'delimited' has no argument 'name'"),
        ("a.csv", "longest_line", 3, "reader 'delimited' has no argument 'longest_line'"),
        ("builtin:synthetic", "share", math.nan, "must be a number above 0 and at most 1, not nan"),
        ("builtin:synthetic", "forms", "texts", "'builtin:synthetic' has no argument 'forms', did"),
    ],
)
def test_options_are_refused_before_the_file_is_read(tmp_path, name, option, value, problem):
    path = name if name.startswith("builtin:") else tmp_path / name
    if path != name:
        path.write_text("nothing that could be read")
    pattern = rf"^data\.reader_options\.{option}: .*{re.escape(problem)}"
    with pytest.raises(ConfigError, match=pattern):
        open_reader(path, **{option: value})
    if path != name:
        with pytest.raises(ConfigError, match=pattern):
            options_of(path, given={option: value})
        if option not in ("labels_field", "label_separator"):  # without labels, there are none
            with pytest.raises(ConfigError, match=pattern):
                open_unlabelled(path, "text", options={option: value})


def test_tables_need_a_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"pyarrow is not installed.*tfxc\[parquet\]"):
        open_reader(tmp_path / "a.parquet")
