"""What techniques share that evaluate the model with an average of its weights."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import tensorflow as tf

from tfxc.techniques.base import Technique

if TYPE_CHECKING:
    import keras


class WeightAverage(Technique):
    """Keeps an average of each trainable weight and lends the model the averages."""

    role = "average"

    def build(self, model: "keras.Model", strategy: tf.distribute.Strategy) -> None:
        """Copies the weights."""
        self._weights = self.averaged_weights(model)
        self._averages = [tf.Variable(w, trainable=False) for w in self._weights]
        self.variables_to_save: list[tf.Variable] = list(self._averages)

        def move(average: tf.Variable, weight: tf.Tensor, share: tf.Tensor) -> None:
            # In this form a share of 1 gives the weight itself, to the bit.
            average.assign((1 - share) * average + share * weight)

        def move_all(share: tf.Tensor) -> None:
            for average, weight in zip(self._averages, self._weights, strict=True):
                strategy.extended.update(average, move, args=(weight, share), group=False)

        def swap(weight: tf.Variable, average: tf.Tensor) -> None:
            before = tf.identity(weight)
            with tf.control_dependencies([before]):
                weight.assign(average)
                average.assign(before)

        def swap_all() -> None:
            done: list[tf.Operation] = []
            for weight, average in zip(self._weights, self._averages, strict=True):
                with tf.control_dependencies(done):
                    swapped = strategy.extended.update(weight, swap, args=(average,), group=True)
                done = [swapped] if swapped is not None else []

        self._move_all = tf.function(move_all, autograph=False)
        self._swap_all = tf.function(swap_all, autograph=False)

    def averaged_weights(self, model: "keras.Model") -> list[tf.Variable]:
        """Returns the ``tf.Variable``s that are averaged."""
        return [v.value for v in model.trainable_variables]

    def move(self, share: float) -> None:
        """Moves all averages: ``average = (1 - share) average + share weight``."""
        self._move_all(tf.constant(share, tf.float32))

    def lent_weights(self) -> list[tuple[tf.Variable, tf.Variable]]:
        """Returns each weight with its average."""
        return list(zip(self._weights, self._averages, strict=True))

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Lends the model the averages: each changes places with its weight.

        One variable after the other, on its device, so that no third copy of all weights is held.
        """
        self._swap_all()
        try:
            yield
        finally:
            self._swap_all()
