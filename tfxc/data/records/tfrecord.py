"""TFRecord shards: rows written and read in two layouts.

``blocks``: a record holds ``BLOCK_ROWS`` rows in CSR form, one ``tf.train.Example`` with the lists
``labels``, ``label_vals``, ``input_idxs``, ``input_vals`` and the row lengths ``label_counts`` and
``input_counts``. ``examples``: a record holds one example under the first four names, which is the
layout of the original MACH code, whose records read unchanged. Dense vectors have ``input_vals``
only, lists of tokens ``input_idxs`` only; where both stand for a text, its tokens are ``tokens``
(in blocks with ``token_counts``). Label values are 1 throughout. Images are bytes lists
instead: ``image/raw``, one value with the pixels of all images of the record in row-major order, or
``image/encoded``, one file each.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from tfxc.core.errors import DataError
from tfxc.data.lists import joined_files
from tfxc.data.records.example_proto import encode_example
from tfxc.data.rows import Rows
from tfxc.ops.tensorflow_files import os_errors

BLOCK_ROWS = 256
LAYOUTS = ("blocks", "examples")
_LISTS = ("sparse", "tokens", "joined")
_IMAGES = {"pixels": "image/raw", "encoded": "image/encoded"}
# Records of images are kept below this size by holding fewer of them.
_RECORD_BYTES = 8 << 20
# Bytes of other records, and of those that are parsed at once, which takes ten times as much.
_PARSED_BYTES = 1 << 20
# Rows parsed at once: large enough to hide the call, small enough to stay in the cache.
_ROWS_AT_ONCE = 8192
_IMAGE_RECORDS_AT_ONCE = {"blocks": 8, "examples": 128}
_BUFFER_BYTES = 256 << 10
# A TFRecord is framed by its length (8 bytes) and two checksums of 4 bytes.
_FRAME_BYTES = 16
_PREPARE_AGAIN = "run prepare again with --force"


def shard_name(split, number, count):
    """The file name of a shard.

    Example:
        >>> shard_name("train", 0, 4)
        'train-00000-of-00004.tfrecord'
    """
    return f"{split}-{number:05d}-of-{count:05d}.tfrecord"


def write_shard(path, rows, layout="blocks"):
    """Writes ``rows`` as one TFRecord file; the same rows always give the same bytes.

    Args:
        layout: ``"blocks"`` or ``"examples"``.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    records = {"blocks": _block_records, "examples": _example_records}[layout](rows)
    with os_errors(path), tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def read_shard(path, layout, kind="sparse", num_features=None, image_shape=None):
    """Reads one TFRecord file.

    Args:
        layout: ``"blocks"`` or ``"examples"``.
        kind: of the rows, see ``tfxc.data.rows.Rows``.
        num_features: width of the feature space, length of dense vectors or size of the vocabulary;
            None takes the largest id + 1.
        image_shape: (height, width, channels) of images; of encoded ones what they will be.

    Returns:
        Rows.

    Raises:
        DataError: the file is missing, cut off, damaged or of another layout.
    """
    parts = list(read_parts(path, layout, kind, num_features, image_shape))
    if not parts:
        return _rows_of(Path(path), {}, kind, num_features, image_shape)
    width = max(part.num_features for part in parts)
    for part in parts:
        part.num_features = width
    return Rows.concatenate(parts)


