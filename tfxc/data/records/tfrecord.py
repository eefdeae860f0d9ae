"""TFRecord shards: rows in two layouts, as ``record_writer`` writes them.

``blocks``: a record holds ``BLOCK_ROWS`` rows in CSR form, one ``tf.train.Example`` with the lists
``labels``, ``label_vals``, ``input_idxs``, ``input_vals`` and the row lengths ``label_counts`` and
``input_counts``. ``examples``: a record holds one example under the first four names, which is the
layout of the original MACH code, whose records read unchanged. Dense vectors have ``input_vals``
only, lists of tokens ``input_idxs`` only; where both stand for a text, its tokens are ``tokens``
(in blocks with ``token_counts``). Label values are 1 throughout. Images are bytes lists
instead: ``image/raw``, one value with the pixels of all images of the record in row-major order, or
``image/encoded``, one file each.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfxc.core.errors import DataError
from tfxc.data.columns import LABELS
from tfxc.data.kinds import SPARSE
from tfxc.data.records.record_writer import BLOCK_ROWS, PARSED_BYTES
from tfxc.data.rows import Rows

if TYPE_CHECKING:
    from tfxc.data.kinds import FeatureKind


# Rows parsed at once: large enough to hide the call, small enough to stay in the cache.
_ROWS_AT_ONCE = 8192
_IMAGE_RECORDS_AT_ONCE = {"blocks": 8, "examples": 128}
_BUFFER_BYTES = 256 << 10
# A TFRecord is framed by its length (8 bytes) and two checksums of 4 bytes.
_FRAME_BYTES = 16
_PREPARE_AGAIN = "run prepare again with --force"


def read_shard(
    path: str | Path,
    layout: str,
    kind: "FeatureKind" = SPARSE,
    num_features: int | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> Rows:
    """Reads one TFRecord file.

    Args:
        layout: ``"blocks"`` or ``"examples"``.
        kind: of the rows.
        num_features: width of the feature space, length of dense vectors or size of the vocabulary;
            None means the largest id + 1.
        image_shape: (height, width, channels) of images; of encoded ones what they will be.

    Returns:
        Rows.

    Raises:
        DataError: the file is missing, cut off, damaged or of another layout.
    """
    parts = list(read_chunks(path, layout, kind, num_features, image_shape))
    if not parts:
        return _rows_of(Path(path), {}, kind, num_features, image_shape)
    width = max(part.num_features for part in parts)
    for part in parts:
        part.num_features = width
    return Rows.concatenate(parts)


def read_chunks(
    path: str | Path,
    layout: str,
    kind: "FeatureKind" = SPARSE,
    num_features: int | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> Iterator[Rows]:
    """Yields the ``Rows`` of one TFRecord file some thousand at a time; see ``read_shard``.

    Only one part is in memory. That the file is cut off may show after the last one only.

    Raises:
        DataError: as ``read_shard``.
    """
    path, found = Path(path), 0
    if not path.is_file():
        raise DataError("this shard is missing", where=path, fix=_PREPARE_AGAIN)
    try:
        for columns in _parsed(path, layout, kind):
            found += columns.pop("bytes")
            yield _rows_of(path, columns, kind, num_features, image_shape)
    except tf.errors.OpError as error:
        raise DataError(
            f"this shard is truncated or damaged ({error.message.splitlines()[0]})",
            where=path,
            fix=_PREPARE_AGAIN,
        ) from error
    _check_length(path, found)


def _rows_of(path, columns, kind, num_features, image_shape):
    sizes, arrays = {"num_features": num_features, "image_shape": image_shape}, {}
    try:
        labels = LABELS.read(columns, None, {})
        if (columns.get("label_vals", np.ones(0)) != 1).any():
            raise DataError("label values of 1 expected, found others")
        for column in kind.columns:
            arrays |= column.read(columns, LABELS.count(labels), sizes)
    except DataError as error:
        raise DataError(error.problem, where=path, fix=_PREPARE_AGAIN) from None
    if num_features is None:
        num_features = kind.columns[0].width(arrays)
    return Rows(kind, arrays, **labels, num_features=num_features)


def _parsed(path, layout, kind):
    """Yields, for some thousand rows at a time, a dict of flat NumPy arrays."""
    names, lists = {"label_vals": "float32"}, {}
    for column in (LABELS, *kind.columns):
        names |= column.fields
        lists |= column.counts
    if layout == "blocks":
        names |= dict.fromkeys(lists.values(), "int64")
    wanted = {name: tf.io.RaggedFeature(tf.as_dtype(dtype), row_splits_dtype=tf.int64)
              for name, dtype in names.items()}  # fmt: skip
    records = _ROWS_AT_ONCE // BLOCK_ROWS if layout == "blocks" else _ROWS_AT_ONCE
    records = _IMAGE_RECORDS_AT_ONCE[layout] if kind.is_image else records
    records = max(1, min(records, PARSED_BYTES // _first_length(path)))
    # No parallel map here: a window may be read while every thread of TensorFlow's pool waits for
    # it, and parsing a whole batch is parallel inside.
    dataset = tf.data.TFRecordDataset(str(path), buffer_size=_BUFFER_BYTES).batch(records)
    for batch in dataset.with_options(_one_batch_at_a_time()):
        parsed = tf.io.parse_example(batch, wanted)
        columns = {name: ragged.flat_values.numpy() for name, ragged in parsed.items()}
        lengths = tf.strings.length(batch).numpy()
        columns["bytes"] = int(lengths.sum(dtype=np.int64)) + _FRAME_BYTES * len(lengths)
        if layout == "examples":
            columns |= {
                counts: parsed[name].row_lengths().numpy() for name, counts in lists.items()
            }
        yield columns


def _check_length(path, found):
    """TensorFlow takes a file that ends within a record's first 12 bytes for complete."""
    size = path.stat().st_size
    if found != size:
        raise DataError(
            f"this shard is truncated: its records fill {found:,} of {size:,} bytes",
            where=path,
            fix=_PREPARE_AGAIN,
        )


def _one_batch_at_a_time():
    """Options without the batches that tf.data would otherwise read ahead."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_optimization.inject_prefetch = False
    return options


def _first_length(path):
    """Bytes of the first record, which stands for the others; 1 where that is not known."""
    with open(path, "rb") as stream:
        head = stream.read(8)
    return max(1, int.from_bytes(head, "little")) if len(head) == 8 else 1
