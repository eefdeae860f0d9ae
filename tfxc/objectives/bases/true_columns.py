"""What the objectives share that look at the softmax probabilities of the true columns."""

from typing import TYPE_CHECKING

import tensorflow as tf

from tfxc.objectives.base import masked_logits
from tfxc.ops.losses import gather_positives

if TYPE_CHECKING:
    from tfxc.ops.logit_group import LogitGroup


def true_log_probabilities(group: "LogitGroup") -> tuple[tf.Tensor, tf.Tensor]:
    """Logarithms of the softmax probabilities of the true columns.

    Args:
        group: ``LogitGroup`` without ``cross_replica``.

    Returns:
        float32 (batch, max_positives), 0 at padding, never above 0; bool mask of the same shape.
    """
    logits = masked_logits(group)
    weights = 0.0 if group.log_weights is None else group.log_weights
    of_positives, mask = gather_positives(logits, group.positives)
    # Rows without a true column may have no column at all: no gradient may come through there.
    some = tf.reduce_any(mask, axis=1, keepdims=True)
    total = tf.reduce_logsumexp(tf.where(some, logits + weights, 0.0), axis=1, keepdims=True)
    return tf.where(mask, tf.minimum(of_positives - total, 0.0), 0.0), mask


def focal_factor(log_probabilities: tf.Tensor, gamma: float) -> tf.Tensor:
    """Returns ``(1 - p)^gamma``, whose gradient is finite for every p and gamma."""
    if not gamma:
        return tf.ones_like(log_probabilities)
    missing = -tf.math.expm1(log_probabilities)
    some = missing > 0
    return tf.where(some, tf.pow(tf.where(some, missing, 1.0), gamma), 0.0)


def mean_over_true(losses: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean over the true columns, (batch,); 0 where there is none."""
    count = tf.reduce_sum(tf.cast(mask, losses.dtype), axis=1)
    return tf.math.divide_no_nan(tf.reduce_sum(tf.where(mask, losses, 0.0), axis=1), count)
