"""Which columns of a table hold the texts and the labels, found by their names and values."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from tfxc.core.errors import DataError
from tfxc.core.escaping import json_text
from tfxc.core.registry import nearest
from tfxc.data.reading.parsing.label_cells import (
    CHOICES,
    LIST,
    are_choices,
    are_flags,
    are_lists,
    columns_of,
)

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
# What stands above a text: it may repeat, and be no label all the same.
_HEADING_NAMES = ("title", "subject", "headline", "summary")
#: Names of columns that readers look for where none are given.
TEXT_FIELDS = ("text", "sentence")
LABELS_FIELDS = ("labels", "label")
# What a fix adds to the name of a reader's option.
_MORE_ADVICE = {
    "text_field": ", or of a table what separates its columns as delimiter",
    "labels_field": ", a list of them where each label has a column of 0 and 1",
}
# Rows, and characters of a cell, that are looked at to find the columns.
_ROWS = 20_000
_CHARACTERS = 500
# What an object that is a label calls its name.
_PARTS_OF_LABELS = ("name", "value", "title")
_LONG = 60  # characters of a text, but hardly of a label
_DATE = re.compile(r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3\d{2,4})([T ].*)?")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The columns that the user names; None for one that is to be found.

    Attributes:
        text: name of a column, or key of objects; or the names of several, whose texts are joined.
        labels: the same, or the names of the columns that are labels.
    """

    text: str | Sequence[str] | None = None
    labels: str | Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where texts and labels are.

    Attributes:
        text: name of the column, or of several, whose texts are joined.
        labels: name of the column; or, where each label has a column of 0 and 1, the names of all
            of these.
        separator: what separates several labels in a cell (``"[]"``: a cell is a list, ``"{}"``: it
            may be Label Studio's choices), or None.
    """

    text: str | list[str]
    labels: str | list[str]
    separator: str | None


def guess_columns(
    columns: Mapping[str, Sequence[Any]],
    wanted: Wanted,
    where: str,
    kind: str = "column",
    unreadable: Mapping[str, str] | None = None,
) -> Columns:
    """Finds the columns of texts and labels: as the user names them, else by names and values.

    Labels repeat and are short, texts are long. Dates are no labels. A column whose
    name shows what it holds comes first. Several columns of 0 and 1, and no other that could be
    the labels, are a label each.

    Args:
        columns: the first values of each column by its name; values are text, numbers or lists.
        wanted: columns that the user names.
        where: file and line, for messages.
        kind: what a column is called, e.g. ``"key"``.
        unreadable: {name: type} of columns that can be neither texts nor labels.

    Raises:
        DataError: a given column is missing, there are fewer than two columns, or more than one
            may hold the labels.

    Example:
        >>> columns = {"id": ["1", "2", "3"], "intent": ["a", "b", "a"], "q": ["who?"] * 3}
        >>> guess_columns(columns, Wanted(), "train.csv:1")
        Columns(text='q', labels='intent', separator=None)
        >>> columns = {"text": ["ah", "oh", "uh"], "rude": ["1", "0", "0"], "odd": ["1", "1", "0"]}
        >>> guess_columns(columns, Wanted(), "train.csv:1").labels
        ['rude', 'odd']
    """
    unreadable = unreadable or {}
    types = ", ".join(f"{name!r} ({type_})" for name, type_ in unreadable.items())
    besides = f", besides {types}, whose types are neither text nor labels" if unreadable else ""
    texts = [name for name in columns_of(wanted.text, "text_field") if name is not None]
    named = [("--text-column", name) for name in texts]
    named += [("--label-column", name) for name in columns_of(wanted.labels)]
    for option, name in named:
        if name is None:
            continue
        if name in unreadable:
            raise DataError(
                f"the {kind} {name!r} is of type {unreadable[name]}, which is neither text nor "
                "labels",
                where=where,
                fix="convert it to text or whole numbers, or lists of either",
            )
        if name not in columns:
            raise DataError(
                f"there is no {kind} {name!r}, only {_listed(columns)}"
                + (nearest(name, columns) if len(columns) > 1 else ""),
                where=where,
                fix="check what separates the cells, the reader's option delimiter"
                if len(columns) == 1 and kind == "column"
                else f"name one of these as {option}",
            )
    if len(columns) < 2:
        listed = f"the {kind}s are {_listed(columns)}" if columns else f"there are no {kind}s"
        raise DataError(
            f"a {kind} of texts or one of labels is missing: {listed}{besides}",
            where=where,
            fix=f"convert the {kind} to text or whole numbers"
            if unreadable
            else "add what is missing"
            + (", or check what separates the cells" if kind == "column" else ""),
        )
    if not any(columns.values()):
        raise DataError("there are no examples", where=where, fix="check the file")
    labels = wanted.labels or _label_columns(columns, texts, where, kind, besides)
    label_columns = columns_of(labels)
    texts = texts or [_text_column(columns, label_columns, where, kind)]
    for name in texts:
        if name in label_columns:
            raise DataError(
                f"the {kind} {name!r} cannot be both text and label",
                where=where,
                fix="correct --text-column or --label-column",
            )
    text = texts[0] if len(texts) == 1 else texts
    if isinstance(labels, str):
        return Columns(text, labels, _separator(columns[labels]))
    return Columns(text, label_columns, None)


def find_column(
    columns: Sequence[str],
    wanted: str | None,
    usual: Sequence[str],
    option: str,
    where: str | Path,
) -> int:
    """Finds the place of a column among those of a table.

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
    shown = " or ".join(map(repr, candidates))
    twice = any(name in columns for name in candidates)
    raise DataError(
        f"there is more than one column {shown}: {_listed(columns)}"
        if twice
        else f"there is no column {shown}{f', only {_listed(columns)}' if columns else ''}",
        where=where,
        fix=f"name the right column as {as_given(option)}{_MORE_ADVICE.get(option, '')}",
    )


def as_given(option: str) -> str:
    """Returns how a reader's option that names a column is given, for a fix."""
    short = f"--reader-option {option}=NAME"
    return f"--set data.reader_options.{option}=NAME (predict and others: {short})"


def find_text_columns(
    columns: Sequence[str], wanted: str | Sequence[str] | None, where: str | Path
) -> list[int]:
    """Finds the places of the columns whose texts are an example's, as ``find_column``.

    Args:
        columns: names of all columns.
        wanted: the reader's option ``text_field``: a name, names in the order in which their texts
            are joined, or None.
        where: file, or file and line, for the message.

    Raises:
        DataError: one of them is not there, or more than once.
        ConfigError: as ``columns_of``.

    Example:
        >>> find_text_columns(["title", "body"], ["body", "title"], "train.csv:1")
        [1, 0]
    """
    return [
        find_column(columns, name, TEXT_FIELDS, "text_field", where)
        for name in columns_of(wanted, "text_field")
    ]


def find_label_columns(
    columns: Sequence[str], wanted: str | Sequence[str] | None, where: str | Path
) -> list[int]:
    """Finds the places of the columns that hold the labels, as ``find_column``.

    Args:
        columns: names of all columns.
        wanted: the reader's option ``labels_field``: a name, names of columns that are a label
            each, or None.
        where: file, or file and line, for the message.

    Raises:
        DataError: one of them is not there, or more than once.
        ConfigError: as ``columns_of``.

    Example:
        >>> find_label_columns(["text", "rude", "odd"], ["odd", "rude"], "train.csv:1")
        [2, 1]
    """
    return [
        find_column(columns, name, LABELS_FIELDS, "labels_field", where)
        for name in columns_of(wanted)
    ]


def first_values(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Takes the first rows of a table, long cells cut, to find the columns by.

    Args:
        rows: the cells of each row.

    Example:
        >>> first_values([["a", "x" * 1000]])[0][1] == "x" * 500
        True
    """
    return [[_cut(cell) for cell in row] for row in itertools.islice(rows, _ROWS)]


def names_are_values(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tells whether the first line is an example, not the names of the columns.

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


def has_usual_names(line: str, delimiters: Iterable[str]) -> bool:
    """Tells whether a line names columns of texts and of labels as they usually are called.

    Args:
        line: the first of a file.
        delimiters: one of them separates the cells.

    Example:
        >>> has_usual_names('"text"\\t"label"', "\\t,"), has_usual_names("read the text", "\\t,")
        (True, False)
    """
    for delimiter in delimiters:
        names = {cell.strip().strip('"').lower() for cell in line.split(delimiter)}
        if not names.isdisjoint(TEXT_NAMES) and not names.isdisjoint(LABEL_NAMES):
            return True
    return False


def _cut(cell: Any) -> Any:
    return cell[:_CHARACTERS] if isinstance(cell, str) else cell


def _label_columns(
    columns: Mapping[str, Sequence[Any]],
    texts: Sequence[str],
    where: str,
    kind: str,
    besides: str,
) -> str | list[str]:
    """Finds the column that holds the labels, or the columns that are a label each."""
    rest = {name: values for name, values in columns.items() if name not in texts}
    named = _by_name(rest, LABEL_NAMES)
    if named is not None:
        return named
    text = None if texts else _by_name(rest, TEXT_NAMES)
    if text is not None:
        rest.pop(text)
    if len(rest) == 1:
        return next(iter(rest))
    candidates = [name for name, values in rest.items() if _may_be_labels(values)]
    others = [name for name in candidates if _by_name([name], _HEADING_NAMES) is None]
    candidates = others or candidates
    if not texts and text is None and len(columns) == 2 and len(candidates) != 1:
        return min(rest, key=lambda name: (_distinct(rest[name]), _length(rest[name])))
    if len(candidates) == 1:
        return candidates[0]
    flags = [name for name, values in rest.items() if are_flags(values)]
    not_flags = [name for name in candidates if name not in flags]
    if len(flags) > 1 and not not_flags:
        return flags
    if len(flags) > 1:
        raise DataError(
            f"several {kind}s could be the labels: {_listed(not_flags)}, or {len(flags)} {kind}s "
            f"of 0 and 1 ({_shortened(flags)})",
            where=where,
            fix=f"name one as --label-column, or, if each of several {kind}s is a label, all of "
            f"them, as in --set 'data.reader_options.labels_field={json_text(flags[:2])}'",
        )
    own = f", or make it a {kind} of its own (Label Studio: export JSON-MIN)" if besides else ""
    if candidates:
        raise DataError(
            f"several {kind}s could be the labels: {_listed(candidates)}{besides}",
            where=where,
            fix=f"pick one, e.g. --label-column "
            f"{min(candidates, key=lambda name: _distinct(rest[name]))}{own}",
        )
    repeat = [name for name in texts if _may_be_labels(columns[name])]
    if repeat:
        raise DataError(
            f"the values of {repeat[0]!r}, named as the texts, repeat as those of labels do, and "
            f"those of no other {kind} do",
            where=where,
            fix=f"name the {kind} of the texts as --text-column, or another one as --label-column",
        )
    raise DataError(
        f"no {kind} has values that repeat, as labels do: {_listed(columns)}{besides}",
        where=where,
        fix=f"name the right one as --label-column{own}",
    )


def _text_column(
    columns: Mapping[str, Sequence[Any]], labels: Sequence[str], where: str, kind: str
) -> str:
    """Finds the column that holds the texts: with some that are more than a number."""
    rest = {
        name: values
        for name, values in columns.items()
        if name not in labels
        and any(isinstance(v, str) and v.strip() and not _is_number(v) for v in values)
    }
    if not rest:
        raise DataError(
            f"no {kind} of texts accompanies the labels in {_shortened(labels)}",
            where=where,
            fix="name it as --text-column; features that are numbers are read from svmlight and "
            ".npz files",
        )
    named = _by_name(rest, TEXT_NAMES)
    return named or max(rest, key=lambda name: (_length(rest[name]), _distinct(rest[name])))


def _by_name(columns: Iterable[str], usual: Sequence[str]) -> str | None:
    """Finds the column with the likeliest of the usual names, or None.

    The name of a path such as ``content.body`` is its last part; of one to labels such as
    ``labels[].name``, where that says what a part of a label is, the part before it.
    """
    columns = list(columns)
    columns_by_name = {column.strip().lower(): column for column in reversed(columns)}
    for column in columns:
        parts = column.strip().lower().replace("[]", "").split(".")
        if len(parts) > 1 or "[]" in column:
            is_part = usual is LABEL_NAMES and len(parts) > 1 and parts[-1] in _PARTS_OF_LABELS
            columns_by_name.setdefault(parts[-2] if is_part else parts[-1], column)
    return next((columns_by_name[name] for name in usual if name in columns_by_name), None)


def _may_be_labels(values: Sequence[Any]) -> bool:
    lists = [value for value in values if isinstance(value, (list, dict))]
    if lists:
        return any(lists)
    if any(isinstance(value, (float, Decimal)) and value % 1 > 0 for value in values):
        return False
    known = [str(value) for value in values if value not in (None, "")]
    distinct = len(set(known))
    if all(map(_DATE.fullmatch, known)):
        return False
    return 2 * distinct <= len(known) and _length(known) <= _LONG


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _distinct(values: Sequence[Any]) -> float:
    return len({str(value) for value in values}) / max(1, len(values))


def _length(values: Sequence[Any]) -> float:
    return sum(len(str(value)) for value in values) / max(1, len(values))


def _separator(values: Sequence[Any]) -> str | None:
    """Finds what separates several labels in a cell; None where a cell is one, or a list."""
    names = {value.strip() for value in values if isinstance(value, str) and value.strip()}
    if are_lists(name for name in names if len(name) < _CHARACTERS):
        return LIST
    if are_choices(names):
        return CHOICES
    from tfxc.labels.joined_labels import joined_labels

    joined = joined_labels(names)
    return joined.separator if joined is not None and joined.certain else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _shortened(names: Sequence[str]) -> str:
    return _listed(names[:3]) + (", ..." if len(names) > 3 else "")
