"""Examples without labels."""

import os

import numpy as np
import pytest

from tfxc.data.unlabelled import available_lines, chunk_of_lines, open_unlabelled
from tfxc.errors import ConfigError, DataError


def texts_of(source):
    chunks = list(source.chunks(2))
    assert all(chunk.labels == [[] for _ in chunk.texts] for chunk in chunks)
    return [text for chunk in chunks for text in chunk.texts]


def test_plain_text_keeps_empty_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\n tw\xc3\xb6 \r\nthree")
    assert texts_of(open_unlabelled(tmp_path / "a.txt", "text")) == ["one", "", " twö ", "three"]
    (tmp_path / "notes").write_text("x\ny")
    assert texts_of(open_unlabelled(tmp_path / "notes", "text", "lines")) == ["x", "y"]
    with pytest.raises(DataError, match="cannot tell the format"):
        open_unlabelled(tmp_path / "notes", "text")


def test_repository_file_is_no_plain_text(tmp_path):
    (tmp_path / "a.txt").write_text("1 3 2\n0 2:1.5\n")
    (chunk,) = open_unlabelled(tmp_path / "a.txt", "sparse").chunks(10)
    assert chunk.features.toarray().tolist() == [[0, 0, 1.5]]


def test_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n\n{"text": "y", "labels": 7}\n')
    assert texts_of(open_unlabelled(path, "text", defaults={"labels_field": "tags"})) == ["x", "y"]
    for line, problem in (("[1]", "an object"), ('{"text": 1}', "an object"), ("{", "JSON object"),
                          ('{"text": "\\ud800"}', "surrogate")):  # fmt: skip
        path.write_text(f'{{"text": "x"}}\n{line}\n')
        with pytest.raises(DataError, match=rf"a.jsonl:2.*{problem}"):
            texts_of(open_unlabelled(path, "text"))


def test_unknown_options_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.jsonl").write_text('{"text": "x"}')
    for name in ("a.txt", "a.jsonl"):
        with pytest.raises(ConfigError, match="unknown option 'sep'"):
            open_unlabelled(tmp_path / name, "text", options={"sep": ";"})
        open_unlabelled(tmp_path / name, "text", defaults={"sep": ";"})
    with pytest.raises(ConfigError, match="unknown data format 'json', did you mean 'jsonl'"):
        open_unlabelled(tmp_path / "a.jsonl", "text", "json")


def test_defaults_are_used_where_they_fit(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "x", "title": "y"}')
    defaults = {"text_field": "body", "separator": ";"}
    assert texts_of(open_unlabelled(tmp_path / "a.jsonl", "text", defaults=defaults)) == ["x"]
    chosen = {"text_field": "title"}
    found = open_unlabelled(tmp_path / "a.jsonl", "text", options=chosen, defaults=defaults)
    assert texts_of(found) == ["y"]


def test_available_lines_of_a_pipe():
    reading, writing = os.pipe()
    lines = available_lines(reading)
    os.write(writing, b"one\r\ntw")
    assert next(lines) == (1, [b"one"])
    os.write(writing, b"o\n\nfour\nrest")
    assert next(lines) == (2, [b"two", b"", b"four"])
    os.close(writing)
    assert list(lines) == [(5, [b"rest"])]
    os.close(reading)


def test_lines_of_each_kind():
    assert chunk_of_lines([b"a\xc3\xb6", "b"], "text").texts == ["aö", "b"]
    bags = chunk_of_lines(["2:1 0:0.5 2:2", ""], "sparse", 4).features
    assert bags.toarray().tolist() == [[0.5, 0, 3, 0], [0, 0, 0, 0]]
    assert chunk_of_lines(["5:1"], "sparse").features.shape == (1, 6)
    vectors = chunk_of_lines(["1,2", " -3  4e1 "], "dense", 2).features
    assert vectors.dtype == np.float32 and vectors.tolist() == [[1, 2], [-3, 40]]


@pytest.mark.parametrize(("line", "kind"), [
    (b"\xff", "text"), ("\ud800", "text"), ("a b", "sparse"), ("1:x", "sparse"), ("4:1", "sparse"),
    ("-1:1", "sparse"), ("1:nan", "sparse"), ("1 2 3", "dense"), ("1", "dense"), ("1 inf", "dense"),
])  # fmt: skip
def test_malformed_lines_are_named(line, kind):
    good = {"text": "x", "sparse": "0:1", "dense": "1 2 3 4"}[kind]
    with pytest.raises(DataError, match="pipe:8"):
        chunk_of_lines([good, line], kind, 4, "pipe", first=7)
