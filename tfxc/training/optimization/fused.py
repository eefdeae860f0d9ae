"""Steps of a head that updates its own weights: what they need, and what they cannot do."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.ops.fused.logit_chunks import ChunkUpdate, Rates
from tfxc.ops.gradients import without_gradients
from tfxc.techniques.base import Technique, method_name, overrides
from tfxc.techniques.bases.average import WeightAverage
from tfxc.training.optimization.optimizers import SGD

if TYPE_CHECKING:
    from tfxc.core.settings import TrainingSettings
    from tfxc.model import XCModel
    from tfxc.objectives.base import Objective
    from tfxc.training.optimization.row_optimizer import Optimizer


_WHERE = "head.update"
_PASSES = ("gradients", "groups")  # what a technique overrides that passes more than once


def check_fused(
    objective: "type[Objective]",
    optimizer: "Optimizer",
    settings: "TrainingSettings",
    techniques: "Sequence[type[Technique]]",
    weights: str,
    learning_rate: float | None,
) -> None:
    """Refuses what does not go with weights that are updated while their gradient is made.

    Args:
        objective: class of the objective.
        optimizer: from ``training.optimization.optimizers``.
        settings: ``TrainingSettings``.
        techniques: list of their classes.
        weights: dtype of the head's weights.
        learning_rate: the head's own, or None.

    Raises:
        ConfigError: the first thing that does not.
    """
    for expected, found, fix in (
        *_conflicts(objective, settings),
        *(_conflicts_of_optimizer(optimizer) if learning_rate is None else ()),
        *_conflicts_of_techniques(techniques, weights, settings.strategy),
    ):
        raise ConfigError(
            f"{expected} expected with head.update 'fused', found {found}",
            where=_WHERE,
            fix=f"{fix}, or leave head.update out",
        )


def _conflicts(objective, settings):
    """Yields (what is expected, what was found, what to do)."""
    if not objective.fused:
        found = method_name(objective)
        known = "objective sigmoid, softmax, decoupled_softmax, hinge or squared_hinge"
        yield known, found, "choose one of them"
    if settings.accumulate > 1:
        found = f"training.accumulate {settings.accumulate}"
        yield "one micro-batch", found, "remove it: a step holds the logits of one chunk only"
    if settings.clip_norm and settings.clip_part == "all":
        fix = "set training.clip_part to 'encoder'"
        yield "clipping of the encoder only", "clip_norm of all weights", fix
    if settings.precision == "mixed_float16":
        fix = "use float32 or mixed_bfloat16"
        yield "a precision without a scale of the loss", "mixed_float16", fix


def _conflicts_of_optimizer(optimizer):
    """As ``_conflicts``, of a head that shares the optimizer's learning rate."""
    momentum = isinstance(optimizer, SGD) and optimizer.momentum
    if not isinstance(optimizer, SGD) or momentum:
        found = f"sgd with momentum {momentum:g}" if momentum else type(optimizer).__name__.lower()
        fix = "set head.learning_rate, or training.optimizer to {'name': 'sgd'}"
        yield "head.learning_rate, or optimizer sgd without momentum,", found, fix


def _conflicts_of_techniques(techniques, weights, strategy):
    """As ``_conflicts``."""
    for kind in techniques:
        found = f"technique {method_name(kind)}"
        passes = any(overrides(kind, name) for name in _PASSES)
        if passes or kind.losses:
            yield "one pass of the plain loss in each step", found, "remove it"
        elif weights != "float32" and issubclass(kind, WeightAverage):
            found = f"{found} with weights {weights!r}"
            yield "an average of float32 weights", found, "remove it, or use weights 'float32'"
        elif strategy != "none" and issubclass(kind, WeightAverage):
            # Nobody has the average of what the others hold.
            found = f"{found} with training.strategy {strategy!r}"
            yield "no average of weights that replicas share out", found, "train on one device"


class FusedHead:
    """The part of a training step in which a head updates its own weights.

    Args:
        model: whose head has ``fused_variables``.
        optimizer: built with these variables, without slots for them.
        settings: ``TrainingSettings``.
    """

    def __init__(
        self, model: "XCModel", optimizer: "Optimizer", settings: "TrainingSettings"
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._settings = settings

    def gradients(
        self,
        batch: Any,
        variables: Sequence[tf.Variable],
        rate: tf.Tensor,
        with_loss: tf.Tensor,
    ) -> tuple[tf.Tensor, list[Any]]:
        """Updates the head, and returns what the other weights are updated from.

        Args:
            batch: dict of a batch.
            variables: the other trainable weights.
            rate: learning rate of this step.
            with_loss: bool scalar, whether the loss is computed.

        Returns:
            Loss of the batch, NaN where it is not computed; the gradients of ``variables``, and
            last that with respect to the encoder's vectors, float32 (batch, dim).
        """
        model = self._model
        index = batch.get("example_index")
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            vectors = model.encoder(batch["features"], training=True)
        share = tf.fill(tf.shape(vectors)[:1], 1.0 / self._settings.batch_size)
        if model.objective.example_weights is not None and index is not None:
            share *= tf.gather(model.objective.example_weights, index)
        update = ChunkUpdate(
            model.objective, share, lambda variable: self._rates(variable, rate), with_loss
        )
        with without_gradients():
            losses, of_vectors = model.head.fused_step(vectors, batch["labels"], update)
        upstream = tf.cast(of_vectors, vectors.dtype)
        # Without trained weights in the encoder the tape knows nothing of the vectors.
        gradients = tape.gradient(vectors, variables, upstream) if variables else []
        loss = tf.where(with_loss, tf.reduce_sum(losses * share), math.nan)
        return loss, [*gradients, of_vectors]

    def _rates(self, variable: tf.Variable, rate: tf.Tensor) -> Rates:
        own = self._model.head.fused_learning_rate
        if own is not None:
            rate *= own / self._optimizer.learning_rate
        rate = self._optimizer.rate_of(variable, rate)
        decay = self._optimizer.decay_of(variable)
        return Rates(rate, 1 - rate * decay if decay else 1.0)