def read_parts(path, layout, kind="sparse", num_features=None, image_shape=None):
    """Yields the ``Rows`` of one TFRecord file some thousand at a time; see ``read_shard``.

    Only one part is in memory. That the file is cut off may show behind the last one only.

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
            f"this shard is cut off or damaged ({error.message.splitlines()[0]})",
            where=path,
            fix=_PREPARE_AGAIN,
        ) from error
    _check_length(path, found)


def _rows_of(path, columns, kind, num_features, image_shape):
    if kind in _IMAGES:
        return _image_rows(path, columns, kind, image_shape)
    return _rows(path, columns, kind, num_features)


def _block_records(rows):
    images = rows.kind in _IMAGES
    held, most = (rows.nonzeros, _RECORD_BYTES) if images else (rows.nbytes, _PARSED_BYTES)
    size = min(BLOCK_ROWS, max(1, most * len(rows) // max(held, 1)))
    for start in range(0, len(rows), size):
        block = rows.slice(start, start + size)
        arrays = _example_arrays(block)
        arrays["label_counts"] = np.diff(block.label_indptr)
        if block.kind in _LISTS:
            arrays["input_counts"] = np.diff(block.indptr)
        if block.kind == "joined":
            arrays["token_counts"] = np.diff(block.token_indptr)
        yield encode_example(arrays)


def _example_records(rows):
    for number in range(len(rows)):
        yield encode_example(_example_arrays(rows.slice(number, number + 1)))


def _example_arrays(rows):
    arrays = {"labels": rows.label_ids, "label_vals": np.ones(len(rows.label_ids), np.float32)}
    if rows.dense:
        return {**arrays, "input_vals": rows.matrix.ravel()}
    if rows.kind == "pixels":
        return {**arrays, _IMAGES["pixels"]: [rows.images.tobytes()]}
    if rows.kind == "encoded":
        return {**arrays, _IMAGES["encoded"]: rows.batch()["features"].tolist()}
    if rows.kind == "tokens":
        return {**arrays, "input_idxs": rows.tokens}
    if rows.kind == "joined":
        arrays["tokens"] = rows.tokens
    return {**arrays, "input_idxs": rows.indices, "input_vals": rows.values}


def _parsed(path, layout, kind):
    """Yields, for some thousand rows at a time, a dict of flat NumPy arrays."""
    names = {"labels": tf.int64, "label_vals": tf.float32}
    images = kind in _IMAGES
    if images:
        names[_IMAGES[kind]] = tf.string
    if kind in ("sparse", "dense", "joined"):
        names["input_vals"] = tf.float32
    # The name of each list, and that of its lengths.
    lists = {"labels": "label_counts"}
    if kind in _LISTS:
        lists["input_idxs"] = "input_counts"
    if kind == "joined":
        lists["tokens"] = "token_counts"
    names |= dict.fromkeys(lists, tf.int64)
    if layout == "blocks":
        names |= dict.fromkeys(lists.values(), tf.int64)
    wanted = {name: tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
              for name, dtype in names.items()}  # fmt: skip
    records = _ROWS_AT_ONCE // BLOCK_ROWS if layout == "blocks" else _ROWS_AT_ONCE
    records = _IMAGE_RECORDS_AT_ONCE[layout] if images else records
    records = max(1, min(records, _PARSED_BYTES // _first_length(path)))
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
            f"this shard is cut off: its records fill {found:,} of {size:,} bytes",
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


def _image_rows(path, columns, images, image_shape):
    label_lists = _label_lists(path, columns)
    count, size = len(label_lists["label_indptr"]) - 1, int(np.prod(image_shape))
    features = joined_files(columns.get(_IMAGES[images], np.zeros(0, object)).tolist())
    if images == "pixels":
        fits = len(features["content"]) == count * size
        _check(path, fits, f"images of {' x '.join(map(str, image_shape))} pixels")
        features = {"images": features["content"].reshape(count, *image_shape)}
    else:
        _check(path, len(features["indptr"]) == count + 1, "one image per example")
    return Rows(num_features=size, **features, **label_lists)


def _label_lists(path, columns):
    empty = np.zeros(0, np.int64)
    label_counts, labels = columns.get("label_counts", empty), columns.get("labels", empty)
    _check(path, label_counts.sum() == len(labels), "as many labels as their counts say")
    _check(path, (columns.get("label_vals", empty) == 1).all(), "label values of 1")
    _check_ids(path, labels, None, "label")
    return {"label_indptr": _bounds(label_counts), "label_ids": labels}


def _rows(path, columns, kind, num_features):
    empty = np.zeros(0, np.int64)
    label_lists, values = _label_lists(path, columns), columns.get("input_vals", empty)
    label_counts = columns.get("label_counts", empty)
    if kind == "dense":
        fits = len(values) == len(label_counts) * num_features
        _check(path, fits, f"dense vectors of {num_features} values")
        matrix = values.reshape(-1, num_features)
        return Rows(matrix=matrix, num_features=num_features, **label_lists)
    counts, ids = columns.get("input_counts", empty), columns.get("input_idxs", empty)
    whole = len(counts) == len(label_counts) and counts.sum() == len(ids)
    whole = whole and (kind == "tokens" or len(ids) == len(values))
    _check(path, whole, "as many feature ids and values as their counts say")
    _check_ids(path, ids, num_features, "feature")
    if num_features is None:
        num_features = ids.max(initial=-1) + 1
    lists = {"tokens": ids} if kind == "tokens" else {"indices": ids, "values": values}
    if kind == "joined":
        lists |= _joined_tokens(path, columns, len(label_counts))
    return Rows(indptr=_bounds(counts), num_features=num_features, **lists, **label_lists)


def _joined_tokens(path, columns, count):
    """The tokens of texts that have features as well."""
    empty = np.zeros(0, np.int64)
    counts, tokens = columns.get("token_counts", empty), columns.get("tokens", empty)
    whole = len(counts) == count and counts.sum() == len(tokens)
    _check(path, whole, "as many tokens as their counts say")
    _check_ids(path, tokens, None, "token")
    return {"token_indptr": _bounds(counts), "tokens": tokens}


def _bounds(counts):
    return np.concatenate([[0], np.cumsum(counts)])


def _check(path, condition, expected):
    if not condition:
        raise DataError(
            f"{expected} expected, found something else: another layout or a damaged shard",
            where=path,
            fix=_PREPARE_AGAIN,
        )


def _check_ids(path, ids, limit, what):
    limit = limit or np.iinfo(np.int32).max
    if len(ids) and (ids.min() < 0 or ids.max() >= limit):
        raise DataError(
            f"{what} ids from 0 to {limit - 1} expected, found {ids.min()} to {ids.max()}",
            where=path,
            fix=_PREPARE_AGAIN,
        )
