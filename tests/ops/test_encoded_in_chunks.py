"""Texts encoded a chunk after the other: vectors and gradients of one piece, a small graph."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.encoded_in_chunks import encoded_in_chunks

IDS = np.array([3, 0, 3, 5, 1, 2, 4], np.int64)


@pytest.fixture
def weights():
    """Of a table, of a layer, and of a layer that no text reaches."""
    rng = np.random.default_rng(0)
    shapes = [(6, 4), (4, 3), (2, 2)]
    return [tf.Variable(rng.normal(size=shape), dtype=tf.float32) for shape in shapes]


def step_of(weights, chunks):
    table, kernel, _ = weights

    def step(ids):
        with tf.GradientTape() as tape:
            vectors = encoded_in_chunks(
                lambda some: tf.tanh(tf.gather(table, some) @ kernel), ids, chunks
            )
            loss = tf.reduce_sum(vectors**3)
        return vectors, tape.gradient(loss, weights)

    return step


@pytest.mark.parametrize("wrap", [tf.function, lambda step: step], ids=["graph", "eager"])
@pytest.mark.parametrize("chunks", [2, 3, 7, 20])
def test_vectors_and_gradients_are_those_of_one_piece(weights, chunks, wrap):
    vectors, gradients = step_of(weights, 1)(tf.constant(IDS))
    found, others = wrap(step_of(weights, chunks))(tf.constant(IDS))
    np.testing.assert_allclose(found, vectors, rtol=1e-6)
    for gradient, other in zip(gradients[:2], others[:2], strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(other), tf.convert_to_tensor(gradient), rtol=1e-5, atol=1e-6
        )
    assert gradients[2] is None and others[2] is None


def test_the_gradient_of_a_table_stays_one_of_rows(weights):
    _, gradients = step_of(weights, 3)(tf.constant(IDS))
    assert isinstance(gradients[0], tf.IndexedSlices)
    assert sorted(gradients[0].indices.numpy()) == sorted(IDS)


def test_the_graph_does_not_grow_with_the_number_of_chunks(weights):
    def size(chunks):
        function = tf.function(step_of(weights, chunks))
        return function.get_concrete_function(tf.TensorSpec([None], tf.int64)).graph.as_graph_def()

    few, many = size(2), size(1000)
    assert len(few.node) == len(many.node)
    assert len(few.library.function) == len(many.library.function)
