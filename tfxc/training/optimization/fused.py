"""Steps of a head that updates its own weights: what they need, and what they cannot do."""

import math
from collections.abc import Mapping, Sequence
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
    conflicts = []  # (what does not go with it, what to do)
    if not objective.fused:
        fix = "choose objective sigmoid, softmax, decoupled_softmax, hinge or squared_hinge"
        conflicts.append((f"objective {method_name(objective)}", fix))
    if settings.accumulate > 1:
        fix = "remove it: a step holds the logits of one chunk only"
        conflicts.append((f"training.accumulate {settings.accumulate}", fix))
    if settings.clip_norm and settings.clip_part == "all":
        conflicts.append(("clip_norm of all weights", "set training.clip_part to 'encoder'"))
    if settings.precision == "mixed_float16":
        what = "the scale of the loss in mixed_float16"
        conflicts.append((what, "use float32 or mixed_bfloat16"))
    momentum = optimizer.momentum if isinstance(optimizer, SGD) else 0
    if learning_rate is None and (momentum or not isinstance(optimizer, SGD)):
        name = type(optimizer).__name__.lower()
        what = f"optimizer {name} with momentum {momentum:g}" if momentum else f"optimizer {name}"
        fix = "set head.learning_rate, or training.optimizer to {'name': 'sgd'}"
        conflicts.append((what, fix))
    for technique in techniques:
        name = f"technique {method_name(technique)}"
        averages = issubclass(technique, WeightAverage)
        if technique.losses or any(overrides(technique, hook) for hook in _PASSES):
            what = f"{name}, which needs more than one pass of the plain loss,"
            conflicts.append((what, "remove it"))
        elif weights != "float32" and averages:
            fix = "remove it, or use weights 'float32'"
            conflicts.append((f"{name} with weights {weights!r}", fix))
        elif settings.strategy != "none" and averages:
            # Nobody has the average of what the others hold.
            what = f"{name} with training.strategy {settings.strategy!r}"
            conflicts.append((what, "train on one device"))
    for what, fix in conflicts:
        raise ConfigError(
            f"{what} does not go with head.update 'fused'",
            where=_WHERE,
            fix=f"{fix}, or leave head.update out",
        )


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
        batch: Mapping[str, Any],
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

        def rates(variable: tf.Variable) -> Rates:
            head_rate = model.head.fused_learning_rate
            scheduled = (
                rate if head_rate is None else rate * (head_rate / self._optimizer.learning_rate)
            )
            scheduled = self._optimizer.rate_of(variable, scheduled)
            decay = self._optimizer.decay_of(variable)
            return Rates(scheduled, 1 - scheduled * decay if decay else 1.0)

        update = ChunkUpdate(model.objective, share, rates, with_loss)
        with without_gradients():
            losses, of_vectors = model.head.fused_step(vectors, batch["labels"], update)
        upstream = tf.cast(of_vectors, vectors.dtype)
        # Without trained weights in the encoder the tape knows nothing of the vectors.
        gradients = tape.gradient(vectors, variables, upstream) if variables else []
        loss = tf.where(with_loss, tf.reduce_sum(losses * share), math.nan)
        return loss, [*gradients, of_vectors]
