"""Folds of a training split: which examples a model trains on and which it is measured on."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.data.examples.order import permutation, rarest_labels
from tfxc.data.sources.base import ArraySource

if TYPE_CHECKING:
    from tfxc.data.examples.rows import Rows
    from tfxc.data.sources.base import Source


class Fold(NamedTuple):
    """One of several folds.

    Attributes:
        number: of the fold, from 0.
        count: how many there are.
        seed: of the assignment of examples to folds; the same for all folds.
    """

    number: int
    count: int  # type: ignore[assignment]  # instead of the method of a tuple
    seed: int = 0

    def num_outside(self, num_examples: int) -> int:
        """Returns how many of ``num_examples`` a model is trained on.

        Example:
            >>> Fold(0, 3).num_outside(10), Fold(2, 3).num_outside(10)
            (6, 7)
        """
        return num_examples - len(range(self.number, num_examples, self.count))

    def sources(self, source: "Source") -> tuple[ArraySource, ArraySource]:
        """Returns the training examples outside the fold and inside it, as ``Source``s in memory.

        Args:
            source: the training split, a ``Source``.

        Raises:
            ConfigError: fewer examples than folds.

        Example:
            >>> from tfxc.data.examples.rows import Rows
            >>> rows = Rows.from_dense(np.eye(4), [[0], [0], [1], [1]])
            >>> outside, inside = Fold(0, 2).sources(ArraySource(rows))
            >>> sorted(inside.batch(0, 0, 2)["labels"].ravel().tolist())
            [0, 1]
        """
        if source.num_examples < self.count:
            raise ConfigError(
                f"there are {self.count} folds, but only {source.num_examples:,} training examples",
                where="recipe.folds",
                fix="lower it",
            )
        rows = source.rows()
        inside = stratified_folds(rows, self.count, self.seed) == self.number
        texts = source.label_texts()

        def part(chosen: np.ndarray) -> ArraySource:
            numbers = np.flatnonzero(chosen)
            their_texts = None if texts is None else texts.of_examples(numbers)
            shape = source.image_shape
            return ArraySource(rows.select(numbers), source.num_labels, shape, their_texts)

        return part(~inside), part(inside)


def stratified_folds(rows: "Rows", count: int, seed: int) -> np.ndarray:
    """Returns a fold for each example, so that the folds have equal shares of each label.

    Examples with several labels are assigned by the rarest of them. The sizes of two folds, and the
    numbers of examples that are assigned by one label in them, differ by at most 1.

    Args:
        rows: ``Rows``.
        count: number of folds.
        seed: of the choice among examples of one label.

    Returns:
        int64 (len(rows),), values 0 .. count - 1.

    Example:
        >>> from tfxc.data.examples.rows import Rows
        >>> rows = Rows.from_dense(np.eye(6), [[0], [0], [0], [1], [1], [1]])
        >>> np.bincount(stratified_folds(rows, 3, seed=0)[:3]).tolist()
        [1, 1, 1]
    """
    rarest = rarest_labels(rows.label_indptr, rows.label_ids)
    shuffled = permutation(len(rows), seed, 0)
    dealt = shuffled[np.argsort(rarest[shuffled], kind="stable")]
    folds = np.empty(len(rows), np.int64)
    folds[dealt] = np.arange(len(rows)) % count
    return folds
