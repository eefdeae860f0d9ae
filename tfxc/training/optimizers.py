"""Optimizers that update only the rows a batch touched.

Keras optimizers turn the row gradient of an embedding table into a pass over the whole table, and
treat a row that occurs twice in a batch as two independent rows. These sum the repeated rows
first (after the cross-replica sum, so that they also hold over replicas) and touch no other row.
A dense gradient gets the textbook update with TensorFlow's fused kernels.
"""

import inspect

import tensorflow as tf

from tfxc.errors import ConfigError
from tfxc.registry import nearest

_CHUNK_ROWS = 2048  # rows updated at a time: keeps the temporaries in the cache


class Optimizer(tf.Module):
    """Base of the row-sparse optimizers.

    Args:
        learning_rate: base rate, multiplied by the schedule.
        weight_decay: decoupled decay per step as a share of the rate; rows a batch did not touch
            are not decayed.
    """

    slot_names = ()
    lazy = True

    def __init__(self, learning_rate, weight_decay=0.0):
        super().__init__()
        if learning_rate <= 0:
            raise ConfigError(
                f"learning_rate must be positive, found {learning_rate}", where="training.optimizer"
            )
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.slots = {}

    def build(self, variables):
        """Makes the slots of the trainable variables (inside the strategy's scope)."""
        for variable in variables:
            self.slots[variable.ref()] = [
                self._new_slot(variable, name) for name in self.slot_names
            ]

    def _new_slot(self, variable, name):
        return tf.Variable(tf.zeros(variable.shape), trainable=False, name=name)

    @property
    def variables_to_save(self):
        """All slots, in the order of ``build``."""
        return [slot for slots in self.slots.values() for slot in slots]

    def update(self, variable, gradient, slots, rate, step):
        """Updates one variable on one device.

        Args:
            variable: the trainable variable.
            gradient: dense tensor, or ``IndexedSlices`` with distinct indices.
            slots: its slot variables.
            rate: learning rate of this step, float32 scalar.
            step: number of the update from 1, int64 scalar.
        """
        scalars = self.scalars(rate, step)
        if not self.lazy:
            gradient = tf.convert_to_tensor(gradient)
        if not isinstance(gradient, tf.IndexedSlices):
            if self.weight_decay:
                variable.assign_sub(variable * (rate * self.weight_decay))
            return self.dense_update(variable, gradient, slots, scalars)
        return self._update_rows(variable, gradient, slots, rate, scalars)

    def _update_rows(self, variable, gradient, slots, rate, scalars):
        count = tf.size(gradient.indices)

        def body(begin):
            end = tf.minimum(begin + _CHUNK_ROWS, count)
            rows = gradient.indices[begin:end]
            old = [tf.gather(slot, rows) for slot in slots]
            new, change = self.row_update(gradient.values[begin:end], old, scalars)
            if self.weight_decay:
                change += tf.gather(variable, rows) * (rate * self.weight_decay)
            writes = [
                slot.scatter_update(tf.IndexedSlices(value, rows))
                for slot, value in zip(slots, new, strict=True)
            ]
            writes.append(variable.scatter_sub(tf.IndexedSlices(change, rows)))
            with tf.control_dependencies([w for w in writes if w is not None]):
                return (tf.identity(end),)

        return tf.while_loop(
            lambda begin: begin < count, body, (tf.constant(0),), parallel_iterations=1
        )

    def scalars(self, rate, step):
        """What all variables share in a step."""
        return {"rate": rate}

    def row_update(self, gradient, slots, scalars):
        """New slot values and the amount to subtract, for any block of rows."""
        raise TypeError(f"{type(self).__name__} must define row_update")

    def dense_update(self, variable, gradient, slots, scalars):
        """Update of a whole variable."""
        new, change = self.row_update(gradient, [slot.value() for slot in slots], scalars)
        for slot, value in zip(slots, new, strict=True):
            slot.assign(value)
        variable.assign_sub(change)


