"""Cells of a table that hold several labels: with a separator between them, or as a list."""

import ast
import re
from collections.abc import Iterable

from tfxc.core.errors import DataError

#: The separator of cells that are lists, such as ``['law', 'health']``.
LIST = "[]"
# A list of Python, which pandas writes into CSV files, or of JSON.
_LIST = re.compile(r"""\[\s*(?:["'\d].*)?\]""", re.DOTALL)
# Strings that only blanks separate, as NumPy prints arrays; Python would join them.
_WITHOUT_COMMA = re.compile(r"""(["'])\s+\1""")


def split_labels(cell: str, separator: str | None, where: str) -> list[str]:
    """The labels in a cell, without the white space around them and without empty ones.

    Args:
        cell: the text of the cell.
        separator: what separates the labels, ``"[]"`` for a cell that is a list, or None for a cell
            that is one label.
        where: file and line, for the message.

    Raises:
        DataError: a list is expected, and the cell is none of strings or integers.

    Example:
        >>> split_labels("law; health", ";", "a.csv:2"), split_labels("['law']", "[]", "a.csv:2")
        (['law', 'health'], ['law'])
    """
    if separator == LIST:
        parts = _items(cell, where)
    else:
        parts = [cell] if separator is None else cell.split(separator)
    return [name for part in parts if (name := part.strip())]


def are_lists(cells: Iterable[str]) -> bool:
    """Whether all cells look like lists, and there is at least one.

    Example:
        >>> are_lists(["['law', 'health']", "[]"]), are_lists(["[draft]"])
        (True, False)
    """
    found = [_LIST.fullmatch(cell.strip()) is not None for cell in cells]
    return bool(found) and all(found)


def _items(cell, where):
    if not cell.strip():
        return []
    try:
        found = None if _WITHOUT_COMMA.search(cell) else ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(type(each) in (str, int) for each in found):
        raise DataError(
            f"a list of labels such as ['law', 'health'] expected, found {cell[:80]!r}",
            where=where,
            fix="correct the cell, or name what separates labels as label_separator",
        )
    return [str(each) for each in found]
