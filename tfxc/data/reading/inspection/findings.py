"""What is odd in a data file: empty texts, duplicates, contradictions, names that look alike."""

import array
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.inspection.language import language_of
from tfxc.labels.look_alikes import how_they_differ, look_alikes

_SHOWN = 3  # examples of each finding
_FEW = 5  # examples of a label that is hard to learn
_TEXTS = 64  # of each chunk whose language is looked at
_MOST_TEXTS = 2000  # in all


@dataclasses.dataclass(frozen=True)
class Found:
    """Rows in which something was found.

    Attributes:
        count: how many.
        rows: numbers of the first of them, from 1, the header not counted: of the row alone, or
            of two rows that belong together.
    """

    count: int = 0
    rows: Sequence[tuple[int, ...]] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: in plural, e.g. ``"empty texts"``.
        count: how many of them there are.
        shown: the count, and the first of them.
        fix: what can be done about it.
        to_settle: whether it should be settled before training.
        is_cleaned: whether ``cleaning.write_clean`` settles it.
    """

    name: str
    count: int
    shown: str
    fix: str
    to_settle: bool = True
    is_cleaned: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.shown}"


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found in examples, see ``Survey``.

    Attributes:
        empty: texts without a character other than white space.
        unlabelled: rows without labels.
        duplicates: rows whose text and labels an earlier row has; each with the first such row.
        contradictions: texts that have other labels in another row; each with two of its rows.
        look_alikes: groups of label names that look alike, with their numbers of examples, the
            most frequent first.
        labels: number of labels.
        once: labels of one example.
        few: labels of fewer than 5 examples.
        language: of the texts, or their script; None if unknown.
        longest: characters of the longest text, and its row.
    """

    empty: Found
    unlabelled: Found
    duplicates: Found
    contradictions: Found
    look_alikes: Sequence[Mapping[str, int]]
    labels: int
    once: int
    few: int
    language: str | None = None
    longest: tuple[int, int] = (0, 0)

    def findings(self, unlabelled_are_left_out: bool) -> list[Finding]:
        """Returns a finding for each kind of oddity, also of those that do not occur.

        Args:
            unlabelled_are_left_out: whether training leaves out rows without labels; if not, they
                are examples to which no label applies.
        """
        left_out = unlabelled_are_left_out and self.unlabelled.count > 0
        alike = [
            " and ".join(f"{name!r} ({count:,})" for name, count in group.items())
            for group in self.look_alikes[:_SHOWN]
        ]
        if self.look_alikes:
            first, second, *_ = self.look_alikes[0]
            alike[0] += f", of which {how_they_differ(first, second)}" * (not alike[0].isascii())
        return [
            Finding("empty texts", self.empty.count, _shown(self.empty), "drop them"),
            Finding(
                "rows without a label",
                self.unlabelled.count,
                _shown(self.unlabelled) + (", left out of training" if left_out else ""),
                "drop them, or write their labels",
                to_settle=left_out,
            ),
            Finding(
                "duplicates (same text, same labels)",
                self.duplicates.count,
                _shown(self.duplicates, "row {} as row {}"),
                "drop them",
            ),
            Finding(
                "contradictions (same text, other labels)",
                self.contradictions.count,
                _shown(self.contradictions, "rows {} and {}"),
                "decide which labels are right",
                is_cleaned=False,
            ),
            Finding(
                "label names that look alike",
                len(self.look_alikes),
                f"{len(self.look_alikes):,}" + (f": {'; '.join(alike)}" if alike else ""),
                "write them the same way",
            ),
            Finding(
                "rare labels",
                self.few,
                f"{self.few:,} of {self.labels:,} have fewer than {_FEW} examples, "
                f"{self.once:,} only one",
                "add examples, or leave them out with --set data.min_label_count=N",
                to_settle=False,
            ),
        ]


