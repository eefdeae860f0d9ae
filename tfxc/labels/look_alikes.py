"""Label names that look alike, and words that stand for a missing value: likely one label, or none.

``3`` and ``3.0``, or ``Topic`` and ``topic``, are different labels. Where both are in a training
file, hardly anyone wanted that: pandas writes whole numbers as ``3.0`` in columns with gaps, and
tables are typed by hand.
"""

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

# Characters that Unicode lets programs ignore in display (Default_Ignorable_Code_Point), and the
# controls; white space among them counts as a blank before.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
_NUMBER = re.compile(r"0*([0-9]+?)(?:\.0*)?")
_MISSING = frozenset({"nan", "null", "none", "n/a", "na", "#n/a", "<na>", "nat", "nil"})


def _without_invisible(name: str) -> str:
    return _INVISIBLE.sub("", " ".join(name.split())).strip()


def _as_number(name: str) -> str:
    match = _NUMBER.fullmatch(name)
    return match[1] if match else name


# What two names can differ in, and what makes them equal then; in this order.
_DIFFERENCES: dict[str, Callable[[str], str]] = {
    "Unicode form": functools.partial(unicodedata.normalize, "NFKC"),
    "blanks or invisible characters": _without_invisible,
    "upper and lower case": str.casefold,
    "the format of a number": _as_number,
}


def plain_form(name: str) -> str:
    """Returns what names that look alike have in common.

    Example:
        >>> plain_form("Topic 3\\u200b"), plain_form("3.0"), plain_form("3")
        ('topic 3', '3', '3')
    """
    if name.isascii():
        if name.isdigit():  # as all ten million names of a set whose labels are numbers
            return name.lstrip("0") or "0"
        return _as_number(_without_invisible(name).lower())
    for change in _DIFFERENCES.values():
        name = change(name)
    return name


def difference(name: str, other: str) -> str:
    """Says in words in what two names with the same plain form differ.

    Example:
        >>> difference("Topic", "topic"), difference("3", "3.0")
        ('upper and lower case', 'the format of a number')
    """
    needed = []
    for words in _DIFFERENCES:
        left = name
        right = other
        for each, change in _DIFFERENCES.items():
            if each != words:
                left = change(left)
                right = change(right)
        if left != right:
            needed.append(words)
    return " and ".join(needed) or "characters that look alike"


def look_alikes(names: Sequence[str]) -> list[list[str]]:
    """Returns the groups of different names that have one plain form.

    Args:
        names: distinct names; of ten million, 80 MB are taken besides the groups.

    Example:
        >>> look_alikes(["law", "Topic", "topic"])
        [['Topic', 'topic']]
    """
    hashes = np.fromiter((hash(plain_form(name)) for name in names), np.int64, len(names))
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    groups = defaultdict(list)
    for place in np.flatnonzero(np.isin(hashes, repeated)).tolist():
        groups[plain_form(names[place])].append(names[place])
    return [group for group in groups.values() if len(group) > 1]


def first_twins(names: Iterable[str], others: Iterable[str]) -> tuple[str, str] | None:
    """Returns a name and another one, of ``others``, that look alike; None if there are none.

    Example:
        >>> first_twins(["3.0", "law"], ["3", "health"])
        ('3.0', '3')
    """
    by_form = {plain_form(name): name for name in names}
    for twin in others:
        name = by_form.get(plain_form(twin))
        if name is not None:
            return name, twin
    return None


def how_they_differ(name: str, other: str) -> str:
    """Says of two names that look alike in what they differ.

    Example:
        >>> how_they_differ("3.0", "3")
        "'3.0' and '3' differ only in the format of a number"
    """
    words = difference(name, other)
    shown = ascii if "Unicode form" in words else repr  # which look the same on the screen
    return f"{shown(name)} and {shown(other)} differ only in {words}"


def missing_words(names: Iterable[str]) -> list[str]:
    """Returns those names that programs write where a value is missing.

    Example:
        >>> missing_words(["law", "nan", "N/A"])
        ['nan', 'N/A']
    """
    return [name for name in names if name.strip().lower() in _MISSING]


def warnings_of_names(names: Sequence[str], told: int = 0) -> list[str]:
    """Warns of label names that hardly anyone wants to be labels of their own, a line each.

    Args:
        names: distinct names.
        told: how many of the first names the user has seen compared with each other.

    Example:
        >>> warnings_of_names(["law", "Law"])[0][:72]
        "2 of 2 label names look like another: 'law' and 'Law' differ only in upp"
    """
    lines = []
    groups = look_alikes(names)
    if groups and told:
        seen = set(names[:told])
        groups = [group for group in groups if not seen.issuperset(group)]
    if groups:
        lines.append(
            f"{sum(map(len, groups)):,} of {len(names):,} label names look like another: "
            f"{how_they_differ(*groups[0][:2])}, but are two labels. If they mean the same, write "
            "them the same way"
        )
    missing = missing_words(names)
    if missing:
        labels = "is a label" if len(missing) == 1 else "are labels"
        lines.append(
            f"{', '.join(map(repr, missing))} {labels}. If a missing value is meant, leave it empty"
        )
    return lines
