"""Labels that do not count for an example when it is measured."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.messages import NOTES
from tfxc.core.settings import SPLIT
from tfxc.data.examples.lists import gather_lists, pad_labels
from tfxc.data.label_texts import has_label_texts
from tfxc.data.label_texts.keys import keys_of_examples, labels_of_texts, text_keys
from tfxc.data.label_texts.prepared import example_keys, own_labels
from tfxc.data.reading.parsing.lines import Lines
from tfxc.data.reading.source_files import expand
from tfxc.data.store.manifest import LABELS_FILE
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.ops.csr import bounds_of

if TYPE_CHECKING:
    from tfxc.data.reading.formats.base import Reader
    from tfxc.data.sources.base import Source


_MOST_DIGITS = 19  # of a number


class Exclusions:
    """Excluded labels of the examples of a split.

    Args:
        pairs: int64 (n, 2) of example and label, in any order, perhaps repeated.
        num_examples: of the split.

    Attributes:
        most: labels of the example that has most.

    Example:
        >>> Exclusions(np.array([[1, 7], [1, 3], [1, 7]]), 2).rows(np.array([1, 0])).tolist()
        [[3, 7], [-1, -1]]
    """

    def __init__(self, pairs: np.ndarray, num_examples: int) -> None:
        keys = np.unique((pairs[:, 0].astype(np.int64) << 32) + pairs[:, 1])
        self._ids = (keys & 0xFFFFFFFF).astype(np.int32)
        self._bounds = bounds_of(np.bincount(keys >> 32, minlength=num_examples))
        self.most = int(np.diff(self._bounds).max(initial=0))

    def rows(self, examples: np.ndarray) -> np.ndarray:
        """Returns int32 (n, at least 1), labels of these examples, ascending, padded with -1."""
        return pad_labels(*gather_lists(self._bounds, examples, self._ids))


def exclusions(
    folder: str | Path, split: str, kinds: Iterable[str], source: "Source", train: "Source"
) -> Exclusions:
    """Returns the ``Exclusions`` of a split.

    Args:
        folder: the prepared folder.
        split: its name.
        kinds: see ``evaluation.exclude`` of the config.
        source: the examples of the split; their true labels are never excluded.
        train: those of the training split.

    Raises:
        DataError: a file of pairs cannot be read, or does not fit the split.
    """
    names = LabelVocabulary.load(Path(folder) / LABELS_FILE)
    keys = None
    labels_of_own = None
    if has_label_texts(folder):
        keys = example_keys(folder, split)
        labels_of_own = own_labels(folder, split)
    examples = _Examples(source.num_examples, _pairs(source), keys, labels_of_own)
    paths = [kind.replace(SPLIT, split) for kind in kinds]
    return _excluded(paths, examples, names, folder, train)


def exclusions_of_file(
    reader: "Reader",
    kinds: Iterable[str],
    names: LabelVocabulary,
    label_texts: Sequence[str] = (),
    separator: str | None = None,
    folder: str | Path | None = None,
    train: "Source | None" = None,
) -> Exclusions:
    """Returns the ``Exclusions`` of the examples of a file: those of a split that has the same
    examples.

    Args:
        reader: of the file.
        kinds: ``"train"``, ``"self"``, or the path of a file of pairs.
        names: of the labels.
        label_texts: of the labels, by id, for the first two kinds.
        separator: see ``tfxc.data.label_texts.keys.own_part``.
        folder, train: the prepared folder and its training split, for ``"train"``.

    Raises:
        DataError: a file cannot be read, or does not fit the other.
    """
    keys = [np.zeros((0, 2), np.uint64)]
    true = [np.zeros((0, 2), np.int64)]
    count = 0
    for chunk in reader.chunks():
        if label_texts:
            keys.append(keys_of_examples(chunk.texts or [], separator))
        # Labels that the run does not know are not found, and need not be excluded.
        ids = [names.ids(map(str, labels)) for labels in chunk.labels]
        pairs = [(number, id_) for number, row in enumerate(ids, start=count) for id_ in row]
        true.append(np.array(pairs, np.int64).reshape(-1, 2))
        count += len(chunk)
    both = np.concatenate(keys)
    labels_of_own = labels_of_texts(both[:, 1], text_keys(label_texts))
    examples = _Examples(count, np.concatenate(true), both[:, 0], labels_of_own)
    return _excluded(kinds, examples, names, folder, train)


class _Examples(NamedTuple):
    """How many are measured, pairs of example and true label, and what is known of their texts."""

    number: int
    true: np.ndarray
    keys: np.ndarray | None
    labels_of_own: np.ndarray | None


def _excluded(
    kinds: Iterable[str],
    examples: _Examples,
    names: LabelVocabulary,
    folder: str | Path | None,
    train: "Source | None",
) -> Exclusions:
    pairs_of_kinds = [np.zeros((0, 2), np.int64)]
    for kind in kinds:
        if kind == "self":
            own = examples.labels_of_own
            assert own is not None, "without texts of labels it is refused"
            places = np.flatnonzero(own >= 0)
            pairs_of_kinds.append(np.stack([places, own[places].astype(np.int64)], axis=1))
        elif kind == "train":
            assert folder is not None and train is not None, "they are given for it"
            assert examples.keys is not None, "without texts of labels it is refused"
            train_keys = example_keys(folder, "train")
            pairs_of_kinds.append(_with_same_text(train_keys, examples.keys, _pairs(train)))
        else:
            pairs_of_kinds.append(read_excluded_pairs(expand(kind), names, examples.number))
    pairs = np.concatenate(pairs_of_kinds)
    is_true = np.isin(_codes(pairs), _codes(examples.true))
    return Exclusions(pairs[~is_true], examples.number)


def read_excluded_pairs(path: str | Path, names: LabelVocabulary, num_examples: int) -> np.ndarray:
    """Returns the pairs of a file of excluded labels.

    Args:
        path: lines of an example's number within the split, from 0, and a label's name behind a
            blank or TAB, perhaps compressed.
        names: of the labels; pairs of others are left out, as they are not found either.
        num_examples: of the split.

    Returns:
        int64 (n, 2) of example and label.

    Raises:
        DataError: naming file and line: no such pair, or no such example; or no label is known.

    Example:
        >>> read_excluded_pairs("filter_labels_test.txt", names, 1000)    # doctest: +SKIP
        array([[  0, 812],
               [  0,  17]])
    """
    pairs: list[tuple[int, int]] = []
    unknown = 0
    for line, text in Lines(path).texts():
        parts = text.split(maxsplit=1)
        if not parts:
            continue
        is_number = len(parts) > 1 and parts[0].isdecimal() and len(parts[0]) < _MOST_DIGITS
        if not is_number or int(parts[0]) >= num_examples:
            raise DataError(
                f"{text[:80]!r} is not the number of an example, below {num_examples:,}, a blank "
                "and a label",
                where=f"{path}:{line}",
                fix="number the examples of the split from 0 in their order",
            )
        ids = names.ids([parts[1].rstrip()])
        unknown += not ids
        pairs += [(int(parts[0]), id_) for id_ in ids]
    if unknown and not pairs:
        raise DataError(
            f"none of the {unknown:,} lines names a label of the run",
            where=path,
            fix="write the labels as the data does, e.g. as numbers where it numbers them",
        )
    if unknown:
        NOTES.info(
            f"{path}: {unknown:,} lines name labels that the run does not have; they are ignored"
        )
    return np.array(pairs, np.int64).reshape(-1, 2)


def _pairs(source: "Source") -> np.ndarray:
    """Returns int64 (n, 2): example and label of all examples in their order."""
    pairs = [np.zeros((0, 2), np.int64)]
    first = 0
    for rows in source.blocks(65_536):
        counts = np.diff(rows.label_indptr)
        examples = np.repeat(np.arange(first, first + len(rows)), counts)
        pairs.append(np.stack([examples, rows.label_ids.astype(np.int64)], axis=1))
        first += len(rows)
    return np.concatenate(pairs)


def _codes(pairs: np.ndarray) -> np.ndarray:
    return (pairs[:, 0] << 32) + pairs[:, 1]


def _with_same_text(train_keys: np.ndarray, keys: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Returns int64 (n, 2): examples, and labels of training examples with the same text."""
    # Each label of a text once, however many examples have the text.
    order = np.lexsort((pairs[:, 1], train_keys[pairs[:, 0]]))
    labels = pairs[order, 1]
    pair_keys = train_keys[pairs[order, 0]]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (labels[1:] != labels[:-1]) | (pair_keys[1:] != pair_keys[:-1])
    labels = labels[is_new]
    pair_keys = pair_keys[is_new]
    begins = np.searchsorted(pair_keys, keys, "left")
    ends = np.searchsorted(pair_keys, keys, "right")
    counts = ends - begins
    examples = np.repeat(np.arange(len(keys)), counts)
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    their_labels = labels[np.repeat(begins, counts) + places]
    return np.stack([examples, their_labels], axis=1).astype(np.int64)
