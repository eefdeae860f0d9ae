import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.top_k import tiled_top_k


def sorted_best(scores, k):
    """Brute force; ties by rising id."""
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(scores, ids, axis=1)


def tiled(scores, k, tile):
    constant = tf.constant(scores)
    return tiled_top_k(lambda a, b: constant[:, a:b], scores.shape[1], len(scores), k, tile)


@pytest.mark.parametrize("tile", [1, 3, 7, 36, 37, 100])
@pytest.mark.parametrize("k", [1, 5, 37])
def test_equals_brute_force_with_ties(k, tile):
    scores = np.random.default_rng(k * tile).integers(0, 6, (5, 37)).astype(np.float32)
    ids, best = tiled(scores, k, tile)
    expected = sorted_best(scores, k)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(best, expected[1])
    assert (ids.dtype, best.dtype) == (tf.int32, tf.float32)


def test_in_a_graph_with_an_open_batch():
    @tf.function(input_signature=[tf.TensorSpec((None, 20))])
    def best(scores):
        return tiled_top_k(lambda a, b: scores[:, a:b], 20, tf.shape(scores)[0], 4, 6)

    for rows in (1, 3):
        scores = np.random.default_rng(rows).normal(size=(rows, 20)).astype(np.float32)
        ids, values = best(scores)
        expected = sorted_best(scores, 4)
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_array_equal(values, expected[1])


def test_never_scores_more_than_a_tile():
    widths = []

    def score(begin, end):
        widths.append(int(end - begin))
        return tf.zeros((2, int(end - begin)))

    tiled_top_k(score, 25, 2, 3, 10)
    assert widths == [10, 10, 5]
