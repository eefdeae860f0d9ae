"""Refuses labels that no vocabulary could hold: impossible names, ids out of range, doubles."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfxc.core.errors import DataError


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


def check_labels(labels: Sequence[Any], kind: type[Any], where: str | Path) -> None:
    """Refuses labels of another type than ``kind``, impossible names and ids out of range.

    Raises:
        DataError: naming the label.
    """
    for label in labels:
        if type(label) is not kind:
            what = "a name" if kind is str else "an id"
            raise DataError(
                f"the label {label!r} is not {what}, as those before it are",
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
