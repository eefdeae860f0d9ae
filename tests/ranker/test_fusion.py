"""A memory finds what brute force finds, and is what it would be had it always been so."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from tfxc.ops.csr import unit_rows
from tfxc.ranker.fusion import fused_numpy
from tfxc.ranker.fusion import memory as memory_module
from tfxc.ranker.fusion.memory import ExampleMemory, MemorySettings, csr_rows, kernels
from tfxc.ranker.fusion.trees import _arrays_of

BLOCKS = [0, 12, 40]
NUM_LABELS = 9
PATHS = [False] if kernels is None else [False, None]


def rows(count, seed, share=0.3):
    random = np.random.default_rng(seed)
    matrix = random.random((count, BLOCKS[-1])) * (random.random((count, BLOCKS[-1])) < share)
    return scipy.sparse.csr_matrix(matrix.astype(np.float32))


def labels_of(count, seed, num_labels=NUM_LABELS):
    random = np.random.default_rng(seed)
    matrix = (random.random((count, num_labels)) < 0.2).astype(np.float32)
    matrix[np.arange(count), random.integers(0, num_labels, count)] = 1
    return scipy.sparse.csr_matrix(matrix)


def memory(seed=0, texts=True, **settings):
    settings = MemorySettings(blocks=BLOCKS, **{"neighbours": 6, **settings})
    text_rows = rows(NUM_LABELS, seed + 2) if texts else None
    return ExampleMemory.of(settings, rows(50, seed), labels_of(50, seed + 1), text_rows)


def summed(memory, features, labels, texts, queries, power):
    """The scores of all pairs by dense matrices: float64 (queries, labels)."""
    scores = np.zeros((queries.shape[0], labels.shape[1]))
    for first, last in itertools.pairwise(BLOCKS):
        q, x, t = (unit_rows(m[:, first:last].toarray()) for m in (queries, features, texts))
        for similarities, votes in ((q @ x.T, labels.toarray()), (q @ t.T, np.eye(len(t)))):
            for query, values in enumerate(similarities):
                best = np.argsort(-values, kind="stable")[: memory.settings.neighbours]
                given = np.maximum(values[best], 0).astype(np.float64) ** power
                # Votes of neighbours are shares of theirs, then of all labels' together.
                votes_here = given @ votes[best]
                scores[query] += votes_here / max(votes_here.sum(), 1e-300)
    return scores


@pytest.mark.parametrize("native", PATHS)
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_sum_is_that_of_brute_force(native, power):
    fused = memory(power=power)
    queries = rows(30, 9)
    ids, scores = fused.fusion(native=native).top_k(csr_rows(queries), None, 5)
    expected = summed(fused, rows(50, 0), labels_of(50, 1), rows(NUM_LABELS, 2), queries, power)
    best = -np.sort(-expected, axis=1)[:, :5]
    np.testing.assert_allclose(scores, best, rtol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(expected, ids, axis=1), best, rtol=1e-4)


def test_a_query_of_unknown_features_has_no_labels():
    ids, scores = memory().fusion().top_k(csr_rows(rows(2, 0, share=0)), None, 3)
    assert (ids == -1).all() and np.isneginf(scores).all()


def test_a_power_that_leaves_nothing_of_votes_gives_numbers():
    scores = memory(texts=False, power=5000).fusion().top_k(csr_rows(rows(9, 1)), None, 3)[1]
    assert not np.isnan(scores).any() and (scores[np.isfinite(scores)] == 0).any()


@pytest.mark.skipif(kernels is None, reason="nothing is compiled")
def test_kernels_give_the_numbers_of_numpy():
    fused = memory()
    queries = fused_numpy.split_blocks(csr_rows(rows(7, 5)), BLOCKS)[0]
    texts = fused_numpy.transposed(fused.texts[0], NUM_LABELS)
    pairs = (np.repeat(np.arange(7), NUM_LABELS), np.tile(np.arange(NUM_LABELS), 7))
    pairs = (*pairs, BLOCKS[1])
    native = kernels.pair_sums(queries, texts, *pairs)
    np.testing.assert_allclose(native, fused_numpy.pair_sums(queries, texts, *pairs), rtol=1e-6)
    q, t = (
        scipy.sparse.csr_matrix((values, ids, bounds), (len(bounds) - 1, BLOCKS[1])).toarray()
        for bounds, ids, values in (queries, texts)
    )
    np.testing.assert_allclose(native[0], (q @ t.T).ravel(), rtol=1e-5)
    np.testing.assert_allclose(native[1], (q**2 @ (t > 0).T).ravel(), rtol=1e-5)
    np.testing.assert_allclose(native[2], ((q > 0) @ (t**2).T).ravel(), rtol=1e-5)


def searched(layer, width, queries, k, by_row):
    lists = (fused_numpy.entry_splits(layer, width), layer.columns, layer.values)
    sizes = (len(layer.children), k)
    found = kernels.nearest_rows(*queries, *lists, *sizes, 2, by_row)
    for own, other in zip(found, fused_numpy.nearest_rows(queries, *lists, *sizes), strict=True):
        np.testing.assert_array_equal(own, other)
    return found


@pytest.mark.skipif(kernels is None, reason="nothing is compiled")
@pytest.mark.parametrize("count", [1, 255, 600])
def test_dense_rows_have_the_answers_of_lists(count, monkeypatch):
    random = np.random.default_rng(3)
    rows = random.normal(size=(count, 20)).astype(np.float32)
    rows[random.random((count, 20)) < 0.2] = 0
    rows[count // 2 :: 7] = rows[0]  # ties
    rows[4:6] = 0
    queries = random.normal(size=(19, 20)).astype(np.float32)
    queries[random.random((19, 20)) < 0.3] = 0
    queries[:3] = rows[0] * np.array([[1], [-1], [0]])
    (layer,) = memory_module.block_layers(scipy.sparse.csr_matrix(rows), [0, 20])
    for number in (1, 8, 19):
        some = csr_rows(unit_rows(scipy.sparse.csr_matrix(queries[:number])))
        for k in (1, 10, 700):
            right = searched(layer, 20, some, k, None)
            monkeypatch.setattr(kernels, "nearest_rows", None)
            for found, expected in zip(
                memory_module._nearest(layer, 20, k, 2, None)(some), right, strict=True
            ):
                np.testing.assert_array_equal(found, expected)
            monkeypatch.undo()


def skewed(count, width, seed):
    """Rows of length 1; the first features are in most rows, with little weight."""
    random = np.random.default_rng(seed)
    shares = np.where(np.arange(width) < width // 8, 0.8, 0.05)
    weights = np.where(np.arange(width) < width // 8, 0.1, 1.0)
    matrix = (random.random((count, width)) < shares) * weights * random.random((count, width))
    return unit_rows(scipy.sparse.csr_matrix(matrix.astype(np.float32)))


@pytest.mark.skipif(kernels is None, reason="nothing is compiled")
@pytest.mark.parametrize("count", [300, 70_000])
def test_long_lists_are_not_read_and_nothing_changes(count, monkeypatch):
    monkeypatch.setattr(memory_module, "_LONG_ROW", 1)
    matrix = skewed(count, 64, 0)[[*range(5), *[4] * 4, *range(9, count)]]  # with ties
    (layer,) = memory_module.block_layers(matrix, [0, 64])
    by_row = memory_module._long_lists(layer, 64, None)
    none = scipy.sparse.csr_matrix((2, 64), dtype=np.float32)
    queries = scipy.sparse.vstack([skewed(40, 64, 1), matrix[3:6], none], format="csr")
    bounds, ids, weights = csr_rows(queries)
    backwards = np.concatenate(
        [np.arange(last - 1, first - 1, -1) for first, last in itertools.pairwise(bounds)]
    )
    for rows in (
        (bounds, ids, weights),
        (bounds, ids[backwards], weights[backwards]),
        (bounds, ids, np.where(ids % 5 == 0, -weights, weights)),
    ):
        for k in (1, 10, 299):
            expected = searched(layer, 64, rows, k, None)
            for found, right in zip(searched(layer, 64, rows, k, by_row), expected, strict=True):
                np.testing.assert_array_equal(found, right)
    # Rows that are far from all queries are never summed up: other numbers there do no harm.
    expected = searched(layer, 64, (bounds, ids, weights), 1, None)
    near = np.zeros(count, bool)
    near[searched(layer, 64, (bounds, ids, weights), count // 20, None)[0]] = True
    *kept, values = by_row
    values = np.where(np.repeat(near, np.diff(kept[2])), values, np.float32(100))
    assert (values == 100).sum() > values.size / 10
    found = searched(layer, 64, (bounds, ids, weights), 1, (*kept, values))
    np.testing.assert_array_equal(found, expected)


def test_trees_add_up_to_what_scikit_learn_says():
    from sklearn.ensemble import HistGradientBoostingClassifier

    random = np.random.default_rng(0)
    columns = random.random((400, 5)).astype(np.float32)
    truth = columns[:, 0] + columns[:, 1] * columns[:, 2] > 0.8
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(columns, truth)
    trees = _arrays_of(model)
    expected = model.decision_function(columns)
    np.testing.assert_allclose(fused_numpy.tree_scores(columns, **trees), expected, rtol=1e-9)
    if kernels is not None:
        for count in (0, 1, 8, 399):
            native = kernels.tree_scores(columns[:count], **trees)
            right = fused_numpy.tree_scores(columns[:count], **trees)
            np.testing.assert_array_equal(native, right)


def assert_same(left, right):
    """Both hold the same rows, texts and labels, bit for bit."""
    for one, other in zip([*left.rows, *left.texts], [*right.rows, *right.texts], strict=True):
        for name in one._fields:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    assert left.labels.shape == right.labels.shape
    for name, array in left.arrays().items():
        np.testing.assert_array_equal(array, right.arrays()[name], name)


def test_examples_and_labels_that_are_added_have_always_been_there():
    more = labels_of(20, 7, NUM_LABELS + 2)
    old = labels_of(50, 1)
    old.resize(50, NUM_LABELS + 2)
    texts = scipy.sparse.vstack([rows(NUM_LABELS, 2), rows(2, 0, share=0)], format="csr")
    always = ExampleMemory.of(
        memory().settings,
        scipy.sparse.vstack([rows(50, 0), rows(20, 6)], format="csr"),
        scipy.sparse.vstack([old, more], format="csr"),
        texts,
    )
    assert_same(memory().with_examples(rows(20, 6), more), always)


def test_label_texts_that_are_added_have_always_been_there():
    old = labels_of(50, 1)
    old.resize(50, NUM_LABELS + 3)
    texts = scipy.sparse.vstack([rows(NUM_LABELS, 2), rows(3, 8)], format="csr")
    assert_same(
        memory().with_texts(rows(3, 8)),
        ExampleMemory.of(memory().settings, rows(50, 0), old, texts),
    )


def test_texts_of_labels_that_had_none_have_always_been_there():
    bare = rows(NUM_LABELS, 2).tolil()
    bare[[1, 4]] = 0
    before = ExampleMemory.of(memory().settings, rows(50, 0), labels_of(50, 1), bare.tocsr())
    ids = [4, NUM_LABELS, 1]  # one of them is new
    texts = scipy.sparse.vstack([bare, rows(1, 9)], format="lil")
    texts[ids] = rows(3, 8)
    labels = labels_of(50, 1)
    labels.resize(50, NUM_LABELS + 1)
    always = ExampleMemory.of(before.settings, rows(50, 0), labels, texts.tocsr())
    assert_same(before.with_texts(rows(3, 8), ids), always)


def test_labels_that_are_removed_have_never_been_there():
    labels = labels_of(50, 1)
    kept = [0, 2, 3, 5, 6, 7, 8]
    bare = np.asarray(labels[:, kept].sum(axis=1)).ravel() == 0
    assert bare.any()
    never = ExampleMemory.of(
        memory().settings, rows(50, 0)[~bare], labels[~bare][:, kept], rows(NUM_LABELS, 2)[kept]
    )
    assert_same(memory().without_labels([4, 1]), never)


def test_the_rankers_labels_keep_their_names():
    ranked = (np.array([[3, 1, 0]], np.int32), np.array([[0.9, 0.8, 0.7]], np.float32))
    query = csr_rows(rows(1, 0, share=0))
    with_ranker = ExampleMemory(memory().settings, memory().rows, memory().labels)
    assert with_ranker.fusion().top_k(query, ranked, 3)[0].tolist() == [[3, 1, 0]]
    numbered = ExampleMemory(
        with_ranker.settings,
        with_ranker.rows,
        with_ranker.labels,
        ranker_labels=np.arange(NUM_LABELS, dtype=np.int32),
    )
    cut = numbered.without_labels([1])
    assert cut.fusion().top_k(query, ranked, 3)[0].tolist() == [[2, 0, -1]]


def test_places_are_kept_for_rare_labels():
    labels = scipy.sparse.csr_matrix((np.ones(48), (np.arange(48), np.arange(48) % 12)), (50, 16))
    labels = labels.tolil()
    labels[48, 12] = labels[48, 13] = labels[49, 14] = 1
    settings = MemorySettings(blocks=BLOCKS, neighbours=50, rare=1)
    fused = ExampleMemory.of(settings, rows(50, 0), scipy.sparse.csr_matrix(labels))
    queries = csr_rows(rows(20, 3))
    plain, _ = fused.fusion().top_k(queries, None, 10)
    changed = MemorySettings(**{**settings.model_dump(), "tail_places": 2})
    kept, scores = (
        ExampleMemory(changed, fused.rows, fused.labels).fusion().top_k(queries, None, 10)
    )
    np.testing.assert_array_equal(kept[:, :8], plain[:, :8])
    rare = (kept[:, 8:] >= 12).sum()
    assert rare > (plain[:, 8:] >= 12).sum() and rare >= 38
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 10 for row in kept.tolist())


def test_a_saved_memory_answers_alike(tmp_path):
    trees = {"roots": np.zeros(1, np.int32), "baseline": np.ones(1)}
    fused = memory(tail_places=1)
    ExampleMemory(fused.settings, fused.rows, fused.labels, fused.texts, np.arange(3), trees).save(
        tmp_path
    )
    fused_again = ExampleMemory.load(tmp_path)
    (tmp_path / "memory" / "param.json").unlink()  # a save that was killed is done again
    fused_again.save(tmp_path / "other")
    ExampleMemory(fused.settings, fused.rows, fused.labels, fused.texts, np.arange(3), trees).save(
        tmp_path
    )
    loaded = ExampleMemory.load(tmp_path)
    assert_same(loaded, ExampleMemory.load(tmp_path / "other"))
    assert loaded.settings == fused.settings and loaded.trees.keys() == trees.keys()
    np.testing.assert_array_equal(loaded.ranker_labels, np.arange(3))
    assert_same(
        ExampleMemory(fused.settings, fused.rows, fused.labels, fused.texts),
        ExampleMemory(loaded.settings, loaded.rows, loaded.labels, loaded.texts),
    )
