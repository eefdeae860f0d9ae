"""Parses blocks of ``l1,l2,... f1:v1 f2:v2 ...`` lines, whole blocks at a time.

The fast path joins a block into one buffer that NumPy parses; anything it does not recognise sends
the block to the careful path, which reads token by token and names the offending line.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.lists import LabelLists
from tfxc.data.reading.parsing.numbers import parse_integers, parse_pairs
from tfxc.ops.csr import bounds_of

_MAX_ID = np.iinfo(np.int32).max
_MAX_DIGITS = 18  # of numbers of 64 bits
#: Names of the classes −1 and +1, by the ids that they get.
SIGNS = ("-1", "1")


@dataclasses.dataclass
class SparseRows:
    """Parsed lines in flat form.

    Attributes:
        label_ids: int64 (sum of label_counts,).
        label_counts: int64 (rows,) labels per row.
        feature_ids: int64 (sum of feature_counts,), strictly increasing within a row.
        values: float32, one per feature id, finite.
        feature_counts: int64 (rows,) features per row.
    """

    label_ids: np.ndarray
    label_counts: np.ndarray
    feature_ids: np.ndarray
    values: np.ndarray
    feature_counts: np.ndarray

    def to_chunk(
        self,
        num_features: int,
        first_feature: int = 0,
        label_names: Sequence[str] | None = None,
    ) -> Chunk:
        """Returns the rows as a ``Chunk``; ids count from ``first_feature`` (0 or 1).

        Args:
            num_features: width of the features.
            first_feature: the lowest feature id.
            label_names: names of the labels by id; None where labels are numbers.
        """
        matrix = scipy.sparse.csr_matrix(
            (
                self.values,
                (self.feature_ids - first_feature).astype(np.int32),
                bounds_of(self.feature_counts).astype(np.int32),
            ),
            shape=(len(self.label_counts), num_features),
        )
        names = None if label_names is None else np.array(label_names, object)
        labels = LabelLists(bounds_of(self.label_counts), self.label_ids, names).distinct()
        return Chunk(labels=labels, features=matrix)


def parse_header(line: bytes | None) -> tuple[int, ...] | None:
    """Returns the three integers of a header line (bytes), or None if it is none.

    Example:
        >>> parse_header(b"4880 1836 159")
        (4880, 1836, 159)
    """
    tokens = (line or b"").split()
    if len(tokens) != 3 or not all(
        token.isdigit() and len(token) <= _MAX_DIGITS for token in tokens
    ):
        return None
    return tuple(int(token) for token in tokens)


def parse_rows(
    lines: Sequence[bytes],
    numbers: Sequence[int] | np.ndarray,
    path: str | Path,
    num_labels: int | None = None,
    num_features: int | None = None,
    first_feature: int = 0,
    signs: bool = False,
) -> "SparseRows":
    """Parses ``lines`` into ``SparseRows``.

    Args:
        lines: the lines as bytes. A line whose first token holds a colon, or that starts with a
            space, has no labels; a line without other tokens has no features.
        numbers: the number of each line in the file.
        path: the file, for messages.
        num_labels, num_features: how many there are; None = ids below 2^31.
        first_feature: the lowest feature id, 0 or 1.
        signs: whether the labels are the classes −1 and +1, which get the ids 0 and 1.

    Raises:
        DataError: naming file and line: an unparsable token, an id out of range, a value that is
            not a finite float32, a feature given twice.
    """
    rows = _parse_fast(lines) or _parse_carefully(lines, numbers, path)

    def fail(problem: str, fix: str, wrong: np.ndarray, counts: np.ndarray) -> NoReturn:
        """Raises the error of the row of the first wrong value; each row has ``counts`` of them."""
        row = np.searchsorted(np.cumsum(counts), wrong[0], side="right")
        raise DataError(problem, where=f"{path}:{numbers[row]}", fix=fix)

    if signs:
        wrong = np.flatnonzero(abs(rows.label_ids) != 1)
        if wrong.size:
            problem = f"label {rows.label_ids[wrong[0]]} stands among the classes +1 and -1"
            fail(problem, "number all labels from 0", wrong, rows.label_counts)
        rows.label_ids = (rows.label_ids > 0).astype(np.int64)
    for what, ids, counts, lowest, how_many in (
        ("label", rows.label_ids, rows.label_counts, 0, num_labels),
        ("feature", rows.feature_ids, rows.feature_counts, first_feature, num_features),
    ):
        highest = _MAX_ID if how_many is None else lowest + how_many - 1
        wrong = np.flatnonzero((ids < lowest) | (ids > highest))
        if wrong.size:
            problem = f"the {what} id {ids[wrong[0]]} is not one of {lowest} to {highest:,}"
            fix = f"correct the id or the number of {what}s (header, or the reader's option)"
            fail(problem, fix, wrong, counts)
    wrong = np.flatnonzero(~np.isfinite(rows.values))
    if wrong.size:
        problem = f"the value of feature {rows.feature_ids[wrong[0]]} is not finite"
        fail(problem, "correct the value", wrong, rows.feature_counts)
    row_of = np.repeat(np.arange(len(rows.feature_counts)), rows.feature_counts)
    keys = row_of * (_MAX_ID + 1) + rows.feature_ids
    if (np.diff(keys) > 0).all():
        return rows
    order = np.argsort(keys, kind="stable")
    rows = dataclasses.replace(rows, feature_ids=rows.feature_ids[order], values=rows.values[order])
    wrong = np.flatnonzero(np.diff(keys[order]) == 0)
    if wrong.size:
        problem = f"feature {rows.feature_ids[wrong[0]]} is given twice"
        fail(problem, "give it once, e.g. with the sum", wrong, rows.feature_counts)
    return rows


def _parse_fast(lines: Sequence[bytes]) -> SparseRows | None:
    """Returns ``SparseRows``, or None if a line is not in the plainest form."""
    label_parts = []
    feature_parts = []
    for line in lines:
        head, _, tail = line.partition(b" ")
        if b":" in head:
            head = b""
            tail = line
        label_parts.append(head)
        feature_parts.append(tail.strip())
    label_counts = np.array([part.count(b",") + 1 if part else 0 for part in label_parts], np.int64)
    label_ids = parse_integers(b",".join(filter(None, label_parts)), ",", label_counts.sum())
    if label_ids is None:
        return None
    feature_counts = np.array([part.count(b":") for part in feature_parts], np.int64)
    pairs = parse_pairs(b" ".join(filter(None, feature_parts)), feature_counts.sum())
    if pairs is None:
        return None
    with np.errstate(over="ignore"):
        values = pairs[1].astype(np.float32)
    return SparseRows(label_ids, label_counts, pairs[0], values, feature_counts)


def _parse_carefully(
    lines: Sequence[bytes], numbers: Sequence[int] | np.ndarray, path: str | Path
) -> SparseRows:
    labels = []
    pairs = []
    for line, number in zip(lines, numbers, strict=True):
        where = f"{path}:{number}"
        tokens = line.split()
        has_labels = bool(tokens) and b":" not in tokens[0] and not line[:1].isspace()
        ids = []
        for token in tokens[0].split(b",") if has_labels else ():
            try:
                ids.append(_whole(token))
            except ValueError:
                raise DataError(
                    f"{_shown(token)} is not a label id",
                    where=where,
                    fix="number the labels from 0 and put commas between them, or give them by "
                    "name in JSON lines",
                ) from None
        labels.append(ids)
        pairs.append([_pair(token, where) for token in tokens[has_labels:]])
    flat = [pair for row in pairs for pair in row]
    with np.errstate(over="ignore"):
        values = np.array([value for _, value in flat], np.float64).astype(np.float32)
    return SparseRows(
        np.array([label for row in labels for label in row], np.int64),
        np.array([len(row) for row in labels], np.int64),
        np.array([feature for feature, _ in flat], np.int64),
        values,
        np.array([len(row) for row in pairs], np.int64),
    )


def _pair(token: bytes, where: str) -> tuple[int, float]:
    try:
        feature, value = token.split(b":")
        if b"_" in value:
            raise ValueError
        return _whole(feature), float(value)
    except ValueError:
        raise DataError(
            f"{_shown(token)} is not of the form feature:value", where=where, fix="correct the line"
        ) from None


def _whole(token: bytes) -> int:
    number = math.nan if b"_" in token else float(token)
    if not abs(number) <= _MAX_ID or number != int(number):
        raise ValueError
    return int(number)


def _shown(token: bytes) -> str:
    return repr(token[:40].decode("utf-8", "replace"))
