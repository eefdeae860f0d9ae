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
from tfxc.core.errors import DataError
from tfxc.ops.search.beam_search import beam_graph
from tfxc.ops.search.beam_search.beam_graph import BeamGraph
from tfxc.ops.search.beam_search.beam_search import BeamSearch
from tfxc.ops.search.beam_search.post_processors import POST_PROCESSORS


@pytest.fixture
def dense(request, monkeypatch):
    """How many layers at the top are dense."""
    monkeypatch.setattr(beam_graph, "_num_dense", lambda layers, num_features: request.param)
    return request.param


def bag(queries):
    return {
        "ids": tf.constant(queries.indices, tf.int32),
        "weights": tf.constant(queries.data),
        "row_splits": tf.constant(queries.indptr, tf.int64),
    }


def uneven_chain(seed):
    """Weights and queries whose products are rounded, so that the order of a sum matters."""
    chain, random = random_chain(seed), np.random.default_rng(seed)
    return [(weights * random.random(weights.shape, np.float32), p) for weights, p in chain]


def uneven_queries(seed, count, density=0.2):
    queries = random_queries(seed, count, density)
    queries.data *= np.random.default_rng(seed).random(queries.nnz, np.float32)
    return queries


def assert_same(graph, search, queries, kept, rules):
    ids, scores = (part.numpy() for part in graph(bag(queries)))
    wanted, best, counts = search.top(queries, kept, rules)
    valid = np.arange(ids.shape[1]) < counts[:, None]
    np.testing.assert_array_equal(ids, np.where(valid, wanted, -1))
    # The native log1pf is off by one bit at times, of a number that may be larger than the score.
    close = 1.2e-7 if POST_PROCESSORS["log-sigmoid"] in rules else 1e-36
    np.testing.assert_allclose(scores[valid], best[valid], rtol=2e-7, atol=close)
    assert np.isneginf(scores[~valid]).all()
    return valid


@pytest.mark.parametrize(
    ("names", "dense"),
    [
        (["noop"] * 3, 2),
        (["sigmoid"] * 3, 0),
        (["log-sigmoid"] * 3, 3),
        (["l1-hinge"] * 3, 3),
        (["l3-hinge"] * 3, 2),
        (["log-l4-hinge"] * 3, 0),
        (["noop", "l2-hinge", "log-sigmoid"], 2),
        (["log-l2-hinge", "noop", "l4-hinge"], 0),
    ],
    indirect=["dense"],
)
def test_like_the_search_outside(names, dense):
    """Beams that leave out nodes of every layer, and nodes without a classifier in every layer."""
    random, layers = np.random.default_rng(1), layers_of(uneven_chain(30))
    trained = [np.array([True, True, False]), random.random(11) < 0.8, random.random(70) < 0.6]
    layers = [layer._replace(trained=known) for layer, known in zip(layers, trained, strict=True)]
    rules, kept = [POST_PROCESSORS[name] for name in names], [2, 3, 14]
    graph = BeamGraph(layers, NUM_FEATURES, bias=0.5, only_topk=kept, post_processors=rules)
    assert len(graph._below) == 3 - dense
    outside = BeamSearch(layers, NUM_FEATURES, bias=0.5)
    batches = uneven_queries(31, 40), uneven_queries(32, 1), uneven_queries(33, 3, 0.0)
    full = [assert_same(graph, outside, queries, kept, rules).all() for queries in batches]
    assert not full[0], "lists that are short expected"
    assert graph(bag(uneven_queries(34, 2)[:0]))[0].shape == (0, 14)


@pytest.mark.parametrize("dense", [0, 2, 3], indirect=True)
def test_ties_and_a_beam_that_keeps_all(dense):
    layers, rules = layers_of(random_chain(34, density=0.1)), [POST_PROCESSORS["log-l2-hinge"]] * 3
    kept = [None, 11, 70]
    graph = BeamGraph(layers, NUM_FEATURES, bias=1.0, only_topk=kept, post_processors=rules)
    queries, outside = random_queries(35, 20, 0.05), BeamSearch(layers, NUM_FEATURES, bias=1.0)
    assert assert_same(graph, outside, queries, kept, rules).all()
    assert (np.diff(graph(bag(queries))[1]) == 0).any(), "no tie"


def test_layers_that_are_dense():
    """Those whose table has no more numbers than the ranker has weights, and not too many nodes."""
    layers = layers_of(random_chain(35, density=0.3))  # 91 features and 84 nodes
    assert 14 * NUM_FEATURES < sum(len(layer.values) for layer in layers) < 84 * NUM_FEATURES
    assert beam_graph._num_dense(layers, NUM_FEATURES) == 2
    assert beam_graph._num_dense(layers, 10 * NUM_FEATURES) == 0
    wide = layers_of(random_chain(35, (3, 1100), 1.0, 5))
    assert beam_graph._num_dense(wide, 4) == 1


def test_one_layer_of_more_labels_than_weights():
    """A flat model whose rows are looked up from the root, and labels without any weight."""
    layers = layers_of(random_chain(36, (40,), 0.004, 3000), np.arange(40) % 7 > 0)
    rules = [POST_PROCESSORS["l3-hinge"]]
    graph = BeamGraph(layers, 3000, bias=None, only_topk=[40], post_processors=rules)
    assert graph._top is None
    queries = random_queries(37, 30, 0.1, 3000)
    assert_same(graph, BeamSearch(layers, 3000), queries, [40], rules)


def test_saved_with_the_model(tmp_path):
    layers, rules = layers_of(random_chain(36)), [POST_PROCESSORS["noop"]] * 3
    graph = BeamGraph(layers, NUM_FEATURES, bias=None, only_topk=[2, 4, 5], post_processors=rules)
    tf.saved_model.save(graph, tmp_path)
    outside = BeamSearch(layers, NUM_FEATURES)
    loaded = tf.saved_model.load(tmp_path)
    assert_same(loaded, outside, random_queries(37, 9), [2, 4, 5], rules)


def test_damaged_layers():
    layers = layers_of(random_chain(38))
    layers[1] = layers[1]._replace(rows=layers[1].rows + 91)
    with pytest.raises(DataError, match="layer 1, rows: the numbers go from 91 to 181"):
        BeamGraph(
            layers,
            NUM_FEATURES,
            bias=None,
            only_topk=[2, 4, 5],
            post_processors=[POST_PROCESSORS["noop"]] * 3,
        )
