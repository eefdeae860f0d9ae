"""The teacher's encoder next to the student's: what both compute on the way is compared."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.recipes.distill.distances import ATTENTION_DISTANCES, PAIR_DISTANCES, STATE_DISTANCES

if TYPE_CHECKING:
    from tfxc.encoders.bases.layered import LayeredEncoder, LayerOutputs


ACTIVATIONS = {"linear": tf.identity, "relu": tf.nn.relu, "tanh": tf.tanh}
# These compare states or attention of different sizes.
_ANY_WIDTH = ("mmd", "nst", "attention_mse_sum", "attention_ce_mean")


class Match(NamedTuple):
    """Which layers of the student are matched to which of the teacher.

    Attributes:
        layer_teacher, layer_student: one layer each, or two for a distance of pairs. 0 is what
            enters the first layer, l what comes out of layer l, or the attention inside it.
        loss: a distance of ``recipes.distill.distances``.
        weight: (first, last) weight in the loss, linear over the steps.
        projection: None, or the activation of a linear map of the student's states to the width
            of the teacher's: ``"linear"``, ``"relu"`` or ``"tanh"``.
        where: its config key, for messages.
    """

    layer_teacher: tuple[int, ...]
    layer_student: tuple[int, ...]
    loss: str
    weight: tuple[float, float]
    projection: str | None
    where: str

    @property
    def feature(self) -> str:
        """``"attention"`` or ``"hidden"``."""
        return "attention" if self.loss in ATTENTION_DISTANCES else "hidden"


class Matches:
    """The distances between a student's encoder and its teacher's, and their projections.

    The teacher's encoder runs in the student's training step, on the same features, without
    dropout and without gradients.

    Args:
        matches: list of ``Match``.
        load_teacher: function that returns the teacher's encoder, a ``LayeredEncoder``; called in
            ``build``, so that its weights are where the student's are.
        start_layers: the teacher's layers that the student's start as copies of, from below, with
            everything in front of them; empty for a student that starts as its config says.
    """

    def __init__(
        self,
        matches: "Sequence[Match]",
        load_teacher: "Callable[[], LayeredEncoder]",
        start_layers: Sequence[int] = (),
    ) -> None:
        self.matches = list(matches)
        self._load = load_teacher
        self._start_layers = start_layers
        self._attention = any(match.feature == "attention" for match in self.matches)
        self._teacher: Any = None
        self._projections: list[tuple[tf.Variable, tf.Variable] | None] = []

    @property
    def weights(self) -> list[tuple[float, float]]:
        """(first, last) weight of each match."""
        return [match.weight for match in self.matches]

    @property
    def variables(self) -> list[tf.Variable]:
        """The weights of the projections."""
        return [variable for pair in self._projections if pair for variable in pair]

    def build(self, student: "LayeredEncoder") -> None:
        """Loads the teacher, copies its layers, and makes the projections.

        Args:
            student: a built ``LayeredEncoder``.

        Raises:
            ConfigError: a layer that is not there, or sizes that do not fit.
        """
        self._teacher = self._load()
        if self._start_layers:
            try:
                student.start_from(self._teacher, self._start_layers)
            except ValueError as error:
                raise ConfigError(str(error), where="recipe.start_layers") from error
        if not self.matches:
            self._teacher = None
            return
        ids = tf.constant([[1, 1], [1, 0]])
        of_student = student.watched(ids, attention=True)
        of_teacher = self._teacher.watched(ids, attention=True)
        self._projections = [
            self._projection(match, of_student, of_teacher) for match in self.matches
        ]

    def _projection(
        self, match: Match, student: "LayerOutputs", teacher: "LayerOutputs"
    ) -> tuple[tf.Variable, tf.Variable] | None:
        """Returns kernel and bias of a match's projection, or None."""
        axis = 1 if match.feature == "attention" else 2
        student_sizes = {part.shape[axis] for part in _layers_of("student", student, match)}
        teacher_sizes = {part.shape[axis] for part in _layers_of("teacher", teacher, match)}
        if match.projection is None:
            if match.loss not in _ANY_WIDTH and student_sizes != teacher_sizes:
                what = "heads" if axis == 1 else "values per word"
                student_size = " and ".join(map(str, sorted(student_sizes)))
                teacher_size = " and ".join(map(str, sorted(teacher_sizes)))
                raise ConfigError(
                    f"{match.loss!r} compares equally many {what}, and the student has "
                    f"{student_size}, the teacher {teacher_size}",
                    where=match.where,
                    fix="use attention_mse_sum or attention_ce_mean"
                    if axis == 1
                    else 'add "projection": "linear"',
                )
            return None
        shape = (student_sizes.pop(), teacher_sizes.pop())
        number = self.matches.index(match)
        limit = (6 / sum(shape)) ** 0.5
        start = tf.random.stateless_uniform(shape, (7, number), -limit, limit)
        name = f"projection_{number}"
        return (
            tf.Variable(start, name=f"{name}/kernel"),
            tf.Variable(tf.zeros(shape[1]), name=f"{name}/bias"),
        )

    def losses(
        self, student: "LayeredEncoder", features: tf.Tensor, weights: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the student's vectors, and the weighted sum of the distances, float32 (batch,).

        Args:
            student: its encoder.
            features: of a batch.
            weights: a scalar for each match.
        """
        seen = student.watched(features, training=True, attention=self._attention)
        teacher = self._teacher.watched(features, attention=self._attention)
        total = tf.zeros([tf.shape(seen.mask)[0]])
        for match, weight, projection in zip(self.matches, weights, self._projections, strict=True):
            learned = _layers_of("student", seen, match)
            targets = [tf.stop_gradient(part) for part in _layers_of("teacher", teacher, match)]
            if projection and match.projection:
                kernel, bias = projection
                activation = ACTIVATIONS[match.projection]
                learned = [_projected(states, kernel, bias, activation) for states in learned]
            distance: Callable[..., tf.Tensor]
            distance = (STATE_DISTANCES | ATTENTION_DISTANCES)[match.loss]
            if match.loss in PAIR_DISTANCES:
                total += weight * distance(learned, targets, seen.mask)
            else:
                total += weight * distance(learned[0], targets[0], seen.mask)
        return seen.vectors, total


def _projected(
    states: tf.Tensor,
    kernel: tf.Variable,
    bias: tf.Variable,
    activation: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    flat = tf.reshape(tf.cast(states, tf.float32), [-1, kernel.shape[0]])
    flat = activation(tf.nn.bias_add(tf.matmul(flat, kernel), bias))
    return tf.reshape(flat, tf.stack([*tf.unstack(tf.shape(states)[:2]), kernel.shape[1]]))


def _layers_of(
    who: Literal["student", "teacher"], outputs: "LayerOutputs", match: Match
) -> list[tf.Tensor]:
    """Returns the states or scores of a match's layers."""
    numbers = match.layer_student if who == "student" else match.layer_teacher
    first = 1 if match.feature == "attention" else 0
    layers = [None, *outputs.scores] if match.feature == "attention" else outputs.states
    for number in numbers:
        if not first <= number < len(layers):
            raise ConfigError(
                f"the {who} has no layer {number} for {match.loss!r}",
                where=f"{match.where}.layer_{who}",
                fix=f"choose one from {first} to {len(layers) - 1}",
            )
    return [layers[number] for number in numbers]
