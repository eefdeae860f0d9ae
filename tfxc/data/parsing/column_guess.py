"""Which columns of a table hold the texts and the labels, found by their names and values."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfxc.core.errors import DataError
from tfxc.core.registry import nearest
from tfxc.data.label_ids import joined_labels
from tfxc.data.parsing.label_cells import LIST, are_lists

#: Usual names of a column of texts, in lower case, the likeliest first.
TEXT_NAMES = (
    "text", "sentence", "texts", "question", "query", "utterance", "document", "content", "body",
    "description", "message", "review", "comment", "abstract", "title",
)  # fmt: skip
#: Usual names of a column of labels, in lower case, the likeliest first.
LABEL_NAMES = (
    "labels", "label", "categories", "category", "classes", "class", "tags", "tag", "topics",
    "topic", "intents", "intent", "targets", "target", "genres", "genre", "sentiment",
)  # fmt: skip
#: Names of columns that readers look for where none are given.
TEXT_FIELDS, LABELS_FIELDS = ("text", "sentence"), ("labels", "label")
# Rows, and characters of a cell, that are looked at to find the columns.
_ROWS, _CHARACTERS = 20_000, 500
_LONG = 60  # characters of a text, but hardly of a label


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The columns that the user names; None for one that is to be found.

    Attributes:
        text, labels: names of columns, or keys of objects.
    """

    text: str | None = None
    labels: str | None = None


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where texts and labels are.

    Attributes:
        text, labels: names of the columns.
        separator: what separates several labels in a cell (``"[]"``: a cell is a list), or None.
    """

    text: str
    labels: str
    separator: str | None


def guess_columns(
    columns: Mapping[str, Sequence[Any]], wanted: Wanted, where: str, kind: str = "column"
) -> Columns:
    """The columns of texts and labels: those the user names, else by their names and values.

    Labels repeat and are short, texts are long. A column whose name shows what it holds comes
    first.

    Args:
        columns: the first values of each column by its name; values are text, numbers or lists.
        wanted: columns that are given.
        where: file and line, for messages.
        kind: what a column is called, e.g. ``"key"``.

    Raises:
        DataError: a given column is missing, there are fewer than two columns, or more than one
            may hold the labels.

    Example:
        >>> columns = {"id": ["1", "2", "3"], "intent": ["a", "b", "a"], "q": ["who?"] * 3}
        >>> guess_columns(columns, Wanted(), "train.csv:1")
        Columns(text='q', labels='intent', separator=None)
    """
    for option, name in (("--text-column", wanted.text), ("--label-column", wanted.labels)):
        if name is not None and name not in columns:
            raise DataError(
                f"a {kind} {name!r} expected, found {_listed(columns)}{nearest(name, columns)}",
                where=where,
                fix=f"name one of these as {option}",
            )
    if len(columns) < 2:
        raise DataError(
            f"a {kind} of texts and one of labels expected, found {_listed(columns)}",
            where=where,
            fix="add what is missing, or check what separates the cells",
        )
    if not any(columns.values()):
        raise DataError("examples expected, found none", where=where, fix="check the file")
    labels = wanted.labels or _label_column(columns, wanted.text, where, kind)
    text = wanted.text or _text_column(columns, labels, where, kind)
    if text == labels:
        raise DataError(
            f"one {kind} of texts and another of labels expected, found {text!r} for both",
            where=where,
            fix="correct --text-column or --label-column",
        )
    return Columns(text, labels, _separator(columns[labels]))


def find_column(
    columns: Sequence[str],
    wanted: str | None,
    usual: Sequence[str],
    option: str,
    where: str | Path,
) -> int:
    """The place of a column among those of a table.

    Args:
        columns: names of all columns.
        wanted: the name to look for; None looks for the ``usual`` ones.
        usual: names to look for, the first first.
        option: the reader's option that names it, for the message.
        where: file, or file and line, for the message.

    Raises:
        DataError: there is none, or more than one.

    Example:
        >>> find_column(["id", "sentence"], None, TEXT_FIELDS, "text_field", "train.csv:1")
        1
    """
    candidates = usual if wanted is None else (wanted,)
    for name in candidates:
        if columns.count(name) == 1:
            return columns.index(name)
    raise DataError(
        f"one column {' or '.join(map(repr, candidates))} expected, found {_listed(columns)}",
        where=where,
        fix=f"name the right column as {option}",
    )


def first_values(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """The first rows of a table, long cells cut, to find the columns by.

    Args:
        rows: the cells of each row.

    Example:
        >>> first_values([["a", "x" * 1000]])[0][1] == "x" * 500
        True
    """
    return [[_cut(cell) for cell in row] for row in itertools.islice(rows, _ROWS)]


def names_are_values(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line is an example, not the names of the columns.

    It is if a cell of it occurs in its column among labels, or is as long as a text.

    Example:
        >>> names_are_values(["red fox", "animal"], [["blue sea", "water"], ["owl", "animal"]] * 2)
        True
    """
    usual = {*TEXT_NAMES, *LABEL_NAMES}
    if any(name.strip().lower() in usual for name in header):
        return False
    columns = [[row[number] for row in rows] for number in range(len(header))]
    return any(len(name) > _LONG for name in header) or any(
        name in values and _may_be_labels(values)
        for name, values in zip(header, columns, strict=True)
    )


