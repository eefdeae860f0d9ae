import math

import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.search.k_best import k_best_codes, top_k_lowest_id


def all_sums(parts):
    """Sums of all codes: float (batch, product of the sizes)."""
    total = np.zeros((len(parts[0]), 1))
    for part in parts:
        total = (total[:, :, None] + part[:, None, :]).reshape(len(part), -1)
    return total


@pytest.mark.parametrize("seed", range(12))
def test_equals_sorting_all_sums(seed):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 8, random.integers(1, 5)).tolist()
    codes = math.prod(sizes)
    # Multiples of 1/8 add up without rounding, and many sums are equal.
    parts = [random.integers(-16, 1, (4, size)) / 8 for size in sizes]
    for num_codes in {codes, max(1, codes - 1), int(random.integers(1, codes + 1))}:
        sums = all_sums(parts)[:, :num_codes]
        for k in {1, min(3, num_codes), num_codes}:
            ids, scores = k_best_codes([tf.constant(p, tf.float32) for p in parts], num_codes, k)
            expected = np.argsort(-sums, axis=1, kind="stable")[:, :k]
            np.testing.assert_array_equal(ids, expected)
            np.testing.assert_array_equal(scores, np.take_along_axis(sums, expected, axis=1))
            assert (ids.dtype, scores.dtype) == (tf.int32, tf.float32)


def test_top_k_lowest_id():
    ids, scores = top_k_lowest_id(
        tf.constant([[1.0, 2.0, 2.0, 0.0]]), tf.constant([[7, 9, 3, 1]]), 3
    )
    assert ids.numpy().tolist() == [[3, 9, 7]] and scores.numpy().tolist() == [[2.0, 2.0, 1.0]]
