"""Optimizers that update only the rows a batch touched.

Keras optimizers turn the row gradient of an embedding table into a pass over the whole table, and
treat a row that occurs twice in a batch as two independent rows. These sum the repeated rows
first (after the cross-replica sum, so that they also hold over replicas) and touch no other row.
A dense gradient gets the textbook update with TensorFlow's fused kernels.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tensorflow as tf
from annotated_types import Ge

from tfxc.core.declared import NotNegative, Positive, ShareBelowOne, checked, from_section
from tfxc.core.errors import ConfigError, inside
from tfxc.core.registry import nearest
from tfxc.ops.distributed.devices import on_gpu
from tfxc.ops.training_step import adam
from tfxc.training.optimization.rates import RateFactors
from tfxc.training.optimization.row_optimizer import Optimizer

# A weight that never had a gradient is divided by epsilon alone: it may not be 0, nor so small that
# its share in Adam's first steps is 0 in float32.
_LEAST_EPSILON = 1e-30
# Below it, float32 divides by 0.
Epsilon = Annotated[float, Ge(_LEAST_EPSILON)]


class SGD(Optimizer):
    """Stochastic gradient descent with optional (Nesterov) momentum.

    With momentum and a sparse gradient only touched rows move; their momentum does not decay
    while they are untouched.

    Args:
        momentum: 0 for none.
        nesterov: look-ahead form of the momentum, as in Keras and PyTorch.
        coupled: add ``weight_decay`` times the weight to the gradient (after clipping, before
            the momentum), as ``torch.optim.SGD`` does, instead of the decoupled decay.
    """

    @checked
    def __init__(
        self,
        learning_rate: Positive = 0.1,
        momentum: ShareBelowOne = 0.0,
        nesterov: bool = False,
        weight_decay: NotNegative = 0.0,
        coupled: bool = False,
        no_decay: Sequence[str] = (),
    ) -> None:
        super().__init__(learning_rate, weight_decay, no_decay)
        if nesterov and not momentum:
            raise ConfigError(
                "nesterov needs momentum, which is 0",
                where="nesterov",
                fix="set momentum, e.g. 0.9, or remove nesterov",
            )
        self.momentum = momentum
        self.nesterov = nesterov
        self.coupled = coupled
        self.slot_names = ("momentum",) if momentum else ()

    def row_update(
        self, gradient: tf.Tensor, slots: Sequence[tf.Tensor], scalars: Mapping[str, tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """v = mu v + g; w -= rate (g + mu v) or rate v."""
        if not slots:
            return [], scalars["rate"] * gradient
        velocity = self.momentum * slots[0] + gradient
        change = gradient + self.momentum * velocity if self.nesterov else velocity
        return [velocity], scalars["rate"] * change


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011); a sparse gradient gives exactly the dense result.

    Args:
        initial_accumulator: start of the sum of squares.
        epsilon: added to the root; 0 only with an ``initial_accumulator``.

    Raises:
        ConfigError: an argument out of range.
    """

    slot_names = ("accumulator",)

    @checked
    def __init__(
        self,
        learning_rate: Positive = 0.05,
        initial_accumulator: NotNegative = 0.0,
        epsilon: NotNegative = 1e-7,
        weight_decay: NotNegative = 0.0,
        no_decay: Sequence[str] = (),
    ) -> None:
        super().__init__(learning_rate, weight_decay, no_decay)
        if max(initial_accumulator, epsilon) < _LEAST_EPSILON:
            raise ConfigError(
                "a weight without a gradient would be divided by 0",
                where="epsilon",
                fix="set it to e.g. 1e-7, or initial_accumulator to e.g. 0.1",
            )
        self.initial_accumulator = initial_accumulator
        self.epsilon = epsilon

    def _new_slot(self, variable: tf.Variable, name: str) -> tf.Variable:
        def start() -> tf.Tensor:
            return tf.fill(variable.shape, tf.constant(self.initial_accumulator, tf.float32))

        return tf.Variable(start, trainable=False, name=name)

    def row_update(
        self, gradient: tf.Tensor, slots: Sequence[tf.Tensor], scalars: Mapping[str, tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """s += g^2; w -= rate g / (sqrt(s) + epsilon)."""
        total = slots[0] + tf.square(gradient)
        return [total], scalars["rate"] * gradient / (tf.sqrt(total) + self.epsilon)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015).

    With ``weight_decay`` this is AdamW.

    Args:
        lazy: rows without a gradient keep their value and their moments; a row that every batch
            touches gets the textbook result. False gives the textbook result for all rows: a rare
            row then keeps moving on its momentum, about ten times as far per occurrence. It costs a
            pass over the whole table: acceptable if a batch touches a third of the rows,
            wasteful if it touches a hundredth.
        beta_1, beta_2: decay rates of the moments.
        epsilon: added to the root of the corrected second moment.
    """

    slot_names = ("first_moment", "second_moment")

    @checked
    def __init__(
        self,
        learning_rate: Positive = 1e-3,
        beta_1: ShareBelowOne = 0.9,
        beta_2: ShareBelowOne = 0.999,
        epsilon: Epsilon = 1e-7,
        weight_decay: NotNegative = 0.0,
        lazy: bool = True,
        no_decay: Sequence[str] = (),
    ) -> None:
        super().__init__(learning_rate, weight_decay, no_decay)
        self.lazy = lazy
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def scalars(self, rate: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns bias-corrected rate and epsilon: w -= rate' m / (sqrt(v) + epsilon')."""
        step = tf.cast(step, tf.float32)
        second = tf.sqrt(1 - self.beta_2**step)
        return {"rate": rate * second / (1 - self.beta_1**step), "epsilon": self.epsilon * second}

    def row_update(
        self, gradient: tf.Tensor, slots: Sequence[tf.Tensor], scalars: Mapping[str, tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """m += (1-b1)(g-m); v += (1-b2)(g^2-v); w -= rate' m / (sqrt(v) + epsilon')."""
        first = slots[0] + (1 - self.beta_1) * (gradient - slots[0])
        second = slots[1] + (1 - self.beta_2) * (tf.square(gradient) - slots[1])
        return [first, second], scalars["rate"] * first / (tf.sqrt(second) + scalars["epsilon"])

    def _apply(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor | tf.IndexedSlices,
        slots: Sequence[tf.Variable],
        rate: tf.Tensor,
        scalars: Mapping[str, tf.Tensor],
    ) -> Sequence[tf.Tensor] | None:
        compiled = None if on_gpu(variable) else adam.get()
        if compiled is None:
            return super()._apply(variable, gradient, slots, rate, scalars)
        sparse = isinstance(gradient, tf.IndexedSlices)
        decay = self.decay_of(variable)
        return compiled(
            variable=variable.handle,
            first_moment=slots[0].handle,
            second_moment=slots[1].handle,
            rows=tf.cast(gradient.indices, tf.int32) if sparse else tf.zeros([0], tf.int32),
            gradient=gradient.values if sparse else gradient,
            kept=1 - rate * decay if decay else tf.constant(1.0),
            share_1=1 - self.beta_1,
            share_2=1 - self.beta_2,
            dense=not sparse,
            **scalars,
        )

    def dense_update(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor,
        slots: Sequence[tf.Variable],
        scalars: Mapping[str, tf.Tensor],
    ) -> None:
        """Runs TensorFlow's kernel, with the correction already in rate and epsilon."""
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=0.0,
            beta2_power=0.0,
            lr=scalars["rate"],
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=scalars["epsilon"],
            grad=gradient,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), 0.01 by default."""

    def __init__(
        self,
        learning_rate: Positive = 1e-3,
        beta_1: ShareBelowOne = 0.9,
        beta_2: ShareBelowOne = 0.999,
        epsilon: Epsilon = 1e-7,
        weight_decay: NotNegative = 0.01,
        lazy: bool = True,
        no_decay: Sequence[str] = (),
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, lazy, no_decay)


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012), as in PyTorch.

    With a sparse gradient only touched rows move, and only their mean square decreases.

    Args:
        rho: decay rate of the mean square.
        momentum: 0 for none; applied to the scaled gradient.
        epsilon: added to the root.
    """

    @checked
    def __init__(
        self,
        learning_rate: Positive = 1e-3,
        rho: ShareBelowOne = 0.99,
        momentum: ShareBelowOne = 0.0,
        epsilon: Epsilon = 1e-8,
        weight_decay: NotNegative = 0.0,
        no_decay: Sequence[str] = (),
    ) -> None:
        super().__init__(learning_rate, weight_decay, no_decay)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.slot_names = ("mean_square", "momentum") if momentum else ("mean_square",)

    def row_update(
        self, gradient: tf.Tensor, slots: Sequence[tf.Tensor], scalars: Mapping[str, tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """s += (1-rho)(g^2-s); d = g / (sqrt(s) + epsilon); v = mu v + d; w -= rate v or rate d."""
        square = slots[0] + (1 - self.rho) * (tf.square(gradient) - slots[0])
        change = gradient / (tf.sqrt(square) + self.epsilon)
        if not self.momentum:
            return [square], scalars["rate"] * change
        velocity = self.momentum * slots[1] + change
        return [square, velocity], scalars["rate"] * velocity


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012).

    With a sparse gradient only touched rows move, and only their means decrease.

    Args:
        rho: decay rate of both means.
        epsilon: added under both roots.
    """

    slot_names = ("mean_square", "mean_change")

    @checked
    def __init__(
        self,
        learning_rate: Positive = 1.0,
        rho: ShareBelowOne = 0.9,
        epsilon: Epsilon = 1e-6,
        weight_decay: NotNegative = 0.0,
        no_decay: Sequence[str] = (),
    ) -> None:
        super().__init__(learning_rate, weight_decay, no_decay)
        self.rho = rho
        self.epsilon = epsilon

    def row_update(
        self, gradient: tf.Tensor, slots: Sequence[tf.Tensor], scalars: Mapping[str, tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """s += (1-r)(g^2-s); d = g sqrt(u + e) / sqrt(s + e); u += (1-r)(d^2-u); w -= rate d."""
        square = slots[0] + (1 - self.rho) * (tf.square(gradient) - slots[0])
        change = gradient * tf.sqrt((slots[1] + self.epsilon) / (square + self.epsilon))
        mean_change = slots[1] + (1 - self.rho) * (tf.square(change) - slots[1])
        return [square, mean_change], scalars["rate"] * change


OPTIMIZERS = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}


def get_optimizer(section: Mapping[str, Any]) -> Optimizer:
    """Makes the optimizer of a config section ``{"name": ..., argument: value}``.

    In addition to the optimizer's own arguments a section may hold ``rates`` and ``layer_decay``,
    those of ``RateFactors``.

    Raises:
        ConfigError: unknown name or argument.

    Example:
        >>> get_optimizer({"name": "adam", "learning_rate": 0.01}).learning_rate
        0.01
    """
    arguments = dict(section)
    name = arguments.pop("name")
    if name not in OPTIMIZERS:
        raise ConfigError(
            f"unknown optimizer {name!r}{nearest(name, OPTIMIZERS)}",
            where="training.optimizer.name",
            fix=f"choose one of: {', '.join(OPTIMIZERS)}",
        )
    more = ("rates", "layer_decay")
    factors = {key: arguments.pop(key) for key in more if key in arguments}
    optimizer = from_section(OPTIMIZERS[name], arguments, "training.optimizer", more)
    with inside("training.optimizer"):
        optimizer.rates = RateFactors(**factors)
    return optimizer
