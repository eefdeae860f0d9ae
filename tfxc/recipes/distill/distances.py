"""Distances between the intermediate results of a student and of its teacher.

Each distance is a function of the student's and the teacher's values and the mask of the words: one
number per example, float32 (batch,): a mean over the example's own words, or pairs of words.
Padding is ignored, an empty text has 0. So the result does not depend on which examples are
together in a batch, unlike TextBrewer's, where the mean is over the words of the batch.

Hidden states are float (batch, length, dim), attention is float (batch, heads, length, length),
scores before the softmax over the last axis, masks are bool (batch, length).

Reference: Yang et al. 2020, TextBrewer, arXiv 2002.12620.
"""

from collections.abc import Sequence

import tensorflow as tf


def hidden_mse(student: tf.Tensor, teacher: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean squared difference of two hidden states of equal width.

    Example:
        >>> student = tf.constant([[[1.0], [9.0]]])
        >>> teacher = tf.constant([[[3.0], [5.0]]])
        >>> float(hidden_mse(student, teacher, tf.constant([[True, False]]))[0])
        4.0
    """
    student, teacher = _float32(student, teacher)
    apart = tf.reduce_mean(tf.square(student - teacher), axis=2)
    return _mean(apart, mask)


def cosine(student: tf.Tensor, teacher: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean of 1 - cosine of the words' states, of equal width.

    Reference: Sanh et al. 2019 (DistilBERT).
    """
    student, teacher = map(_unit_vectors, _float32(student, teacher))
    return _mean(1 - tf.reduce_sum(student * teacher, axis=2), mask)


def first_words(student: tf.Tensor, teacher: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the squared distance of the first words' states scaled to length 1.

    Reference: Sun et al. 2019 (PKD).
    """
    student, teacher = (_unit_vectors(states[:, 0]) for states in _float32(student, teacher))
    apart = tf.reduce_sum(tf.square(student - teacher), axis=1)
    return tf.where(mask[:, 0], apart, 0.0)


def gram(student: Sequence[tf.Tensor], teacher: Sequence[tf.Tensor], mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean squared difference of ``A^T B / words``, A and B the states of two layers.

    Args:
        student, teacher: pairs of hidden states, all of equal width.

    Reference: Yim et al. 2017 (FSP).
    """
    words = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)[:, None, None]

    def products(pair: Sequence[tf.Tensor]) -> tf.Tensor:
        lower, upper = (tf.where(mask[:, :, None], states, 0) for states in _float32(*pair))
        return tf.math.divide_no_nan(tf.matmul(lower, upper, transpose_a=True), words)

    return tf.reduce_mean(tf.square(products(student) - products(teacher)), axis=(1, 2))


def word_products(
    student: Sequence[tf.Tensor], teacher: Sequence[tf.Tensor], mask: tf.Tensor
) -> tf.Tensor:
    """Returns the mean squared difference of ``A B^T / dim`` over pairs of words.

    A and B are as in ``gram``.

    The student's width need not be the teacher's.

    Reference: Huang and Wang 2017, arXiv 1707.01219 (NST, a maximum mean discrepancy).
    """

    def products(pair: Sequence[tf.Tensor]) -> tf.Tensor:
        lower, upper = _float32(*pair)
        return tf.matmul(lower, upper, transpose_b=True) / lower.shape[2]

    return _mean_of_pairs(tf.square(products(student) - products(teacher)), mask)


def attention_mse(student: tf.Tensor, teacher: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean squared difference of the attention's shares, of equally many heads."""
    apart = tf.exp(_log_shares(student)) - tf.exp(_log_shares(teacher))
    return _mean_of_pairs(tf.reduce_mean(tf.square(apart), axis=1), mask)


def attention_mse_sum(student: tf.Tensor, teacher: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean squared difference of the attention's shares, each summed over its heads."""
    student, teacher = (
        tf.reduce_sum(tf.exp(_log_shares(scores)), axis=1) for scores in (student, teacher)
    )
    return _mean_of_pairs(tf.square(student - teacher), mask)


def attention_ce(student: tf.Tensor, teacher: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean over heads and words of ``- sum p log q``.

    p are the teacher's shares, q the student's.
    """
    entropy = _cross_entropy(_log_shares(student), _log_shares(teacher), mask[:, None])
    return _mean(tf.reduce_mean(entropy, axis=1), mask)


def attention_ce_mean(student: tf.Tensor, teacher: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Does as ``attention_ce``, between the means of the shares over the heads."""

    def mean(scores: tf.Tensor) -> tf.Tensor:
        logs = _log_shares(scores)
        heads = tf.cast(tf.shape(logs)[1], tf.float32)
        return tf.reduce_logsumexp(logs, axis=1) - tf.math.log(heads)

    return _mean(_cross_entropy(mean(student), mean(teacher), mask), mask)


STATE_DISTANCES = {
    "hidden_mse": hidden_mse,
    "cos": cosine,
    "pkd": first_words,
    "gram": gram,
    "fsp": gram,
    "mmd": word_products,
    "nst": word_products,
}
ATTENTION_DISTANCES = {
    "attention_mse": attention_mse,
    "attention_mse_sum": attention_mse_sum,
    "attention_ce": attention_ce,
    "attention_ce_mean": attention_ce_mean,
}
#: These compare pairs of layers.
PAIR_DISTANCES = ("gram", "fsp", "mmd", "nst")


def _float32(*values: tf.Tensor) -> list[tf.Tensor]:
    return [tf.cast(value, tf.float32) for value in values]


def _unit_vectors(vectors: tf.Tensor) -> tf.Tensor:
    # The square root of 0 has no gradient.
    return vectors * tf.math.rsqrt(tf.reduce_sum(tf.square(vectors), -1, keepdims=True) + 1e-12)


def _log_shares(scores: tf.Tensor) -> tf.Tensor:
    return tf.nn.log_softmax(tf.cast(scores, tf.float32))


def _cross_entropy(student: tf.Tensor, teacher: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns ``- sum p log q`` over the words looked at, of logarithms (..., length, length)."""
    parts = tf.where(mask[..., None, :], tf.exp(teacher) * student, 0.0)
    return -tf.reduce_sum(parts, axis=-1)


def _mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Averages (batch, length) over the words."""
    counts = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)
    return tf.math.divide_no_nan(tf.reduce_sum(tf.where(mask, values, 0.0), axis=1), counts)


def _mean_of_pairs(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Averages (batch, length, length) over the pairs of words."""
    counts = tf.square(tf.reduce_sum(tf.cast(mask, tf.float32), axis=1))
    pairs = mask[:, :, None] & mask[:, None, :]
    return tf.math.divide_no_nan(tf.reduce_sum(tf.where(pairs, values, 0.0), axis=(1, 2)), counts)
