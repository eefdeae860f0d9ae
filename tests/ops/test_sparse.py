import itertools

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tfxc.ops.sparse import bag_matmul, bags_as, row_ids, unit_rows


def random_bags(lengths, columns, seed=0):
    """ids, weights, row_splits as arrays; ids repeat within and across bags."""
    rng = np.random.default_rng(seed)
    count = int(sum(lengths))
    ids = rng.integers(0, columns, count).astype(np.int32)
    weights = rng.normal(size=count).astype(np.float32)
    return ids, weights, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def as_matrix(ids, weights, splits, columns):
    shape = (len(splits) - 1, columns)
    return scipy.sparse.csr_matrix((weights.astype(np.float64), ids, splits), shape)


FORMS = pytest.mark.parametrize("form", [None, "segments", "products"])


@pytest.mark.parametrize(
    "lengths", [[3, 0, 5, 1], [0, 0, 4, 0], [1], [40, 40, 40], [0, 0], []], ids=str
)
@FORMS
def test_equals_scipy(lengths, form):
    table = np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32)
    bags = random_bags(lengths, 12)
    with bags_as(form):
        product = bag_matmul(*bags, tf.constant(table))
    assert product.shape == (len(lengths), 5)
    np.testing.assert_allclose(product, as_matrix(*bags, 12) @ table, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", [[3, 0, 6, 2], [0, 0], []], ids=str)
def test_gradients_equal_scipy(lengths):
    table = tf.Variable(tf.random.stateless_normal((12, 5), (1, 2)))
    ids, weights, splits = random_bags(lengths, 12)
    upstream = np.random.default_rng(2).normal(size=(len(lengths), 5)).astype(np.float32)
    weights = tf.constant(weights)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        total = tf.reduce_sum(bag_matmul(ids, weights, splits, table) * upstream)
    of_table, of_weights = tape.gradient(total, [table, weights])
    assert isinstance(of_table, tf.IndexedSlices)
    assert sorted(of_table.indices.numpy()) == sorted(set(ids.tolist()))
    matrix = as_matrix(ids, weights.numpy(), splits, 12)
    expected = matrix.T @ upstream.astype(np.float64)
    np.testing.assert_allclose(tf.convert_to_tensor(of_table), expected, rtol=1e-4, atol=1e-5)
    rows = np.repeat(np.arange(len(lengths)), np.diff(splits))
    expected = (table.numpy()[ids] * upstream[rows]).sum(axis=1)
    np.testing.assert_allclose(of_weights, expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_empty_bags_are_zero():
    table = tf.Variable(tf.ones((12, 5)))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(bag_matmul(*random_bags([0, 0], 12), table))
    assert not tf.convert_to_tensor(tape.gradient(total, table)).numpy().any()


def test_gradients_are_the_same_to_the_bit_whatever_the_threads_do():
    """Of a size that several threads share."""
    table = tf.Variable(tf.random.stateless_normal((20_000, 256), (1, 2)))
    bags = random_bags([75] * 256, 20_000)
    upstream = tf.random.stateless_normal((256, 256), (3, 4))

    @tf.function(autograph=False)
    def gradient():
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(bag_matmul(*bags, table) * upstream)
        return tape.gradient(total, table).values

    first = gradient().numpy()
    for _ in range(20):
        np.testing.assert_array_equal(gradient(), first)


def test_in_a_graph_with_open_shapes():
    table = tf.constant(np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32))
    signature = [
        tf.TensorSpec((None,), tf.int32),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    ]
    compiled = tf.function(
        lambda *bags: bag_matmul(*bags, table), input_signature=signature, autograph=False
    )
    assert compiled.get_concrete_function().structured_outputs.shape.as_list() == [None, 5]
    for lengths in ([2, 3], [1, 0, 7]):
        bags = random_bags(lengths, 12)
        np.testing.assert_allclose(
            compiled(*bags), as_matrix(*bags, 12) @ table.numpy(), rtol=1e-4, atol=1e-5
        )


def test_row_ids():
    for form in (None, "segments"):
        with bags_as(form):
            splits = tf.constant([0, 2, 2, 3, 3], tf.int64)
            assert row_ids(splits, tf.zeros(3)).numpy().tolist() == [0, 0, 2]
            assert row_ids(tf.constant([0], tf.int64), tf.zeros(0)).shape == (0,)


@FORMS
def test_unit_rows(form):
    _, weights, splits = random_bags([3, 0, 5, 1, 2], 12)
    weights[-2:] = 0
    with bags_as(form):
        found = unit_rows(tf.constant(weights), tf.constant(splits))
    for first, last in itertools.pairwise(splits[:-1]):
        expected = weights[first:last] / (np.linalg.norm(weights[first:last]) or 1)
        np.testing.assert_allclose(found[first:last], expected, rtol=1e-5)
    assert (found[-2:].numpy() == 0).all()


def test_a_form_ends_with_its_block():
    bags = random_bags([2, 1], 12)
    table = tf.zeros((12, 5))
    with bags_as("products"), bags_as("segments"):
        inner = tf.function(
            lambda: bag_matmul(*bags, table), autograph=False
        ).get_concrete_function()
    outer = tf.function(lambda: bag_matmul(*bags, table), autograph=False).get_concrete_function()
    kinds = [{node.op for node in f.graph.as_graph_def().node} for f in (inner, outer)]
    assert "UnsortedSegmentSum" in kinds[0] and "SparseMatrixMatMul" in kinds[1]
