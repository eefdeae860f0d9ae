"""Losses over columns that never build a (batch, columns) target."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfxc.ops.gpu import has_gpu
from tfxc.ops.gradients import custom_gradient
from tfxc.ops.training_step import sigmoid_loss


def gather_positives(logits: tf.Tensor, positives: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns logits of the positive columns.

    Args:
        logits: float (batch, columns).
        positives: int64 (batch, max_positives) padded with -1.

    Returns:
        values float (batch, max_positives), 0 at padding; mask bool of the same shape.
    """
    positives = tf.cast(positives, tf.int64)
    mask = positives >= 0
    values = tf.gather(logits, tf.maximum(positives, 0), batch_dims=1)
    return tf.where(mask, values, tf.zeros_like(values)), mask


def places_of(positives: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the row and column of each entry of ``positives``, as one list.

    Padding repeats a true column of its row, where what is written twice is the same; in a row
    without one it is column 0. So the length of the list is known; a GPU would have to be asked how
    many entries are no padding.

    Args:
        positives: int (batch, max_positives) padded with -1.

    Returns:
        places int64 (entries, 2); is_true bool (entries,), whether an entry is no padding; exists
        bool (entries,), whether its row has a true column.

    Example:
        >>> places, is_true, exists = places_of(tf.constant([[2, -1], [-1, -1]]))
        >>> places.numpy().tolist(), is_true.numpy().tolist(), exists.numpy().tolist()
        ([[0, 2], [0, 2], [1, 0], [1, 0]], [True, False, False, False], [True, True, False, False])
    """
    positives = tf.cast(positives, tf.int64)
    true = tf.reduce_max(positives, axis=1, keepdims=True)
    columns = tf.maximum(tf.where(positives >= 0, positives, true), 0)
    rows = tf.range(tf.shape(positives, tf.int64)[0])[:, None]
    places = tf.stack([tf.broadcast_to(rows, tf.shape(columns)), columns], axis=2)
    exists = tf.broadcast_to(true >= 0, tf.shape(columns))
    return tf.reshape(places, [-1, 2]), tf.reshape(positives >= 0, [-1]), tf.reshape(exists, [-1])


@custom_gradient
def _with_value(
    values: tf.Tensor, positives: tf.Tensor, value: tf.Tensor
) -> tuple[tf.Tensor, Callable[..., Any]]:
    places, _, exists = places_of(positives)

    def written(into: tf.Tensor, new: tf.Tensor | float) -> tf.Tensor:
        there = tf.where(exists, new, tf.gather_nd(into, places))
        return tf.tensor_scatter_nd_update(into, places, there)

    return written(values, value), lambda upstream: (written(upstream, 0.0), None, None)


def set_at_positives(values: tf.Tensor, positives: tf.Tensor, value: float) -> tf.Tensor:
    """Returns ``values`` with the same number in each positive column, where no gradient comes
    through.

    Args:
        values: float32 (batch, columns).
        positives: int (batch, max_positives) padded with -1.
        value: the number.

    Example:
        >>> set_at_positives(tf.zeros((1, 3)), tf.constant([[2, -1]]), 5.0).numpy().tolist()
        [[0.0, 0.0, 5.0]]
    """
    return _with_value(values, positives, tf.constant(value, values.dtype))


def add_at_positives(values: tf.Tensor, positives: tf.Tensor, amounts: tf.Tensor) -> tf.Tensor:
    """Returns ``values`` with an amount added at each positive column, in place where nobody else
    reads it.

    Padding adds 0 to the first column: leaving it out would make a tensor of unknown length, which
    a GPU has to ask the host for.

    Args:
        values: float (batch, columns).
        positives: int64 (batch, max_positives) padded with -1.
        amounts: float (batch, max_positives), of ``values``' type; anything at padding.

    Example:
        >>> add_at_positives(tf.zeros((1, 3)), tf.constant([[2, -1]]), tf.ones((1, 2))).numpy()
        array([[0., 0., 1.]], dtype=float32)
    """
    positives = tf.cast(positives, tf.int64)
    amounts = tf.where(positives >= 0, amounts, tf.zeros_like(amounts))
    rows = tf.range(tf.shape(positives, tf.int64)[0])[:, None]
    columns = tf.maximum(positives, 0)
    places = tf.stack([tf.broadcast_to(rows, tf.shape(columns)), columns], axis=2)
    return tf.tensor_scatter_nd_add(values, places, amounts)


@custom_gradient
def sigmoid_cross_entropy(
    logits: tf.Tensor, positives: tf.Tensor
) -> tuple[tf.Tensor, Callable[..., Any]]:
    """Returns the sum over columns of the binary cross-entropy, (batch,).

    ``sum_j softplus(z_j) - sum_{j true} z_j``: equal to the cross-entropy with a multi-hot
    target, without that target. The gradient ``sigmoid(z) - target`` is built by scattering the
    few positives into the sigmoid. Where it can be compiled, one pass over the logits makes both.

    Args:
        logits: float (batch, columns); -inf marks a column that does not count.
        positives: int64 (batch, max_positives), distinct columns padded with -1.
    """
    # The operation has a kernel for the CPU only.
    suited = logits.dtype == tf.float32 and not has_gpu()
    compiled = sigmoid_loss.get() if suited else None
    if compiled is not None:
        loss, slopes = compiled(logits, tf.cast(positives, tf.int64))
        return loss, lambda upstream: (slopes * upstream[:, None], None)
    of_positives, _ = gather_positives(logits, positives)
    loss = tf.reduce_sum(tf.nn.softplus(logits), axis=1) - tf.reduce_sum(of_positives, axis=1)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        spread = tf.sigmoid(logits) * upstream[:, None]
        minus = tf.broadcast_to(-upstream[:, None], tf.shape(positives))
        return add_at_positives(spread, positives, minus), None

    return loss, gradient


def weighted_sigmoid_cross_entropy(
    logits: tf.Tensor, positives: tf.Tensor, log_weights: tf.Tensor
) -> tf.Tensor:
    """Computes ``sigmoid_cross_entropy``, a column standing for ``exp(log_weights)`` columns.

    Args:
        logits, positives: as there.
        log_weights: float (columns,), 0 for positives.
    """
    of_positives, _ = gather_positives(logits, positives)
    parts = tf.nn.softplus(logits) * tf.exp(log_weights)
    return tf.reduce_sum(parts, axis=1) - tf.reduce_sum(of_positives, axis=1)


def softmax_cross_entropy(
    logits: tf.Tensor,
    positives: tf.Tensor,
    label_smoothing: float = 0.0,
    log_weights: float | tf.Tensor = 0.0,
    true_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the mean over the true columns of ``logsumexp(z) - z_true``, (batch,); 0 without true
    columns.

    With several true columns the target is the uniform distribution over them.

    Args:
        logits: float (batch, columns); -inf marks a column that does not count.
        positives: int64 (batch, max_positives), distinct columns padded with -1.
        label_smoothing: share of the target that is uniform over all columns that count. Of them
            the loss needs the mean logit only.
        log_weights: float (columns,), logarithm of the number of columns that each stands for, 0
            for positives.
        true_weights: float (batch, max_positives), factors of the terms of the true columns; what
            smoothing adds has their mean as its factor.
    """
    of_positives, mask = gather_positives(logits, positives)
    count = tf.reduce_sum(tf.cast(mask, logits.dtype), axis=1)
    if true_weights is None:
        mean = tf.math.divide_no_nan(tf.reduce_sum(of_positives, axis=1), count)
        factor = 1.0
    else:
        factors = tf.where(mask, true_weights, 0.0)
        mean = tf.math.divide_no_nan(tf.reduce_sum(factors * of_positives, axis=1), count)
        factor = tf.math.divide_no_nan(tf.reduce_sum(factors, axis=1), count)
    if label_smoothing:
        weights = tf.where(logits > float("-inf"), tf.exp(log_weights), 0.0)
        total = tf.reduce_sum(tf.math.multiply_no_nan(logits, weights), axis=1)
        of_all = total / tf.reduce_sum(weights, axis=1)
        mean += label_smoothing * (factor * of_all - mean)
    loss = factor * tf.reduce_logsumexp(logits + log_weights, axis=1) - mean
    return tf.where(count > 0, loss, tf.zeros_like(loss))


def distinct_positives(positives: tf.Tensor) -> tf.Tensor:
    """Replaces repeated columns of a row by -1 (two classes may share a bucket).

    Example:
        >>> distinct_positives(tf.constant([[3, 1, 3, -1]])).numpy().tolist()
        [[3, -1, 1, -1]]
    """
    ordered = tf.sort(positives, axis=1, direction="DESCENDING")
    repeated = tf.concat(
        [tf.zeros_like(ordered[:, :1], tf.bool), ordered[:, 1:] == ordered[:, :-1]], axis=1
    )
    return tf.where(repeated, tf.constant(-1, ordered.dtype), ordered)
