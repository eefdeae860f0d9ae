"""What counts as a label in a row of a table: one rule for all formats, docs/data.md states it."""

import ast
import json
import math
import numbers
import operator
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from tfxc.core.errors import ConfigError, DataError

#: The separator of cells that are lists, such as ``['law', 'health']``.
LIST = "[]"
#: The separator of cells that are one label, or several as Label Studio writes them,
#: ``{"choices": ["law", "health"]}``.
CHOICES = "{}"
_CHOICES_KEY = "choices"
# A list of Python, which pandas writes into CSV files, or of JSON.
_LIST = re.compile(r"""\[\s*(?:["'\d].*)?\]""", re.DOTALL)
_WHOLE = re.compile(r"-?\d+\.0", re.ASCII)
# Strings that only blanks separate, as NumPy prints arrays; Python would join them.
_WITHOUT_COMMA = re.compile(r"""(["'])\s+\1""")
# What the cells of a column that is a label may hold, in lower case.
_FLAGS = {
    **dict.fromkeys(("0", "0.0", "false", "", "nan"), False),
    **dict.fromkeys(("1", "1.0", "true"), True),
}


class RowLabels:
    """Reads the labels of a row: from one column, or from a column of 0 and 1 for each label.

    Args:
        columns: name of the column, or the names of all columns that are labels; None where the
            reader has yet to find the one column.
        separator: what separates the labels of a cell, ``"[]"`` for a cell that is a list,
            ``"{}"`` for one that is a label or Label Studio's choices, or None for a cell that is
            one label.

    Attributes:
        names: the labels, where each has a column; else None.

    Raises:
        ConfigError: as ``columns_of``.

    Example:
        >>> RowLabels("tags", ";").read(["law; health;"], "a.csv:2")
        ['law', 'health']
        >>> RowLabels(["toxic", "insult"], None).read(["0", "1"], "a.csv:2")
        ['insult']
    """

    def __init__(self, columns: str | Sequence[str] | None, separator: str | None) -> None:
        several = columns is not None and not isinstance(columns, str)
        self.names = columns_of(columns) if several else None
        self._columns = columns
        self._separator = separator

    def read(self, values: Sequence[Any], where: str) -> list[Any]:
        """Reads the labels, each once: names (``str``) or numbers (``int``).

        Args:
            values: of the columns.
            where: file and row, for messages.

        Raises:
            DataError: a value is no label, no list where cells are lists, or neither 0 nor 1 in a
                column that is a label.
        """
        if self.names is not None:
            labels = []
            for name, value in zip(self.names, values, strict=True):
                flag = _FLAGS.get(_flag_key(value))
                if flag is None:
                    raise DataError(
                        f"column {name!r}, which is a label, contains {str(value)[:60]!r}",
                        where=where,
                        fix="write 1 for a label of the row, else 0 or nothing",
                    )
                if flag:
                    labels.append(name)
            return labels
        (value,) = values
        if isinstance(value, str):
            return list(dict.fromkeys(split_labels(value, self._separator, where)))
        return labels_of(value, f"{where}: {self._columns!r}" if self._columns else where)


def columns_of(names: Any, option: str = "labels_field") -> list[Any]:
    """Returns the columns that a reader's option names; ``[None]`` for None.

    Args:
        names: value of the option.
        option: its name, for the message.

    Raises:
        ConfigError: it is neither a name nor a list of different names.

    Example:
        >>> columns_of("tags"), columns_of(["toxic", "insult"])
        (['tags'], ['toxic', 'insult'])
    """
    if names is None or isinstance(names, str):
        return [names]
    if isinstance(names, (list, tuple)) and names:
        columns = list(names)
        if all(isinstance(name, str) for name in columns) and len(set(columns)) == len(columns):
            return columns
    what = "that are a label each" if option == "labels_field" else "whose texts are joined"
    raise ConfigError(
        f"{names!r} is neither a column nor a list of different columns",
        where=option,
        fix=f"name one, or a list of those {what}",
    )


def labels_of(value: Any, where: str) -> list[Any]:
    """Returns the labels, each once, in a value of a format with types, such as JSON or Arrow.

    Args:
        value: a label, a list of labels, see ``label_of``; or an object whose keys are labels and
            whose values are 0 and 1, or truth values, as spaCy's ``cats``; or one of Label Studio's
            choices.
        where: file and row, for messages.

    Raises:
        DataError: a value is no label.

    Example:
        >>> labels_of(["law", None, "law "], "a.jsonl:1"), labels_of(3.0, "a.jsonl:2")
        (['law'], [3])
        >>> labels_of({"law": 1.0, "health": 0.0}, "a.jsonl:3")
        ['law']
    """
    if isinstance(value, dict):
        choices = choices_of(value)
        value = _flagged(value, where) if choices is None else choices
    values = value if isinstance(value, (list, tuple)) else [value]
    labels = (label_of(item, where) for item in values)
    return list(dict.fromkeys(label for label in labels if label is not None))


