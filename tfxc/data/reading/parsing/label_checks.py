"""Refuses labels that no vocabulary could hold: impossible names, ids out of range, doubles."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfxc.core.errors import DataError

_MOST_DIGITS = 10  # of an id, which is below 2^31


def check_label_name(name: str, where: str | Path) -> None:
    """Refuses a label name that could not be written as one line of a vocabulary file.

    Raises:
        DataError: ``name`` is empty, holds a line break or is not valid Unicode.
    """
    if not name or "\n" in name or "\r" in name:
        raise DataError(
            f"the label name {name!r} is not one non-empty line",
            where=where,
            fix="rename the label",
        )
    check_unicode(name, "a label name", where)


def of_one_kind(
    labels: Sequence[Any], kind: type[Any] | None, where: str | Path
) -> tuple[list[Any], type[Any] | None]:
    """Returns an example's labels as those before it are: names, or ids.

    A number among names is the name of its digits, and such a name among ids the id. Impossible
    names and ids out of range are refused.

    Args:
        labels: of the example.
        kind: ``str`` or ``int``; None where there was no label yet.
        where: file and row, for messages.

    Returns:
        tuple: the labels, and their kind.

    Raises:
        DataError: naming the label.

    Example:
        >>> of_one_kind([3, "3", "4"], int, "a.jsonl:2")
        ([3, 4], <class 'int'>)
    """
    if not labels:
        return [], kind
    kind = kind or type(labels[0])
    if any(type(label) is not kind for label in labels):
        same = str if kind is str else _id_of
        labels = list(dict.fromkeys(map(same, labels)))
    for label in labels:
        if type(label) is not kind:
            raise DataError(
                f"the label {label!r} is not an id, as those before it are",
                where=where,
                fix="use names or ids throughout",
            )
        if isinstance(label, str):
            check_label_name(label, where)
        elif not 0 <= label < 2**31:
            raise DataError(
                f"the label id {label} is not one of 0 to {2**31 - 1:,}",
                where=where,
                fix="correct the label",
            )
    return list(labels), kind


def _id_of(label: int | str) -> int | str:
    """Returns the number that a text of digits is; anything else as it is."""
    if isinstance(label, int) or not (label.isascii() and label.isdigit()):
        return label
    return int(label) if len(label) <= _MOST_DIGITS and str(int(label)) == label else label


def check_label_names(names: Sequence[str], where: str) -> None:
    """Refuses a list in which a name is impossible or occurs twice.

    Raises:
        DataError: naming the place in the list, counted from 0.
    """
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        check_label_name(name, f"{where}[{place}]")
        if places.setdefault(name, place) != place:
            raise DataError(
                f"label name {name!r} occurs twice, as {places[name]} and {place}",
                where=where,
                fix="rename one of the two",
            )


def check_unicode(text: str, what: str, where: str | Path) -> None:
    """Refuses half a surrogate pair, which JSON can write and UTF-8 cannot.

    Raises:
        DataError: ``text`` cannot be encoded.
    """
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{what} is not valid Unicode: it has the lone surrogate {text[error.start]!r} at "
            f"character {error.start + 1}",
            where=where,
            fix="write the character as a pair of surrogates or in UTF-8",
        ) from None
