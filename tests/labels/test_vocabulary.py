"""Label names survive their file, and names that could not are refused."""

import pytest

from tfxc.core.errors import DataError
from tfxc.labels.vocabulary import LabelVocabulary

AWKWARD = [
    "a, b",
    " leading",
    "trailing ",
    "línea",
    "標籤",
    "nel\x85 and \u2028 separators",
    "tab\t",
]


def test_save_and_load_keep_names_and_order(tmp_path):
    LabelVocabulary(AWKWARD).save(tmp_path / "labels.txt")
    loaded = LabelVocabulary.load(tmp_path / "labels.txt")
    assert loaded.names == AWKWARD
    assert loaded.ids(reversed(AWKWARD)) == [6, 5, 4, 3, 2, 1, 0]


def test_empty_vocabulary_round_trip(tmp_path):
    LabelVocabulary([]).save(tmp_path / "labels.txt")
    assert len(LabelVocabulary.load(tmp_path / "labels.txt")) == 0


def test_windows_line_ends_and_missing_last_line_end(tmp_path):
    (tmp_path / "labels.txt").write_bytes(b"one\r\ntwo")
    assert LabelVocabulary.load(tmp_path / "labels.txt").names == ["one", "two"]


def test_ids_leaves_out_unknown_names():
    vocabulary = LabelVocabulary(["x", "y"])
    assert vocabulary.ids(["z", "y", "x", "y"]) == [1, 0, 1]
    assert "x" in vocabulary and "z" not in vocabulary


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("two\nlines", "has a line break"),
        ("carriage\rreturn", "has a line break"),
        ("", "is empty"),
    ],
)
def test_names_a_line_cannot_hold_are_refused(name, problem):
    with pytest.raises(DataError, match=f"name of label 1 {problem}"):
        LabelVocabulary(["fine", name])


def test_duplicates_are_refused_with_both_places():
    with pytest.raises(DataError, match="the labels 1 and 3 have the same name, 'b'"):
        LabelVocabulary(["a", "b", "c", "b"])


def test_bad_files_name_file_and_place(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        LabelVocabulary.load(tmp_path / "none.txt")
    (tmp_path / "gap.txt").write_text("a\n\nb\n")
    with pytest.raises(DataError, match=r"gap\.txt:2: .*is empty"):
        LabelVocabulary.load(tmp_path / "gap.txt")
    (tmp_path / "latin.txt").write_bytes("gr\u00fcn\n".encode("latin-1"))
    with pytest.raises(DataError, match="not in UTF-8: the byte at offset 2 is invalid"):
        LabelVocabulary.load(tmp_path / "latin.txt")
