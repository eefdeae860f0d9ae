"""Which classes the softmax of a batch runs over."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfxc.ops.randomness import random_bits
from tfxc.ops.search.candidates import distinct, distinct_or_zero, ranks_in

_MAX = 2**31 - 1


class Columns(NamedTuple):
    """Classes of the columns and where the true ones are.

    Attributes:
        ids: int64 (columns,), or (batch, columns) where each example has its own. Ids of surplus
            codes, beyond the labels, may occur.
        positives: int64 (batch, max_labels), column numbers padded with -1.
    """

    ids: Any
    positives: Any


def true_blocks(labels: tf.Tensor, heads: Sequence[int], flat: tf.Tensor) -> "Columns":
    """Returns all classes of the heads (blocks of classes) that the batch's labels hit.

    Args:
        labels: int64 (batch, max_labels) padded with -1.
        heads: (C0, C1): label id = d0 · C1 + d1.
        flat: int64 vector of the labels of the whole batch, over all replicas, with padding.

    Reference: Liang et al., TPAMI 2024 (arXiv 2412.10182), multi-head sampling.
    """
    length = heads[1]
    chosen = distinct_or_zero(tf.where(flat >= 0, flat // length, -1))
    ids = tf.reshape(chosen[:, None] * length + tf.range(length, dtype=chosen.dtype), [-1])
    ranks = ranks_in(chosen, labels // length)
    return Columns(ids, tf.where(labels >= 0, ranks * length + labels % length, -1))


def sampled_blocks(labels: tf.Tensor, heads: Sequence[int], count: int, seed: int) -> "Columns":
    """Returns the classes of each example's true head and of ``count`` - 1 others, drawn at random.

    An example with several labels has several true heads; they come first, by ascending number, and
    a label whose head does not fit into ``count`` is left out.

    Args:
        labels, heads: as in ``true_blocks``.
        count: heads per example.
        seed: of the draws, see ``ops.randomness``.
    """
    number, length = heads
    batch = tf.shape(labels)[0]
    bits = random_bits(tf.range(batch)[:, None], tf.range(number)[None], seed)
    keys = tf.cast(tf.bitwise.right_shift(bits, tf.constant(2, tf.uint32)), tf.int32)
    where = tf.where(labels >= 0)
    of_labels = tf.cast(tf.gather_nd(labels, where) // length, tf.int64)
    places = tf.stack([where[:, 0], of_labels], axis=1)
    keys = tf.tensor_scatter_nd_max(keys, places, tf.fill([tf.shape(where)[0]], _MAX))
    chosen = tf.cast(tf.math.top_k(keys, count).indices, labels.dtype)
    ids = chosen[..., None] * length + tf.range(length, dtype=chosen.dtype)
    ids = tf.reshape(ids, [batch, count * length])
    is_in = (labels // length)[..., None] == chosen[:, None, :]
    ranks = tf.argmax(is_in, axis=-1, output_type=labels.dtype)
    inside = (labels >= 0) & tf.reduce_any(is_in, axis=-1)
    return Columns(ids, tf.where(inside, ranks * length + labels % length, -1))


def partial(
    labels: tf.Tensor, num_classes: int, count: int, seed: int, flat: tf.Tensor, first: int = 0
) -> "Columns":
    """Returns all classes of the batch and uniformly drawn others.

    There are ``count`` columns, whatever the batch. Only if the batch itself has more classes
    than that, there are as many columns as it has classes, and none is drawn.

    Args:
        labels, flat: as in ``true_blocks``, minus ``first``; ids outside 0 .. num_classes - 1
            are skipped.
        num_classes: classes to draw from.
        count: columns, at most ``num_classes``.
        seed: of the draws; all replicas and micro-batches of a step draw the same.
        first: added to a class for its draw, so that shards draw independently.

    Reference: An et al., ICCV Workshops 2021 (arXiv 2010.05222).
    """
    own = distinct(tf.where(flat < num_classes, flat, -1))
    bits = random_bits(tf.constant(0), tf.range(first, first + num_classes), seed, shared=True)
    # The class itself in the low bits makes all keys distinct.
    keys = tf.cast(bits, tf.int64) * 2**31 + tf.range(num_classes, dtype=tf.int64)
    least = tf.fill([tf.size(own)], tf.constant(-1, tf.int64))
    keys = tf.tensor_scatter_nd_update(keys, own[:, None], least)
    last = tf.maximum(count, tf.size(own)) - 1
    limit = tf.raw_ops.NthElement(input=keys, n=last, reverse=False)
    ids = tf.where(keys <= limit)[:, 0]
    known = (labels >= 0) & (labels < num_classes)
    return Columns(ids, tf.where(known, ranks_in(ids, labels), -1))
