"""Classes drawn in addition to those of a batch, and how many classes each of them stands for."""

import math

import tensorflow as tf


def drawn_classes(
    own: tf.Tensor, bits: tf.Tensor, count: int, frequencies: tf.Tensor | None = None
) -> tuple[tf.Tensor, ...]:
    """Draws classes outside ``own`` without replacement.

    With weights w, ``sum w_k f_k`` over the drawn classes has the expectation ``sum f_k`` over all
    classes outside ``own``, for any f.

    * Uniform: ``w = (N - K) / count`` with N classes, K of them in ``own``.
    * By frequency p: priority sampling. With u uniform in (0, 1), the ``count`` classes with the
      least ``u / p`` are drawn. With t the next such number, a class is among them with the
      probability ``min(1, p t)``, so ``w = max(1, 1 / (p t))``.

    If fewer than ``count`` classes are left, all are drawn, with w = 1, and the rest is not valid.

    Args:
        own: int (K,), distinct.
        bits: uint32 (N,), random.
        count: below N.
        frequencies: float32 (N,), positive; None for the uniform draw.

    Returns:
        ids int32 (count,), log_weights float32 (count,), valid bool (count,).

    Example:
        >>> bits = tf.constant([5, 9, 1, 7], tf.uint32) * 2**24
        >>> ids, log_weights, valid = drawn_classes(tf.constant([2]), bits, 2)
        >>> ids.numpy().tolist(), tf.exp(log_weights).numpy().tolist()
        ([0, 3], [1.5, 1.5])

    Reference: Duffield, Lund and Thorup, "Priority sampling for estimation of arbitrary subset
    sums", JACM 2007.
    """
    number = bits.shape[0]
    high = tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32))
    keys = (tf.cast(tf.cast(high, tf.int32), tf.float32) + 0.5) * 2.0**-24
    if frequencies is not None:
        keys /= frequencies
    never = tf.fill([tf.size(own)], math.inf)
    keys = tf.tensor_scatter_nd_update(keys, own[:, None], never)
    least, ids = tf.math.top_k(-keys, count + 1)
    valid = least[:count] > -math.inf
    ids = ids[:count]
    limit = -least[count]
    if frequencies is None:
        left = tf.cast(number - tf.size(own), tf.float32)
        log_weights = tf.fill([count], tf.math.log(tf.maximum(1.0, left / count)))
    else:
        chance = tf.minimum(1.0, tf.gather(frequencies, ids) * limit)
        log_weights = -tf.math.log(chance)
    return ids, tf.where(valid, log_weights, 0.0), valid
