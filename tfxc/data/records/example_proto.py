"""Serialises ``tf.train.Example`` straight from NumPy arrays.

The protobuf classes copy every number into a Python object first, which costs twenty times as much.
Wire format: https://protobuf.dev/programming-guides/encoding; message: tensorflow/core/example.
"""

import numpy as np

_LENGTH_DELIMITED = 2
_FEATURES = _FEATURE = _KEY = _PACKED = _BYTES_LIST = 1
_VALUE = _FLOAT_LIST = 2
_INT64_LIST = 3


def encode_example(arrays):
    """One serialised ``tf.train.Example``, its features ordered by name.

    Args:
        arrays: mapping from feature name to a one-dimensional array; floats become a float list,
            integers (≥ 0) an int64 list, a list of ``bytes`` a bytes list.

    Example:
        >>> encode_example({"a": np.array([300])}).hex()
        '0a0d0a0b0a016112061a040a02ac02'
    """
    entries = (
        _field(_FEATURE, _field(_KEY, name.encode()) + _field(_VALUE, _feature(arrays[name])))
        for name in sorted(arrays)
    )
    return _field(_FEATURES, b"".join(entries))


def _feature(array):
    if isinstance(array, list):
        return _field(_BYTES_LIST, b"".join(_field(_PACKED, value) for value in array))
    if np.issubdtype(array.dtype, np.floating):
        return _field(_FLOAT_LIST, _field(_PACKED, array.astype("<f4").tobytes()))
    return _field(_INT64_LIST, _field(_PACKED, _varints(array)))


def _field(number, payload):
    return bytes([number << 3 | _LENGTH_DELIMITED]) + _varint(len(payload)) + payload


def _varint(value):
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _varints(array):
    """Base-128 digits of each value, lowest first; the high bit says that another one follows."""
    if not len(array):
        return b""
    largest = int(array.max())
    assert array.min() >= 0, "negative values would take ten bytes and never occur here"
    num_bytes = max(1, -(-largest.bit_length() // 7))
    unsigned = np.uint32 if largest < 1 << 32 else np.uint64
    rest = array.astype(unsigned)[:, None] >> (7 * np.arange(num_bytes)).astype(unsigned)
    digits = (rest & unsigned(127)).astype(np.uint8)
    digits[:, :-1] |= (rest[:, 1:] > 0).astype(np.uint8) << 7
    used = rest > 0
    used[:, 0] = True
    return digits[used].tobytes()
