"""Adversarial weight perturbation."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfxc.core.arguments import NOT_NEGATIVE, POSITIVE, checked
from tfxc.core.errors import ConfigError
from tfxc.ops.gradients import sum_repeated_rows
from tfxc.techniques.base import Technique


class AWP(Technique):
    """Steps with the gradient at perturbed weights instead of the one at the weights.

    Each weight matrix W moves by ``rate * ||W|| * g / ||g||``, no number by more than
    ``epsilon * |w|``, where g is the clean gradient of the global batch (of a micro-batch where
    gradients are accumulated). After the second pass the weights are what they were, to the bit,
    from a copy; of a table only the rows with a gradient are moved and copied, though computing
    its norm reads all of it. The loss is the clean one. Costs one more pass, and in memory a copy
    of the dense matrices.

    Args:
        rate: length of the move, as a share of the norm.
        epsilon: largest relative change of a number.
        start_epoch: epochs trained without, may be a fraction.

    Raises:
        ConfigError: an argument out of range, or a start after the end of training.

    Example:
        >>> AWP(start_epoch=2).start_epoch
        2

    Reference: Wu et al., NeurIPS 2020 (arXiv 2004.05884).
    """

    role = "attack"

    @checked(rate=POSITIVE, epsilon=POSITIVE, start_epoch=NOT_NEGATIVE)
    def __init__(
        self, *, rate: float = 1.0, epsilon: float = 1e-4, start_epoch: float = 1.0
    ) -> None:
        self.rate, self.epsilon, self.start_epoch = rate, epsilon, start_epoch

    def on_train_begin(self, steps_per_epoch: float, total_steps: int) -> None:
        """Finds the first step with an attack."""
        self.start_step = math.ceil(self.start_epoch * steps_per_epoch)
        if self.start_step >= total_steps:
            raise ConfigError(
                f"a start within the {total_steps:,} training steps expected, "
                f"found step {self.start_step:,}",
                where="techniques.awp.start_epoch",
                fix="start the attack before the last epoch",
            )

    def build(self, model: Any, strategy: tf.distribute.Strategy) -> None:
        """Finds the matrices."""
        self._strategy = strategy
        weights = [variable.value for variable in model.trainable_variables]
        self._matrices = {n: weight for n, weight in enumerate(weights) if len(weight.shape) > 1}

    def before_step(self, step: int) -> bool:
        """Whether the attack has started."""
        self._begun = step >= self.start_step
        return self._begun

    def gradients(
        self, compute: Callable[..., Any], batch: Mapping[str, Any]
    ) -> tuple[tf.Tensor, list[Any]]:
        """The gradients at the perturbed weights, and the clean loss."""
        loss, clean = compute(batch)
        if not self._begun:
            return loss, clean
        context = tf.distribute.get_replica_context()
        used = [n for n in self._matrices if clean[n] is not None]
        weights, gradients = [self._matrices[n] for n in used], [clean[n] for n in used]
        if self._strategy.num_replicas_in_sync > 1:
            gradients = context.all_reduce("SUM", gradients)
        gradients = [sum_repeated_rows(gradient) for gradient in gradients]
        whole = [tf.convert_to_tensor(weight) for weight in weights]
        kept = [_at(w, gradient) for w, gradient in zip(weights, gradients, strict=True)]
        triples = zip(whole, kept, gradients, strict=True)
        moved = [self._moved(*triple) for triple in triples]
        rows = [g.indices if _is_rows(g) else None for g in gradients]
        _write(context, weights, rows, moved)
        _, adversarial = compute(batch)
        _write(context, weights, rows, kept)
        return loss, adversarial

    def _moved(self, weight, values, gradient):
        """The perturbed numbers of a weight, ``values`` those that have a gradient."""
        gradient = gradient.values if _is_rows(gradient) else gradient
        largest = tf.reduce_max(tf.abs(gradient))  # squares of small gradients would be lost
        gradient = tf.math.divide_no_nan(gradient, largest)
        length = self.rate * tf.norm(weight)
        move = length * tf.math.divide_no_nan(gradient, tf.norm(gradient))
        limit = self.epsilon * tf.abs(values)
        return values + tf.clip_by_value(move, -limit, limit)


def _is_rows(gradient):
    return isinstance(gradient, tf.IndexedSlices)


def _at(weight, gradient):
    """A copy of the numbers that have a gradient."""
    return tf.gather(weight, gradient.indices) if _is_rows(gradient) else tf.identity(weight)


def _write(context, weights, rows, values):
    """Sets weights, or rows of them, on all replicas, each from its own values."""
    sparse = [each is not None for each in rows]
    rows = [each for each in rows if each is not None]

    def assign(strategy, rows, values):
        left = iter(rows)
        for weight, value, is_sparse in zip(weights, values, sparse, strict=True):
            arguments = (next(left), value) if is_sparse else (value,)
            update = _scatter if is_sparse else _assign
            strategy.extended.update(weight, update, args=arguments, group=False)

    context.merge_call(assign, args=(rows, values))


def _assign(weight, value):
    weight.assign(value)


def _scatter(weight, rows, values):
    weight.scatter_update(tf.IndexedSlices(values, rows))
