"""Beam search against a plain search of one query after the other over dense matrices."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.ops.search.beam_search.beam_search import BeamSearch, has_native, search
from tfxc.ops.search.beam_search.chunked_layer import check_layer, chunks_of
from tfxc.ops.search.beam_search.post_processors import POST_PROCESSORS

NATIVE = [False, pytest.param(True, marks=pytest.mark.skipif(not has_native(), reason="not built"))]
NUM_FEATURES = 90
both = pytest.mark.parametrize("native", NATIVE)


def random_chain(seed, sizes=(3, 11, 70), density=0.3, num_features=NUM_FEATURES):
    """Dense weights (D + 1, K) and parents of every layer; weights are multiples of 1/8."""
    random = np.random.default_rng(seed)
    chain, above = [], 1
    for size in sizes:
        weights = random.integers(-8, 9, (num_features + 1, size)) / 8
        weights *= random.random(weights.shape) < density
        parents = np.append(np.arange(above), random.integers(0, above, size - above))
        chain.append((weights.astype(np.float32), random.permutation(parents)))
        above = size
    return chain


def layers_of(chain, trained=None):
    layers, above = [], 1
    for number, (weights, parents) in enumerate(chain):
        known = trained if number == len(chain) - 1 else None
        layers.append(chunks_of(scipy.sparse.csc_matrix(weights), parents, above, known))
        above = len(parents)
    return layers


def random_queries(seed, count, density=0.2, num_features=NUM_FEATURES):
    random = np.random.default_rng(seed)
    dense = random.integers(1, 9, (count, num_features)) / 8
    dense *= random.random(dense.shape) < density
    return scipy.sparse.csr_matrix(dense.astype(np.float32))


def plain_search(chain, queries, bias, only_topk, rules, start=None, trained=None):
    """Lists of (score, node), best first, with sums that are exact in any order."""
    found = []
    for row, query in enumerate(queries.toarray()):
        extended = np.append(query, np.float32(bias))
        beam = [(1.0, 0)] if start is None else start[row]
        for number, ((weights, parents), kept, rule) in enumerate(
            zip(chain, only_topk, rules, strict=True)
        ):
            margins = extended @ weights
            own = rule.transform(margins)
            candidates = []
            for parent_score, parent in beam:
                for node in np.flatnonzero(parents == parent):
                    score = own[node]
                    if number or start is not None:
                        score = rule.combine(score, np.float32(parent_score))
                    last = number == len(chain) - 1
                    if not (last and trained is not None and not trained[node]):
                        candidates.append((float(score), int(node)))
            beam = sorted(candidates, key=lambda pair: (-pair[0], pair[1]))[: kept or None]
        found.append(beam)
    return found


def assert_same(found, expected, tolerance=1e-6):
    assert found.shape[0] == len(expected)
    for row, beam in enumerate(expected):
        part = slice(*found.indptr[row : row + 2])
        scores = np.array([score for score, _ in beam])
        np.testing.assert_allclose(found.data[part], scores, rtol=tolerance, atol=tolerance)
        assert found.indices[part].tolist() == [node for _, node in beam]


@both
@pytest.mark.parametrize("name", list(POST_PROCESSORS))
def test_every_post_processor(native, name):
    chain, queries = random_chain(1), random_queries(2, 40)
    rules, kept = [POST_PROCESSORS[name]] * 3, [2, 4, 9]
    found = search(layers_of(chain), queries, kept, rules, bias=0.5, native=native)
    expected = plain_search(chain, queries, 0.5, kept, rules)
    # Exponentials of two libraries differ in the last bit, and so may the order of near ties.
    for row, beam in enumerate(expected):
        part = slice(*found.indptr[row : row + 2])
        assert set(found.indices[part]) == {node for _, node in beam}
        scores = {node: score for score, node in beam}
        wanted = [scores[node] for node in found.indices[part]]
        np.testing.assert_allclose(found.data[part], wanted, rtol=2e-6, atol=1e-7)
        assert (np.diff(found.data[part]) <= 0).all()


@both
def test_shares_of_negative_scores(native):
    """Under a parent with a negative score, a child's score falls where its margin rises."""
    chain, queries = random_chain(1), random_queries(2, 40)
    chain[0] = -np.abs(chain[0][0]), chain[0][1]
    rules = [POST_PROCESSORS[name] for name in ("noop", "l2-hinge", "sigmoid")]
    for part in (queries, queries[:5]):
        found = search(layers_of(chain), part, [2, 3, 9], rules, bias=0.5, native=native)
        expected = plain_search(chain, part, 0.5, [2, 3, 9], rules)
        assert all(score < 0 for beam in expected for score, _ in beam)
        for row, beam in enumerate(expected):
            nodes = found.indices[slice(*found.indptr[row : row + 2])]
            assert set(nodes) == {node for _, node in beam}


