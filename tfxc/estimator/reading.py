"""Data files in Python, as ``XCClassifier`` takes them: ``X, y = tfxc.read("my.csv")``."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.inspection.contents import options_of
from tfxc.data.reading.parsing.column_guess import Wanted
from tfxc.data.reading.source_files import staged

_CHUNK = 4096


def read(
    path: str | os.PathLike[str],
    reader: str | None = None,
    *,
    text_column: str | Sequence[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    limit: int | None = None,
    **options: object,
) -> tuple[Any, Any]:
    """Reads the examples of a data file into memory, in the file's order.

    Format, columns and separators are detected as by ``tfxc train FILE``.

    Args:
        path: a file or folder, an address of a remote one, or ``"builtin:NAME"``.
        reader: the format's name; None recognises it.
        text_column, label_column: names of the columns; None finds them. Of a list the texts are
            joined by line breaks, and columns of 0 and 1 are a label each.
        limit: at most so many examples, the first; None reads all.
        **options: of the reader, e.g. ``split="test"``.

    Returns:
        X, y. X is a list of n texts, a sparse or dense float32 matrix (n, num_features), or images:
        uint8 (n, height, width, channels) if they are stored as pixels of one size, else a list of
        arrays or of the files' bytes. y is an array of n label names (or ids, where the file only
        numbers them) if each example has exactly one, else a list of n lists.

    Raises:
        ConfigError: an unknown format or option, or a ``limit`` below 1.
        DataError: the file is missing, empty or malformed, or holds texts with features.

    Example:
        >>> texts, labels = read("builtin:apidocs", split="dev", limit=2)
        >>> len(texts), len(labels)
        (2, 2)
    """
    if limit is not None and limit < 1:
        raise ConfigError(
            f"the limit of {limit} leaves no examples",
            where="limit",
            fix="pass at least 1, or None for all",
        )
    source = staged(os.fspath(path), "path")
    wanted = Wanted(text_column, label_column)
    name, detected = options_of(source, wanted, reader, given=options)
    opened = open_reader(source, name, **{**detected, **options})
    parts: list[Any] = []
    labels: list[list[Any]] = []
    for chunk in opened.chunks(_CHUNK):
        kinds = [part for part in (chunk.texts, chunk.features, chunk.images) if part is not None]
        if len(kinds) != 1:
            raise DataError(
                "the examples are texts with features, which do not fit in one X",
                where=str(path),
                fix="train on it with a config, see docs/data.md",
            )
        parts.append(kinds[0])
        labels.extend(chunk.labels)
        if limit is not None and len(labels) >= limit:
            break
    if not labels:
        raise DataError("there are no examples", where=str(path), fix="check the file")
    names = opened.label_names
    if names is not None:
        labels = [[names[i] if isinstance(i, int) else i for i in row] for row in labels]
    X = _joined(parts, opened.num_features)[:limit]
    labels = labels[:limit]
    if all(len(row) == 1 for row in labels):
        return X, np.array([row[0] for row in labels])
    return X, labels


def _joined(parts: list[Any], num_features: int | None) -> Any:
    """Returns the parts of chunks as one list, matrix or array."""
    if scipy.sparse.issparse(parts[0]):
        width = num_features or max(part.shape[1] for part in parts)
        for part in parts:
            part.resize(part.shape[0], width)
        return scipy.sparse.vstack(parts, format="csr")
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    items = [item for part in parts for item in part]
    shapes = {getattr(item, "shape", None) for item in items}
    return np.stack(items) if len(shapes) == 1 and None not in shapes else items
