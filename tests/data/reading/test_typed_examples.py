"""Examples that are typed or piped."""

import os

import numpy as np
import pytest

from tfxc.core.errors import DataError
from tfxc.data.reading.typed_examples import available_lines, chunk_of_lines


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
