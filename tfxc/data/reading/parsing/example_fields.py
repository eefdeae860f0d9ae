"""The fields of many serialised ``tf.train.Example``, read together with NumPy.

A message of this kind is a tree of fields with a length: an Example holds Features, these hold
entries of a name and a Feature, and that a list of bytes, floats or integers. Every step down the
tree is taken for all records at once. ``tfxc.data.store.records.record_writer`` writes them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tfxc.core.errors import DataError

_LENGTH_DELIMITED = 2  # the type of a field with a length
_LENGTH_BYTES = 5  # of a length below 2 GB, the largest that a message may have
_INTEGER_BYTES = 10  # of an integer of 64 bits
# Fields of Example, Features, an entry of them and a list.
_FEATURES = _FEATURE = _KEY = _VALUES = 1
_VALUE = 2
_LISTS = {"string": 1, "float32": 2, "int64": 3}  # fields of Feature


class Field(NamedTuple):
    """What records hold under one name.

    Attributes:
        values: float32 or int64 (total,), or object (total,) of ``bytes``, one record after the
            other.
        counts: int64 (records,), how many each has.
    """

    values: np.ndarray
    counts: np.ndarray


def read_fields(records: Sequence[bytes], types: Mapping[str, str]) -> dict[str, Field]:
    """Reads fields of records; one that a record does not have is empty there.

    Args:
        records: serialised messages, whose numbers are packed, as all libraries pack them.
        types: ``"int64"``, ``"float32"`` or ``"string"`` of each name.

    Returns:
        ``Field`` of each name.

    Raises:
        DataError: a record is no ``tf.train.Example``, or holds values of another type.

    Source: https://protobuf.dev/programming-guides/encoding; tensorflow/core/example.

    Example:
        >>> record = bytes.fromhex("0a0d0a0b0a016112061a040a02ac02")
        >>> read_fields([record, b""], {"a": "int64"})["a"].values.tolist()
        [300]
    """
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))
    # Whatever a length says, a few bytes can be read behind it.
    content = np.frombuffer(b"".join(records) + bytes(_INTEGER_BYTES), np.uint8)
    starts = np.append(0, ends[:-1]) if len(ends) else ends
    places = _entries(content, *_only(content, starts, ends, _FEATURES), list(types))
    fields = {}
    for name, (start, stop) in places.items():
        start, stop = _only(content, start, stop, _LISTS[types[name]])
        if types[name] == "string":
            fields[name] = _files(content, start, stop)
            continue
        start, stop = _only(content, start, stop, _VALUES)
        lengths = stop - start
        bounds = zip(start.tolist(), stop.tolist(), strict=True)
        packed = np.concatenate([content[:0], *(content[a:b] for a, b in bounds)])
        if types[name] == "float32":
            _check(not (lengths % 4).any())
            fields[name] = Field(packed.view("<f4"), lengths // 4)
        else:
            fields[name] = _integers(packed, lengths)
    return fields


def _entries(
    content: np.ndarray, at: np.ndarray, end: np.ndarray, names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Finds the bounds of each record's Feature of a name; of two the last counts."""
    places = {name: (np.zeros_like(at), np.zeros_like(at)) for name in names}
    keys = {name: np.frombuffer(name.encode(), np.uint8) for name in names}
    rows = np.flatnonzero(at < end)
    at = at[rows]
    while rows.size:
        start, stop = _field(content, at, end[rows], _FEATURE)
        key, key_end = _field(content, start, stop, _KEY)
        value, value_end = _field(content, key_end, stop, _VALUE)
        _check((value_end == stop).all())
        for name, letters in keys.items():
            same = np.flatnonzero(key_end - key == len(letters))
            spelled = content[key[same, None] + np.arange(len(letters))]
            same = same[(spelled == letters).all(axis=1)]
            places[name][0][rows[same]] = value[same]
            places[name][1][rows[same]] = value_end[same]
        more = stop < end[rows]
        rows = rows[more]
        at = stop[more]
    return places


def _only(
    content: np.ndarray, start: np.ndarray, stop: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bounds of the only field of each message; of an empty message they are equal."""
    inner = np.zeros_like(start)
    inner_end = np.zeros_like(start)
    rows = np.flatnonzero(start < stop)
    inner[rows], inner_end[rows] = _field(content, start[rows], stop[rows], number)
    _check((inner_end[rows] == stop[rows]).all())
    return inner, inner_end


def _field(
    content: np.ndarray, at: np.ndarray, end: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bounds of the fields that begin ``at`` places, none of which reaches its end."""
    _check((at < end).all() and (content[at] == number << 3 | _LENGTH_DELIMITED).all())
    start = at + 1
    length = np.zeros_like(at)
    reading = np.ones(len(at), bool)
    for place in range(_LENGTH_BYTES):
        digits = content[start[reading]].astype(np.int64)
        length[reading] |= (digits & 127) << 7 * place
        start[reading] += 1
        reading[reading] = digits > 127
        if not reading.any():
            break
    stop = start + length
    _check(not reading.any() and (stop <= end).all())
    return start, stop


def _integers(packed: np.ndarray, lengths: np.ndarray) -> Field:
    """Decodes integers of 7 bits a byte, lowest first; the high bit says that one more follows."""
    stops = np.flatnonzero(packed < 128) + 1
    ends = np.cumsum(lengths)
    _check((packed[ends[lengths > 0] - 1] < 128).all())
    starts = np.append(0, stops[:-1])[: len(stops)]
    sizes = stops - starts
    largest = int(sizes.max(initial=0))
    _check(largest <= _INTEGER_BYTES)
    values = (packed[starts] & 127).astype(np.uint64)
    for place in range(1, largest):
        longer = np.flatnonzero(sizes > place)
        digits = (packed[starts[longer] + place] & 127).astype(np.uint64)
        values[longer] |= digits << np.uint64(7 * place)
    counts = np.diff(np.searchsorted(stops, ends, side="right"), prepend=0)
    return Field(values.view(np.int64), counts)


def _files(content: np.ndarray, start: np.ndarray, stop: np.ndarray) -> Field:
    """Returns the files, ``bytes``, of lists with one field for each."""
    files = []
    counts = np.zeros(len(start), np.int64)
    for record, (at, end) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
        while at < end:
            (begin,), (at,) = _field(content, np.array([at]), np.array([end]), _VALUES)
            files.append(content[begin:at].tobytes())
            counts[record] += 1
    values = np.empty(len(files), object)
    values[:] = files
    return Field(values, counts)


def _check(fits: "bool | np.bool_") -> None:
    if not fits:
        raise DataError("a record is not a tf.train.Example")
