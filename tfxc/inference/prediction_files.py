"""Predictions in files: the matrix that PECOS writes, and tables with the columns of the input.

A table has the columns of the examples, then those of the predictions, best first. In a CSV file
these are ``label_1``, ``score_1``, ``label_2``, ... where every example has equally many; where it
depends on the example, and in Parquet, they are ``predicted_labels`` and ``predicted_scores``. A
cell of a CSV file then holds the labels with ``;`` between them, or, where a label's name could be
mistaken for several, as a list in JSON.
"""

import contextlib
import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.escaping import json_text
from tfxc.core.storage.files import atomic_file
from tfxc.data.reading.formats.base import Reader, Table
from tfxc.data.reading.formats.delimited import Delimited
from tfxc.data.reading.formats.jsonl import JSONLines
from tfxc.data.reading.parsing.arrow_tables import TableFile, arrow
from tfxc.ops.csr import bounds_of, load_sparse, summed_entries

if TYPE_CHECKING:
    import _csv

    from tfxc.data.examples.chunk import Chunk

#: Columns of a table that hold what was predicted.
LABELS = "predicted_labels"
SCORES = "predicted_scores"
_DIGITS = 6
_SEPARATOR = ";"

#: A chunk, and the ids int32 and scores float32 (n, k) of its labels, best first, padded with −1.
Answer = tuple["Chunk", tuple[np.ndarray, np.ndarray]]
# Rows of the input that are repeated, and the ids and scores of their labels.
_Block = tuple[Iterable[Sequence[Any]], np.ndarray, np.ndarray]


def write_predictions(
    path: str | Path,
    names: Sequence[str],
    source: Reader | None,
    answers: Iterable[Answer],
    k: int | None = None,
) -> None:
    """Writes a file of predictions, which is there once all of them are found.

    Args:
        path: ``.npz``, ``.csv`` or ``.parquet``.
        names: of the labels, by id.
        source: of the examples, whose columns are repeated, in a CSV file with the same delimiter
            and byte order mark; where there are none, what chunks have: names and texts.
        answers: what was found for each chunk of the examples, in their order.
        k: number of labels of every example; None = it depends on the example.

    Raises:
        ConfigError: a column of the examples is called as one that is written.
        MachineError: the disk is full, or the file cannot be written.

    Example:
        >>> from tfxc.data.examples.chunk import Chunk
        >>> answer = Chunk([[]]), (np.array([[1, 0]]), np.float32([[0.5, 0.25]]))
        >>> write_predictions("P.npz", ["cat", "dog"], None, [answer])    # doctest: +SKIP
    """
    suffix = Path(path).suffix
    table = None if source is None or suffix == ".npz" else source.table()
    written = [LABELS, SCORES]
    if suffix == ".csv" and k is not None:
        written = [name for place in range(1, k + 1) for name in _names(place)]
    for name in written:
        if table is not None and name in table.columns:
            raise ConfigError(
                f"the examples already have a column {name}",
                where="--output",
                fix="rename that column, or write another format, e.g. --output labels.jsonl",
            )
    with atomic_file(path, "w" if suffix == ".csv" else "wb") as stream:
        if suffix == ".npz":
            scipy.sparse.save_npz(stream, _matrix(len(names), answers))
        elif suffix == ".parquet":
            _write_parquet(stream, names, *_rows(table, answers))
        else:
            delimiter = ","
            if isinstance(source, Delimited):
                stream.write(source.mark_of_copies())
                delimiter = ";" if source.delimiter == ";" else ","
            writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
            table, blocks = _rows(table, answers)
            writer.writerow([*table.columns, *written])
            if k is None:
                _write_cells(writer, names, blocks)
            else:
                _write_columns(writer, names, blocks, k)


def _matrix(num_labels: int, answers: Iterable[Answer]) -> scipy.sparse.csr_matrix:
    """Returns CSR as PECOS writes it: entries of a row by descending score."""
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))]
    for _, (ids, scores) in answers:
        # Minus infinity is the score of labels that are never predicted.
        listed = (ids >= 0) & np.isfinite(scores)
        parts.append((listed.sum(axis=1), ids[listed], scores[listed]))
    counts, ids, scores = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    shape = (len(counts), num_labels)
    return scipy.sparse.csr_matrix((scores, ids, bounds_of(counts)), shape)


