"""Label names that look like several labels in one cell, such as ``law;health``."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# What people write between labels and hardly ever in the name of one: ASCII, line breaks and tabs,
# the signs of Chinese and Japanese (full-width semicolon, comma and bar; ideographic comma), and of
# Arabic (semicolon and comma).
_BETWEEN_LABELS = (*",;|\t\n", *"\uff1b\uff0c\u3001\uff5c", *"\u061b\u060c")
# Those that also stand in paths and numbered names ("a/b", "Issue #1"); "a#b" is doccano's export.
_ALSO_IN_NAMES = ("/", "\uff0f", "#")
# Those that mostly stand in names ("R&D", "food and drink", "C++", "std::vector").
_MOSTLY_IN_NAMES = ("::", "&", "\uff06", "+", "\uff0b", " and ")

# Names that combine words: at least so many of them, this share of the examples, and this share of
# words to names.
_MANY, _RARELY_REPEATED, _FEW_WORDS = 20, 0.25, 0.25


class JoinedLabels(NamedTuple):
    """Label names that look like several labels in one.

    Attributes:
        separator: what stands between the labels.
        names: those that look like several.
        parts: of the first of them.
        num_names: all label names.
        num_labels: how many labels there are if all names are split at the separator.
        certain: False if paths and other names look the same, so that only the user can tell.
    """

    separator: str
    names: list[str]
    parts: list[str]
    num_names: int
    num_labels: int
    certain: bool

    def __str__(self) -> str:
        """Returns what was found, as a clause of a message."""
        parts = ", ".join(map(repr, self.parts))
        return (
            f"{len(self.names):,} of {self.num_names:,} label names look like several, such as "
            f"{self.names[0]!r} ({parts})"
        )

    def warning(self, where: str | Path, splits_cells: bool) -> str:
        """Returns what was found in a file whose examples have one label each, and what to do about
        it.

        Args:
            where: the file.
            splits_cells: whether its reader has the option ``label_separator``.
        """
        if splits_cells:
            option = "data.reader_options.label_separator"
            fix = (
                f"If they are, write lists or set {option} to {self.separator!r}, which makes "
                f"{self.num_labels:,} labels; if each is one label, set it to null, which also "
                "ends this warning"
            )
        else:
            fix = f"If they are, list the labels one by one, which makes {self.num_labels:,} labels"
        return f"{where}: every example has one label, but {self}. {fix}"


def joined_labels(names: Iterable[str], examples: int | None = None) -> JoinedLabels | None:
    """Returns the label names that look like several labels in one, if there are any.

    Names are certainly several labels if all their parts occur elsewhere too, as a name of their
    own or in another name, and most have a part that is the first of one name and a later one of
    another. In paths, such as ``men/shoes`` next to ``women/shoes``, each part keeps its place.
    Two or more names may be several labels if

    * a part of each is a name of its own, or all its parts occur elsewhere, where the separator
      hardly ever stands in names (``fashion|men`` next to ``fashion``);
    * both is so, where it stands in paths as well (``/``);
    * all parts are names of their own, where it mostly stands in names (``&``).

    Of one separator, at least half of the names that hold it between parts must be so. Empty parts,
    as of ``"a;b;"`` and ``"a;;b"``, do not count.

    Blanks may separate labels where few words make up many names that hardly ever repeat.

    Args:
        names: all label names.
        examples: how many examples have them; None leaves blanks out.

    Returns:
        What is certain of the first separator; else what may be, of the first separator; or None.

    Example:
        >>> found = joined_labels(["law", "health", "law;health", "a/b"])
        >>> found.separator, found.names, found.certain
        (';', ['law;health'], True)
        >>> found = joined_labels(["fashion", "fashion|men", "house", "house|wood"])
        >>> found.names, found.num_labels, found.certain
        (['fashion|men', 'house|wood'], 4, False)
        >>> joined_labels(["food", "drink", "food & drink", "R&D"])
    """
    cells = dict.fromkeys(cell for name in names if (cell := name.strip()))
    text = "\0".join(cells)  # one text is searched faster than a million
    possible = None
    for separator in (*_BETWEEN_LABELS, *_ALSO_IN_NAMES, *_MOSTLY_IN_NAMES):
        if separator not in text:
            continue
        parts_of = {
            cell: [part for each in cell.split(separator) if (part := each.strip())]
            for cell in cells
            if separator in cell
        }
        several = {cell: parts for cell, parts in parts_of.items() if len(parts) > 1}
        if not several:
            continue
        alone = set(cells).difference(parts_of)
        alone.update(*(parts for parts in parts_of.values() if len(parts) == 1))
        occurrences = Counter(part for parts in several.values() for part in set(parts))
        first = alone.union(parts[0] for parts in several.values())
        moved = first.intersection(part for parts in several.values() for part in parts[1:])
        repeated = dict.fromkeys(
            cell
            for cell, parts in several.items()
            if all(part in alone or occurrences[part] > 1 for part in parts)
        )
        certain = [cell for cell in repeated if not moved.isdisjoint(several[cell])]
        partly_alone = [cell for cell, parts in several.items() if not alone.isdisjoint(parts)]
        if separator in _MOSTLY_IN_NAMES:
            certain = []
            likely = [cell for cell in partly_alone if alone.issuperset(several[cell])]
        elif separator in _ALSO_IN_NAMES:
            likely = [cell for cell in partly_alone if cell in repeated]
        else:
            likely = list(repeated | dict.fromkeys(partly_alone))
        num_labels = len(alone.union(*several.values()))
        if certain and 2 * len(certain) >= len(several):
            joined = list(repeated)
            parts = several[joined[0]]
            return JoinedLabels(separator, joined, parts, len(cells), num_labels, certain=True)
        if possible is None and len(likely) > 1 and 2 * len(likely) >= len(several):
            parts = several[likely[0]]
            possible = JoinedLabels(separator, likely, parts, len(cells), num_labels, certain=False)
    many = examples is not None and len(cells) >= max(_MANY, _RARELY_REPEATED * examples)
    if possible is None and many:
        names_of_words = [cell for cell in cells if len(cell.split()) > 1]
        words = {word for cell in cells for word in cell.split()}
        if names_of_words and len(words) < _FEW_WORDS * len(cells):
            parts = names_of_words[0].split()
            return JoinedLabels(" ", names_of_words, parts, len(cells), len(words), certain=False)
    return possible
