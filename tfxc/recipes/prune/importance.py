"""How much a model's loss depends on each head and inner unit, and which of them stay."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from tfxc.model import XCModel


_LEAST_NORM = 1e-30


class Importance:
    """First-order importance of the heads and inner units of each layer.

    The importance of a part is ``sum over the examples of |d loss / d gate|`` at a gate of 1, by
    which what the part gives is multiplied: to first order, by how much the example's loss changes
    if the part is removed. Where layers share their weights, the derivative is that of all uses
    together.

    Args:
        model: ``XCModel`` whose encoder has ``gates``.
        batches: list of batches, dicts ``features``, ``labels`` and ``example_index``.

    Reference: Michel et al. 2019, arXiv 1905.10650.
    """

    def __init__(self, model: "XCModel", batches: Sequence[Mapping[str, Any]]) -> None:
        self.model = model
        self.batches = batches
        self._traced = tf.function(self._of_batch, reduce_retracing=True, autograph=False)

    def __call__(
        self, masks: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Measures it.

        Args:
            masks: for each layer with weights of its own a pair of bool arrays: heads and units
                that are still there.

        Returns:
            List of pairs of float64 arrays, those of parts that are gone -1.
        """
        flat = [mask for pair in masks for mask in pair]
        gates = [tf.constant(mask, tf.float32) for mask in flat]
        total = [np.zeros(len(mask)) for mask in flat]
        for batch in self.batches:
            batch = tf.nest.map_structure(tf.constant, batch)
            for sums, gradients in zip(total, self._traced(batch, gates), strict=True):
                sums += gradients.numpy()
        total = [np.where(mask, sums, -1.0) for sums, mask in zip(total, flat, strict=True)]
        return list(zip(total[::2], total[1::2], strict=True))

    def _of_batch(self, batch: Mapping[str, Any], masks: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums the gates' absolute gradients over a batch's examples."""
        count = tf.shape(batch["labels"])[0]
        gates = [tf.tile(mask[None], [count, 1]) for mask in masks]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(gates)
            with self.model.encoder.gates.set(list(zip(gates[::2], gates[1::2], strict=True))):
                loss = tf.reduce_sum(self.model.losses_of(batch, training=False))
        return [tf.reduce_sum(tf.abs(gradient), 0) for gradient in tape.gradient(loss, gates)]


def most_important(importance: np.ndarray, count: int) -> np.ndarray:
    """Marks the ``count`` most important parts of one layer in a mask; of equal ones the first.

    Example:
        >>> most_important(np.array([1.0, 3.0, 2.0]), 2).tolist()
        [False, True, True]
    """
    mask = np.zeros(len(importance), bool)
    mask[np.argsort(-importance, kind="stable")[:count]] = True
    return mask


def most_important_overall(importance: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Marks the ``count`` most important parts of all layers in masks, one of each layer at least.

    The importance is divided by its Euclidean norm within the layer first, as the layers' are not
    of one size.

    Args:
        importance: list of arrays, -1 at parts that are gone.
        count: how many parts stay, at least as many as layers.

    Example:
        >>> masks = most_important_overall([np.ones(2), np.array([3.0, 4.0])], 3)
        >>> [mask.tolist() for mask in masks]
        [[True, True], [False, True]]
    """
    scaled = []
    for values in importance:
        positive = np.maximum(values, 0)
        values = np.where(values < 0, -1.0, positive / max(np.linalg.norm(positive), _LEAST_NORM))
        values[np.argmax(values)] = np.inf  # one stays, whatever it is worth
        scaled.append(values)
    whole = most_important(np.concatenate(scaled), count)
    return np.split(whole, np.cumsum([len(values) for values in scaled])[:-1])


def shrink(
    masks: Sequence[tuple[np.ndarray, np.ndarray]],
    importance: Sequence[tuple[np.ndarray, np.ndarray]],
    share: float,
    targets: tuple[int, int],
    uneven: bool,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the masks after one step of pruning.

    Args:
        masks: pairs of bool arrays, see ``Importance``.
        importance: its result.
        share: of what is to go in the whole pruning, the part that stays after this step.
        targets: heads and units of a layer at the end.
        uneven: whether the heads are chosen over all layers, ``targets[0]`` per layer on average.

    Returns:
        New masks.
    """
    sizes = [[len(mask) for mask in pair] for pair in masks]
    left = [
        [
            target + round((size - target) * share)
            for size, target in zip(pair, targets, strict=True)
        ]
        for pair in sizes
    ]
    heads = [
        most_important(pair[0], count[0]) for pair, count in zip(importance, left, strict=True)
    ]
    if uneven:
        whole = sum(pair[0] for pair in sizes)
        goal = targets[0] * len(sizes)
        count = goal + round((whole - goal) * share)
        heads = most_important_overall([pair[0] for pair in importance], count)
    units = [
        most_important(pair[1], count[1]) for pair, count in zip(importance, left, strict=True)
    ]
    return list(zip(heads, units, strict=True))
