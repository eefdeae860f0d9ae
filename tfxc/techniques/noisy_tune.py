"""Noise on the pretrained weights before fine-tuning."""

from typing import TYPE_CHECKING

import tensorflow as tf

from tfxc.core.declared import Positive
from tfxc.techniques.base import Technique

if TYPE_CHECKING:
    import keras


class NoisyTune(Technique):
    """Adds ``uniform(-intensity / 2, intensity / 2) * std(W)`` to each matrix W of the encoder.

    Once, before the first step; a resumed run continues from its checkpoint, without more
    noise. Vectors (biases, normalisation) stay as they are.

    Args:
        intensity: width of the noise in standard deviations of the matrix.
        seed: of the noise.

    Raises:
        ConfigError: ``intensity`` is not positive.

    Example:
        >>> NoisyTune(intensity=0.15).intensity
        0.15

    Reference: Wu et al., ACL 2022 (arXiv 2202.12024).
    """

    def __init__(self, *, intensity: Positive = 0.12, seed: int = 0) -> None:
        self.intensity = intensity
        self.seed = seed

    def build(self, model: "keras.Model", strategy: tf.distribute.Strategy) -> None:
        """Adds the noise."""
        half = self.intensity / 2
        for number, variable in enumerate(model.encoder.trainable_variables):
            if len(variable.shape) < 2:
                continue
            value = tf.constant(variable.numpy())
            seed = (self.seed, number)
            noise = tf.random.stateless_uniform(value.shape, seed, -half, half, value.dtype)
            variable.assign(value + noise * tf.math.reduce_std(value))
