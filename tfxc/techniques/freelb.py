"""Free large-batch training: perturbed embeddings, the gradients of all rounds averaged."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import tensorflow as tf

from tfxc.core.declared import Count, NotNegative, Positive
from tfxc.core.errors import ConfigError
from tfxc.ops.gradients import add, scale
from tfxc.ops.randomness import random_bits
from tfxc.techniques.bases.table_attack import Attack

if TYPE_CHECKING:
    import keras


class FreeLB(Attack):
    """Perturbs the embedded words of each example, and trains at every point on the way.

    Starts at random and moves ``rounds - 1`` times against the loss, each example by itself. The
    gradients at all points are averaged, so no pass is spent on the attack alone: the cost is
    that of ``rounds`` passes. The loss is the one at the first point.

    With norm ``"l2"`` the start is uniform within ``init_magnitude / sqrt(words * dim)``, a move
    has length ``step_size``, and the norm of an example's perturbation stays within ``max_norm``;
    with ``"linf"`` all three hold for the largest number (the start within ``init_magnitude``).
    The start is not projected. A ``max_norm`` of 0 means no limit.

    Args:
        rounds: passes of a step.
        init_magnitude, step_size, max_norm: as above.
        norm: ``"l2"`` or ``"linf"``.
        seed: of the start.

    Raises:
        ConfigError: an argument out of range.

    Example:
        >>> FreeLB(rounds=2, norm="linf").rounds
        2

    Reference: Zhu et al., ICLR 2020 (arXiv 1909.11764). There dropout masks stay the same in all
    rounds; here each round has its own.
    """

    def __init__(
        self,
        *,
        rounds: Count = 3,
        init_magnitude: NotNegative = 2e-2,
        step_size: Positive = 1e-4,
        max_norm: NotNegative = 1e-4,
        norm: Literal["l2", "linf"] = "l2",
        seed: int = 0,
    ) -> None:
        self.rounds = rounds
        self.init_magnitude = init_magnitude
        self.step_size = step_size
        self.max_norm = max_norm
        self.norm = norm
        self.seed = seed

    def build(self, model: "keras.Model", strategy: tf.distribute.Strategy) -> None:
        """Finds the tables; the encoder has to read words in order."""
        if model.encoder.input_kind != "tokens":
            raise ConfigError(
                "'freelb' perturbs the words of a text one by one, but "
                f"{type(model.encoder).__name__} reads {model.encoder.input_kind!r} features",
                where="techniques",
                fix="use an encoder of token ids, or technique 'fgm'",
            )
        super().build(model, strategy)
        self._encoder = model.encoder

    def gradients(
        self, compute: Callable[..., Any], batch: Mapping[str, Any]
    ) -> tuple[tf.Tensor, list[Any]]:
        """Returns the mean gradients over the rounds, and the loss of the first."""
        ids = tf.cast(self._encoder.select_features(batch["features"]), tf.int32)
        moves = [self._start(ids, table.shape[1], n) for n, table in enumerate(self._tables)]
        loss: Any = None
        total: Any = None
        for number in range(self.rounds):
            perturbations = [lambda _ids, values=values: values for values in moves]
            loss_here, gradients = self.attacked(compute, batch, perturbations)
            loss = loss_here if loss is None else loss
            total = gradients if total is None else list(map(add, total, gradients))
            if number < self.rounds - 1:
                pairs = zip(moves, self.of_tables(gradients), strict=True)
                moves = [self._moved(values, gradient) for values, gradient in pairs]
        return loss, [None if g is None else scale(g, 1 / self.rounds) for g in total]

    def _start(self, ids: tf.Tensor, dim: int, number: int) -> tf.Tensor:
        """Returns the random perturbation of the words in table ``number``, (batch, length,
        dim).
        """
        batch, length = tf.unstack(tf.shape(ids))
        columns = tf.range(length * dim)[None, :]
        bits = random_bits(tf.range(batch)[:, None], columns, self.seed * 1000 + 970 + number)
        bits = tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.int32)
        values = tf.reshape(tf.cast(bits, tf.float32) * 2.0**-23 - 1, [batch, length, dim])
        mask = tf.cast(ids != 0, tf.float32)
        magnitude = tf.fill([batch], float(self.init_magnitude))
        if self.norm == "l2":
            words = tf.maximum(tf.reduce_sum(mask, axis=1), 1)
            magnitude /= tf.sqrt(words * dim)
        return values * mask[:, :, None] * magnitude[:, None, None]

    def _moved(self, values: tf.Tensor, gradient: tf.IndexedSlices) -> tf.Tensor:
        # The gradients of a table's rows are those of the words read, in order.
        gradient = tf.reshape(gradient.values, tf.shape(values))
        largest = tf.reduce_max(tf.abs(gradient), axis=(1, 2), keepdims=True)
        gradient = tf.math.divide_no_nan(gradient, largest)
        if self.norm == "linf":
            values += self.step_size * gradient
            if not self.max_norm:
                return values
            return tf.clip_by_value(values, -self.max_norm, self.max_norm)
        values += self.step_size * tf.math.divide_no_nan(gradient, _norms(gradient))
        if not self.max_norm:
            return values
        return values * (self.max_norm / tf.maximum(_norms(values), self.max_norm))


def _norms(values: tf.Tensor) -> tf.Tensor:
    """Returns euclidean norm of each example."""
    return tf.sqrt(tf.reduce_sum(tf.square(values), axis=(1, 2), keepdims=True))
