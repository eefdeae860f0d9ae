"""Batches without examples get one, whatever tensors their features are."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.empty_batch import with_one_example

BAG = {"ids": tf.int32, "weights": tf.float32}


def bag(*lengths):
    """A bag per length, of ones."""
    total = sum(lengths)
    features = {name: tf.ones(total, dtype) for name, dtype in BAG.items()}
    return {**features, "row_splits": tf.constant(np.cumsum([0, *lengths]), tf.int64)}


def several(count):
    """A dict of tensors whose first axis is the batch."""
    return {"steps": tf.ones((count, 4, 3)), "lengths": tf.ones(count, tf.int32)}


MAKERS = {
    "bag": lambda count: bag(*[2] * count),
    "vectors": lambda count: tf.ones((count, 3)),
    "several": several,
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_in_a_graph(name, count):
    features = MAKERS[name](count)
    signature = tf.nest.map_structure(
        lambda tensor: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype), features
    )
    found, batch = tf.function(with_one_example, input_signature=[signature], autograph=False)(
        features
    )
    assert batch.numpy() == count
    expected = features
    if count == 0:
        expected = (
            bag(0) if name == "bag" else tf.nest.map_structure(tf.zeros_like, MAKERS[name](1))
        )
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("name", MAKERS)
def test_known_sizes_stay(name):
    features = MAKERS[name](2)
    found, batch = with_one_example(features)
    assert found is features and batch is None
