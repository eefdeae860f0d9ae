"""Products of sparse bags with dense tables."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import tensorflow as tf

from tfxc.core.thread_value import ThreadValue
from tfxc.ops.gradients import custom_gradient
from tfxc.ops.perturbations import read_rows

_form = ThreadValue[str | None](None)


def bags_as(form: str | None) -> AbstractContextManager[None]:
    """Inside, functions of ``ops`` are traced with operations that other runtimes have.

    Args:
        form: ``"segments"``: sums over segments. ``"products"``: products with a dense
            (batch, nnz) matrix, as fast for single queries and slower for large batches.
    """
    return _form.set_to(form)


def for_other_runtimes() -> bool:
    """Says whether this is inside of ``bags_as``."""
    return _form.value is not None


def bag_matmul(
    ids: tf.Tensor, weights: tf.Tensor, row_splits: tf.Tensor, table: tf.Tensor
) -> tf.Tensor:
    """Returns the weighted sum of table rows for each bag, as ``csr_matrix @ table``.

    The gradient of ``table`` is an ``IndexedSlices`` over the distinct ids of the batch; they are
    read once each, by ``ops.perturbations.read_rows``. The product runs on TensorFlow's CSR
    kernels, which are threaded: 2 to 5 times faster than ``tf.sparse.sparse_dense_matmul`` on two
    cores.

    Args:
        ids: int32 (nnz,), table rows.
        weights: float32 (nnz,).
        row_splits: int64 (batch + 1,), where each bag begins in ``ids``.
        table: float32 (num_rows, dim) variable or tensor.

    Returns:
        float32 (batch, dim).

    Example:
        >>> table = tf.constant([[1.0], [10.0]])
        >>> bag_matmul([0, 1, 1], [1.0, 1.0, 2.0], [0, 2, 3], table).numpy().ravel().tolist()
        [11.0, 20.0]
    """
    weights = tf.convert_to_tensor(weights, tf.float32)
    row_splits = tf.convert_to_tensor(row_splits, tf.int64)
    if _form.value == "products":
        return tf.matmul(_spread(weights, row_splits), tf.gather(table, ids))
    if _form.value == "segments":
        return _sums(tf.gather(table, ids) * tf.expand_dims(weights, 1), row_splits)
    distinct, columns = tf.unique(tf.cast(ids, tf.int64), tf.int64)
    return _csr_matmul(columns, weights, row_splits, read_rows(table, distinct))


@custom_gradient
def _csr_matmul(
    columns: tf.Tensor, weights: tf.Tensor, row_splits: tf.Tensor, rows: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor | None, ...]]]:
    row_numbers = row_ids(row_splits, columns)
    batch = tf.size(row_splits, tf.int64) - 1
    # The kernel divides by the number of rows, which ends the process where there are none: a batch
    # of no bags is multiplied as one empty bag.
    shape = tf.stack([tf.maximum(batch, 1), tf.shape(rows, tf.int64)[0]])
    matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=tf.stack([row_numbers, columns], axis=1),
        values=weights,
        dense_shape=shape,
    )

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        # Unused parts are pruned from the graph: no one pays for the gradient of the weights.
        by_weight = tf.reduce_sum(
            tf.gather(rows, columns) * tf.gather(upstream, row_numbers), axis=1
        )
        # A product with a matrix of no rows would end the process: all bags are empty.
        of_rows = tf.cond(
            tf.size(columns) > 0,
            lambda: transposed_product(matrix, upstream),
            lambda: tf.zeros_like(rows),
        )
        return None, by_weight, None, of_rows

    result = _product(matrix, rows)[:batch]
    size = row_splits.shape[0]
    result.set_shape([None if size is None else size - 1, rows.shape[1]])
    return result, gradient


def transposed_product(matrix: tf.Tensor, dense: tf.Tensor) -> tf.Tensor:
    """Returns ``matrix.T @ dense``, with sums in the same order whatever the threads do.

    The transposition inside the product's own kernel adds up the threads' parts in the order they
    come in, and takes 2 to 4 times as long.

    Args:
        matrix: CSR sparse matrix (a variant tensor) with at least one column.
        dense: float32 (rows, dim).

    Returns:
        float32 (columns, dim).
    """
    turned = tf.raw_ops.SparseMatrixTranspose(input=matrix, type=dense.dtype, conjugate=False)
    return _product(turned, dense)


def _product(matrix: tf.Tensor, dense: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.SparseMatrixMatMul(
        a=matrix,
        b=dense,
        transpose_a=False,
        transpose_b=False,
        adjoint_a=False,
        adjoint_b=False,
        transpose_output=False,
        conjugate_output=False,
    )


def row_ids(row_splits: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns the row number of every value: ``[0, 2, 3] -> [0, 0, 1]``, int64 (nnz,).

    Args:
        row_splits: int64 (batch + 1,).
        values: (nnz, ...), of which only the number is read.
    """
    if for_other_runtimes():
        lengths = row_splits[1:] - row_splits[:-1]
        return tf.repeat(tf.range(tf.size(lengths, tf.int64)), lengths)
    # ``tf.repeat`` would have to ask a GPU how long its result is.
    numbers = tf.range(tf.shape(values, tf.int64)[0])
    return tf.searchsorted(row_splits[1:], numbers, side="right", out_type=tf.int64)


def unit_rows(weights: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
    """Returns weights of bags, those of each bag divided by their length; an empty bag stays empty.

    Args:
        weights: float32 (nnz,).
        row_splits: int64 (batch + 1,).

    Returns:
        float32 (nnz,).

    Example:
        >>> unit_rows(tf.constant([3.0, 4.0, 2.0]), tf.constant([0, 2, 3], tf.int64)).numpy()
        array([0.6, 0.8, 1. ], dtype=float32)
    """
    squares = tf.square(weights)
    if _form.value == "products":
        sums = tf.reduce_sum(_spread(squares, row_splits), axis=1, keepdims=True)
        of_entries = tf.reduce_sum(sums * _spread(tf.ones_like(weights), row_splits), axis=0)
    else:
        of_entries = tf.gather(_sums(squares, row_splits), row_ids(row_splits, weights))
    return tf.math.divide_no_nan(weights, tf.sqrt(of_entries))


def _sums(values: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
    """Returns sums over bags of values (nnz, …)."""
    rows = row_ids(row_splits, values)
    batch = tf.size(row_splits, tf.int64) - 1
    return tf.math.unsorted_segment_sum(values, rows, batch)


def _spread(values: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
    """Returns the values of each bag in their places, 0 elsewhere: float32 (batch, nnz)."""
    places = tf.expand_dims(tf.range(tf.size(values, tf.int64)), 0)
    first = tf.expand_dims(row_splits[:-1], 1)
    last = tf.expand_dims(row_splits[1:], 1)
    return tf.where((places >= first) & (places < last), tf.expand_dims(values, 0), 0.0)
