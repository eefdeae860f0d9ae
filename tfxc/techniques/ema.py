"""Exponential moving average of the weights."""

from typing import Annotated

from annotated_types import Gt, Lt

from tfxc.core.declared import Count
from tfxc.techniques.bases.average import WeightAverage


class EMA(WeightAverage):
    """Evaluates and saves the model with a moving average of its weights.

    ``average = d average + (1 - d) weight`` with ``d = min(decay, (1 + t) / (10 + t))``, so that
    the start is forgotten early. Training itself uses the raw weights.

    Args:
        decay: weight of the past per training step.
        every: steps between two updates of the average; ``decay`` is raised to this power, so the
            horizon stays and a large table is read less often.

    Reference: Polyak and Juditsky 1992; the warm-up is TensorFlow's ``num_updates`` rule.
    """

    def __init__(self, *, decay: Annotated[float, Gt(0), Lt(1)] = 0.999, every: Count = 1) -> None:
        self.decay = decay
        self.every = every

    def after_step(self, step: int) -> None:
        """Moves the averages every ``every`` steps."""
        if step % self.every == 0:
            count = step / self.every
            decay = min(self.decay**self.every, (1 + count) / (10 + count))
            self.move(1 - decay)