@both
@pytest.mark.parametrize("count", [1, 3, 15, 16, 60])
def test_ties_and_few_or_many_queries(native, count):
    chain, queries = random_chain(3, density=0.1), random_queries(4, count, 0.05)
    rules, kept = [POST_PROCESSORS["log-l2-hinge"]] * 3, [2, 3, 12]
    found = search(layers_of(chain), queries, kept, rules, bias=1.0, native=native, threads=2)
    expected = plain_search(chain, queries, 1.0, kept, rules)
    assert any(a[0] == b[0] for beam in expected for a, b in itertools.pairwise(beam))
    assert_same(found, expected, 0)


@both
def test_dense_queries_are_like_sparse_ones(native):
    chain, queries = random_chain(5), random_queries(6, 30)
    rules, kept = [POST_PROCESSORS["noop"]] * 3, [2, 5, 20]
    beam = BeamSearch(layers_of(chain), NUM_FEATURES, bias=2.0, native=native)
    for part in (queries, queries[:2]):
        sparse, dense = (beam.search(rows, kept, rules) for rows in (part, part.toarray()))
        assert (sparse != dense).nnz == 0 and sparse.nnz == 20 * part.shape[0]


@both
def test_a_beam_that_keeps_all_is_exhaustive(native):
    chain, queries = random_chain(7), random_queries(8, 20)
    rules = [POST_PROCESSORS["noop"]] * 3
    found = search(layers_of(chain), queries, [0, None, 0], rules, bias=1.0, native=native)
    extended = np.hstack([queries.toarray(), np.ones((20, 1), np.float32)])
    assert found.nnz == 20 * 70
    np.testing.assert_array_equal(found.toarray(), extended @ chain[-1][0])


@both
def test_untrained_nodes_and_short_rows(native):
    chain, queries = random_chain(9, sizes=(2, 9)), random_queries(10, 25)
    trained = np.random.default_rng(0).random(9) < 0.5
    rules = [POST_PROCESSORS["sigmoid"]] * 2
    layers = layers_of(chain, trained)
    found = search(layers, queries, [1, 5], rules, bias=1.0, native=native, order="index")
    expected = plain_search(chain, queries, 1.0, [1, 5], rules, trained=trained)
    assert np.diff(found.indptr).tolist() == [len(beam) for beam in expected]
    assert min(map(len, expected)) < 5 and not found[:, ~trained].nnz
    for row, beam in enumerate(expected):
        nodes = found.indices[slice(*found.indptr[row : row + 2])]
        assert nodes.tolist() == sorted(node for _, node in beam)


@both
@pytest.mark.parametrize("name", ["noop", "l3-hinge", "log-sigmoid"])
def test_given_codes(native, name):
    chain, queries = random_chain(11)[1:], random_queries(12, 30)
    start = [[(0.5, 0), (0.0, 2)], [], [(0.25, 1)]] * 10
    rows = np.repeat(np.arange(30), [len(beam) for beam in start])
    pairs = np.array([pair for beam in start for pair in beam])
    codes = scipy.sparse.csr_matrix((pairs[:, 0], (rows, pairs[:, 1].astype(int))), (30, 3))
    layers, above = [], 3
    for weights, parents in chain:
        layers.append(chunks_of(weights, parents, above))
        above = len(parents)
    rules = [POST_PROCESSORS[name]] * 2
    for count in (5, 30):
        part = queries[:count], [3, 6], rules
        found = search(layers, *part, bias=1.0, csr_codes=codes[:count], native=native)
        expected = plain_search(chain, queries[:count], 1.0, [3, 6], rules, start[:count])
        assert_same(found, expected, 2e-6)


@both
@pytest.mark.parametrize("density", [0.002, 0.02])
def test_sparse_chunks_of_many_features(native, density):
    # Few rows of many features: the index has buckets, some of them long.
    chain = random_chain(13, (2, 30), density, 5000)
    chain[1][0][4000:4100] = 0.125
    queries = random_queries(14, 20, 0.1, 5000)
    rules = [POST_PROCESSORS["noop"]] * 2
    found = search(layers_of(chain), queries, [2, 30], rules, bias=1.0, native=native)
    assert_same(found, plain_search(chain, queries, 1.0, [2, 30], rules), 0)


@both
def test_without_bias_entries_or_queries(native):
    chain = random_chain(15, (2, 6))
    chain[1][0][:] = 0
    rules, queries = [POST_PROCESSORS["noop"]] * 2, random_queries(16, 20)
    beam = BeamSearch(layers_of(chain), NUM_FEATURES, native=native)
    assert_same(beam.search(queries, [1, 6], rules), plain_search(chain, queries, 0, [1, 6], rules))
    none = beam.search(queries[:0], [1, 6], rules)
    assert none.shape == (0, 6) and none.nnz == 0
    empty = scipy.sparse.csr_matrix((2, NUM_FEATURES), dtype=np.float32)
    assert beam.search(empty, [2, 4], rules).indices.tolist() == [0, 1, 2, 3] * 2


