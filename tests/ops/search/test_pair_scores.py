"""Scores of chosen pairs, against a walk up the tree over dense matrices."""

import numpy as np
import pytest
import scipy.sparse

from tests.ops.search.beam_search.test_beam_search import (
    NATIVE,
    NUM_FEATURES,
    layers_of,
    random_chain,
)
from tfxc.core.errors import DataError
from tfxc.ops.search import pair_scores
from tfxc.ops.search.beam_search.beam_search import search
from tfxc.ops.search.beam_search.post_processors import POST_PROCESSORS
from tfxc.ops.search.pair_scores import PairScores

BIAS = 0.5
both = pytest.mark.parametrize("native", NATIVE)


def queries_and_pairs(number, num_labels, seed=0):
    draw = np.random.default_rng(seed)
    features = scipy.sparse.random(number, NUM_FEATURES, 0.2, "csr", np.float32, draw)
    pairs = scipy.sparse.random(number, num_labels, 0.2, "csr", np.float32, draw)
    pairs.data[::3] = 0  # the places count, not the values
    pairs.data[1::3] = -1
    return features, pairs


def walked(chain, features, row, label, rule):
    """The score of one pair from the label up to the root."""
    vector = np.append(features[[row]].toarray(), BIAS)
    weights, parents = chain[-1]
    score = rule.transform(vector @ weights[:, label])
    if len(chain) == 1:
        return score
    above = walked(chain[:-1], features, row, parents[label], rule)
    return rule.combine(score, above)


@both
@pytest.mark.parametrize("number", [3, 40])
@pytest.mark.parametrize("rule", ["noop", "sigmoid", "l3-hinge", "log-l2-hinge"])
def test_as_a_walk_up_the_tree(native, number, rule):
    chain, rule = random_chain(1), POST_PROCESSORS[rule]
    features, pairs = queries_and_pairs(number, 70)
    pairs.data[pairs.indptr[1] : pairs.indptr[2]] = 1
    scorer = PairScores(layers_of(chain), NUM_FEATURES, bias=BIAS, native=native)
    found = scorer.score(features, pairs, [rule] * 3)
    np.testing.assert_array_equal(found.indptr, pairs.indptr)
    pairs.sort_indices()
    np.testing.assert_array_equal(found.indices, pairs.indices)
    places = zip(*_places(pairs), strict=True)
    expected = [walked(chain, features, row, label, rule) for row, label in places]
    np.testing.assert_allclose(found.data, expected, rtol=2e-5, atol=1e-6)
    dense = scorer.score(features.toarray(), pairs, [rule] * 3)
    np.testing.assert_allclose(dense.data, found.data, rtol=1e-6, atol=1e-7)


def _places(pairs):
    return np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr)), pairs.indices


@both
def test_as_a_search_whose_beam_keeps_all(native, monkeypatch):
    layers, rules = layers_of(random_chain(2)), [POST_PROCESSORS["l3-hinge"]] * 3
    features, pairs = queries_and_pairs(50, 70)
    found = search(layers, features, [0, 0, 0], rules, bias=BIAS, native=native).toarray()
    scorer = PairScores(layers, NUM_FEATURES, bias=BIAS, native=native)
    pairs.sort_indices()
    scores = scorer.score(features, pairs, rules)
    np.testing.assert_array_equal(scores.data, found[_places(pairs)])
    monkeypatch.setattr(pair_scores, "_MAX_SCORES", 1)  # a query at a time
    np.testing.assert_array_equal(scorer.score(features, pairs, rules).data, scores.data)


@both
def test_nodes_that_are_never_predicted(native):
    chain = random_chain(3)
    trained = np.arange(70) % 5 > 0
    features, pairs = queries_and_pairs(20, 70)
    pairs.sort_indices()
    scorer = PairScores(layers_of(chain, trained), NUM_FEATURES, bias=BIAS, native=native)
    found = scorer.score(features, pairs, [POST_PROCESSORS["noop"]] * 3)
    np.testing.assert_array_equal(np.isneginf(found.data), ~trained[pairs.indices])


@both
def test_no_pairs_and_no_queries(native):
    scorer = PairScores(layers_of(random_chain(4)), NUM_FEATURES, native=native)
    for number in (0, 20):
        features = scipy.sparse.csr_matrix((number, NUM_FEATURES), dtype=np.float32)
        none = scipy.sparse.csr_matrix((number, 70), dtype=np.float32)
        found = scorer.score(features, none, [POST_PROCESSORS["noop"]] * 3)
        assert found.shape == (number, 70) and found.nnz == 0


def test_pairs_of_another_shape():
    scorer = PairScores(layers_of(random_chain(5)), NUM_FEATURES)
    features, pairs = queries_and_pairs(4, 69)
    with pytest.raises(DataError, match=r"shape is \(4, 69\) instead of \(4, 70\)"):
        scorer.score(features, pairs, [POST_PROCESSORS["noop"]] * 3)
