"""Writes TFRecord shards; ``tfxc.data.reading.parsing.tfrecord`` reads and describes them.

Without TensorFlow, so that processes that write shards start sooner and are smaller.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tfxc.core.protocol_buffers import bytes_field
from tfxc.data.examples.columns import LABELS, Fields
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.parsing.record_layout import (
    BLOCK_ROWS,
    LAYOUTS,
    PARSED_BYTES,
    record_checksum,
)

# Records of images are kept below this size by holding fewer of them.
_RECORD_BYTES = 8 << 20
_WRITTEN_BYTES = 1 << 20
# Fields of tf.train.Example.
_FEATURES = _FEATURE = _KEY = _PACKED = _BYTES_LIST = 1
_VALUE = _FLOAT_LIST = 2
_INT64_LIST = 3


def shard_name(split: str, number: int, count: int) -> str:
    """Returns the file name of a shard.

    Example:
        >>> shard_name("train", 0, 4)
        'train-00000-of-00004.tfrecord'
    """
    return f"{split}-{number:05d}-of-{count:05d}.tfrecord"


def write_shard(path: str | Path, rows: Rows, layout: str = "blocks") -> None:
    """Writes ``rows`` as one TFRecord file; the same rows always give the same bytes.

    Args:
        layout: ``"blocks"`` or ``"examples"``.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    assert layout in LAYOUTS, layout
    records: Iterator[bytes]
    if layout == "examples":
        records = (
            encode_example(_example_fields(rows.slice(number, number + 1)))
            for number in range(len(rows))
        )
    else:
        records = _block_records(rows)
    with open(path, "wb", buffering=_WRITTEN_BYTES) as stream:
        for record in records:
            length = len(record).to_bytes(8, "little")
            for part in (length, record):
                stream.write(part)
                stream.write(record_checksum(part))


def _block_records(rows: Rows) -> Iterator[bytes]:
    if rows.kind.is_image:
        rows_per_record = _RECORD_BYTES * len(rows) // max(rows.nonzeros, 1)
    else:
        rows_per_record = PARSED_BYTES * len(rows) // max(rows.nbytes, 1)
    size = min(BLOCK_ROWS, max(1, rows_per_record))
    for start in range(0, len(rows), size):
        block = rows.slice(start, start + size)
        fields = _example_fields(block) | LABELS.lengths(block.labels)
        for column in block.kind.columns:
            fields |= column.lengths(block.arrays)
        yield encode_example(fields)


def _example_fields(rows: Rows) -> Fields:
    fields = {"label_vals": np.ones(len(rows.label_ids), np.float32), **LABELS.record(rows.labels)}
    for column in rows.kind.columns:
        fields |= column.record(rows.arrays)
    return fields


def encode_example(arrays: Mapping[str, np.ndarray | list[bytes]]) -> bytes:
    """Returns one serialised ``tf.train.Example``, its features ordered by name.

    Straight from the arrays: the protobuf classes copy every number into a Python object first,
    which costs twenty times as much.

    Args:
        arrays: mapping from feature name to a one-dimensional array; floats become a float list,
            integers (≥ 0) an int64 list, a list of ``bytes`` a bytes list.

    Source: https://protobuf.dev/programming-guides/encoding; tensorflow/core/example.

    Example:
        >>> encode_example({"a": np.array([300])}).hex()
        '0a0d0a0b0a016112061a040a02ac02'
    """
    entries = []
    for name in sorted(arrays):
        array = arrays[name]
        if isinstance(array, list):
            values = b"".join(bytes_field(_PACKED, value) for value in array)
            feature = bytes_field(_BYTES_LIST, values)
        elif np.issubdtype(array.dtype, np.floating):
            values = bytes_field(_PACKED, array.astype("<f4").tobytes())
            feature = bytes_field(_FLOAT_LIST, values)
        else:
            feature = bytes_field(_INT64_LIST, bytes_field(_PACKED, _varints(array)))
        entry = bytes_field(_KEY, name.encode()) + bytes_field(_VALUE, feature)
        entries.append(bytes_field(_FEATURE, entry))
    return bytes_field(_FEATURES, b"".join(entries))


def _varints(array: np.ndarray) -> bytes:
    """Returns Base-128 digits of each value, lowest first; the high bit says that another one
    follows.
    """
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
