"""The search in a graph against the one outside."""

import numpy as np
import pytest
import tensorflow as tf

from tests.ops.search.beam_search.test_beam_search import (
    NUM_FEATURES,
    layers_of,
    random_chain,
    random_queries,
)
from tfxc.ops.search.beam_search.beam_graph import BeamGraph
from tfxc.ops.search.beam_search.beam_search import BeamSearch
from tfxc.ranker.post_processors import POST_PROCESSORS


def bag(queries):
    return {
        "ids": tf.constant(queries.indices, tf.int32),
        "weights": tf.constant(queries.data),
        "row_splits": tf.constant(queries.indptr, tf.int64),
    }


def assert_same(found, expected):
    ids, scores = (part.numpy() for part in found)
    wanted, best, counts = expected
    valid = np.arange(ids.shape[1]) < counts[:, None]
    np.testing.assert_array_equal(ids, np.where(valid, wanted, -1))
    np.testing.assert_allclose(scores[valid], best[valid], rtol=1e-6, atol=1e-6)
    assert np.isneginf(scores[~valid]).all()


@pytest.mark.parametrize("name", ["noop", "log-sigmoid", "log-l3-hinge"])
def test_like_the_search_outside(name):
    trained = np.random.default_rng(1).random(70) < 0.6
    layers, rules = layers_of(random_chain(30), trained), [POST_PROCESSORS[name]] * 3
    outside = BeamSearch(layers, NUM_FEATURES, bias=0.5)
    kept = [2, 3, 14]
    inside = BeamGraph(layers, NUM_FEATURES, bias=0.5, only_topk=kept, post_processors=rules)
    for queries in (random_queries(31, 40), random_queries(32, 1), random_queries(33, 3, 0.0)):
        assert_same(inside(bag(queries)), outside.top(queries, kept, rules))


@pytest.mark.parametrize("name", ["sigmoid", "l3-hinge"])
def test_products_of_scores(name):
    # Exponentials of two libraries differ in the last bit, and so may the order of near ties.
    layers, rules = layers_of(random_chain(34)), [POST_PROCESSORS[name]] * 3
    queries, kept = random_queries(35, 40), [3, 11, 70]
    graph = BeamGraph(layers, NUM_FEATURES, bias=1.0, only_topk=kept, post_processors=rules)
    ids, scores = (part.numpy() for part in graph(bag(queries)))
    expected = BeamSearch(layers, NUM_FEATURES, bias=1.0).search(queries, kept, rules).toarray()
    assert (np.sort(ids) == np.arange(70)).all()
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids, 1), rtol=2e-6, atol=1e-7)


def test_saved_with_the_model(tmp_path):
    layers, rules = layers_of(random_chain(36)), [POST_PROCESSORS["noop"]] * 3
    graph = BeamGraph(layers, NUM_FEATURES, bias=None, only_topk=[2, 4, 5], post_processors=rules)
    tf.saved_model.save(graph, tmp_path)
    queries = random_queries(37, 9)
    found = tf.saved_model.load(tmp_path)(bag(queries))
    expected = BeamSearch(layers, NUM_FEATURES).top(queries, [2, 4, 5], rules)
    assert_same(found, expected)
