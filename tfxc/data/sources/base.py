"""Batches of examples by (seed, step).

The training sequence is the concatenation of the epochs' permutations; step s takes its positions
``[s·batch, (s+1)·batch)``. Any step is reached by arithmetic, so that a resumed run, a replica and
a worker all find their part of the same sequence. After ``group_near`` an epoch's order depends on
the groups as well, which a checkpoint holds.
"""

import abc
import collections
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError, UserError
from tfxc.data.examples.kinds import ENCODED
from tfxc.data.examples.order import permutation
from tfxc.data.examples.rows import Rows

if TYPE_CHECKING:
    from tfxc.data.examples.kinds import FeatureKind
    from tfxc.data.label_texts.prepared import LabelTexts


_POOL = 32  # batches sorted by length together
_GROUPING = 11  # of random numbers: not that of the permutation


class Source(abc.ABC):
    """Examples that batches are taken from. All methods may be called from several threads.

    Attributes:
        num_examples: number of examples.
        num_features: width of the sparse feature space or length of the dense vectors.
        num_labels: number of training labels, or None if it is not known.
        kind: the ``tfxc.data.examples.kinds.FeatureKind`` of the rows.
        image_shape: (height, width, channels) of images, else None.
        failure: the ``UserError`` that stopped a training pipeline, else None.
    """

    failure: UserError | None = None

    def __init__(
        self,
        num_examples: int,
        num_features: int,
        num_labels: int | None,
        kind: "FeatureKind",
        image_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.num_examples = num_examples
        self.num_features = num_features
        self.num_labels = num_labels
        self.kind = kind
        self.image_shape = None if image_shape is None else tuple(image_shape)

    @property
    def sizes(self) -> dict[str, Any]:
        """``num_features`` and ``image_shape``, as ``tfxc.data.examples.kinds`` expects them."""
        return {"num_features": self.num_features, "image_shape": self.image_shape}

    def batch(
        self, seed: int, step: int, batch_size: int, part: int = 0, parts: int = 1
    ) -> dict[str, Any]:
        """Returns part ``part`` of ``parts`` of the global batch of a step.

        Args:
            batch_size: examples of the global batch; may exceed ``num_examples``.

        Returns:
            dict: a batch as ``Rows.take`` returns it, plus ``example_index`` int64 (n,), each
            example's row number in the data set. Encoded images are not decoded.

        Raises:
            ConfigError: ``batch_size`` is not a multiple of ``parts``, or the source is empty.
        """
        size = slice_size(batch_size, parts)
        if not self.num_examples:
            raise ConfigError("there are no examples", where="data")
        position = step * batch_size + part * size
        pieces: list[tuple[Rows, np.ndarray]] = []
        while size:
            epoch, start = divmod(position, self.num_examples)
            stop = min(start + size, self.num_examples)
            pieces.extend(self._pieces(seed, epoch, start, stop))
            position += stop - start
            size -= stop - start
        return _joined(pieces)

    def group_by_length(self, batch_size: int) -> None:
        """Puts texts of similar length into each batch of that size, which saves padding.

        Raises:
            ConfigError: the examples are not lists of tokens, or not in memory.
        """
        raise ConfigError(
            "only token lists that fit into memory can be grouped by length, and the training "
            "split is of another kind or larger",
            where="training.group_by_length",
            fix="remove it; for texts raise training.memory_gb",
        )

    def group_near(self, batch_size: int, groups: np.ndarray) -> None:
        """Lets the examples of a group follow each other in an epoch.

        Each epoch still holds each example once, also where the groups change between two batches
        of it, if the next one is the first that begins in its epoch.

        Args:
            batch_size: examples of the global batch.
            groups: int (examples,), from 0; all zeros change nothing.

        Raises:
            ConfigError: the examples are not in memory.
        """
        raise ConfigError(
            "'near' needs the training split in memory, but it does not fit",
            where="head.batching",
            fix="raise training.memory_gb, or remove it",
        )

    def sequential(self, batch_size: int) -> Iterator[dict[str, Any]]:
        """Yields all examples in their order as batches; the last one may be smaller.

        Encoded images are decoded here: the batches are what a model takes.
        """
        for batch in self._raw_sequential(batch_size):
            yield batch | {"features": self.kind.decode(batch["features"], self.image_shape)}

    def blocks(self, size: int) -> Iterator[Rows]:
        """Yields all examples in their order as ``Rows`` of at most ``size``."""
        for rows in self._in_order():
            for start in range(0, len(rows), size):
                yield rows.slice(start, start + size)

    def rows(self) -> Rows:
        """Returns all examples in their order, in memory, as ``Rows``; no copy where they are
        there.
        """
        parts = list(self._in_order())
        return parts[0] if len(parts) == 1 else Rows.concatenate(parts)

    def label_texts(self) -> "LabelTexts | None":
        """Returns the texts of the labels, with the examples' own labels; None without any."""
        return None

    def label_counts(self) -> np.ndarray:
        """Returns the examples of each label, int64 (num_labels,); labels beyond are left out."""
        assert self.num_labels is not None, "a source of a training split"
        total = np.zeros(self.num_labels, np.int64)
        for batch in self._raw_sequential(65_536):
            labels = batch["labels"]
            known = labels[(labels >= 0) & (labels < self.num_labels)]
            total += np.bincount(known, minlength=self.num_labels)
        return total

    def _raw_sequential(self, batch_size: int) -> Iterator[dict[str, Any]]:
        first = 0
        rest = None
        for rows in self._in_order():
            rows = rows if rest is None else Rows.concatenate([rest, rows])
            whole = len(rows) - len(rows) % batch_size
            for start in range(0, whole, batch_size):
                yield _batch_from(rows.slice(start, start + batch_size), first + start)
            first += whole
            rest = rows.slice(whole, len(rows))
        if rest is not None and len(rest):
            yield _batch_from(rest, first)

    @abc.abstractmethod
    def _pieces(
        self, seed: int, epoch: int, start: int, stop: int
    ) -> Sequence[tuple[Rows, np.ndarray]]:
        """Yields positions ``start`` to ``stop`` of an epoch's permutation:
        ``(Rows, example_index)``s.
        """

    @abc.abstractmethod
    def _in_order(self) -> Iterator[Rows]:
        """Yields all rows in their order, as ``Rows``."""


class RowStream:
    """Examples that are read in their order; how many there are is not known before.

    Args:
        read: function that begins anew and returns an iterator of ``Rows``.
        unknown: names of labels that the run does not know, in the order of their ids, as far as
            the rows were read.
        left_out: function that returns how many rows of the file were left out, once all are read.

    Example:
        >>> rows = Rows.from_dense(np.eye(3), [[0], [1], [2]])
        >>> [len(batch["labels"]) for batch in RowStream(lambda: iter([rows])).sequential(2)]
        [2, 1]
    """

    num_examples = None

    def __init__(
        self,
        read: Callable[[], Iterable[Rows]],
        unknown: Sequence[str] = (),
        left_out: Callable[[], int] = lambda: 0,
    ) -> None:
        self._read = read
        self.unknown = unknown
        self.left_out = left_out

    def sequential(self, batch_size: int) -> Iterator[dict[str, Any]]:
        """Yields batches of at most that size; none holds examples of two blocks."""
        first = 0
        for rows in self._read():
            for start in range(0, len(rows), batch_size):
                part = rows.slice(start, min(start + batch_size, len(rows)))
                yield _batch_from(part, first + start)
            first += len(rows)


class ArraySource(Source):
    """All examples in memory; each epoch is one permutation of them.

    Args:
        rows: ``Rows``.
        num_labels: number of training labels, if known.
        image_shape: (height, width, channels) that encoded images are brought to.
        label_texts: ``LabelTexts`` with the examples' own labels, or None.

    Example:
        >>> rows = Rows.from_dense(np.eye(3), [[0], [1], [2]])
        >>> sorted(ArraySource(rows).batch(seed=0, step=0, batch_size=3)["example_index"].tolist())
        [0, 1, 2]
    """

    def __init__(
        self,
        rows: Rows,
        num_labels: int | None = None,
        image_shape: tuple[int, ...] | None = None,
        label_texts: "LabelTexts | None" = None,
    ) -> None:
        assert image_shape is not None or rows.kind is not ENCODED, "encoded images need a shape"
        shape = rows.image_shape or image_shape
        super().__init__(len(rows), rows.num_features, num_labels, rows.kind, shape)
        self._rows = rows
        self._label_texts = label_texts
        self._grouped: int | None = None
        # One attribute, which is replaced as a whole: a pipeline that is still read ahead must not
        # keep an order of other groups where later ones are looked for.
        self._near: tuple[LRUCache, tuple[int, np.ndarray] | None] = LRUCache(2), None

    def group_by_length(self, batch_size: int) -> None:
        """See ``Source``; each epoch is still a permutation."""
        if self._rows.lengths is None:
            return super().group_by_length(batch_size)
        self._grouped = batch_size
        return None

    def group_near(self, batch_size: int, groups: np.ndarray) -> None:
        """See ``Source``."""
        self._near = LRUCache(2), (batch_size, groups)

    def label_texts(self) -> "LabelTexts | None":
        """See ``Source``."""
        return self._label_texts

    def _order(self, seed: int, epoch: int, near: tuple[int, np.ndarray] | None) -> np.ndarray:
        order = permutation(self.num_examples, seed, epoch)
        batch_size = self._grouped if near is None else near[0]
        if batch_size is None:
            return order
        # The first places of an epoch may belong to a batch that the previous epoch started.
        rest = -epoch * self.num_examples % batch_size
        draw = np.random.default_rng((seed, epoch, _GROUPING))
        if near is not None:
            return order[near_groups(near[1][order], rest, draw)]
        lengths = self._rows.lengths
        assert lengths is not None, "only rows of tokens are grouped by length"
        return order[length_groups(lengths[order], batch_size, rest, draw)]

    def _pieces(
        self, seed: int, epoch: int, start: int, stop: int
    ) -> Sequence[tuple[Rows, np.ndarray]]:
        permutations, near = self._near
        order = permutations.get((seed, epoch), lambda: self._order(seed, epoch, near))
        row_numbers = order[start:stop].astype(np.int64)
        return [(self._rows.select(row_numbers), row_numbers)]

    def _in_order(self) -> Iterator[Rows]:
        yield self._rows


class LRUCache:
    """Keeps the last ``capacity`` values requested; each is made by one thread only."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
            self._values.move_to_end(key)
            while len(self._values) > self._capacity:
                self._values.popitem(last=False)
            return self._values[key]


def slice_size(batch_size: int, parts: int) -> int:
    """Returns the examples of one of ``parts`` equal parts of a batch.

    Raises:
        ConfigError: the batch cannot be divided evenly.
    """
    if batch_size < 1 or batch_size % parts:
        raise ConfigError(
            f"must be a positive multiple of {parts} (micro-batches times replicas), not "
            f"{batch_size}",
            where="batch_size",
            fix=f"use {max(1, round(batch_size / parts)) * parts}",
        )
    return batch_size // parts


def length_groups(
    lengths: np.ndarray, batch_size: int, rest: int, draw: np.random.Generator
) -> np.ndarray:
    """Returns places in an order that puts examples of similar length into the same batch.

    The examples are taken in pools of 32 batches; each pool is sorted by length and cut, and its
    batches come in random order. Within a batch the examples keep their order.

    Args:
        lengths: int (examples,), in the order that is regrouped.
        batch_size: examples of a batch.
        rest: this many examples at the beginning are left where they are.
        draw: ``numpy.random.Generator``.

    Returns:
        int64 (examples,), a permutation.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> length_groups(np.array([9, 1, 8, 2, 7]), 2, 0, draw).tolist()
        [1, 3, 2, 4, 0]
    """
    places = [np.arange(min(rest, len(lengths)))]
    for begin in range(rest, len(lengths), _POOL * batch_size):
        pool = lengths[begin : begin + _POOL * batch_size]
        ranked = begin + np.argsort(pool, kind="stable")
        # A batch that is not full comes last, and the next epoch continues it.
        spare = len(ranked) % batch_size
        whole = np.sort(ranked.reshape(-1)[: len(ranked) - spare].reshape(-1, batch_size))
        left = []
        if spare:
            left = [np.sort(ranked[len(ranked) - spare :])]
        places += [whole[draw.permutation(len(whole))].ravel(), *left]
    return np.concatenate(places)


def near_groups(groups: np.ndarray, rest: int, draw: np.random.Generator) -> np.ndarray:
    """Returns places in an order in which the examples of each group follow each other.

    The groups come in random order; the examples of a group keep theirs.

    Args:
        groups: int (examples,), from 0, in the order that is regrouped.
        rest: this many examples at the beginning are left where they are.
        draw: ``numpy.random.Generator``.

    Returns:
        int64 (examples,), a permutation.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> near_groups(np.array([0, 1, 0, 1, 0]), 1, draw).tolist()
        [0, 2, 4, 1, 3]
    """
    rest = min(rest, len(groups))
    ranks = draw.permutation(int(groups.max(initial=0)) + 1)
    later = rest + np.argsort(ranks[groups[rest:]], kind="stable")
    return np.concatenate([np.arange(rest), later])


def _joined(pieces: Sequence[tuple[Rows, np.ndarray]]) -> dict[str, Any]:
    """Returns one batch out of several ``(Rows, example_index)``."""
    rows = Rows.concatenate([rows for rows, _ in pieces]) if len(pieces) > 1 else pieces[0][0]
    return {**rows.batch(), "example_index": np.concatenate([index for _, index in pieces])}


def _batch_from(rows: Rows, first: int) -> dict[str, Any]:
    return {**rows.batch(), "example_index": np.arange(first, first + len(rows))}
