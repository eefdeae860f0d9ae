import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tfxc.ops.search.tiled_softmax import log_sum_and_top_k, mean_cross_entropy, tiled_softmax


def pass_over(scores, positives, k, tile):
    """``tiled_softmax`` of given scores as arrays; only the first tile may be larger than told."""
    asked = []

    def score(begin, end):
        asked.append(tf.TensorShape([]))
        first = not tf.is_tensor(begin)
        tf.debugging.assert_less_equal(end - begin, max(tile, k + tile - 1) if first else tile)
        return tf.constant(scores)[:, begin:end]

    def run(positives):
        return tiled_softmax(score, scores.shape[1], positives, k, tile)

    found = [
        part.numpy() for part in tf.function(run, autograph=False)(tf.constant(positives, tf.int32))
    ]
    assert len(asked) <= 2, "traced before the loop and in it, whatever the number of tiles"
    return found


@pytest.mark.parametrize("tile", [1, 3, 7, 23, 100])
@pytest.mark.parametrize("size", [1.0, 50.0, 1e4])
def test_sum_scores_and_best_columns(size, tile):
    rng = np.random.default_rng(0)
    scores = np.float32(rng.choice([-1, 1], (4, 23)) * rng.uniform(0.9, 1, (4, 23)) * size)
    positives = [[22, 0], [-1, 7], [23, -5], [3, 4]]
    ids, best, log_sum, of_positives = pass_over(scores, positives, 5, tile)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(best, np.take_along_axis(scores, order, 1))
    expected = scipy.special.logsumexp(scores.astype(np.float64), axis=1)
    np.testing.assert_allclose(log_sum, expected, rtol=1e-6, atol=1e-5)
    expected = [[scores[0, 22], scores[0, 0]], [0, scores[1, 7]], [0, 0], scores[3, 3:5]]
    np.testing.assert_array_equal(of_positives, expected)


@pytest.mark.parametrize("tile", [1, 2, 5])
def test_columns_that_do_not_count_and_equal_ones(tile):
    scores = np.float32([[-np.inf, -np.inf, 2, 2, -np.inf], [-1e4] * 5])
    ids, best, log_sum, _ = pass_over(scores, [[2], [0]], 2, tile)
    assert ids.tolist() == [[2, 3], [0, 1]]
    np.testing.assert_allclose(log_sum, [2 + np.log(2), -1e4 + np.log(5)], rtol=1e-6)
    assert best.tolist() == [[2, 2], [-1e4, -1e4]]


def test_mean_over_the_true_columns():
    exist = tf.constant([[True, True], [False, True], [False, False]])
    loss = mean_cross_entropy(tf.fill([3], 5.0), tf.constant([[1.0, 2.0], [0, 4], [0, 0]]), exist)
    np.testing.assert_allclose(loss, [3.5, 1.0, np.nan])


@pytest.mark.parametrize("tile", [1, 3, 7, 100])
def test_log_sum_and_top_k(tile):
    scores = np.random.default_rng(1).normal(0, 20, (4, 7)).astype(np.float32)

    def run():
        return log_sum_and_top_k(
            lambda begin, end: tf.constant(scores)[:, begin:end], 7, 4, 3, tile
        )

    ids, best, log_sum = (part.numpy() for part in tf.function(run, autograph=False)())
    np.testing.assert_array_equal(ids, np.argsort(-scores, axis=1)[:, :3])
    np.testing.assert_array_equal(best, -np.sort(-scores, axis=1)[:, :3])
    np.testing.assert_allclose(log_sum, scipy.special.logsumexp(scores, axis=1), rtol=1e-6)
