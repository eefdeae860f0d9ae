"""The columns of a head a chunk at a time, for objectives that say their gradient themselves."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf


class LogitChunks:
    """Logits of one batch over consecutive chunks of columns, computed when they are asked for.

    Args:
        logits_of: function of a chunk's number -> float32 (batch, columns of the chunk).
        ends: last column + 1 of each chunk, ascending; the first chunk begins at 0.
        positives: int32 (batch, max_positives), column numbers over all chunks, padded with -1.

    Example:
        >>> logits = tf.constant([[1.0, 2.0, 5.0]])
        >>> chunks = LogitChunks(lambda n: logits[:, 2 * n : 2 * n + 2], [2, 3], tf.constant([[2]]))
        >>> [positives.numpy().tolist() for _, positives in chunks.ranges()]
        [[[-1]], [[0]]]
    """

    def __init__(
        self,
        logits_of: Callable[[int], tf.Tensor],
        ends: Sequence[int],
        positives: tf.Tensor,
    ) -> None:
        self._logits_of, self._ends = logits_of, list(ends)
        self.positives = positives

    @property
    def num_columns(self) -> int:
        """Columns of all chunks."""
        return self._ends[-1]

    def ranges(self) -> Iterator[tuple[int, tf.Tensor]]:
        """Yields (columns before the chunk, positives of the chunk, as its column numbers)."""
        for begin, end in zip([0, *self._ends], self._ends, strict=False):
            inside = (self.positives >= begin) & (self.positives < end)
            yield begin, tf.where(inside, self.positives - begin, -1)

    def fold(self, function: Callable[..., Any], start: Any) -> Any:
        """``function(state, logits, positives)`` over all chunks, one after the other.

        No two chunks' logits are held at a time.

        Args:
            function: returns the next state, a nest of tensors.
            start: the first state.
        """
        state = start
        for number, (_, positives) in enumerate(self.ranges()):
            with tf.control_dependencies(tf.nest.flatten(state)):
                state = function(state, self._logits_of(number), positives)
        return state


class Rates(NamedTuple):
    """How a variable is updated: ``w = kept w - rate gradient``.

    Attributes:
        rate: float32 scalar.
        kept: share that a decay of the weights leaves, float32 scalar; the float 1.0 without one.
    """

    rate: tf.Tensor
    kept: tf.Tensor | float


class ChunkUpdate(NamedTuple):
    """What a head minimises, and how fast, in a step that updates its chunks as it goes.

    Attributes:
        objective: with ``Objective.fused``.
        share: float32 (batch,), factors of the examples' losses in the sum that is minimised.
        rates: function of one of ``Head.fused_variables`` -> ``Rates``.
        with_loss: bool scalar; without it the losses that are returned are 0.
    """

    objective: "ChunkObjective"
    share: tf.Tensor
    rates: Callable[[Any], Rates]
    with_loss: tf.Tensor | bool = True


class ChunkObjective(Protocol):
    """What an objective defines that can be computed chunk by chunk; see ``objectives.base``."""

    def begin(self, chunks: LogitChunks) -> Any:
        """What the other methods need of all columns."""

    def loss_of_logits(self, logits: tf.Tensor, positives: tf.Tensor, state: Any) -> tf.Tensor:
        """A chunk's share of the losses."""

    def gradient_of_logits(self, logits: tf.Tensor, positives: tf.Tensor, state: Any) -> tf.Tensor:
        """Gradient with respect to a chunk's logits."""
