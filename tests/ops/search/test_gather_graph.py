import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.search import gather_graph
from tfxc.ops.search.bucket_search import gather
from tfxc.ops.search.gather_graph import top_k_of_buckets


@pytest.mark.parametrize("tile_values", [1, 10**6])
def test_equals_the_search_outside_the_graph(monkeypatch, tile_values):
    """To the bit, with ties, with one tile and with several."""
    monkeypatch.setattr(gather_graph, "_TILE_VALUES", tile_values)
    random = np.random.default_rng(0)
    scores = random.integers(0, 4, (3, 5, 6)).astype(np.float32) / 7
    lookups = random.integers(0, 6, (5, 2500)).astype(np.int32)

    @tf.function(autograph=False)
    def search(scores):
        def buckets_between(begin, end):
            return [tf.constant(lookup)[begin:end] for lookup in lookups]

        return top_k_of_buckets(tf.unstack(scores, axis=1), buckets_between, 2500, 40)

    found = search(tf.constant(scores))
    for one, expected in zip(found, gather.top_k(scores, lookups, 40), strict=True):
        np.testing.assert_array_equal(one, expected)
