"""Pickles of strangers: only arrays and plain values, and only as much memory as they are long."""

import io
import os
import pickle

import numpy as np
import pytest

from tfxc.core.errors import DataError
from tfxc.core.storage.pickles import load_plain


def test_plain_values_and_arrays():
    content = {"a": [1, 2.5, None, b"x"], "b": np.arange(6).reshape(2, 3), "c": np.float32(2)}
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        found = load_plain(io.BytesIO(pickle.dumps(content, protocol)), "a.pkl")
        assert found["a"] == content["a"] and found["c"] == 2
        np.testing.assert_array_equal(found["b"], content["b"])


class Attack:
    def __reduce__(self):
        return os.getpid, ()


def test_nothing_is_run():
    with pytest.raises(DataError, match=r"a\.pkl: .*it refers to (posix|nt)\.getpid, which is not"):
        load_plain(io.BytesIO(pickle.dumps(Attack())), "a.pkl")


def test_functions_keep_their_attributes():
    """A pickle can set attributes of what it names: here the defaults of a function."""
    state = b"N}\x8c\x0c__defaults__K\x01\x85s\x86"
    content = b"\x80\x04cnumpy._core.numeric\n_frombuffer\n" + state + b"b."
    before = np._core.numeric._frombuffer.__defaults__
    with pytest.raises(DataError, match="attributes of something that has none"):
        load_plain(io.BytesIO(content), "a.pkl")
    assert np._core.numeric._frombuffer.__defaults__ == before


@pytest.mark.parametrize("opcode", [b"r\xff\xff\xff\x0f", b"p268435455\n", b"q\xff"])
def test_a_number_of_objects_takes_no_memory(opcode):
    """The number asks for gigabytes where the pickle is a few bytes long."""
    with pytest.raises(DataError, match=r"object \d+ at byte 3"):
        load_plain(io.BytesIO(b"\x80\x02]" + opcode + b"."), "a.pkl")
