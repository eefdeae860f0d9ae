"""From the labels of a format (names or numbers) to the ids of the training vocabulary."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.lists import LabelLists
from tfxc.labels.vocabulary import LabelVocabulary

# A label takes some 200 bytes here and a row of the model later. Labels that do not occur are
# granted up to this many, or up to this many times as many as occur; more must be declared.
_UNSEEN_GRANTED = 100_000
_TIMES_SEEN = 10
_PENDING_CODES = 1 << 22
_MOST_DIGITS = 10  # of a label's number, which is below 2^31


def check_label_space(
    num_labels: int, seen: int, *, origin: str, where: str | Path, fix: str
) -> None:
    """Refuses a number of labels far beyond those that occur: one stray id can ask for gigabytes.

    Args:
        num_labels: size of the label space.
        seen: how many labels occur.
        origin: what asks for ``num_labels``, for the message.
        where: the file.
        fix: what else to do than to correct the file.

    Raises:
        DataError: there are more than 100,000 and more than ten times as many as occur.
    """
    if num_labels > max(_UNSEEN_GRANTED, _TIMES_SEEN * seen):
        raise DataError(
            f"there would be {num_labels:,} labels, but only {seen:,} are in use ({origin})",
            where=where,
            fix=f"correct it, or {fix}",
        )


def inferred_num_labels(ids: np.ndarray, names: Sequence[str] | None, where: str | Path) -> int:
    """Returns the number of labels of a feature set: that of the names, else the largest id plus 1.

    Args:
        ids: integers (n,), at least one.
        names: list of the labels' names, or None.
        where: for the message.

    Raises:
        DataError: the largest id is far beyond the number of labels that occur.
    """
    if names is not None:
        return len(names)
    largest = int(ids.max())
    origin = f"the largest id is {largest:,}, in example {int(ids.argmax()) + 1:,}"
    fix = f"give --num-labels {largest + 1} if there are that many"
    check_label_space(largest + 1, len(np.unique(ids)), origin=origin, where=where, fix=fix)
    return largest + 1


class OwnLabels(NamedTuple):
    """The labels of some examples, each once.

    Attributes:
        values: their names (object) or numbers (int64), in the order in which they first occur.
        counts: int64, how often each occurs.
        most: labels of the example that has most.
        example_of_largest: number of the first example with the largest label number.
    """

    values: np.ndarray
    counts: np.ndarray
    most: int
    example_of_largest: int


def own_labels(
    labels: Sequence[Sequence[int | str]], where: str | Path, first: int, limit: int | None
) -> tuple[OwnLabels, np.ndarray]:
    """Returns the labels of examples ``first``, ``first + 1``, … by their places among those that
    occur.

    Args:
        labels: lists, or ``LabelLists``.
        limit: numbers have to be below it; None = below 2^31 - 1.

    Returns:
        tuple: ``OwnLabels``, and int32 (labels of all examples,), the place of each.

    Raises:
        DataError: a label out of range.

    Example:
        >>> own_labels([[7], [3, 7]], "train.txt", 0, None)[1].tolist()
        [0, 1, 0]
    """
    lists = LabelLists.of(labels)
    rows = np.repeat(np.arange(len(lists)), np.diff(lists.indptr))
    ids = lists.ids.astype(np.int64)
    if lists.names is None:
        _check_range(ids, rows, where, first, limit)
    distinct, firsts, places, counts = np.unique(
        ids, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(firsts)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    values = distinct[order]
    largest = first + int(rows[firsts[-1]]) + 1 if len(firsts) else 0
    most = int(np.diff(lists.indptr).max(initial=0))
    if lists.names is not None:
        values = lists.names[values]
    return OwnLabels(values, counts[order], most, largest), rank[places]


def _check_range(
    numbers: np.ndarray, rows: np.ndarray, where: str | Path, first: int, limit: int | None
) -> None:
    limit = np.iinfo(np.int32).max if limit is None else limit
    wrong = np.flatnonzero((numbers < 0) | (numbers >= limit))
    if len(wrong):
        allowed = f"label ids go from 0 to {limit - 1}" if limit else "there are no labels"
        raise DataError(
            f"example {first + rows[wrong[0]] + 1} has label {numbers[wrong[0]]}, but {allowed}",
            where=where,
            fix="correct the label or the number of labels",
        )


class LabelNumbering:
    """Counts the training labels, decides on the vocabulary, then numbers labels.

    A label is first turned into a code: the number itself where the format numbers its labels,
    else the order of first appearance of its name. ``freeze`` maps codes to ids:

    * numbered: the ids stay (all of 0 … ``num_labels`` − 1 where that is known); names are the
      numbers, or those of ``names``;
    * named: ids follow the alphabetical order of the names, or the order of ``names``.

    A number is the label of that name, and the name of a number that label: of a training split
    with names and a dev split with numbers, ``"3"`` and 3 are the same, and the other way round.

    With ``min_count`` above 1 the rarer labels are left out. Labels that occur in dev or test but
    not in the vocabulary get the ids ``num_labels + j`` in order of appearance, so that metrics can
    count them as labels that cannot be found.

    Args:
        num_labels: number of labels the format declares, or None.
        names: a ``LabelVocabulary`` of the allowed names, or None.
        names_where: where ``names`` come from, for messages.
        confirmed: ``data.num_labels``, which confirms a label space far larger than the labels
            that occur, see ``check_label_space``; or None.

    Raises:
        DataError: the number of labels and that of their names differ.
        ConfigError: ``confirmed`` is another number than the format's or that of the names.

    Example:
        >>> numbering = LabelNumbering()
        >>> own, _ = own_labels([["dog"], ["cat", "dog"]], "train.jsonl", 0, numbering.limit)
        >>> numbering.count(own, "train.jsonl").tolist()
        [0, 1]
        >>> numbering.freeze(1, "train.jsonl").names, numbering.ids.tolist()
        (['cat', 'dog'], [1, 0])
        >>> numbering.ids_of(np.array(["dog", "cow"], object)).tolist()
        [1, 2]
    """

    # Known once ``freeze`` has been called.
    vocabulary: LabelVocabulary
    label_counts: np.ndarray

    def __init__(
        self,
        num_labels: int | None = None,
        names: LabelVocabulary | None = None,
        names_where: str | Path | None = None,
        confirmed: int | None = None,
    ) -> None:
        if names is not None and num_labels not in (None, len(names)):
            raise DataError(
                f"there are {len(names)} label names, but the data has {num_labels} labels",
                where=names_where,
                fix="give one name per line for every label",
            )
        self._given = names
        self._given_where = names_where
        #: Numbers have to be below it; None if that is not known.
        self.limit = num_labels if names is None else len(names)
        self._confirmed = confirmed
        if confirmed is not None:
            if self.limit not in (None, confirmed):
                raise _other_number(confirmed, self.limit)
            self.limit = confirmed
        self._codes = {} if names is None else {name: i for i, name in enumerate(names.names)}
        self._counts = _CodeCounts()
        # The largest code and the example it is in, for messages.
        self._largest: tuple[int, int | None] = (-1, None)
        self._ids: np.ndarray | None = None
        self._unseen: dict[str, int] = {}
        self._added: dict[str, int] = {}
        self.most_labels = 0  # of a training example

    def count(self, own: OwnLabels, where: str | Path) -> np.ndarray:
        """Counts labels of training examples.

        Returns:
            int64: the code of each of ``own.values``.

        Raises:
            DataError: a name that is not among the given ones.
        """
        codes = own.values
        if codes.dtype == object:
            name_codes = (self._codes.setdefault(name, len(self._codes)) for name in codes.tolist())
            codes = np.fromiter(name_codes, np.int64, len(own.values))
        self.most_labels = max(self.most_labels, own.most)
        if self._given is not None and len(codes) and codes.max() >= len(self._given):
            name = list(self._codes)[codes.max()]
            raise DataError(
                f"{where} has the label {name!r}, which is not among the label names",
                where=self._given_where,
                fix="add it to the file of label names",
            )
        if len(codes) and codes.max() > self._largest[0]:
            self._largest = int(codes.max()), own.example_of_largest
        self._counts.add(codes, own.counts)
        return codes

    def freeze(self, min_count: int, where: str | Path) -> LabelVocabulary:
        """Fixes the vocabulary; returns it.

        Raises:
            DataError: no label in the training split, none of ``min_count`` occurrences, or far
                fewer labels than the label space holds.
            ConfigError: the labels are names, and their number is given but not the names.
        """
        seen, occurrences = self._counts.merged()
        if not len(seen):
            raise DataError(
                "no example of the training split has a label",
                where=where,
                fix="check the file and the reader's options",
            )
        named = bool(self._codes) and self._given is None
        if named and self._confirmed is not None:
            raise _other_number(self._confirmed, None)
        size = max(int(seen[-1]) + 1, 0 if named else self.limit or 0)
        self._check_size(size, len(seen), where)
        counts = np.zeros(size, np.int64)
        counts[seen] = occurrences
        # Labels that a numbered or given label space holds without an example stay in it.
        codes = np.flatnonzero(counts >= min_count) if min_count > 1 else np.arange(size)
        if not len(codes):
            raise DataError(
                f"no label has {min_count} training examples; the most frequent one has "
                f"{counts.max()}",
                where=where,
                fix="lower min_label_count",
            )
        if self._codes:
            all_names = list(self._codes)
            names = [all_names[code] for code in codes.tolist()]
        else:
            names = [str(code) for code in codes.tolist()]
        if named:
            order = sorted(range(len(names)), key=names.__getitem__)
            codes = codes[order]
            names = [names[number] for number in order]
        self._ids = np.full(size, -1, np.int64)
        self._ids[codes] = np.arange(len(codes))
        self.label_counts = counts[codes]
        self.vocabulary = LabelVocabulary(names, str(where))
        return self.vocabulary

    def extend(self, names: Iterable[str]) -> None:
        """Adds labels without a training example behind those of the vocabulary.

        Args:
            names: of labels; those of the vocabulary stay where they are.

        Example:
            >>> numbering = LabelNumbering()
            >>> own, _ = own_labels([["dog"]], "train.jsonl", 0, numbering.limit)
            >>> _ = numbering.count(own, "train.jsonl"), numbering.freeze(1, "train.jsonl")
            >>> numbering.extend(["cow", "dog"])
            >>> numbering.vocabulary.names, numbering.label_counts.tolist()
            (['dog', 'cow'], [1, 0])
        """
        old = self.vocabulary
        new = [name for name in names if name not in old]
        self._added = {name: len(old) + place for place, name in enumerate(new)}
        self.vocabulary = LabelVocabulary([*old.names, *new])
        self.label_counts = np.append(self.label_counts, np.zeros(len(new), np.int64))

    @property
    def ids(self) -> np.ndarray:
        """int64: the id of each code of the training split, -1 if it is not in the vocabulary."""
        assert self._ids is not None, "freeze comes first"
        return self._ids

    def ids_of(self, values: np.ndarray) -> np.ndarray:
        """Returns the ids of labels of dev or test; those outside the vocabulary get the next free
        ones.

        Args:
            values: see ``OwnLabels``.

        Returns:
            int64 (len(values),).
        """
        are_names = values.dtype == object
        # A code of -1 says that no training example can have the label.
        if not self._codes and are_names:  # training has numbers
            codes = np.fromiter(map(_written_number, values.tolist()), np.int64, len(values))
        elif not self._codes or (not are_names and self._given is not None):
            codes = values
        else:
            by_name = (self._codes.get(str(label), -1) for label in values.tolist())
            codes = np.fromiter(by_name, np.int64, len(values))
        known = (codes >= 0) & (codes < len(self.ids))
        ids = np.where(known, self.ids[np.where(known, codes, 0)], -1)
        for place in np.flatnonzero(ids < 0).tolist():
            name = self.name_of(values[place])
            added = self._added.get(name)
            unseen = len(self.vocabulary) + len(self._unseen)
            ids[place] = self._unseen.setdefault(name, unseen) if added is None else added
        return ids

    def _check_size(self, size: int, seen: int, where: str | Path) -> None:
        if self._given is not None or self._confirmed is not None:
            return
        largest, example = self._largest
        origin = f"the largest id is {largest:,}, in example {example:,}"
        if self.limit is not None:
            origin = "declared by the file"
        fix = f"set data.num_labels to {size} if there are that many"
        check_label_space(size, seen, origin=origin, where=where, fix=fix)

    def unseen_vocabulary(self) -> LabelVocabulary:
        """Returns the names of the labels met by ``convert`` outside the vocabulary, in id
        order.
        """
        return LabelVocabulary(self._unseen)

    def name_of(self, value: int | str) -> str:
        """Returns the name of a label as a format has it, also of one outside the vocabulary."""
        if isinstance(value, str):
            return value
        return str(value) if self._given is None else self._given.names[int(value)]


def _written_number(name: str) -> int:
    """Returns the number that is written as ``name``; -1 if there is none, as for ``"03"``."""
    is_number = len(name) <= _MOST_DIGITS and name.isascii() and name.isdigit()
    return int(name) if is_number and str(int(name)) == name else -1


class _CodeCounts:
    """How often each code occurs, in memory that grows with the codes that occur."""

    def __init__(self) -> None:
        self._codes = self._counts = np.zeros(0, np.int64)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_pending = 0

    def add(self, codes: np.ndarray, counts: np.ndarray) -> None:
        self._pending.append((codes, counts))
        self._num_pending += len(codes)
        if self._num_pending >= _PENDING_CODES:
            self.merged()

    def merged(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the codes that occur, ascending, and how often, both int64."""
        if self._pending:
            codes, counts = map(np.concatenate, zip(*self._pending, strict=True))
            self._pending = []
            self._num_pending = 0
            codes, places = np.unique(np.concatenate([self._codes, codes]), return_inverse=True)
            merged = np.zeros(len(codes), np.int64)
            np.add.at(merged, places, np.concatenate([self._counts, counts]))
            self._codes = codes
            self._counts = merged
        return self._codes, self._counts


def _other_number(confirmed: int, num_labels: int | None) -> ConfigError:
    """Returns the error of ``data.num_labels`` where the labels are ``num_labels``; None for
    names.
    """
    if num_labels is None:
        problem = f"it is {confirmed}, but the labels are names, whose number is not set"
        fix = "remove it"
    else:
        problem = f"it is {confirmed}, but the file or its label names have {num_labels:,} labels"
        fix = "correct it, or remove it"
    return ConfigError(problem, where="data.num_labels", fix=fix)
