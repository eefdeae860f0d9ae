"""Gates on the heads and the inner units of self-attention, by which their weight is measured."""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

#: Of one layer: float (batch, heads) and float (batch, inner units), or None.
GatePair = tuple[tf.Tensor | None, tf.Tensor | None]


class Gates:
    """What the parts of an encoder's layers are multiplied by; nothing at all unless it is set.

    An encoder with heads to prune has one as its attribute ``gates``, next to ``layers`` (a dict of
    weights for each layer that has its own) and ``head_width``.

    Example:
        >>> gates = Gates()
        >>> with gates.set([(tf.zeros((1, 2)), None)]):
        ...     apply_gate(tf.ones((1, 2, 1, 1)), gates.of(0)[0]).numpy().tolist()
        [[[[0.0]], [[0.0]]]]
    """

    def __init__(self) -> None:
        self._values: Sequence[GatePair] | None = None

    @contextlib.contextmanager
    def set(self, values: Sequence[GatePair]) -> Iterator[None]:
        """Multiplies inside.

        Args:
            values: for each layer that has weights of its own a pair: float (batch, heads) for what
                each head outputs, float (batch, units) for the units inside the second part.
        """
        self._values = values
        try:
            yield
        finally:
            self._values = None

    def of(self, number: int) -> GatePair:
        """Returns the pair of layer ``number``; two None if nothing is set."""
        return (None, None) if self._values is None else self._values[number]


def apply_gate(x: tf.Tensor, gate: tf.Tensor | None) -> tf.Tensor:
    """Returns the values after a gate.

    Args:
        x: (batch, heads, length, width) or (batch, length, units).
        gate: (batch, heads) or (batch, units), or None.
    """
    if gate is None:
        return x
    gate = tf.cast(gate, x.dtype)
    return x * (gate[:, :, None, None] if x.shape.rank == 4 else gate[:, None, :])