def _cut(cell):
    return cell[:_CHARACTERS] if isinstance(cell, str) else cell


def _label_column(columns, text, where, kind):
    rest = {name: values for name, values in columns.items() if name != text}
    named = _by_name(rest, LABEL_NAMES)
    if named is not None:
        return named
    text = text or _by_name(rest, TEXT_NAMES)
    rest.pop(text, None)
    if len(rest) == 1:
        return next(iter(rest))
    found = [name for name, values in rest.items() if _may_be_labels(values)]
    if text is None and len(columns) == 2 and len(found) != 1:
        return min(rest, key=lambda name: (_distinct(rest[name]), _length(rest[name])))
    if len(found) != 1:
        raise DataError(
            f"one {kind} whose values repeat, as labels do, expected, found "
            f"{_listed(found) if found else 'none'} in {_listed(columns)}",
            where=where,
            fix="name it as --label-column",
        )
    return found[0]


def _text_column(columns, labels, where, kind):
    rest = {n: values for n, values in columns.items() if n != labels and _are_texts(values)}
    if not rest:
        raise DataError(
            f"a {kind} of texts expected, found none next to the labels in {labels!r}",
            where=where,
            fix="name it as --text-column; features that are numbers are read from svmlight and "
            ".npz files",
        )
    named = _by_name(rest, TEXT_NAMES)
    return named or max(rest, key=lambda name: (_length(rest[name]), _distinct(rest[name])))


def _by_name(columns, usual):
    """The column with the likeliest of the usual names, or None."""
    found = {}
    for name in columns:
        found.setdefault(name.strip().lower(), name)
    return next((found[name] for name in usual if name in found), None)


def _may_be_labels(values):
    if any(isinstance(value, list) for value in values):
        return True
    known = [str(value) for value in values if value not in (None, "")]
    distinct = len(set(known))
    return bool(known) and 2 * distinct <= len(known) and _length(known) <= _LONG


def _are_texts(values):
    """Whether there is a text that is more than a number."""
    return any(
        isinstance(value, str) and value.strip() and not _is_number(value) for value in values
    )


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _distinct(values):
    return len({str(value) for value in values}) / max(1, len(values))


def _length(values):
    return sum(len(str(value)) for value in values) / max(1, len(values))


def _separator(values):
    """What separates several labels in a cell; None where a cell is one, or lists hold them."""
    names = {value.strip() for value in values if isinstance(value, str) and value.strip()}
    if are_lists(name for name in names if len(name) < _CHARACTERS):
        return LIST
    found = joined_labels(sorted(names))
    return None if found is None else found[0]


def _listed(names):
    return ", ".join(map(repr, names)) or "none"