def _flagged(value: dict[str, Any], where: str) -> list[str]:
    """Returns the keys of an object whose value is 1 or true."""
    names = []
    for name, flag in value.items():
        is_label = _FLAGS.get(_flag_key(flag))
        if is_label is None:
            raise DataError(
                f"the label {name!r} of an object of labels is {str(flag)[:60]!r}",
                where=where,
                fix="write 1 for a label of the example, else 0",
            )
        if is_label:
            names.append(name)
    return names


def choices_of(value: dict[str, Any]) -> list[Any] | None:
    """Returns the labels of an object as Label Studio writes several; None of any other.

    Example:
        >>> choices_of({"choices": ["law", "health"]}), choices_of({"law": 1})
        (['law', 'health'], None)
    """
    choices = value.get(_CHOICES_KEY)
    return choices if len(value) == 1 and isinstance(choices, list) else None


def label_of(value: Any, where: str | None = None) -> str | int | None:
    """Returns a label as a value of JSON, Arrow or Python means it.

    A text is its own name, without the white space around it; that of a whole number with ``.0`` is
    its digits, as a program writes it that holds numbers as floats. A whole number of any type is
    that number, whose name is its digits. Truth values are called as JSON writes them. Nothing
    (None, NaN, an empty text) is no label.

    Args:
        value: the value.
        where: file and row, for messages.

    Returns:
        The name (``str``), the number (``int``), or None for no label.

    Raises:
        DataError: a number that is not whole, or anything else.

    Example:
        >>> label_of(" law "), label_of(3.0), label_of(True), label_of(float("nan"))
        ('law', 3, 'true', None)
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _number_or_name(value.strip()) or None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return value
    if isinstance(value, (numbers.Real, Decimal)):
        if math.isnan(value):
            return None
        if math.isfinite(value) and value % 1 == 0:
            return operator.index(math.trunc(value))
    raise DataError(
        f"{str(value)[:60]!r} is not a label",
        where=where,
        fix="write a text, a whole number, or a list of either",
    )


def split_labels(cell: str, separator: str | None, where: str) -> list[str]:
    """Splits a cell into labels, without the white space around them and without empty ones.

    Args:
        cell: the text of the cell.
        separator: see ``RowLabels``.
        where: file and line, for the message.

    Raises:
        DataError: the separator is ``"[]"``, and the cell is no list of texts or whole numbers.

    Example:
        >>> split_labels("law; health;", ";", "a.csv:2"), split_labels("['law']", "[]", "a.csv:2")
        (['law', 'health'], ['law'])
    """
    if separator == CHOICES and (value := _parsed_choices(cell)) is not None:
        return [str(label) for label in labels_of(value, where)]
    if separator == LIST:
        if not cell.strip():
            return []
        try:
            items = None if _WITHOUT_COMMA.search(cell) else ast.literal_eval(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            items = None
        if not isinstance(items, list):
            raise DataError(
                f"{cell[:80]!r} is not a list of labels, such as ['law', 'health']",
                where=where,
                fix="correct the cell, or set label_separator to what separates labels",
            )
        return [str(label) for label in labels_of(items, where)]
    parts = [cell] if separator is None or separator == CHOICES else cell.split(separator)
    return [_number_or_name(name) for part in parts if (name := part.strip())]


def are_choices(cells: Iterable[str]) -> bool:
    """Tells whether some cells are several labels as Label Studio writes them.

    Example:
        >>> are_choices(["law", '{"choices": ["law", "health"]}']), are_choices(["{law}"])
        (True, False)
    """
    return any(_parsed_choices(cell) is not None for cell in cells)


def _parsed_choices(cell: str) -> list[Any] | None:
    if not cell.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(cell)
    except ValueError:
        return None
    return choices_of(value)


def are_lists(cells: Iterable[str]) -> bool:
    """Tells whether all cells look like lists, and there is at least one.

    Example:
        >>> are_lists(["['law', 'health']", "[]"]), are_lists(["[draft]"])
        (True, False)
    """
    matches = [_LIST.fullmatch(cell.strip()) is not None for cell in cells]
    return bool(matches) and all(matches)


def _number_or_name(name: str) -> str:
    """Returns a label's name; pandas writes 3 as 3.0 where another row of the column is empty."""
    return name[:-2] if name.endswith(".0") and _WHOLE.fullmatch(name) else name


def are_flags(values: Iterable[Any]) -> bool:
    """Tells whether all values say yes or no, as those of a column that is a label do, or nothing.

    Example:
        >>> are_flags(["0", "1", ""]), are_flags([True, None]), are_flags(["0", "2"])
        (True, True, False)
        >>> are_flags(["", ""])
        False
    """
    keys = {_flag_key(value) for value in values}
    return keys <= _FLAGS.keys() and not keys <= {"", "nan"}


def _flag_key(value: Any) -> str:
    return "" if value is None else str(value).strip().lower()
