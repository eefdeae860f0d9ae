"""The teacher's encoder next to the student's: what both compute on the way is compared."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.recipes.distill.distances import OF_ATTENTION, OF_PAIRS, OF_STATES

if TYPE_CHECKING:
    from tfxc.encoders.bases.layered import LayeredEncoder


ACTIVATIONS = {"linear": tf.identity, "relu": tf.nn.relu, "tanh": tf.tanh}
# These take states or attention of different sizes.
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

    layer_teacher: tuple
    layer_student: tuple
    loss: str
    weight: tuple
    projection: str | None
    where: str

    @property
    def feature(self) -> str:
        """``"attention"`` or ``"hidden"``."""
        return "attention" if self.loss in OF_ATTENTION else "hidden"


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
        seen = [each.watched(ids, attention=True) for each in (student, self._teacher)]
        self._projections = [self._projection(match, *seen) for match in self.matches]

    def _projection(self, match, student, teacher):
        """Kernel and bias of a match's projection, or None."""
        of_student = _of_layers("student", match.layer_student, student, match)
        of_teacher = _of_layers("teacher", match.layer_teacher, teacher, match)
        axis, what = (1, "heads") if match.feature == "attention" else (2, "values per word")
        sizes = {part.shape[axis] for part in of_student}
        wanted = {part.shape[axis] for part in of_teacher}
        if match.projection is None:
            if match.loss not in _ANY_WIDTH and sizes != wanted:
                raise ConfigError(
                    f"the same number of {what} expected by {match.loss!r}, found {_listed(sizes)} "
                    f"of the student and {_listed(wanted)} of the teacher",
                    where=match.where,
                    fix=_fix(match),
                )
            return None
        shape = (sizes.pop(), wanted.pop())
        number = self.matches.index(match)
        limit = (6 / sum(shape)) ** 0.5
        start = tf.random.stateless_uniform(shape, (7, number), -limit, limit)
        name = f"projection_{number}"
        return (
            tf.Variable(start, name=f"{name}/kernel"),
            tf.Variable(tf.zeros(shape[1]), name=f"{name}/bias"),
        )

    def losses(
        self, student: "LayeredEncoder", features: Any, weights: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The student's vectors, and the sum of the distances by their weights, float32 (batch,).

        Args:
            student: its encoder.
            features: of a batch.
            weights: a scalar for each match.
        """
        seen = student.watched(features, training=True, attention=self._attention)
        teacher = self._teacher.watched(features, attention=self._attention)
        total = tf.zeros([tf.shape(seen.mask)[0]])
        for match, weight, projection in zip(self.matches, weights, self._projections, strict=True):
            own = _of_layers("student", match.layer_student, seen, match)
            other = [
                tf.stop_gradient(part)
                for part in _of_layers("teacher", match.layer_teacher, teacher, match)
            ]
            if projection:
                kernel, bias = projection
                own = [_projected(states, kernel, bias, match.projection) for states in own]
            if match.loss not in OF_PAIRS:
                (own,) = own
                (other,) = other
            distance = (OF_STATES | OF_ATTENTION)[match.loss]
            total += weight * distance(own, other, seen.mask)
        return seen.vectors, total


def _projected(states, kernel, bias, activation):
    flat = tf.reshape(tf.cast(states, tf.float32), [-1, kernel.shape[0]])
    flat = ACTIVATIONS[activation](tf.nn.bias_add(tf.matmul(flat, kernel), bias))
    return tf.reshape(flat, tf.stack([*tf.unstack(tf.shape(states)[:2]), kernel.shape[1]]))


def _of_layers(who, layers, seen, match):
    """The states or scores of the layers of a match."""
    attention = match.feature == "attention"
    there = [None, *seen.scores] if attention else seen.states
    for layer in layers:
        if not int(attention) <= layer < len(there):
            raise ConfigError(
                f"a layer of the {who} from {int(attention)} to {len(there) - 1} expected for "
                f"{match.loss!r}, found {layer}",
                where=f"{match.where}.layer_{who}",
            )
    return [there[layer] for layer in layers]


def _listed(sizes):
    return " and ".join(map(str, sorted(sizes)))


def _fix(match):
    if match.feature == "attention":
        return "use attention_mse_sum or attention_ce_mean"
    return 'add "projection": "linear"'
