"""Choosing the format."""

import pytest

from tfxc.data.formats import FORMATS, detect_format, open_reader
from tfxc.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", "jsonl"),
        ("a.b.jsonl.gz", "jsonl"),
        ("a.jsonl.xz", "jsonl"),
        ("a.csv", "delimited"),
        ("a.tsv.xz", "delimited"),
        ("a.svm", "svmlight"),
        ("a.libsvm.gz", "svmlight"),
        ("a.npz", "matrix"),
    ],
)
def test_by_name(tmp_path, name, expected):
    (tmp_path / name).touch()
    assert detect_format(tmp_path / name) == expected


def test_by_content(tmp_path):
    (tmp_path / "a.txt").write_text("0 1 2\n")
    assert detect_format(str(tmp_path / "a.txt")) == "xc_repository"
    assert detect_format(tmp_path) == "pecos"


def test_unknown_shape_lists_what_is_readable(tmp_path):
    (tmp_path / "a.parquet").touch()
    with pytest.raises(DataError, match=r"a\.parquet: cannot tell .* \.jsonl, \.csv") as caught:
        open_reader(tmp_path / "a.parquet")
    assert all(name in str(caught.value) for name in FORMATS)


def test_unknown_names():
    with pytest.raises(ConfigError, match=r"unknown data format 'jsonlines'.*'jsonl'"):
        open_reader("a", "jsonlines")
    with pytest.raises(ConfigError, match=r"unknown built-in data set 'apidoc'.*'apidocs'"):
        open_reader("builtin:apidoc")
    with pytest.raises(ConfigError, match=r"unknown option 'spilt' of ApiDocs.*'split'"):
        open_reader("builtin:apidocs", spilt="dev")
    with pytest.raises(DataError, match="no such file"):
        open_reader("absent.jsonl")