class Survey:
    """Counts, chunk by chunk, what is odd in examples.

    Texts and labels are kept as hashes of 8 bytes, so a row takes 21 bytes, whatever its length.

    Example:
        >>> survey = Survey()
        >>> survey.add(Chunk([["a"], ["a"], ["b"], []], texts=["x y", "x y", "x y", " "]))
        >>> found = survey.findings({"a": 2, "b": 1})
        >>> found.duplicates, found.contradictions, found.empty
        (Found(count=1, rows=[(2, 1)]), Found(count=1, rows=[(1, 3)]), Found(count=1, rows=[(4,)]))
    """

    def __init__(self) -> None:
        self.examples = 0
        self._texts = array.array("q")
        self._labels = array.array("q")
        self._usable = array.array("b")  # texts with labels, which are compared
        self._lengths = array.array("i")
        self._sample: list[str] = []
        self._empty = _Rows()
        self._unlabelled = _Rows()

    def add(self, chunk: Chunk) -> None:
        """Counts the examples of a chunk, which follow those of the chunk before."""
        first = self.examples + 1
        self.examples += len(chunk)
        labelled = list(map(bool, chunk.labels))
        if not all(labelled):
            self._unlabelled.add(first, labelled)
        if chunk.texts is None or chunk.features is not None:
            return
        texts = chunk.texts
        filled = [bool(text) and not text.isspace() for text in texts]
        if not all(filled):
            self._empty.add(first, filled)
        self._texts.extend(map(hash, texts))
        self._labels.extend(hash(frozenset(labels)) for labels in chunk.labels)
        self._usable.extend(a and b for a, b in zip(filled, labelled, strict=True))
        self._lengths.extend(map(len, texts))
        if len(self._sample) < _MOST_TEXTS:
            self._sample += texts[:: max(1, len(texts) // _TEXTS)]

    def findings(self, label_counts: Mapping[Any, int]) -> Findings:
        """Returns what was found.

        Args:
            label_counts: number of examples of each label.
        """
        duplicates, contradictions = self._repeated()
        lengths = np.frombuffer(self._lengths, np.int32)
        longest = int(lengths.argmax()) if len(lengths) else 0
        names = [name for name in label_counts if isinstance(name, str)]
        alike = [
            {name: label_counts[name] for name in sorted(group, key=lambda n: -label_counts[n])}
            for group in look_alikes(names)
        ]
        return Findings(
            empty=self._empty.found(),
            unlabelled=self._unlabelled.found(),
            duplicates=duplicates,
            contradictions=contradictions,
            look_alikes=sorted(alike, key=lambda group: -sum(group.values())),
            labels=len(label_counts),
            once=sum(count == 1 for count in label_counts.values()),
            few=sum(count < _FEW for count in label_counts.values()),
            language=language_of(self._sample),
            longest=(int(lengths[longest]), longest + 1) if len(lengths) else (0, 0),
        )

    def _repeated(self) -> tuple[Found, Found]:
        """Returns duplicates and contradictions."""
        rows = np.flatnonzero(np.frombuffer(self._usable, np.int8))
        texts = np.frombuffer(self._texts, np.int64)[rows]
        order = np.argsort(texts, kind="stable")
        same = texts[order][1:] == texts[order][:-1]
        if not same.any():
            return Found(), Found()
        # Only rows whose text another row has are sorted by their labels, too.
        order = order[np.append(same, False) | np.append(False, same)]
        rows = rows[order]
        texts = texts[order]
        labels = np.frombuffer(self._labels, np.int64)[rows]
        order = np.lexsort((rows, labels, texts))
        rows = rows[order] + 1
        texts = texts[order]
        labels = labels[order]
        other_text = np.append(True, texts[1:] != texts[:-1])
        other = other_text | np.append(True, labels[1:] != labels[:-1])
        first = rows[np.maximum.accumulate(np.where(other, np.arange(len(rows)), 0))]
        repeated = np.flatnonzero(~other)
        shown = repeated[np.argsort(rows[repeated])[:_SHOWN]]
        duplicates = Found(
            len(repeated), [(int(rows[place]), int(first[place])) for place in shown]
        )
        # First rows of each text with each of its sets of labels; two or more contradict.
        starts = np.flatnonzero(other)
        groups = np.cumsum(other_text)[starts]
        by_row = np.lexsort((rows[starts], groups))
        starts = starts[by_row]
        groups = groups[by_row]
        begins = np.append(True, groups[1:] != groups[:-1])
        second = np.flatnonzero(~begins & np.append(False, begins[:-1]))
        pairs = sorted(
            zip(rows[starts[second - 1]].tolist(), rows[starts[second]].tolist(), strict=True)
        )
        return duplicates, Found(len(pairs), pairs[:_SHOWN])


class _Rows:
    """Numbers of the rows in which something is missing."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[int, ...]] = []

    def add(self, first: int, has: Iterable[bool]) -> None:
        """Counts those of a chunk whose first row has this number."""
        for row, value in enumerate(has, first):
            if not value:
                self.count += 1
                if len(self.first) < _SHOWN:
                    self.first.append((row,))

    def found(self) -> Found:
        return Found(self.count, self.first)


def _shown(found: Found, words: str = "") -> str:
    """Returns the count and the first rows, e.g. ``"4, e.g. rows 7, 12 and 400"``."""
    if not found.count:
        return "0"
    if words:
        parts = [words.format(*(f"{row:,}" for row in rows)) for rows in found.rows]
        listed = "; ".join(parts)
    else:
        parts = [f"{row:,}" for (row,) in found.rows]
        listed = f"row{'s' if len(parts) > 1 else ''} {', '.join(parts)}"
    return f"{found.count:,} ({'e.g. ' if found.count > len(parts) else ''}{listed})"
