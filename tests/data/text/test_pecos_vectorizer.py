"""Vectorisers that libpecos 1.2.8 saved, read and compared with what it gave."""

import json

import numpy as np
import pytest

from tests.data.text.test_pecos_tfidf import CASES, QUESTIONS, rows_of
from tfxc.core.errors import DataError
from tfxc.data.text.pecos_vectorizer import load_pecos_vectorizer

SAVED = [case for case in CASES if "files" in case]
SEVERAL = [case for case in SAVED if "1.base/tokenizer/vocab.txt" in case["files"]]


def write(case, folder):
    for name, content in case["files"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode())
    return folder


def change(folder, name, old, new):
    content = (folder / name).read_text("utf-8")
    assert old in content
    (folder / name).write_text(content.replace(old, new, 1), "utf-8")


@pytest.mark.parametrize("case", SAVED, ids=lambda case: str(case["settings"]))
def test_gives_what_libpecos_gave(case, tmp_path):
    features = load_pecos_vectorizer(write(case, tmp_path))
    assert features.vocabulary() == case["terms"]
    np.testing.assert_allclose(features.transform(QUESTIONS).toarray(), rows_of(case), atol=2e-6)


MODEL, WORDS = "0.base/vectorizer/tfidf-model.txt", "0.base/tokenizer/vocab.txt"


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("0.base/tokenizer/config.json", "10", "30", "words are expected as tokens, found char_wb"),
        (MODEL, "\t1\t", "\t3\t", r"model\.txt:\d+: 3 words of vocab\.txt are expected"),
        (MODEL, "\n1\t", "\n1.5\t", r"model\.txt:\d+: a column and its weight are expected"),
        (MODEL, "\n1\t", "\n99\t", "columns without gaps are expected"),
        (WORDS, "\tred", " red", r"vocab\.txt:\d+: 2 parts"),
        (WORDS, "1", "2", r"vocab\.txt: 2\d* lines are expected"),
        ("meta.json", '"num_base_vect": 1', '"num_base_vect": "?"', "num_base_vect is missing"),
        ("meta.json", "kwargs", "else", r"meta\.json: a vectoriser saved by PECOS is expected"),
        ("meta.json", "2", "3", "'l1', 'l2' or null is expected"),
        ("0.base/vectorizer/config.json", "sublinear_tf", "else", "expected: 'sublinear_tf'"),
    ],
)
def test_damage_is_told(name, old, new, message, tmp_path):
    folder = write(SAVED[0], tmp_path)
    change(folder, name, old, new)
    with pytest.raises(DataError, match=message):
        load_pecos_vectorizer(folder)


def test_files_that_are_missing_or_no_text(tmp_path):
    with pytest.raises(DataError, match=r"meta\.json: no such file"):
        load_pecos_vectorizer(tmp_path)
    folder = write(SAVED[0], tmp_path)
    (folder / WORDS).write_bytes(b"1\n0\t\xff\n")
    with pytest.raises(DataError, match="UTF-8"):
        load_pecos_vectorizer(folder)


def test_kinds_without_an_equal(tmp_path):
    folder = write(SEVERAL[0], tmp_path)
    change(folder, "1.base/vectorizer/config.json", '"binary": false', '"binary": true')
    with pytest.raises(DataError, match=r"1\.base.vectorizer: one vectoriser, or several of the"):
        load_pecos_vectorizer(folder)
    folder = write(SEVERAL[0], tmp_path)
    config = json.loads((folder / "1.base/vectorizer/config.json").read_text())
    config["kwargs"]["ngram_range"] = [1, 3]
    (folder / "1.base/vectorizer/config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="ranges that do not overlap"):
        load_pecos_vectorizer(folder)