@pytest.mark.skipif(not has_native(), reason="not built")
def test_blocks_of_queries_do_not_matter(monkeypatch):
    chain, queries = random_chain(17), random_queries(18, 100)
    rules = [POST_PROCESSORS["l3-hinge"]] * 3
    beam = BeamSearch(layers_of(chain), NUM_FEATURES, bias=1.0)
    whole = beam.search(queries, [2, 3, 7], rules)
    monkeypatch.setattr("tfxc.ops.search.beam_search.beam_search._MAX_MARGINS", 1000)
    parts = beam.search(queries, [2, 3, 7], rules, threads=2)
    np.testing.assert_array_equal(whole.indices, parts.indices)
    np.testing.assert_array_equal(whole.data, parts.data)


def test_chunks_hold_the_matrix():
    weights, parents = random_chain(19, (5, 300), 0.05)[1]
    layer = chunks_of(scipy.sparse.csr_matrix(weights), parents, 5)
    check_layer(layer, 5, NUM_FEATURES, "layer")
    again = np.zeros_like(weights)
    for parent in range(5):
        nodes = layer.children[layer.child_splits[parent] : layer.child_splits[parent + 1]]
        assert nodes.tolist() == np.flatnonzero(parents == parent).tolist()
        for row in range(layer.row_splits[parent], layer.row_splits[parent + 1]):
            entries = slice(*layer.entry_splits[row : row + 2])
            assert entries.stop > entries.start
            again[layer.rows[row], nodes[layer.columns[entries]]] = layer.values[entries]
    np.testing.assert_array_equal(again, weights)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "children",
            lambda found: found + 1,
            "children: the numbers go from 1 to 70, but only 0 to 69",
        ),
        ("rows", lambda found: found.astype(np.int64), "rows: .* int64 instead of one of int32"),
        ("rows", lambda found: np.where(found == 9, 91, found), "rows: the numbers go .* 0 to 90"),
        ("row_splits", lambda found: found[::-1], "row_splits: the numbers do not ascend"),
        ("entry_splits", lambda found: found[1:], "entry_splits: .* entries instead of"),
        ("values", lambda found: found[1:], "entry_splits: the numbers do not ascend"),
        ("columns", lambda found: found[1:], "columns: .* entries instead of"),
        ("columns", lambda found: found.astype(np.int32) + 99, "columns: the numbers go from"),
        ("trained", lambda found: found[1:], "trained: there are 69 entries instead of 70"),
    ],
)
def test_damaged_layers(name, change, message):
    layers = layers_of(random_chain(20))
    layers[2] = layers[2]._replace(**{name: change(getattr(layers[2], name))})
    with pytest.raises(DataError, match=message):
        BeamSearch(layers, NUM_FEATURES)


@pytest.mark.skipif(not has_native(), reason="not built")
def test_a_wrong_column_harms_no_memory():
    layers, queries = layers_of(random_chain(21)), random_queries(22, 40)
    layers[2].columns[:] = 65535
    rules = [POST_PROCESSORS["noop"]] * 3
    for part in (queries, queries[:1]):
        assert search(layers, part, [3, 11, 5], rules).shape == (part.shape[0], 70)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"only_topk": [1, 2]}, ConfigError, "there are 2 values for 3 layers"),
        ({"only_topk": [1, -2, 3]}, ConfigError, "-2 is not an integer of at least 0"),
        ({"post_processors": []}, ConfigError, r"there are 0 values .*of 3, 11, 70 nodes"),
        ({"order": "label"}, ConfigError, "one of score, index"),
        ({"threads": 0}, ConfigError, "threads: 0 threads are too few"),
        ({"features": np.zeros((2, 9), np.float32)}, DataError, "has 90 features"),
        ({"features": np.full((2, 90), np.nan)}, DataError, "a weight is NaN or infinite"),
        ({"features": scipy.sparse.csr_matrix(np.full((1, 90), np.inf))}, DataError, "infinite"),
        (
            {"csr_codes": scipy.sparse.csr_matrix((2, 4))},
            DataError,
            r"shape is \(2, 4\) instead of \(4, 1\)",
        ),
    ],
)
def test_what_is_refused(options, error, message):
    beam = BeamSearch(layers_of(random_chain(23)), NUM_FEATURES)
    given = {"features": random_queries(24, 4), "only_topk": [1, 2, 3]}
    given |= {"post_processors": [POST_PROCESSORS["noop"]] * 3}
    with pytest.raises(error, match=message):
        beam.search(**given | options)


def test_layers_that_do_not_belong_together():
    layers = layers_of(random_chain(25))
    with pytest.raises(DataError, match="layer 1, child_splits: there are 12 entries instead of 4"):
        BeamSearch([layers[0], layers[2]], NUM_FEATURES)
    with pytest.raises(ConfigError, match="layers: the list is empty"):
        BeamSearch([], NUM_FEATURES)
    beam = BeamSearch(layers[1:], NUM_FEATURES)
    with pytest.raises(ConfigError, match="the first layer has 3 parents"):
        beam.search(random_queries(0, 2), [1, 1], [POST_PROCESSORS["noop"]] * 2)
