"""Random starts of tables, drawn in blocks of rows."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

_BLOCK = 2**23  # numbers that are drawn from one seed: 32 MB
_SEEDS = 2**31 - 2  # as in Keras
_KINDS: dict[str, Callable[..., tf.Tensor]] = {
    "normal": lambda shape, seed, size: tf.random.stateless_normal(shape, seed, stddev=size),
    "truncated_normal": lambda shape, seed, size: tf.random.stateless_truncated_normal(
        shape, seed, stddev=size
    ),
    "uniform": lambda shape, seed, size: tf.random.stateless_uniform(shape, seed, -size, size),
}


class RowStart(keras.initializers.Initializer):
    """Random numbers of mean 0, drawn in blocks of rows that do not depend on each other.

    So a table that is larger than a block can be started piece by piece, or shard by shard. Other
    tables get what Keras's initialisers draw from the same seed.

    Args:
        kind: ``"normal"``, ``"truncated_normal"`` or ``"uniform"``.
        size: standard deviation, or the largest absolute value of ``"uniform"``.
        seed: of all blocks.

    Example:
        >>> RowStart("normal", 0.01, seed=1)((3, 4)).shape
        TensorShape([3, 4])
    """

    def __init__(self, kind: str, size: float, seed: int) -> None:
        self.kind = kind
        self.size = size
        self.seed = seed

    def __call__(self, shape: Sequence[int], dtype: str | tf.DType | None = None) -> tf.Tensor:
        """Returns all rows."""
        return tf.cast(self.rows(shape, 0, shape[0]), dtype or tf.float32)

    def of_shape(self, shape: Sequence[int]) -> "Rows":
        """Returns the rows of a table of this shape, drawn when they are asked for."""
        return Rows(self, tuple(shape))

    def rows(self, shape: Sequence[int], begin: int, end: int) -> tf.Tensor:
        """Returns the rows ``begin`` to ``end`` of a table of this shape, float32."""
        height = max(1, _BLOCK // max(math.prod(shape[1:]), 1))
        first = begin // height * height
        blocks = [
            _KINDS[self.kind](
                (min(height, shape[0] - block), *shape[1:]),
                (self.seed % _SEEDS, block),
                self.size,
            )
            for block in range(first, end, height)
        ] or [tf.zeros((0, *shape[1:]))]
        rows = blocks[0] if len(blocks) == 1 else tf.concat(blocks, axis=0)
        return rows[begin - first : end - first]

    def get_config(self) -> dict[str, Any]:
        """Returns constructor arguments."""
        return {"kind": self.kind, "size": self.size, "seed": self.seed}


class Rows:
    """The rows of a start, as an array that is drawn where its rows are asked for.

    Args:
        start: ``RowStart``.
        shape: of the table.
    """

    def __init__(self, start: RowStart, shape: tuple[int, ...]) -> None:
        self.start = start
        self.shape = shape

    def __getitem__(self, key: slice | tuple[()]) -> tf.Tensor:
        if not isinstance(key, slice):
            return self.start(self.shape)
        return self.start.rows(self.shape, key.start, key.stop)
