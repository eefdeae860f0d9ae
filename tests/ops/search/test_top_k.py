import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.search.tiled_softmax import tiled_softmax
from tfxc.ops.search.top_k import read_once, tiled_top_k
from tfxc.ops.sparse import bags_as


def sorted_best(scores, k):
    """Brute force; ties by rising id."""
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(scores, ids, axis=1)


def tiled(scores, k, tile):
    constant = tf.constant(scores)
    return tiled_top_k(lambda a, b: constant[:, a:b], scores.shape[1], k, tile)


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("tile", [1, 3, 7, 36, 37, 100])
@pytest.mark.parametrize("k", [1, 5, 37])
def test_equals_brute_force_with_ties(k, tile, computed):
    scores = np.random.default_rng(k * tile).integers(0, 6, (5, 37)).astype(np.float32)
    ids, best = tiled(scores, k, tf.constant(tile) if computed else tile)
    expected = sorted_best(scores, k)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(best, expected[1])
    assert (ids.dtype, best.dtype) == (tf.int32, tf.float32)


def test_in_a_graph_with_an_open_batch():
    @tf.function(input_signature=[tf.TensorSpec((None, 20))], autograph=False)
    def best(scores):
        return tiled_top_k(lambda a, b: scores[:, a:b], 20, 4, 6)

    for rows in (1, 3):
        scores = np.random.default_rng(rows).normal(size=(rows, 20)).astype(np.float32)
        ids, values = best(scores)
        expected = sorted_best(scores, 4)
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_array_equal(values, expected[1])


@pytest.mark.parametrize("tile", [2, 3, 4, 6])
@pytest.mark.parametrize("unrolled", [False, True])
@pytest.mark.parametrize(
    "scores", [[np.nan] * 6, [-np.inf] * 6, [1.0, np.nan, 3.0, -np.inf, 2.0, np.nan]]
)
def test_ids_are_columns_whatever_the_scores(scores, unrolled, tile):
    scores = tf.constant([scores], tf.float32)
    for k in (1, 3, 6):
        ids = tiled_top_k(lambda a, b: scores[:, a:b], 6, k, tile, unrolled)[0][0].numpy()
        assert len(set(ids)) == k and set(ids) <= set(range(6))
        positives = tf.constant([[0, -1]])
        found = tiled_softmax(lambda a, b: scores[:, a:b], 6, positives, k, tile, unrolled)
        np.testing.assert_array_equal(found[0][0], ids)


def test_never_scores_more_than_a_tile():
    widths = []

    def score(begin, end):
        widths.append(int(end - begin))
        return tf.zeros((2, int(end - begin)))

    tiled_top_k(score, 25, 3, 10)
    assert widths == [10, 10, 5]


def test_a_value_read_once_is_that_of_its_time():
    """It shares the variable's memory, until that is written to."""
    variable = tf.Variable(np.arange(12, dtype=np.float32).reshape(4, 3))
    for _ in range(2):
        tf.gather(variable, [1])  # from here on, ordinary reads make copies
        before = variable.numpy().copy()
        value = read_once(variable)
        np.testing.assert_array_equal(value, before)
        variable.scatter_update(tf.IndexedSlices(before[:1] + 9, [0]))
        variable[1].assign([7, 7, 7])
        np.testing.assert_array_equal(value, before)
        assert variable.numpy()[0, 0] == before[0, 0] + 9
    tensor = tf.constant([1.0])
    assert read_once(tensor) is tensor


def test_other_formats_get_ordinary_reads():
    variable = tf.Variable([1.0, 2.0])

    def operations():
        function = tf.function(
            lambda: read_once(variable) + 1, autograph=False
        ).get_concrete_function()
        return {operation.type for operation in function.graph.get_operations()}

    assert "DisableCopyOnRead" in operations()
    with bags_as("products"):
        found = operations()
    assert "DisableCopyOnRead" not in found and "ReadVariableOp" in found
