"""What is added to the rows of a table while they are read, the table itself left as it is."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import tensorflow as tf

from tfxc.core.thread_value import ThreadValue

# By the ids of the tables.
_perturbations = ThreadValue[Mapping[int, Callable[[tf.Tensor], tf.Tensor]]]({})


def perturbations(
    of_tables: Sequence[tuple[tf.Variable, Callable[[tf.Tensor], tf.Tensor]]],
) -> AbstractContextManager[None]:
    """Inside, ``read_rows`` adds a perturbation to what it reads.

    The gradient of the table is then the one at the moved place: the perturbation is a constant.

    Args:
        of_tables: list of pairs: a variable, and a function of ids that returns the perturbation
            of the rows read, of shape ``(*ids.shape, dim)``, e.g. ``RowPerturbation``.
    """
    return _perturbations.set_to({id(table): perturbation for table, perturbation in of_tables})


def read_rows(table: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns rows of a table, and what ``perturbations`` adds to them.

    Args:
        table: float (num_rows, dim) variable or tensor.
        ids: int, any shape.

    Returns:
        float ``(*ids.shape, dim)``. The gradient of the table is an ``IndexedSlices`` with the
        gradients of what was read, one after the other.

    Example:
        >>> table = tf.Variable([[1.0], [2.0]])
        >>> with perturbations([(table, RowPerturbation(tf.constant([1]), tf.constant([[0.5]])))]):
        ...     read_rows(table, [0, 1, 1]).numpy().ravel().tolist()
        [1.0, 2.5, 2.5]
    """
    rows = tf.gather(table, ids)
    perturbation = _perturbations.value.get(id(table))
    if perturbation is None:
        return rows
    return rows + tf.stop_gradient(perturbation(tf.convert_to_tensor(ids)))


class RowPerturbation(NamedTuple):
    """Perturbation of some rows of a table, or of all.

    Attributes:
        rows: int (n,), distinct and ascending; None for all rows of the table.
        values: float (n, dim).
    """

    rows: Any
    values: Any

    @classmethod
    def from_gradient(
        cls, gradient: tf.Tensor | tf.IndexedSlices, rows: tf.Tensor | None = None
    ) -> "RowPerturbation":
        """Returns a gradient, dense or rows of it, in this form.

        Args:
            rows: take these; those of the gradient are among them.
        """
        if not isinstance(gradient, tf.IndexedSlices):
            return cls(None, gradient)
        if rows is None:
            rows = tf.sort(tf.unique(gradient.indices).y)
        places = tf.searchsorted(rows, tf.cast(gradient.indices, rows.dtype))
        values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
        return cls(rows, values)

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns what is added at ``ids``; 0 at rows without a perturbation."""
        if self.rows is None:
            return tf.gather(self.values, ids)
        flat = tf.cast(tf.reshape(ids, [-1]), self.rows.dtype)
        places = tf.minimum(tf.searchsorted(self.rows, flat), tf.size(self.rows) - 1)
        here = tf.gather(self.rows, places) == flat
        values = tf.where(here[:, None], tf.gather(self.values, places), 0)
        return tf.reshape(values, tf.concat([tf.shape(ids), tf.shape(self.values)[1:]], axis=0))