def _rows(table: Table | None, answers: Iterable[Answer]) -> tuple[Table, Iterator[_Block]]:
    """Returns a ``Table`` of what is repeated, and its rows in blocks, each with ids and scores."""
    answers = iter(answers)
    first = next(answers, None)
    answers = itertools.chain([] if first is None else [first], answers)
    if table is not None:
        rows = iter(table.rows)
        return table, ((itertools.islice(rows, len(chunk)), *answer) for chunk, answer in answers)
    columns = [] if first is None else list(first[0].columns())
    return Table(columns, ()), (
        (zip(*chunk.columns().values(), strict=True) if columns else [()] * len(chunk), *answer)
        for chunk, answer in answers
    )


def _names(place: int) -> tuple[str, str]:
    """Returns the columns of the label and the score at a place, from 1."""
    return f"label_{place}", f"score_{place}"


def _write_columns(
    writer: "_csv.Writer", names: Sequence[str], blocks: Iterable[_Block], k: int
) -> None:
    """Writes each label and each score into a cell of its own."""
    for block in blocks:
        for row, labels, scores in _listed(*block, names):
            numbers = [round(score, _DIGITS) for score in scores]
            pairs = itertools.chain(*zip(labels, numbers, strict=True))
            missing = [""] * (2 * (k - len(labels)))
            writer.writerow([*map(_cell, row), *pairs, *missing])


def _write_cells(writer: "_csv.Writer", names: Sequence[str], blocks: Iterable[_Block]) -> None:
    """Writes all labels into one cell, and all scores."""
    as_list = any(_SEPARATOR in name or name.startswith("[") for name in names)
    for block in blocks:
        for row, labels, scores in _listed(*block, names):
            cell = json_text(labels) if as_list else _SEPARATOR.join(labels)
            numbers = _SEPARATOR.join(repr(round(score, _DIGITS)) for score in scores)
            writer.writerow([*map(_cell, row), cell, numbers])


def _write_parquet(
    stream: IO[bytes], names: Sequence[str], table: Table, blocks: Iterable[_Block]
) -> None:
    pyarrow = arrow("--output")
    types = table.types or [pyarrow.string()] * len(table.columns)
    fields = [pyarrow.field(*field) for field in zip(table.columns, types, strict=True)]
    fields.append(pyarrow.field(LABELS, pyarrow.list_(pyarrow.string())))
    fields.append(pyarrow.field(SCORES, pyarrow.list_(pyarrow.float32())))
    schema = pyarrow.schema(fields)
    with pyarrow.parquet.ParquetWriter(stream, schema) as writer:
        for block in blocks:
            columns: list[list[Any]] = [[] for _ in fields]
            for row, labels, scores in _listed(*block, names):
                cells = row if table.types else map(_cell, row)
                for column, value in zip(columns, (*cells, labels, scores), strict=True):
                    column.append(value)
            arrays = [pyarrow.array(c, f.type) for c, f in zip(columns, fields, strict=True)]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))


def _listed(
    rows: Iterable[Sequence[Any]], ids: np.ndarray, scores: np.ndarray, names: Sequence[str]
) -> Iterator[tuple[Sequence[Any], list[str], list[float]]]:
    """Yields each row with the names and scores of its labels."""
    for row, labels, values in zip(rows, ids.tolist(), scores.tolist(), strict=True):
        pairs = [(names[i], value) for i, value in zip(labels, values, strict=True) if i >= 0]
        yield row, [name for name, _ in pairs], [value for _, value in pairs]