class SGD(Optimizer):
    """Stochastic gradient descent with optional (Nesterov) momentum.

    With momentum and a sparse gradient only touched rows move; their momentum does not decay
    while they are untouched.

    Args:
        momentum: 0 for none.
        nesterov: look-ahead form, as in Keras and PyTorch.
    """

    def __init__(self, learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0):
        super().__init__(learning_rate, weight_decay)
        self.momentum, self.nesterov = momentum, nesterov
        self.slot_names = ("momentum",) if momentum else ()

    def row_update(self, gradient, slots, scalars):
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
        epsilon: added to the root.
    """

    slot_names = ("accumulator",)

    def __init__(self, learning_rate=0.05, initial_accumulator=0.0, epsilon=1e-7, weight_decay=0.0):
        super().__init__(learning_rate, weight_decay)
        self.initial_accumulator, self.epsilon = initial_accumulator, epsilon

    def _new_slot(self, variable, name):
        start = tf.fill(variable.shape, tf.constant(self.initial_accumulator, tf.float32))
        return tf.Variable(start, trainable=False, name=name)

    def row_update(self, gradient, slots, scalars):
        """s += g^2; w -= rate g / (sqrt(s) + epsilon)."""
        total = slots[0] + tf.square(gradient)
        return [total], scalars["rate"] * gradient / (tf.sqrt(total) + self.epsilon)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015).

    With ``weight_decay`` this is AdamW.

    Args:
        lazy: rows without a gradient keep their value and their moments; a row that every batch
            touches gets the textbook result. False gives the textbook result for all rows: a rare
            row then coasts on its momentum, about ten times as far for each time it occurs. It
            costs a pass over the whole table, which is as fast where a batch touches a third of
            the rows, and wrong to pay where it touches a hundredth.
        beta_1, beta_2: decay rates of the moments.
        epsilon: added to the root of the corrected second moment.
    """

    slot_names = ("first_moment", "second_moment")

    def __init__(
        self,
        learning_rate=1e-3,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        weight_decay=0.0,
        lazy=True,
    ):
        super().__init__(learning_rate, weight_decay)
        self.lazy = lazy
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def scalars(self, rate, step):
        """Bias-corrected rate and epsilon: w -= rate' m / (sqrt(v) + epsilon')."""
        step = tf.cast(step, tf.float32)
        second = tf.sqrt(1 - self.beta_2**step)
        return {"rate": rate * second / (1 - self.beta_1**step), "epsilon": self.epsilon * second}

    def row_update(self, gradient, slots, scalars):
        """m += (1-b1)(g-m); v += (1-b2)(g^2-v); w -= rate' m / (sqrt(v) + epsilon')."""
        first = slots[0] + (1 - self.beta_1) * (gradient - slots[0])
        second = slots[1] + (1 - self.beta_2) * (tf.square(gradient) - slots[1])
        return [first, second], scalars["rate"] * first / (tf.sqrt(second) + scalars["epsilon"])

    def dense_update(self, variable, gradient, slots, scalars):
        """The fused kernel, with the correction already in rate and epsilon."""
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


OPTIMIZERS = {"sgd": SGD, "adagrad": Adagrad, "adam": Adam}


def get_optimizer(section):
    """Makes the optimizer of a config section ``{"name": ..., argument: value}``.

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
            f"there is no optimizer {name!r}{nearest(name, OPTIMIZERS)}",
            where="training.optimizer.name",
            fix=f"choose one of: {', '.join(OPTIMIZERS)}",
        )
    return from_section(OPTIMIZERS[name], arguments, "training.optimizer")


def from_section(factory, arguments, where, **decided):
    """Calls ``factory`` with a config section's arguments; an unknown one is named."""

    known = [p for p in inspect.signature(factory).parameters if p not in decided]
    for key in arguments:
        if key not in known:
            raise ConfigError(
                f"unknown key {key!r}{nearest(key, known)}",
                where=where,
                fix=f"known keys here: {', '.join(known)}",
            )
    return factory(**decided, **arguments)


def sum_repeated_rows(gradient):
    """An ``IndexedSlices`` with each row once, repeated rows summed; a dense tensor as it is."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    # On one device the rows are mostly distinct already, and in this order: nothing to sum.
    values = tf.cond(
        tf.size(rows) < tf.size(gradient.indices),
        lambda: tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows)),
        lambda: gradient.values,
    )
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def global_norm(gradients):
    """Euclidean norm over all gradients; rows must be distinct."""
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(v)) for v in values]))


def scale(gradient, factor):
    """A gradient times a scalar."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor
