"""Adversarial weight perturbation."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.core.declared import NotNegative, Positive
from tfxc.core.errors import ConfigError
from tfxc.ops.gradients import sum_repeated_rows
from tfxc.techniques.base import Technique

if TYPE_CHECKING:
    import keras


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

    def __init__(
        self, *, rate: Positive = 1.0, epsilon: Positive = 1e-4, start_epoch: NotNegative = 1.0
    ) -> None:
        self.rate = rate
        self.epsilon = epsilon
        self.start_epoch = start_epoch

    def on_train_begin(self, steps_per_epoch: float, total_steps: int) -> None:
        """Finds the first step with an attack."""
        self.start_step = math.ceil(self.start_epoch * steps_per_epoch)
        if self.start_step >= total_steps:
            raise ConfigError(
                f"begins at step {self.start_step:,}, but the training has only {total_steps:,} "
                "steps",
                where="techniques.awp.start_epoch",
                fix="start the attack before the last epoch",
            )

    def build(self, model: "keras.Model", strategy: tf.distribute.Strategy) -> None:
        """Finds the matrices."""
        self._strategy = strategy
        weights = [variable.value for variable in model.trainable_variables]
        self._matrices = {n: weight for n, weight in enumerate(weights) if len(weight.shape) > 1}

    def before_step(self, step: int) -> bool:
        """Tells whether the attack has started."""
        self._begun = step >= self.start_step
        return self._begun

    def gradients(
        self, compute: Callable[..., Any], batch: Mapping[str, Any]
    ) -> tuple[tf.Tensor, list[Any]]:
        """Returns the gradients at the perturbed weights, and the clean loss."""
        loss, clean = compute(batch)
        if not self._begun:
            return loss, clean
        context = tf.distribute.get_replica_context()
        used = [n for n in self._matrices if clean[n] is not None]
        weights = [self._matrices[n] for n in used]
        gradients = [clean[n] for n in used]
        if self._strategy.num_replicas_in_sync > 1:
            gradients = context.all_reduce("SUM", gradients)
        gradients = [sum_repeated_rows(gradient) for gradient in gradients]
        before = []  # copies of the numbers that have a gradient
        moved = []
        rows = []
        for weight, gradient in zip(weights, gradients, strict=True):
            whole = tf.convert_to_tensor(weight)
            if isinstance(gradient, tf.IndexedSlices):
                values = tf.gather(weight, gradient.indices)
                moved.append(self._moved(whole, values, gradient.values))
                rows.append(gradient.indices)
            else:
                values = tf.identity(weight)
                moved.append(self._moved(whole, values, gradient))
                rows.append(None)
            before.append(values)
        _write(context, weights, rows, moved)
        _, adversarial = compute(batch)
        _write(context, weights, rows, before)
        return loss, adversarial

    def _moved(self, weight: tf.Tensor, values: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the perturbed numbers of a weight, ``values`` those that have a gradient."""
        largest = tf.reduce_max(tf.abs(gradient))  # squares of small gradients would be lost
        gradient = tf.math.divide_no_nan(gradient, largest)
        length = self.rate * tf.norm(weight)
        move = length * tf.math.divide_no_nan(gradient, tf.norm(gradient))
        limit = self.epsilon * tf.abs(values)
        return values + tf.clip_by_value(move, -limit, limit)


def _write(
    context: tf.distribute.ReplicaContext,
    weights: Sequence[tf.Variable],
    rows: Sequence[tf.Tensor | None],
    values: Sequence[tf.Tensor],
) -> None:
    """Sets weights, or rows of them, on all replicas, each from its own values."""
    sparse = [numbers is not None for numbers in rows]

    def assign(weight: tf.Variable, value: tf.Tensor) -> None:
        weight.assign(value)

    def scatter(weight: tf.Variable, rows: tf.Tensor, value: tf.Tensor) -> None:
        weight.scatter_update(tf.IndexedSlices(value, rows))

    def update_all(
        strategy: tf.distribute.Strategy, rows: Sequence[tf.Tensor], values: Sequence[tf.Tensor]
    ) -> None:
        left = iter(rows)
        for weight, value, is_sparse in zip(weights, values, sparse, strict=True):
            arguments = (next(left), value) if is_sparse else (value,)
            update = scatter if is_sparse else assign
            strategy.extended.update(weight, update, args=arguments, group=False)

    # ``merge_call`` hands no None over.
    context.merge_call(
        update_all, args=([numbers for numbers in rows if numbers is not None], values)
    )