def _cell(value: object) -> str:
    """Returns a value of the input as text: numbers and lists as JSON writes them."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float, list, dict)):
        return json_text(value, default=str)
    return str(value)


class ListedLabels(NamedTuple):
    """Predictions by the names of the labels.

    Attributes:
        labels: names of the labels of each example, best first.
        scores: as many numbers for each.
    """

    labels: list[list[str]]
    scores: list[list[float]]


def read_predictions(path: str | Path) -> scipy.sparse.csr_matrix | ListedLabels:
    """Returns predictions that ``tfxc predict`` or another program has written.

    Args:
        path: ``.npz`` of a sparse matrix (n, num_labels) of scores; JSON lines with ``labels`` and
            ``scores``; or ``.csv`` or ``.parquet`` with ``predicted_labels`` and
            ``predicted_scores``, ``.csv`` also with ``label_1``, ``score_1``, ....

    Returns:
        The matrix, with one entry for each place, or ``ListedLabels``.

    Raises:
        DataError: the file is missing or damaged, or holds no predictions.
        ConfigError: its name has another ending, or pyarrow is missing.

    Example:
        >>> read_predictions("labels.jsonl").labels[0]    # doctest: +SKIP
        ['sauce', 'cheese']
    """
    path = Path(path)
    if path.suffix == ".npz":
        return summed_entries(load_sparse(path), path)
    if path.suffix == ".jsonl":
        table = JSONLines(path).table()
        wanted = ("labels", "scores")
    elif path.suffix == ".csv":
        table = _table_of(path)
        wanted = (LABELS, SCORES)
    elif path.suffix == ".parquet":
        file = TableFile(path)
        rows = (row for _, row in file.rows(file.columns))
        table = Table(file.columns, rows)
        wanted = (LABELS, SCORES)
    else:
        raise ConfigError(
            f"{path.name} does not end like a file of predictions",
            where="--predictions",
            fix="name a file that ends in .npz, .jsonl, .csv or .parquet",
        )
    if not set(wanted) <= set(table.columns):
        raise DataError(
            f"there are no columns {wanted[0]} and {wanted[1]}, but {', '.join(table.columns)}",
            where=path,
            fix="give a file that tfxc predict has written",
        )
    labels_at, scores_at = (table.columns.index(name) for name in wanted)
    predictions = ListedLabels([], [])
    for number, row in enumerate(table.rows, start=1):
        labels, scores = _values(row[labels_at], row[scores_at], f"{path}: row {number}")
        predictions.labels.append(labels)
        predictions.scores.append(scores)
    return predictions


def _table_of(path: Path) -> Table:
    """Returns a table whose predictions stand in the columns ``LABELS`` and ``SCORES``."""
    table = Delimited(path).table()
    if len(table.columns) == 1:
        table = Delimited(path, delimiter=";").table()
    at = {name: place for place, name in enumerate(table.columns)}
    pairs: list[tuple[int, int]] = []
    while (names := _names(len(pairs) + 1))[1] in at and names[0] in at:
        pairs.append((at[names[0]], at[names[1]]))
    if LABELS in at or not pairs:
        return table
    listed = ([(row[label], row[score]) for label, score in pairs] for row in table.rows)
    rows = ([list(column) for column in zip(*filter(any, row), strict=True)] for row in listed)
    return Table((LABELS, SCORES), (row or [[], []] for row in rows))


def _values(
    labels: str | Sequence[str], scores: str | Sequence[float], where: str
) -> tuple[list[str], list[float]]:
    """Returns names and numbers of a row, which may be cells of texts."""
    with contextlib.suppress(ValueError, TypeError):
        if isinstance(scores, str):
            scores = list(map(float, filter(None, scores.split(_SEPARATOR))))
        if isinstance(labels, str) and labels.startswith("["):
            labels = json.loads(labels)
        elif isinstance(labels, str):
            labels = labels.split(_SEPARATOR) if scores else []
        names = list(map(str, labels))
        numbers = list(map(float, scores))
        if len(set(names)) == len(numbers) == len(names) and np.isfinite(numbers).all():
            return names, numbers
    raise DataError(
        "the labels of an example and their scores are not two lists of the same length, of "
        "different labels and finite numbers",
        where=where,
        fix="give a file that tfxc predict has written",
    )
