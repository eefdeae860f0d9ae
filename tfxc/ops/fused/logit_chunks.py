"""The columns of a head a chunk at a time, for objectives that compute their own gradient."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import keras
import tensorflow as tf

from tfxc.ops.distributed.cross_replica import CrossReplica

_State = TypeVar("_State")


class LogitChunks:
    """Logits of one batch over chunks of columns, computed when they are asked for.

    Args:
        logits_of: function of a chunk's number -> float32 (batch, columns of the chunk).
        columns: (first column, last column + 1) of each chunk, ascending.
        positives: int64 (batch, max_positives), column numbers over all chunks, padded with -1.
        num_columns: number of all columns; None for the end of the last chunk.
        cross_replica: of chunks that are a replica's share of the columns, where the others have
            the rest, for the same batch. None where these are all.

    Example:
        >>> logits, true = tf.constant([[1.0, 2.0, 5.0]]), tf.constant([[2]])
        >>> chunks = LogitChunks(lambda n: logits[:, 2 * n : 2 * n + 2], [(0, 2), (2, 3)], true)
        >>> [positives.numpy().tolist() for _, positives in chunks.ranges()]
        [[[-1]], [[0]]]
    """

    def __init__(
        self,
        logits_of: Callable[[int], tf.Tensor],
        columns: Sequence[tuple[int, int]],
        positives: tf.Tensor,
        num_columns: int | None = None,
        cross_replica: CrossReplica | None = None,
    ) -> None:
        self._logits_of = logits_of
        self._columns = list(columns)
        self.positives = positives
        self._cross_replica = cross_replica
        self.num_columns = self._columns[-1][1] if num_columns is None else num_columns

    def ranges(self) -> Iterator[tuple[int, tf.Tensor]]:
        """Yields (first column of the chunk, positives of the chunk, as its column numbers)."""
        for begin, end in self._columns:
            inside = (self.positives >= begin) & (self.positives < end)
            yield begin, tf.where(inside, self.positives - begin, -1)

    def fold(
        self, function: Callable[[_State, tf.Tensor, tf.Tensor], _State], start: _State
    ) -> _State:
        """Applies ``function(state, logits, positives)`` to all chunks, one after the other.

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

    def log_sum(self, largest: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        """Returns the logarithm of a sum of exponentials over the columns of all replicas, float32
        (batch,).

        Args:
            largest: float32 (batch,), finite, what the exponents of ``total`` are relative to.
            total: float32 (batch,), sum over these chunks; -inf comes of 0 everywhere.
        """
        if self._cross_replica is None:
            return largest + tf.math.log(total)
        highest = self._cross_replica.max(largest)
        return highest + tf.math.log(self.sum(total * tf.exp(largest - highest)))

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the sum over all replicas of what each has found in its chunks."""
        return values if self._cross_replica is None else self._cross_replica.sum([values])[0]


def plain_variable(variable: keras.Variable | tf.Variable) -> tf.Variable:
    """Returns the variable of TensorFlow in one of Keras; of a shard the shard itself."""
    return variable.value if isinstance(variable, keras.Variable) else variable


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
        rates: function of the ``tf.Variable`` of one of ``Head.fused_variables`` -> ``Rates``.
        with_loss: bool scalar; without it the losses that are returned are 0.
    """

    objective: "ChunkObjective"
    share: tf.Tensor
    rates: Callable[[tf.Variable], Rates]
    with_loss: tf.Tensor | bool = True


class ChunkObjective(Protocol):
    """What an objective defines that can be computed chunk by chunk; see ``objectives.base``."""

    def begin(self, chunks: LogitChunks) -> Any:
        """Returns what the other methods need of all columns."""

    def loss_of_logits(self, logits: tf.Tensor, positives: tf.Tensor, state: Any) -> tf.Tensor:
        """Returns a chunk's share of the losses."""

    def gradient_of_logits(self, logits: tf.Tensor, positives: tf.Tensor, state: Any) -> tf.Tensor:
        """Returns the gradient with respect to a chunk's logits."""
