"""Weights between those before and those after fine-tuning."""

from typing import Any

import tensorflow as tf

from tfxc.core.arguments import Number, checked
from tfxc.core.errors import ConfigError
from tfxc.techniques.bases.average import WeightAverage


class WiseFT(WeightAverage):
    """Evaluates and saves the encoder with weights on the line from its start to the trained ones.

    ``start + share (weight - start)``: so it keeps more of what a pretrained encoder knows of
    inputs, or labels' texts, that the training has none of. The head's weights are the trained
    ones. Training itself uses the raw weights.

    Args:
        share: how far from the start to the trained weights.

    Example:
        >>> WiseFT(share=0.8).share
        0.8

    Reference: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022,
    arXiv 2109.01903.
    """

    @checked(share=Number(above=0, below=1))
    def __init__(self, *, share: float = 0.5) -> None:
        self.share = share

    def build(self, model: Any, strategy: tf.distribute.Strategy) -> None:
        """Copies the weights twice: what they were stays, the other copy follows the training.

        Raises:
            ConfigError: the encoder does not learn.
        """
        super().build(model, strategy)
        if not self._weights:
            raise ConfigError(
                "an encoder with trainable weights expected, found one without any",
                where="techniques.wise_ft",
                fix="remove it: there is nothing between start and end",
            )
        self._starts = [tf.Variable(weight, trainable=False) for weight in self._weights]
        self.variables_to_save += self._starts
        self._follow = tf.function(self._follow_all, autograph=False)

    def averaged_weights(self, model: Any) -> list[tf.Variable]:
        """The encoder's trainable weights."""
        return [v.value for v in model.encoder.trainable_variables]

    def after_step(self, step: int) -> None:
        """Moves the averages with the weights."""
        self._follow()

    def _follow_all(self):
        def follow(average, weight, start):
            average.assign(start + self.share * (weight - start))

        for average, *others in zip(self._averages, self._weights, self._starts, strict=True):
            self._strategy.extended.update(average, follow, args=others, group=False)
