"""A student's loss: the true labels, and what a teacher says of the same example."""

import tensorflow as tf

from tfxc.errors import ConfigError
from tfxc.ops.divergence import teacher_divergence
from tfxc.techniques.base import Technique


class Distillation(Technique):
    """``hard L + (1 - hard) D``: the objective's loss L and the distance D to a teacher's scores.

    Used by recipe ``distill``; not a technique for configs, as it needs the teacher's scores.

    Args:
        teacher_logits: function of int64 (batch,) example indices -> float32 NumPy array (batch,
            num_labels).
        hard_weight: (first, last) weight of the true labels, 0 to 1; linear over the steps.
        temperature: (first, last) T, positive.
        distance: see ``ops.divergence.teacher_divergence``.
        squared: whether D counts T^2 times, which keeps its gradients as large as L's.
    """

    role = "loss"

    def __init__(self, teacher_logits, hard_weight, temperature, distance, squared):
        self._teacher_logits, self._distance, self._squared = teacher_logits, distance, squared
        self._ends, self._total_steps = (hard_weight, temperature), 1

    def begin(self, steps_per_epoch, total_steps):
        """Remembers the length."""
        self._total_steps = total_steps

    def build(self, model, strategy):
        """Makes the variables that hold weight and temperature of the step."""
        if not model.head.full_softmax or model.head.training_columns != model.head.num_labels:
            raise ConfigError(
                "a student that scores all labels in training expected, which its head does not",
                where="head.name",
                fix="use head 'dense'",
            )
        self._num_labels = model.head.num_labels
        self._values = [
            tf.Variable(first, trainable=False, dtype=tf.float32) for first, _ in self._ends
        ]

    def before_step(self, step):
        """Moves weight and temperature."""
        share = step / max(1, self._total_steps - 1)
        for variable, (first, last) in zip(self._values, self._ends, strict=True):
            variable.assign(first + (last - first) * share)

    def losses(self, model, groups_of, batch, update_state):
        """Losses of a batch, float32 (batch,)."""
        index = batch["example_index"]
        vectors = model.encoder(batch["features"], training=True)
        (groups,) = groups_of([vectors], batch["labels"])
        hard = model.objective.of_groups(groups, index, update_state)
        teacher = tf.numpy_function(self._teacher_logits, [index], tf.float32)
        teacher = tf.ensure_shape(teacher, [None, self._num_labels])
        weight, temperature = (tf.identity(value) for value in self._values)
        (group,) = groups
        soft = teacher_divergence(
            group.logits, teacher, temperature, model.objective.link, self._distance
        )
        soft *= tf.square(temperature) if self._squared else 1.0
        return weight * hard + (1 - weight) * soft
