"""What attacks on the table of embeddings share."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.ops.gradients import add
from tfxc.ops.perturbations import RowPerturbation, perturbations
from tfxc.techniques.base import Technique, method_name

if TYPE_CHECKING:
    import keras


class Attack(Technique):
    """Base of the techniques that perturb what is read from the tables of embeddings.

    Nothing is written to a table: the perturbation is added to the rows as they are read, so the
    weights stay what they are, to the bit. An encoder with several tables (one per repetition)
    is perturbed in each by itself.
    """

    role = "attack"

    def build(self, model: "keras.Model", strategy: tf.distribute.Strategy) -> None:
        """Finds the tables among the weights."""
        self._strategy = strategy
        self._tables = [table.value for table in model.encoder.tables]
        if not self._tables:
            raise ConfigError(
                f"{method_name(type(self))!r} perturbs the table of embeddings, but encoder "
                f"{type(model.encoder).__name__} has none",
                where="techniques",
                fix="use an encoder of texts or sparse bags, or remove the technique",
            )
        places = {id(v.value): place for place, v in enumerate(model.trainable_variables)}
        self._places = [places[id(t)] for t in self._tables if id(t) in places]
        if len(self._places) < len(self._tables):
            raise ConfigError(
                f"{method_name(type(self))!r} needs the gradient of the table of embeddings, but "
                "the table is frozen",
                where="techniques",
                fix="train the table, or remove the technique",
            )

    def attacked(
        self,
        compute: Callable[..., Any],
        batch: Mapping[str, Any],
        of_tables: Sequence[Any],
    ) -> tuple[tf.Tensor, list[Any]]:
        """Returns ``compute(batch)`` with one perturbation for each table."""
        with perturbations(list(zip(self._tables, of_tables, strict=True))):
            return compute(batch)

    def of_tables(self, gradients: Sequence[Any]) -> list[Any]:
        """Returns the gradients of the tables, of this replica's examples."""
        return [gradients[place] for place in self._places]


class TableAttack(Attack):
    """Base of the attacks on the whole table, which all examples of a step share.

    The clean gradient g gives the first perturbation r, the gradient at each perturbed point the
    next one. The step takes the sum of the clean gradient and the one at the last point. g is
    that of the global batch, or of a micro-batch where gradients are accumulated. r is 0 at the
    rows that g does not touch, and is kept for the others only.

    Subclasses write ``moved``; ``rounds`` says how many points there are.
    """

    rounds = 1

    def gradients(
        self, compute: Callable[..., Any], batch: Mapping[str, Any]
    ) -> tuple[tf.Tensor, list[Any]]:
        """Returns clean gradients plus those at the perturbed point; the loss is the clean one."""
        loss, clean = compute(batch)
        directions = self._directions(clean)
        moves = [tf.zeros_like(direction.values) for direction in directions]
        last: Sequence[Any] = ()
        for number in range(self.rounds):
            if number:
                directions = self._directions(last, directions)
            perturbations = []
            for table, direction in enumerate(directions):
                moves[table] = self.moved(moves[table], direction.values)
                perturbations.append(RowPerturbation(direction.rows, moves[table]))
            _, last = self.attacked(compute, batch, perturbations)
        return loss, [add(first, second) for first, second in zip(clean, last, strict=True)]

    def moved(self, before: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the next perturbation of the rows.

        Args:
            before: float32 (rows, dim), the perturbation so far.
            gradient: float32 (rows, dim), at that point.
        """
        raise TypeError(f"{type(self).__name__} must define moved(before, gradient)")

    def _directions(
        self, gradients: Sequence[Any], before: Sequence[RowPerturbation] | None = None
    ) -> list[RowPerturbation]:
        """Returns the gradients of the tables over all replicas, with the rows that ``before``
        has.
        """
        of_tables = self.of_tables(gradients)
        if self._strategy.num_replicas_in_sync > 1:
            context = tf.distribute.get_replica_context()
            of_tables = context.all_reduce("SUM", of_tables)
        rows = [perturbation.rows for perturbation in before] if before else [None] * len(of_tables)
        pairs = zip(of_tables, rows, strict=True)
        return [RowPerturbation.from_gradient(gradient, known) for gradient, known in pairs]


def of_length(values: tf.Tensor, length: float) -> tf.Tensor:
    """Returns ``values`` scaled to a Euclidean norm of ``length``; zeros stay zeros."""
    largest = tf.reduce_max(tf.abs(values))  # squares of small gradients would be lost
    values = tf.math.divide_no_nan(values, largest)
    return length * tf.math.divide_no_nan(values, tf.norm(values))
