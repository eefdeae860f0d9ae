"""Stochastic weight averaging."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import tensorflow as tf

from tfxc.core.declared import Count, NotNegative, Positive
from tfxc.core.errors import ConfigError
from tfxc.techniques.bases.average import WeightAverage

if TYPE_CHECKING:
    import keras


class SWA(WeightAverage):
    """Evaluates and saves the model with the plain mean of its weights at several steps.

    The first term is the weights at the beginning of epoch ``start_epoch``; from there on,
    every ``every`` steps one more is added, all with the same weight. Before that the model is
    evaluated with its raw weights. Training itself uses the raw weights throughout.

    The original code counts the steps of each epoch again (and takes its first step as well);
    here ``every`` steps are between any two terms.

    Args:
        start_epoch: epochs trained before the first term, may be a fraction; 0 takes the initial
            weights as a term.
        every: steps between two terms.
        average_statistics: whether the encoder's moving statistics (batch normalisation) are
            averaged likewise. The original leaves them at their last values, which belong to
            other weights than the mean.
        learning_rate: rate while weights are averaged; None leaves the schedule's.
        anneal_epochs: epochs from ``start_epoch`` on in which the rate moves from the schedule's
            value there to ``learning_rate``, where it stays; None means 1, 0 jumps.
        anneal: how it moves, ``"cosine"`` or ``"linear"``; None means the first.

    Raises:
        ConfigError: ``anneal_epochs`` or ``anneal`` without ``learning_rate``.

    Reference: Izmailov et al., UAI 2018, arXiv 1803.05407.
    """

    def __init__(
        self,
        *,
        start_epoch: NotNegative = 1.0,
        every: Count = 100,
        average_statistics: bool = False,
        learning_rate: Positive | None = None,
        anneal_epochs: NotNegative | None = None,
        anneal: Literal["cosine", "linear"] | None = None,
    ) -> None:
        self.start_epoch = start_epoch
        self.every = every
        self.average_statistics = average_statistics
        if learning_rate is None and (anneal_epochs, anneal) != (None, None):
            raise ConfigError(
                "is missing, which anneal_epochs and anneal lead to",
                where="learning_rate",
                fix="add it, or remove anneal_epochs and anneal",
            )
        self.last_rate = learning_rate
        self.anneal = anneal or "cosine"
        self.anneal_epochs = 1.0 if anneal_epochs is None else anneal_epochs

    def on_train_begin(self, steps_per_epoch: float, total_steps: int) -> None:
        """Finds the step of the first term."""
        self.start_step = math.ceil(self.start_epoch * steps_per_epoch)
        self.anneal_steps = math.ceil(self.anneal_epochs * steps_per_epoch)
        if self.start_step >= total_steps:
            raise ConfigError(
                f"begins at step {self.start_step:,}, but the training has only {total_steps:,} "
                "steps",
                where="techniques.swa.start_epoch",
                fix="start the average before the last epoch",
            )

    def build(self, model: "keras.Model", strategy: tf.distribute.Strategy) -> None:
        """Copies the weights."""
        super().build(model, strategy)
        # Where it starts at step 0, the copies are the first term.
        self._count = tf.Variable(int(self.start_step == 0), dtype=tf.int64, trainable=False)
        self.variables_to_save.append(self._count)

    def averaged_weights(self, model: "keras.Model") -> list[tf.Variable]:
        """Returns the trainable weights, and the moving statistics if requested."""
        weights = super().averaged_weights(model)
        if self.average_statistics:
            statistics = model.encoder.non_trainable_variables
            weights += [v.value for v in statistics if v.value.dtype.is_floating]
        return weights

    def learning_rate(
        self, rate_at: Callable[[tf.Tensor], tf.Tensor], step: tf.Tensor
    ) -> tf.Tensor:
        """Returns the schedule's rate, from the start of the average on that of the average."""
        rate = tf.cast(rate_at(step), tf.float32)
        if self.last_rate is None:
            return rate
        since = tf.cast(step - self.start_step, tf.float32)
        share = tf.clip_by_value(since / max(self.anneal_steps, 1), 0.0, 1.0)
        if not self.anneal_steps:
            share = tf.ones_like(share)
        if self.anneal == "cosine":
            share = 0.5 * (1 - tf.cos(math.pi * share))
        first = tf.cast(rate_at(tf.constant(self.start_step, step.dtype)), tf.float32)
        return tf.where(since < 0, rate, first + share * (self.last_rate - first))

    def after_step(self, step: int) -> None:
        """Adds a term every ``every`` steps from the start on."""
        if step < self.start_step or (step - self.start_step) % self.every:
            return
        self._count.assign_add(1)
        self.move(1 / int(self._count.numpy()))

    def lent_weights(self) -> list[tuple[tf.Variable, tf.Variable]]:
        """Returns each weight with its mean, once there is one."""
        return super().lent_weights() if self._started else []

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Lends the model the mean, once there is one."""
        with super().evaluation_weights() if self._started else contextlib.nullcontext():
            yield

    @property
    def _started(self) -> bool:
        return int(self._count.numpy()) > 0
