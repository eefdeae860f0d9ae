"""What the optimizers share: slots, weight decay, and updates of single rows."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfxc.core.declared import NotNegative, Positive, checked
from tfxc.core.errors import ConfigError
from tfxc.ops.distributed.devices import on_gpu
from tfxc.training.optimization.rates import RateFactors

_CHUNK_ROWS = 2048  # rows updated at a time: keeps the temporaries in the cache
_CHUNK_VALUES = 1 << 20  # and at most this many values: a row may be a block of label vectors


class Optimizer(tf.Module):
    """Base of the row-sparse optimizers.

    Args:
        learning_rate: base rate, multiplied by the schedule.
        weight_decay: decoupled decay per step as a share of the rate; rows a batch did not touch
            are not decayed.
        no_decay: names of weights that are not decayed, ``*`` stands for anything, e.g.
            ``["*bias*", "gamma", "beta"]``. A name is the last part of a weight's path.

    Attributes:
        rates: ``RateFactors`` of single weights.
    """

    slot_names: tuple[str, ...] = ()
    lazy = True
    coupled = False  # whether the decay is a part of the gradient

    @checked
    def __init__(
        self, learning_rate: Positive, weight_decay: NotNegative = 0.0, no_decay: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.no_decay = list(no_decay)
        self.slots: dict[Any, list[tf.Variable]] = {}  # by the variables' references
        self._undecayed: set[Any] = set()
        self._names_checked = False
        self.rates = RateFactors()
        self._factors: dict[Any, float] = {}

    def build(
        self,
        variables: Sequence[tf.Variable],
        factors: Sequence[float] = (),
        without_slots: Sequence[tf.Variable] = (),
    ) -> None:
        """Makes the slots of the trainable variables (inside the strategy's scope).

        Args:
            variables: list of ``tf.Variable``s.
            factors: a factor of the learning rate for each; empty for 1.
            without_slots: those of them that something else updates, with ``rate_of`` and
                ``decay_of``.

        Raises:
            ConfigError: a name in ``no_decay`` fits no variable.
        """
        copies = tf.distribute.get_strategy().experimental_local_results
        if self.no_decay:
            names = [variable.name.split(":")[0].split("/")[-1] for variable in variables]
            for pattern in self.no_decay:
                if not (self._names_checked or fnmatch.filter(names, pattern)):
                    raise ConfigError(
                        f"no weight matches {pattern!r}",
                        where="training.optimizer.no_decay",
                        fix=f"use the names of the weights: {', '.join(sorted(set(names)))}",
                    )
            self._names_checked = True  # what is built later, e.g. a table's shards, has others
            for name, variable in zip(names, variables, strict=True):
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.no_decay):
                    self._undecayed |= {copy.ref() for copy in copies(variable)}
        for variable, factor in zip(variables, factors, strict=True) if factors else ():
            # ``update`` sees the copy of a replica, not the variable that holds all copies.
            self._factors |= {copy.ref(): factor for copy in copies(variable)}
        others = {variable.ref() for variable in without_slots}
        for variable in variables:
            if variable.ref() not in others:
                self.slots[variable.ref()] = [
                    self._new_slot(variable, name) for name in self.slot_names
                ]

    def decay_of(self, variable: tf.Variable) -> float:
        """Returns the weight decay of a variable."""
        return 0.0 if variable.ref() in self._undecayed else self.weight_decay

    def rate_of(self, variable: tf.Variable, rate: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of a variable where that of a step is ``rate``."""
        factor = self._factors.get(variable.ref(), 1.0)
        return rate if factor == 1 else rate * factor

    def _new_slot(self, variable: tf.Variable, name: str) -> tf.Variable:
        return tf.Variable(lambda: tf.zeros(variable.shape), trainable=False, name=name)

    @property
    def variables_to_save(self) -> list[tf.Variable]:
        """All slots, in the order of ``build``."""
        return [slot for slots in self.slots.values() for slot in slots]

    def update(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor | tf.IndexedSlices,
        slots: Sequence[tf.Variable],
        rate: tf.Tensor,
        step: tf.Tensor,
    ) -> Sequence[tf.Tensor] | None:
        """Updates one variable on one device.

        Args:
            variable: the trainable variable.
            gradient: dense tensor, or ``IndexedSlices`` with distinct indices.
            slots: its slot variables.
            rate: learning rate of this step, float32 scalar; times the variable's factor.
            step: number of the update from 1, int64 scalar.
        """
        rate = self.rate_of(variable, rate)
        scalars = self.scalars(rate, step)
        if not self.lazy:
            gradient = tf.convert_to_tensor(gradient)
        return self._apply(variable, gradient, slots, rate, scalars)

    def _apply(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor | tf.IndexedSlices,
        slots: Sequence[tf.Variable],
        rate: tf.Tensor,
        scalars: Mapping[str, tf.Tensor],
    ) -> Sequence[tf.Tensor] | None:
        if isinstance(gradient, tf.IndexedSlices):
            return self._update_rows(variable, gradient, slots, rate, scalars)
        decay = self.decay_of(variable)
        if decay and self.coupled:
            gradient += decay * variable
        elif decay:
            variable.assign_sub(variable * (rate * decay))
        self.dense_update(variable, gradient, slots, scalars)
        return None

    def _update_rows(
        self,
        variable: tf.Variable,
        gradient: tf.IndexedSlices,
        slots: Sequence[tf.Variable],
        rate: tf.Tensor,
        scalars: Mapping[str, tf.Tensor],
    ) -> Sequence[tf.Tensor] | None:
        count = tf.size(gradient.indices)
        decay = self.decay_of(variable)
        width = max(1, variable.shape[1:].num_elements())
        chunk = min(_CHUNK_ROWS, max(1, _CHUNK_VALUES // width))

        def update(rows: tf.Tensor, values: tf.Tensor) -> list[tf.Operation]:
            old = [tf.gather(slot, rows) for slot in slots]
            if decay and self.coupled:
                values += decay * tf.gather(variable, rows)
            new, change = self.row_update(values, old, scalars)
            if decay and not self.coupled:
                change += tf.gather(variable, rows) * (rate * decay)
            writes = [
                slot.scatter_update(tf.IndexedSlices(value, rows))
                for slot, value in zip(slots, new, strict=True)
            ]
            writes.append(variable.scatter_sub(tf.IndexedSlices(change, rows)))
            return [write for write in writes if write is not None]

        def body(begin: tf.Tensor) -> tuple[tf.Tensor]:
            end = tf.minimum(begin + chunk, count)
            with tf.control_dependencies(
                update(gradient.indices[begin:end], gradient.values[begin:end])
            ):
                return (tf.identity(end),)

        if on_gpu(variable):  # it has no such cache, and would wait for the host in each round
            update(gradient.indices, gradient.values)
            return None
        return tf.while_loop(
            lambda begin: begin < count, body, (tf.constant(0),), parallel_iterations=1
        )

    def scalars(self, rate: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns what all variables share in a step."""
        return {"rate": rate}

    def row_update(
        self, gradient: tf.Tensor, slots: Sequence[tf.Tensor], scalars: Mapping[str, tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns new slot values and the amount to subtract, for any block of rows."""
        raise TypeError(f"{type(self).__name__} must define row_update")

    def dense_update(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor,
        slots: Sequence[tf.Variable],
        scalars: Mapping[str, tf.Tensor],
    ) -> None:
        """Updates a whole variable."""
        new, change = self.row_update(gradient, [slot.value() for slot in slots], scalars)
        for slot, value in zip(slots, new, strict=True):
            slot.assign(value)
        variable.assign_sub(change)
