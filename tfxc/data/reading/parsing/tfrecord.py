"""TFRecord shards: rows in two layouts, as ``tfxc.data.store.records.record_writer`` writes them.

``blocks``: a record holds ``BLOCK_ROWS`` rows in CSR form, one ``tf.train.Example`` with the lists
``labels``, ``label_vals``, ``input_idxs``, ``input_vals`` and the row lengths ``label_counts`` and
``input_counts``. ``examples``: a record holds one example under the first four names, which is the
layout of the original MACH code, whose records read unchanged. Dense vectors have ``input_vals``
only, lists of tokens ``input_idxs`` only; where both stand for a text, its tokens are ``tokens``
(in blocks with ``token_counts``). Label values are 1 throughout. Images are bytes lists
instead: ``image/raw``, one value with the pixels of all images of the record in row-major order, or
``image/encoded``, one file each.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import read_errors
from tfxc.data.examples.columns import LABELS, Arrays
from tfxc.data.examples.kinds import SPARSE
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.parsing.example_fields import read_fields
from tfxc.data.reading.parsing.lines import bounded
from tfxc.data.reading.parsing.record_layout import AGAIN, BLOCK_ROWS, PARSED_BYTES, record_checksum

if TYPE_CHECKING:
    from tfxc.data.examples.kinds import FeatureKind


# Rows parsed at once: large enough to hide the call, small enough to stay in the cache.
_ROWS_AT_ONCE = 8192
_IMAGE_RECORDS_AT_ONCE = {"blocks": 8, "examples": 128}
_BUFFER_BYTES = 256 << 10
_HEAD_BYTES = 12  # a record's length, and the checksum of that; behind the record is its own


def read_chunks(
    path: str | Path,
    layout: str,
    kind: "FeatureKind" = SPARSE,
    num_features: int | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> Iterator[Rows]:
    """Yields the ``Rows`` of one TFRecord file some thousand at a time.

    Only one part is in memory. That the file is cut off shows after the last one only.

    Args:
        layout: ``"blocks"`` or ``"examples"``.
        kind: of the rows.
        num_features: width of the feature space, length of dense vectors or size of the vocabulary;
            None means the largest id + 1 of each part.
        image_shape: (height, width, channels) of images; of encoded ones what they will be.

    Raises:
        DataError: the file is missing, cut off, damaged or of another layout.
        MachineError: the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("this shard is missing", where=path, fix=AGAIN)
    for columns in _parsed(path, layout, kind):
        yield _rows_of(path, columns, kind, num_features, image_shape)


def _rows_of(
    path: Path,
    columns: Arrays,
    kind: "FeatureKind",
    num_features: int | None,
    image_shape: tuple[int, ...] | None,
) -> Rows:
    sizes = {"num_features": num_features, "image_shape": image_shape}
    arrays: Arrays = {}
    try:
        labels = LABELS.read(columns, None, {})
        if (columns.get("label_vals", np.ones(0)) != 1).any():
            raise DataError("it has label values other than 1")
        for column in kind.columns:
            arrays |= column.read(columns, LABELS.count(labels), sizes)
    except DataError as error:
        raise DataError(error.problem, where=path, fix=AGAIN) from None
    if num_features is None:
        num_features = kind.columns[0].width(arrays)
    return Rows(kind, arrays, **labels, num_features=num_features)


def _parsed(path: Path, layout: str, kind: "FeatureKind") -> Iterator[Arrays]:
    """Yields, for some thousand rows at a time, a dict of flat NumPy arrays."""
    names = {"label_vals": "float32"}
    lists: dict[str, str] = {}
    for column in (LABELS, *kind.columns):
        names |= column.fields
        lists |= column.counts
    if layout == "blocks":
        names |= dict.fromkeys(lists.values(), "int64")
    most = _ROWS_AT_ONCE // BLOCK_ROWS if layout == "blocks" else _ROWS_AT_ONCE
    most = _IMAGE_RECORDS_AT_ONCE[layout] if kind.is_image else most
    for batch in bounded(_records(path), most, len, PARSED_BYTES):
        try:
            fields = read_fields(batch, names)
        except DataError as error:
            raise _damaged(path, error.problem) from None
        columns = {name: field.values for name, field in fields.items()}
        if layout == "examples":
            columns |= {counts: fields[name].counts for name, counts in lists.items()}
        yield columns


def _records(path: Path) -> Iterator[bytes]:
    """Yields the records of a file, whose lengths and checksums are right."""
    with read_errors(path), open(path, "rb", buffering=_BUFFER_BYTES) as stream:
        rest = os.fstat(stream.fileno()).st_size
        while head := stream.read(_HEAD_BYTES):
            length = int.from_bytes(head[:8], "little")
            rest -= _HEAD_BYTES + length + 4
            if len(head) == _HEAD_BYTES and record_checksum(head[:8]) != head[8:]:
                raise _damaged(path, "a length does not have its checksum")
            if rest < 0:
                raise _damaged(path, "its last record is cut off")
            record = stream.read(length)
            if record_checksum(record) != stream.read(4):
                raise _damaged(path, "a record does not have its checksum")
            yield record


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"this shard is truncated or damaged ({reason})", where=path, fix=AGAIN)
