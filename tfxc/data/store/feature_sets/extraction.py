"""Feature sets made from other data: encoded by a model, split, or copied from arrays."""

import concurrent.futures
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.progress import Progress
from tfxc.data.examples.label_ids import inferred_num_labels
from tfxc.data.store.feature_sets.writer import FeatureWriter
from tfxc.data.store.row_writer import RemainingChunks

if TYPE_CHECKING:
    from tfxc.data.examples.rows import Rows
    from tfxc.data.reading.formats.base import Reader


class Labels(NamedTuple):
    """One label id per example, int32 (n,); how many there are; their names or None."""

    ids: np.ndarray
    count: int  # type: ignore[assignment]  # instead of the method of a tuple
    names: Sequence[str] | None


def read_labels(
    reader: "Reader", num_labels: int | None = None, names: Sequence[str] | None = None
) -> "Labels":
    """Returns the label of every example of a reader.

    Numbered labels keep their numbers. Named ones get their place in ``names``, else in the
    format's own list, else in the alphabetical order of the names that occur.

    Args:
        reader: a ``Reader``.
        num_labels: number of labels; None means what the format or ``names`` say, else the
            largest id plus 1.
        names: list of all label names, or None.

    Returns:
        ``Labels``.

    Raises:
        DataError: no examples, an example without a label or with several, a label that is not
            among the names or out of range.
        ConfigError: ``num_labels`` is not the number of names.
    """
    names = names if names is not None else reader.label_names
    codes = {} if names is None else {name: number for number, name in enumerate(names)}
    known = len(codes)
    parts = []
    first = 0
    with Progress("reading labels", reader.num_examples, "examples") as progress:
        for lists in reader.label_lists():
            parts.append(_codes(lists, codes, first, reader.path))
            first += len(lists)
            progress.advance(len(lists))
    if not first:
        raise DataError(
            "there are no examples", where=reader.path, fix="check the reader's options"
        )
    ids = np.concatenate(parts)
    if names is None and codes:
        names = sorted(codes)
        places = {name: place for place, name in enumerate(names)}
        ids = np.array([places[name] for name in codes], np.int32)[ids]
    elif len(codes) > known:
        raise DataError(
            f"the label {next_after(codes, known)!r} is not among the {known:,} known names",
            where=reader.path,
            fix="add the name to the list",
        )
    count = _count(ids, num_labels, names, reader.num_labels, reader.path)
    return Labels(ids, count, names)


def next_after(items: Iterable[str], count: int) -> str:
    """Returns item number ``count`` of an iterable."""
    return next(itertools.islice(items, count, None))


def _codes(
    lists: Sequence[Sequence[int | str]], codes: dict[str, int], first: int, where: str | Path
) -> np.ndarray:
    """Returns int32 ids: numbers as they are, names by ``codes``, which grows."""
    wrong = next((place for place, row in enumerate(lists) if len(row) != 1), None)
    if wrong is not None:
        raise DataError(
            f"example {first + wrong} (counted from 0) has {len(lists[wrong])} labels instead of "
            "one",
            where=where,
            fix="use a data set with one class per example",
        )
    labels = [label for (label,) in lists]
    if labels and isinstance(labels[0], str):
        labels = [codes.setdefault(str(label), len(codes)) for label in labels]
    return np.array(labels, np.int32)


def _count(
    ids: np.ndarray,
    wanted: int | None,
    names: Sequence[str] | None,
    declared: int | None,
    where: str | Path,
) -> int:
    if names is not None:
        declared = len(names)
        if wanted not in (None, declared):
            raise ConfigError(
                f"is {wanted:,}, but there are {declared:,} label names",
                where="num_labels",
                fix="leave it out, or correct the label names",
            )
    return wanted or declared or inferred_num_labels(ids, None, where)


class ExtractionSettings(NamedTuple):
    """How vectors are computed and stored.

    Attributes:
        batch_size: examples encoded at a time.
        dtype: ``"float32"`` or ``"float16"``, of the file.
        unit_norm: divide each vector by its Euclidean length.
        others: dict of what else decides the vectors, e.g. the reader's options.
    """

    batch_size: int = 256
    dtype: str = "float32"
    unit_norm: bool = False
    others: dict | None = None


def extract_features(
    reader: "Reader",
    encoder: Any,
    folder: str | Path,
    labels: "Labels",
    settings: "ExtractionSettings",
    *,
    origin: Mapping[str, Any] | None = None,
) -> int:
    """Encodes the examples of a reader into a feature set, or resumes writing it.

    Every ``batch_size`` consecutive examples are always encoded together, whether or not the work
    is interrupted, so that the bytes do not depend on it. Examples that are done are read over,
    not decoded.

    Args:
        reader: a ``Reader``.
        encoder: an object with ``num_features``, ``settings`` (dict, what determines its vectors),
            ``rows(reader, size)`` → ``Rows`` of each chunk, and ``__call__(rows)`` → (n, dim).
        folder: the folder to write.
        labels: ``Labels``, one per example.
        settings: ``ExtractionSettings``.
        origin: dict of what is worth recording in ``features.json``.

    Returns:
        Number of rows that this call encoded.

    Raises:
        DataError: the reader gives another number of examples than labels, a vector that is not
            finite, or of length 0 where it is to be divided by it.
        UserError: as ``FeatureWriter``.
    """
    batch_size, dtype, unit_norm, others = settings
    writer = FeatureWriter(
        folder,
        labels=labels.ids,
        num_features=encoder.num_features,
        num_labels=labels.count,
        label_names=labels.names,
        dtype=dtype,
        settings={
            **encoder.settings,
            **(others or {}),
            "unit_norm": unit_norm,
            "batch_size": batch_size,
        },
        origin=origin,
    )
    with writer:
        if writer.finished:
            return 0
        total = writer.num_examples
        start = int(writer.done.sum())

        def is_done(first: int, stop: int) -> bool:
            if stop > total:
                raise _other_number(stop, total, reader.path)
            return writer.is_done(first, stop)

        remaining = RemainingChunks(reader, is_done)
        with Progress("extracting", total, "examples", start=start) as progress:
            for rows in _ahead(encoder.rows(remaining, batch_size)):
                first = remaining.firsts.popleft()
                vectors = np.asarray(encoder(rows), np.float32)
                writer.write(first, _unit(vectors, first, folder) if unit_norm else vectors)
                progress.advance(len(rows))
        if not writer.done.all():
            raise _other_number(int(np.argmin(writer.done)), total, reader.path)
        return total - start


def _other_number(num_examples: int, num_labels: int, where: str | Path) -> DataError:
    return DataError(
        f"there are {num_examples:,}{' or more' if num_examples > num_labels else ''} examples, "
        f"but {num_labels:,} labels",
        where=where,
        fix="do not change the data while it is read",
    )


def _ahead(items: "Iterable[Rows]") -> "Iterator[Rows]":
    """Yields the same items, each made in the background while the one before it is worked on."""
    items = iter(items)
    with concurrent.futures.ThreadPoolExecutor(1, "tfxc-extract") as pool:
        future = pool.submit(next, items, None)
        while (item := future.result()) is not None:
            future = pool.submit(next, items, None)
            yield item


def _unit(vectors: np.ndarray, first: int, where: str | Path) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    wrong = np.flatnonzero(lengths == 0)
    if wrong.size:
        raise DataError(
            f"the vector of row {first + wrong[0]} (counted from 0) has length 0 and cannot be "
            "scaled to length 1",
            where=where,
            fix="leave that example out, or do not scale the vectors",
        )
    return vectors / lengths
