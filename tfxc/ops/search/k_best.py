"""The k best codes when a code's score is the sum of one value per digit."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def k_best_codes(
    digit_scores: Sequence[tf.Tensor], num_codes: int, k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the best k of the first ``num_codes`` codes, exact, without a (batch, num_codes)
    matrix.

    The codes below ``num_codes`` are cut into at most one product set per digit (first digits
    fixed, one digit below a bound, the others free). In a product set the best k sums are found
    digit by digit: of two descending lists, the pair (i, j) counted from 1 can only be among the
    best k if i j <= k.

    Args:
        digit_scores: one float (batch, size) per digit, the most significant first.
        num_codes: Python int, at most the product of the sizes.
        k: Python int, at most num_codes.

    Returns:
        codes int32 (batch, k), sums float (batch, k), descending; ties by ascending code.

    Example:
        >>> scores = tf.constant([[0.0, -1.0]]), tf.constant([[-3.0, 0.0, -0.5]])
        >>> k_best_codes(scores, num_codes=5, k=3)[0].numpy().tolist()
        [[1, 2, 4]]
    """
    sizes = [scores.shape[1] for scores in digit_scores]
    product_sets = [
        _product_set(digit_scores, fixed, bound, k)
        for fixed, bound in _product_sets(sizes, num_codes)
    ]
    if len(product_sets) == 1:
        return product_sets[0]
    codes, sums = (tf.concat(parts, axis=1) for parts in zip(*product_sets, strict=True))
    return top_k_lowest_id(sums, codes, k)


def top_k_lowest_id(scores: tf.Tensor, ids: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the best k columns; ties go to the lower id.

    Args:
        scores: float (batch, columns).
        ids: int32 (batch, columns).
        k: at most the number of columns.

    Returns:
        ids int32 (batch, k), scores float (batch, k).
    """
    by_id = tf.argsort(ids, axis=1, stable=True)
    scores, places = tf.math.top_k(tf.gather(scores, by_id, batch_dims=1), k)
    return tf.gather(tf.gather(ids, by_id, batch_dims=1), places, batch_dims=1), scores


def _product_sets(sizes: Sequence[int], num_codes: int) -> list[tuple[tuple[int, ...], int]]:
    """Returns pairs (values of the first digits, bound of the next digit) that cover all codes
    once.
    """
    if num_codes == math.prod(sizes):
        return [((), sizes[0])]
    digits = []
    rest = num_codes
    for place in range(len(sizes)):
        digit, rest = divmod(rest, math.prod(sizes[place + 1 :]))
        digits.append(digit)
    return [(tuple(digits[:place]), bound) for place, bound in enumerate(digits) if bound]


def _product_set(
    digit_scores: Sequence[tf.Tensor], fixed: tuple[int, ...], bound: int, k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    sums = tf.zeros_like(digit_scores[0][:, :1])
    codes = tf.zeros_like(digit_scores[0][:, :1], tf.int32)
    for place, scores in enumerate(digit_scores):
        size = scores.shape[1]
        if place < len(fixed):
            value = fixed[place]
            sums = sums + scores[:, value : value + 1]
            codes = codes * size + value
            continue
        allowed = scores[:, :bound] if place == len(fixed) else scores
        codes, sums = _with_digit(codes, sums, allowed, size, k)
    return codes, sums


def _with_digit(
    codes: tf.Tensor, sums: tf.Tensor, scores: tf.Tensor, size: int, k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the best k of all sums of a prefix and a digit."""
    best, digits = tf.math.top_k(scores, min(k, scores.shape[1]))
    prefixes = sums.shape[1]
    values = best.shape[1]
    pairs = [(i, j) for i in range(prefixes) for j in range(min(values, k // (i + 1)))]
    left, right = np.array(pairs, np.int32).T
    sums = tf.gather(sums, left, axis=1) + tf.gather(best, right, axis=1)
    codes = tf.gather(codes, left, axis=1) * size + tf.gather(digits, right, axis=1)
    return top_k_lowest_id(sums, codes, min(k, prefixes * values))
