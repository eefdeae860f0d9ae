"""What the dual objectives share: one scalar per training example, losses over the negatives."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments, Positive
from tfxc.objectives.base import Objective, masked_logits, penalties_of
from tfxc.ops.losses import gather_positives, set_at_positives

if TYPE_CHECKING:
    from tfxc.ops.logit_group import LogitGroup


# exp of more than this counts as exp of this, about 5.5e34: the sum over a batch stays finite.
_MAX = 80.0
# A float32 that is 2^24 times as large as a step does not change with it.
_LARGEST_JUMP = 24 * math.log(2)


class Negatives(NamedTuple):
    """The columns an example has to beat: those that count, without the true ones.

    With ``w`` classes for which a column stands (1 without ``group.log_weights``):

    Attributes:
        scores: float32 (batch, columns), logit minus the (mean) logit of the true columns; -inf
            where a column is not a negative.
        log_weights: ``log w``, broadcastable to ``scores``.
        log_mean: float32 (batch,), ``log m``, where m is the mean of ``exp(score)`` over the
            negative classes.
        count: float32 (batch,), K: the negative classes and the true columns.
        exist: bool (batch,), whether there are a true column and a negative; where not, the other
            attributes say nothing.
        alone: bool (batch,), whether there is a true column, but no negative (K = 1).
    """

    scores: Any
    log_weights: Any
    log_mean: Any
    count: Any
    exist: Any
    alone: Any


def negatives_of(group: "LogitGroup") -> "Negatives":
    """Returns the ``Negatives`` of a logit group.

    Several true columns share the target evenly: the mean of their logits takes the place of the
    true logit, and none of them is a negative.
    """
    logits = masked_logits(group)
    positives = group.positives
    of_positives, mask = gather_positives(logits, positives)
    of_true = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)
    true = tf.math.divide_no_nan(tf.reduce_sum(of_positives, axis=1), of_true)
    others = set_at_positives(logits, positives, -math.inf)
    log_weights = 0.0 if group.log_weights is None else group.log_weights
    weights = tf.where(others > -math.inf, tf.exp(log_weights), 0.0)
    number = tf.reduce_sum(weights, axis=1)
    exist = (number > 0) & (of_true > 0)
    # Rows without a negative get one, so that no gradient is NaN; their losses are discarded.
    scores = tf.where(exist[:, None], others - true[:, None], 0.0)
    log_mean = tf.reduce_logsumexp(scores + log_weights, axis=1)
    log_mean -= tf.math.log(tf.where(exist, number, 1.0))
    alone = (number <= 0) & (of_true > 0)
    return Negatives(scores, log_weights, log_mean, number + of_true, exist, alone)


class DualObjective(Objective):
    """Base of the objectives with one dual variable nu per training example and logit group.

    The softmax cross-entropy ``log sum_k exp(s_k)`` is the minimum over nu of
    ``sum_k exp(s_k - nu) + nu``. So a step needs the classes of a batch only, and nu remembers
    what the example has seen of the others. With m the mean of ``exp(score)`` over the batch's
    negatives, the loss of an example is ``m exp(-nu)``, with nu taken as a constant: its size says
    little (it is 1 where nu fits the batch), its gradient is the method's. A subclass says in
    ``step`` how nu moves, and which nu the loss takes.

    The tables live in variables of every replica. All replicas write the entries of the whole
    batch, so each has the same table as a single device, and any number of replicas can resume
    from a checkpoint. The cost of a step does not depend on the number of examples. NaN marks an
    example that has not been visited.

    An example that occurs twice in a batch is updated once, from its first place. Those
    without a true column have loss 0 and leave their entry alone, as do those without a negative
    (all labels of the batch are equal), which ``skipped`` counts. The tables change in training
    only, and only with an ``example_index``; without one, every example counts as not visited.
    Everything is computed in float32 and in logarithms; exponents beyond 80 count as 80.

    Args:
        num_examples: number of training examples n (from the data).
        num_groups: logit groups of an example (from the head).
    """

    link = "softmax"
    partial_loss = True
    weighs_examples = False  # the tables would have to know of the weights

    def __init__(
        self,
        num_examples: FromData[int],
        num_groups: FromData[int] = 1,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.num_examples = num_examples
        self.num_groups = num_groups

    def build(self, input_shape: "LogitGroup | None" = None) -> None:
        """Makes the tables, and the counter of rows without a negative."""
        unvisited = keras.initializers.Constant(math.nan)
        self.tables = [
            self.state((self.num_examples,), unvisited, "float32", f"nu_{number}")
            for number in range(self.num_groups)
        ]
        self.skipped = self.state((), "zeros", "int64", "skipped")

    def state(self, shape: Sequence[int | None], start: Any, dtype: str, name: str) -> tf.Tensor:
        """Returns a variable that is not a weight; all replicas write the same into it."""
        kind = {"trainable": False, "autocast": False, "aggregation": "only_first_replica"}
        return self.add_weight(shape, start, dtype, name=name, **kind)

    def of_groups(
        self,
        groups: "tuple[LogitGroup, ...]",
        example_index: np.ndarray | tf.Tensor | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns losses summed over the groups, each with its own table."""
        parts = [
            self(group, example_index, number=number, training=training)
            for number, group in enumerate(groups)
        ]
        return tf.add_n(parts + penalties_of(groups))

    def call(
        self,
        group: "LogitGroup",
        example_index: tf.Tensor | None = None,
        number: int = 0,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns per-example loss of group ``number``, (batch,); in training, updates its
        table.
        """
        negatives = negatives_of(group)
        constants = Negatives(*map(tf.stop_gradient, negatives))
        first = self.first(constants)
        if example_index is None:
            used, _ = self.step(first, constants)
        else:
            table = self.tables[number].value
            known = tf.gather(table, example_index)
            unvisited = tf.math.is_nan(known)
            used, new = self.step(tf.where(unvisited, first, known), constants)
            if training:
                self._write(table, example_index, tf.where(unvisited, first, new), constants)
                self.count(tf.where(unvisited, first, known), constants)
        return tf.where(negatives.exist, self.loss(negatives, used), 0.0)

    def first(self, negatives: "Negatives") -> tf.Tensor:
        """Returns the nu of examples not visited before, (batch,)."""
        return negatives.log_mean

    def step(self, nu: tf.Tensor, negatives: "Negatives") -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the (nu of the loss, nu from now on), both (batch,)."""
        raise TypeError(f"{type(self).__name__} must define step(nu, negatives)")

    def count(self, nu: tf.Tensor, negatives: "Negatives") -> None:
        """Counts what a log should report of a training step; ``nu`` is that before it."""

    def loss(self, negatives: "Negatives", nu: tf.Tensor) -> tf.Tensor:
        """Returns the loss of the rows that have negatives, (batch,); nu is a constant."""
        constant = tf.stop_gradient(negatives.log_mean)
        size = exp(constant - nu)
        # Where the exponent is cut off, the gradient continues.
        return size + size * (negatives.log_mean - constant)

    def logged_metrics(self) -> dict[str, float]:
        """Counts rows that had no negative."""
        return {"rows_without_negatives": int(self.skipped.numpy())}

    def final_message(self) -> str:
        """Says how many rows had no negative, if any."""
        count = int(self.skipped.numpy())
        if not count:
            return ""
        return (
            f"objective {type(self).__name__}: nothing was learned from {count:,} rows, as all "
            "labels of their batch were the same; a larger training.batch_size makes that rare"
        )

    def _write(self, table, example_index, values, negatives):
        """Writes the entries of the batch of all replicas into this replica's table."""
        good = negatives.exist & tf.math.is_finite(values) & tf.math.is_finite(negatives.log_mean)
        other = tf.where(negatives.alone, tf.constant(-2, example_index.dtype), -1)
        rows = tf.where(good, example_index, other)
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            rows, values = (context.all_gather(part, axis=0) for part in (rows, values))
        self.skipped.value.assign_add(tf.math.count_nonzero(rows == -2))
        rows, values = _first_of_each(rows, values, table)
        table.scatter_update(tf.IndexedSlices(values, rows))


def _first_of_each(rows, values, table):
    """Returns as many rows with what to write into them; where a row is repeated, what comes first.

    Negative rows are replaced by a row that is written anyway, or by one that keeps what it has: a
    list of unknown length would have to be asked for where a GPU computes it.
    """
    good = rows >= 0
    beyond = tf.constant(table.shape[0], rows.dtype)
    target = tf.where(good, rows, tf.maximum(tf.gather(rows, tf.argmax(good)), 0))
    keys = tf.where(good, rows, beyond)
    order = tf.argsort(keys, stable=True)
    places = tf.searchsorted(tf.gather(keys, order), target, out_type=tf.int64)
    first = tf.gather(values, tf.gather(order, places))
    return target, tf.where(tf.reduce_any(good), first, tf.gather(table, target))


class ScheduledDual(DualObjective):
    """Base of the dual objectives whose step size changes from epoch to epoch.

    A subclass says in ``rate_at`` how. Before the first epoch is announced it is ``start_rate``.
    """

    def build(self, input_shape: "LogitGroup | None" = None) -> None:
        """Makes the tables and the step size, which is saved with them."""
        super().build(input_shape)
        start = keras.initializers.Constant(self.start_rate)
        self.rate = self.state((), start, "float32", "rate")

    @property
    def start_rate(self) -> float:
        """The step size without a schedule."""
        raise TypeError(f"{type(self).__name__} must define start_rate")

    def rate_at(self, epoch: int, epochs: int) -> float:
        """Returns the step size in an epoch (from 1) of ``epochs``, a float."""
        raise TypeError(f"{type(self).__name__} must define rate_at(epoch, epochs)")

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """Sets the step size."""
        if not self.built:
            self.build(None)
        self.rate.assign(self.rate_at(epoch, epochs))


class GradientDual(ScheduledDual):
    """Base of the dual objectives that take a gradient step of decreasing size on nu.

    Args:
        dual_learning_rate: gamma, positive.

    Raises:
        ValueError: it is not positive.
    """

    def __init__(
        self,
        num_examples: FromData[int],
        num_groups: FromData[int] = 1,
        *,
        dual_learning_rate: Positive = 1.0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(num_examples, num_groups, **kwargs)
        self.dual_learning_rate = dual_learning_rate

    @property
    def start_rate(self) -> float:
        """The step size without a schedule."""
        return self.dual_learning_rate

    def rate_at(self, epoch: int, epochs: int) -> float:
        """Returns ``gamma (1 + cos(pi e / E)) / 2``."""
        return self.dual_learning_rate * half_cosine(epoch, epochs)


class CappedDual(GradientDual):
    """Base of the dual objectives whose gradient step on nu is exponential in the scores.

    The step ``nu' = nu - g (1 - m exp(-nu))`` leads to log m, and beyond it where nu is far
    below: by up to ``g exp(d)`` for ``d = log m - nu``. It comes back by at most g per visit. That
    is the published method. But past ``d = 24 log 2`` float32 holds such a nu' and ``nu' - g`` for
    the same number, and past 88 nu' is infinite: the example would never learn again. Such a step
    ends at log m, the loss takes that nu', and ``rows_capped`` counts the row.
    """

    def build(self, input_shape: "LogitGroup | None" = None) -> None:
        """Makes the tables, the step size and the counter of capped rows."""
        super().build(input_shape)
        self.num_capped = self.state((), "zeros", "int64", "num_capped")

    def gradient_step(self, nu: tf.Tensor, negatives: "Negatives") -> tuple[tf.Tensor, tf.Tensor]:
        """Returns new nu, and whether it is capped, both (batch,)."""
        distance = negatives.log_mean - nu
        new = nu - self.rate.value * (1 - exp(distance))
        capped = negatives.exist & (distance > _LARGEST_JUMP) & (new > negatives.log_mean)
        return tf.where(capped, negatives.log_mean, new), capped

    def count(self, nu: tf.Tensor, negatives: "Negatives") -> None:
        """Counts capped rows of all replicas."""
        capped = tf.cast(self.gradient_step(nu, negatives)[1], tf.int32)
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            capped = context.all_gather(capped, axis=0)
        self.num_capped.value.assign_add(tf.math.count_nonzero(capped))

    def logged_metrics(self) -> dict[str, float]:
        """Counts rows that had no negative, and capped ones."""
        return {**super().logged_metrics(), "rows_capped": int(self.num_capped.numpy())}

    def final_message(self) -> str:
        """Says how many rows had no negative, and how many were capped, if any."""
        message = super().final_message()
        count = int(self.num_capped.numpy())
        if not count:
            return message
        capped = (
            f"objective {type(self).__name__}: {count:,} rows scored other classes so far above "
            "their dual variable that its step was capped; a smaller learning rate or "
            "training.clip_norm makes that rare"
        )
        return f"{message}\n{capped}" if message else capped


def moving_average(
    nu: tf.Tensor, log_mean: tf.Tensor, log_share: tf.Tensor, log_rest: tf.Tensor
) -> tf.Tensor:
    """Returns ``log(rest · exp(nu) + share · exp(log_mean))``, in logarithms."""
    old = log_rest + nu
    new = log_share + log_mean
    larger = tf.maximum(old, new)
    return larger + tf.nn.softplus(-tf.abs(old - new))


def half_cosine(epoch: int, epochs: int) -> float:
    """Falls from 1 (epoch 0) to 0 (epoch ``epochs``) along half a cosine, a float."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def exp(values: tf.Tensor) -> tf.Tensor:
    """Returns the ``tf.exp`` that stays finite."""
    return tf.exp(tf.minimum(values, _MAX))
