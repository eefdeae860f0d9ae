"""Exponential moving average of the weights."""

import contextlib

import tensorflow as tf

from tfxc.errors import ConfigError
from tfxc.techniques.base import Technique


class Ema(Technique):
    """Judges and saves the model by a moving average of its weights.

    ``average = d average + (1 - d) weight`` with ``d = min(decay, (1 + t) / (10 + t))``, so that
    the start is forgotten early. Training itself goes on with the raw weights.

    Args:
        decay: weight of the past per training step.
        every: steps between two updates of the average; ``decay`` is raised to this power, so the
            horizon stays and a large table is read less often.

    Reference: Polyak and Juditsky 1992; the warm-up is TensorFlow's ``num_updates`` rule.
    """

    def __init__(self, *, decay=0.999, every=1):
        if not 0 < decay < 1:
            raise ConfigError(f"decay must lie in (0, 1), found {decay}", where="techniques.ema")
        if every < 1:
            raise ConfigError(f"every must be at least 1, found {every}", where="techniques.ema")
        self.decay, self.every = decay, every

    def build(self, model, strategy):
        """Copies the trainable weights."""
        self._strategy = strategy
        self._weights = [v.value for v in model.trainable_variables]
        self.variables_to_save = [tf.Variable(w, trainable=False) for w in self._weights]
        self._update = tf.function(self._update_all)

    def after_step(self, step):
        """Moves the averages every ``every`` steps."""
        if step % self.every == 0:
            count = step / self.every
            decay = min(self.decay**self.every, (1 + count) / (10 + count))
            self._update(tf.constant(1 - decay, tf.float32))

    def _update_all(self, share):
        def move(average, weight):
            average.assign_add(share * (weight - average))

        for average, weight in zip(self.variables_to_save, self._weights, strict=True):
            self._strategy.extended.update(average, move, args=(weight,), group=False)

    @contextlib.contextmanager
    def evaluation_weights(self):
        """Lends the model the averages."""
        kept = [weight.numpy() for weight in self._weights]
        _assign(self._weights, [average.numpy() for average in self.variables_to_save])
        try:
            yield
        finally:
            _assign(self._weights, kept)


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
