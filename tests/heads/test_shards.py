import numpy as np
import pytest
import tensorflow as tf

from tfxc.heads.bases.shards import ShardLayout, by_label
from tfxc.ops.search.top_k import merge_top_k


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(("labels", "chunk"), [(30, 9), (30, 30), (12, 4), (9, 8), (8, 4)])
def test_every_label_is_at_one_place(labels, chunk, count):
    layout = ShardLayout(labels, chunk, count)
    every = tf.range(labels)
    places = np.array([layout.columns_of(number, every) for number in range(count)])
    assert (places < layout.columns).all()
    np.testing.assert_array_equal((places >= 0).sum(axis=0), 1)
    for number, own in enumerate(places):
        has = own >= 0
        np.testing.assert_array_equal(layout.labels(number, own[has]), np.arange(labels)[has])
        assert (np.diff(own[has]) > 0).all(), "ties go to the lower label"
    assert (np.array(layout.columns_of(0, tf.constant([-1, labels]))) == -1).all()


def test_equal_scores_of_shards_go_to_the_lower_label():
    ids = tf.constant([[[0, 4]], [[2, 6]]])
    scores = tf.constant([[[1.0, 0.5]], [[1.0, 0.5]]])
    found, _ = merge_top_k(*by_label(ids, scores), 3)
    assert found.numpy().tolist() == [[0, 2, 4]]
