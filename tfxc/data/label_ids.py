"""From the labels of a format (names or numbers) to the ids of the training vocabulary."""

from collections import Counter

import numpy as np

from tfxc.errors import DataError
from tfxc.labels.vocabulary import LabelVocabulary

_SEPARATORS = (",", ";", "|", "/", "\t")


def joined_labels(names):
    """Label names that look like several labels in one.

    All parts of such a name stand elsewhere too, as a name of their own or in another name. Of one
    separator, at least half of the names that hold it have to be so.

    Args:
        names: all label names.

    Returns:
        (separator, names) of the first separator with such names, or None.

    Example:
        >>> joined_labels(["law", "health", "law;health", "a/b"])
        (';', ['law;health'])
    """
    for separator in _SEPARATORS:
        split = {name: [part.strip() for part in name.split(separator)] for name in names}
        several = {name: parts for name, parts in split.items() if len(parts) > 1}
        found = Counter(part for parts in split.values() for part in set(parts))
        joined = [
            name
            for name, parts in several.items()
            if all(part and found[part] > 1 for part in parts)
        ]
        if joined and 2 * len(joined) >= len(several):
            return separator, joined
    return None


class LabelNumbering:
    """Counts the training labels, decides on the vocabulary, then numbers labels.

    A label is first turned into a code: the number itself where the format numbers its labels,
    else the order of first appearance of its name. ``freeze`` maps codes to ids:

    * numbered: the ids stay (all of 0 … ``num_labels`` − 1 where that is known); names are the
      numbers, or those of ``names``;
    * named: ids follow the alphabetical order of the names, or the order of ``names``.

    With ``min_count`` above 1 the rarer labels are left out. Labels that occur in dev or test but
    not in the vocabulary get the ids ``num_labels + j`` in order of appearance, so that metrics can
    count them as labels that cannot be found.

    Args:
        num_labels: number of labels the format declares, or None.
        names: a ``LabelVocabulary`` of the allowed names, or None.
        names_where: where ``names`` come from, for messages.

    Example:
        >>> numbering = LabelNumbering()
        >>> numbering.count([["dog"], ["cat", "dog"]], "train.jsonl", 0)
        >>> numbering.freeze(1, "train.jsonl").names
        ['cat', 'dog']
        >>> numbering.convert([["dog", "cow"]], "dev.jsonl", 0, training=False)[1].tolist()
        [1, 2]
    """

    def __init__(self, num_labels=None, names=None, names_where=None):
        if names is not None and num_labels not in (None, len(names)):
            raise DataError(
                f"as many label names as the data has labels ({num_labels}) expected, found "
                f"{len(names)}",
                where=names_where,
                fix="give one name per line for every label",
            )
        self._given, self._given_where = names, names_where
        self._limit = num_labels if names is None else len(names)
        self._codes = {} if names is None else {name: i for i, name in enumerate(names.names)}
        self._counts = np.zeros(0, np.int64)
        self._ids = None
        self._unseen = {}
        self.most_labels = 0  # of a training example
        self.vocabulary = None
        self.label_counts = None

    def count(self, label_lists, where, first):
        """Counts the labels of training examples ``first``, ``first + 1``, …

        Raises:
            DataError: a label out of range, or a name that is not among the given ones.
        """
        codes, _ = self._flat_codes(label_lists, where, first)
        self.most_labels = max(self.most_labels, *map(len, label_lists), 0)
        if self._given is not None and len(codes) and codes.max() >= len(self._given):
            name = list(self._codes)[codes.max()]
            raise DataError(
                f"the training label {name!r} (in {where}) is not among the given label names",
                where=self._given_where,
                fix="add it to the file of label names",
            )
        self._counts = np.bincount(codes, minlength=len(self._counts)) + np.pad(
            self._counts, (0, max(0, codes.max(initial=-1) + 1 - len(self._counts)))
        )

    def freeze(self, min_count, where):
        """Fixes the vocabulary; returns it.

        Raises:
            DataError: no label in the training split, or none of ``min_count`` occurrences.
        """
        if not self._counts.sum():
            raise DataError(
                "a training split with labels expected, found none in any example",
                where=where,
                fix="check the file and the reader's options",
            )
        named = bool(self._codes) and self._given is None
        size = len(self._counts) if named else max(self._limit or 0, len(self._counts))
        counts = np.pad(self._counts, (0, size - len(self._counts)))
        # Labels that a numbered or given label space holds without an example stay in it.
        kept = np.flatnonzero(counts >= min_count) if min_count > 1 else np.arange(size)
        if not len(kept):
            raise DataError(
                f"labels of at least {min_count} training examples expected, the most frequent "
                f"has {counts.max()}",
                where=where,
                fix="lower min_label_count",
            )
        names = self._names(kept.tolist())
        if named:
            order = sorted(range(len(names)), key=names.__getitem__)
            kept, names = kept[order], [names[number] for number in order]
        self._ids = np.full(size, -1, np.int64)
        self._ids[kept] = np.arange(len(kept))
        self.label_counts = counts[kept]
        self.vocabulary = LabelVocabulary(names, str(where))
        return self.vocabulary

    def convert(self, label_lists, where, first, *, training):
        """The labels of examples ``first``, ``first + 1``, … as ids, ascending and distinct.

        Args:
            training: leave out the labels that are not in the vocabulary instead of giving them
                ids beyond it.

        Returns:
            tuple: ``indptr`` int64 (n + 1,) and ``ids`` int32 (total,).

        Raises:
            DataError: a label out of range.
        """
        codes, rows = self._flat_codes(label_lists, where, first)
        known = codes < len(self._ids)
        ids = np.where(known, self._ids[np.where(known, codes, 0)], -1)
        if training:
            rows, ids = rows[ids >= 0], ids[ids >= 0]
        else:
            for position in np.flatnonzero(ids < 0).tolist():
                code = int(codes[position])
                unseen = self._unseen.setdefault(code, len(self._unseen))
                ids[position] = len(self.vocabulary) + unseen
        keys = np.unique(rows * np.int64(1 << 32) + ids)
        counts = np.bincount(keys >> 32, minlength=len(label_lists))
        return np.concatenate([[0], np.cumsum(counts)]), (keys & 0xFFFFFFFF).astype(np.int32)

    def unseen_vocabulary(self):
        """The names of the labels met by ``convert`` outside the vocabulary, in id order."""
        return LabelVocabulary(self._names(self._unseen))

    def _names(self, codes):
        if not self._codes:
            return [str(code) for code in codes]
        names = list(self._codes)
        return [names[code] for code in codes]

    def _flat_codes(self, label_lists, where, first):
        """All labels' codes and the list each is from."""
        labels = [label for row in label_lists for label in row]
        counts = np.fromiter((len(row) for row in label_lists), np.int64, len(label_lists))
        rows = np.repeat(np.arange(len(label_lists)), counts)
        if labels and isinstance(labels[0], str):
            codes = self._codes
            flat = (codes.setdefault(label, len(codes)) for label in labels)
            return np.fromiter(flat, np.int64, len(labels)), rows
        numbers = np.fromiter(labels, np.int64, len(labels))
        limit = self._limit or np.iinfo(np.int32).max
        wrong = np.flatnonzero((numbers < 0) | (numbers >= limit))
        if len(wrong):
            raise DataError(
                f"label ids from 0 to {limit - 1} expected, found {numbers[wrong[0]]} in example "
                f"{first + rows[wrong[0]] + 1}",
                where=where,
                fix="correct the label or the number of labels",
            )
        return numbers, rows
