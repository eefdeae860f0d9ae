"""A student's loss: the true labels, and what a teacher predicts for the same example."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.ops.divergence import difficulty, teacher_divergence
from tfxc.recipes.distill.layer_matching import Matches
from tfxc.techniques.base import Technique

if TYPE_CHECKING:
    from tfxc.model import XCModel

# Smallest temperature of an example, as a share of T.
_LEAST_SHARE = 0.1


class TemperatureSettings(NamedTuple):
    """How the temperature of an example follows from the two predictions.

    Attributes:
        scheduler: ``"constant"``: it does not; else see ``ops.divergence.difficulty``.
        beta: how much it changes.
        gamma: of ``"flsw"``.
    """

    scheduler: str = "constant"
    beta: float = 1.0
    gamma: float = 1.0


class Distillation(Technique):
    """``hard L + (1 - hard) D + sum of weight M``.

    L is the objective's loss, D the distance to a teacher's scores, each M the distance to
    something that the teacher computes on the way. Used by recipe ``distill``; not a technique
    for configs, as it needs the teacher.

    Args:
        teachers: functions of int64 (batch,) example indices -> float32 NumPy array (batch,
            num_labels), one for each turn.
        hard_weight: (first, last) weight of the true labels, 0 to 1; linear over the steps.
        temperature: (first, last) T, positive.
        distance: see ``ops.divergence.teacher_divergence``.
        squared: whether D counts T^2 times, which keeps its gradients as large as L's.
        tempering: ``TemperatureSettings``. The mean that it needs is that of the micro-batch,
            over all replicas; no temperature falls below a tenth of T.
        matches: ``recipes.distill.layer_matching.Matches``, or None.
        turns: shares of the steps that the teachers have, one after the other, of any sum.
    """

    role = "loss"

    def __init__(
        self,
        teachers: Sequence[Callable[[np.ndarray], np.ndarray]],
        hard_weight: tuple[float, float],
        temperature: tuple[float, float],
        distance: str,
        squared: bool,
        tempering: TemperatureSettings | None = None,
        matches: Matches | None = None,
        turns: Sequence[float] = (1.0,),
    ) -> None:
        self._teachers = list(teachers)
        self._distance = distance
        self._squared = squared
        self._turn = 0
        self._ends_of_turns = np.cumsum(turns) / np.sum(turns)
        self._tempering = tempering or TemperatureSettings()
        self._matches = matches
        self._ends = (hard_weight, temperature, *(matches.weights if matches else ()))
        self._total_steps = 1

    def on_train_begin(self, steps_per_epoch: float, total_steps: int) -> None:
        """Remembers the length."""
        self._total_steps = total_steps

    def build(self, model: "XCModel", strategy: tf.distribute.Strategy) -> None:
        """Makes the variables that hold the weights and the temperature of the step."""
        if not model.head.full_softmax or model.head.training_columns != model.head.num_labels:
            raise ConfigError(
                "the student's head does not score all labels in training",
                where="head.name",
                fix="use head 'dense'",
            )
        if self._tempering.scheduler == "cwsm" and model.objective.link != "softmax":
            raise ConfigError(
                "'cwsm' needs an objective with a softmax over the labels, and "
                f"{type(model.objective).__name__} has none",
                where="recipe.temperature_scheduler",
                fix="choose 'flsw' or 'constant'",
            )
        self._num_labels = model.head.num_labels
        self._values = [
            tf.Variable(first, trainable=False, dtype=tf.float32) for first, _ in self._ends
        ]
        if self._matches:
            self._matches.build(model.encoder)
            self.trainable_variables = self.variables_to_save = self._matches.variables

    def before_step(self, step: int) -> None:
        """Moves weights and temperature, and on to the next teacher."""
        self._turn = self.turn_at(step)
        share = step / max(1, self._total_steps - 1)
        for variable, (first, last) in zip(self._values, self._ends, strict=True):
            variable.assign(first + (last - first) * share)

    def turn_at(self, step: int) -> int:
        """Returns the number of the teacher whose turn it is after ``step`` updates, from 0."""
        done = step / self._total_steps
        passed = int(np.searchsorted(self._ends_of_turns, done, side="right"))
        return min(passed, len(self._ends_of_turns) - 1)

    def _teacher_logits(self, index: np.ndarray) -> np.ndarray:
        """Asks the teacher whose turn it is when the step runs, not when it is traced."""
        return self._teachers[self._turn](index)

    def losses(
        self,
        model: "XCModel",
        groups_of: Callable[..., Any],
        batch: Mapping[str, Any],
        update_state: bool,
    ) -> tf.Tensor:
        """Returns the losses of a batch, float32 (batch,)."""
        index = batch["example_index"]
        features = batch["features"]
        weight, temperature, *match_weights = (tf.identity(value) for value in self._values)
        if match_weights:
            assert self._matches is not None
            vectors, apart = self._matches.losses(model.encoder, features, match_weights)
        else:
            vectors = model.encoder(features, training=True)
            apart = 0.0
        (groups,) = groups_of([vectors], batch["labels"])
        hard = model.objective.of_groups(groups, index, update_state)
        teacher = tf.numpy_function(self._teacher_logits, [index], tf.float32)
        teacher = tf.ensure_shape(teacher, [None, self._num_labels])
        (group,) = groups
        temperature = self._temperatures(temperature, group.logits, teacher)
        soft = teacher_divergence(
            group.logits, teacher, temperature, model.objective.link, self._distance
        )
        soft *= tf.square(temperature) if self._squared else 1.0
        return weight * hard + (1 - weight) * soft + apart

    def _temperatures(
        self, temperature: tf.Tensor, student: tf.Tensor, teacher: tf.Tensor
    ) -> tf.Tensor:
        """Returns the temperature, or that of each example."""
        scheduler, beta, gamma = self._tempering
        if scheduler == "constant":
            return temperature
        hard = difficulty(student, teacher, scheduler, gamma)
        context = tf.distribute.get_replica_context()
        mean = tf.reduce_mean(hard)
        if context.num_replicas_in_sync > 1:
            mean = context.all_reduce("MEAN", mean)
        return tf.maximum(temperature + beta * (mean - hard), _LEAST_SHARE * temperature)
