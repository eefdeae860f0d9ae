"""Building trees and adding labels to them."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.tree_building import (
    ClusteringSettings,
    add_labels,
    build_tree,
    leaf_centroids,
)


def vectors_of(num_labels, width=40, density=0.1, seed=0):
    rng = np.random.default_rng(seed)
    found = scipy.sparse.random(num_labels, width, density, "csr", rng=rng, dtype=np.float32)
    return found.multiply(1 / np.maximum(scipy.sparse.linalg.norm(found, axis=1), 1e-9)[:, None])


# Labels, nr_splits, min_codes, max_leaf_size, and the levels libpecos 1.2.8 gives; the first five
# are published ones (Zhang et al., NeurIPS 2021).
PUBLISHED = [
    (3956, 16, 16, 16, [16, 256, 3956]),
    (30938, 16, 128, 16, [128, 2048, 30938]),
    (30938, 16, None, 16, [8, 128, 2048, 30938]),
    (13330, 8, 128, 16, [128, 1024, 13330]),
    (3956, 8, None, 16, [4, 32, 256, 3956]),
    (101, 16, None, 100, [2, 101]),
    (1000, 3, 5, 2, [3, 7, 19, 57, 171, 512, 1000]),
    (700, 5, None, 10, [2, 6, 26, 128, 700]),
    (50, 16, None, 100, [50]),
    (100, 16, None, 100, [100]),
    (1, 16, None, 100, [1]),
    (4, 2, 1, 2, [1, 2, 4]),
]


@pytest.mark.parametrize(("labels", "splits", "codes", "leaf", "sizes"), PUBLISHED)
def test_levels(labels, splits, codes, leaf, sizes):
    tree = build_tree(
        vectors_of(labels, density=0.05),
        ClusteringSettings(splits, codes, leaf, max_iter=2),
    )
    assert tree.sizes == sizes
    for level in range(tree.depth):
        counts = np.diff(tree.children(level)[1])
        if 0 < level < tree.depth - 1:
            assert set(counts[:-1]) <= {splits} and counts[-1] <= splits
        elif level:
            assert counts.max() - counts.min() <= 1 and counts.max() <= leaf


def lean(vectors, order, left):
    """How much tighter two halves are than the whole: sums' lengths, what 2-means makes great."""
    halves = vectors[order[:left]], vectors[order[left:]]
    return sum(np.linalg.norm(np.asarray(half.sum(axis=0))) for half in halves)


def test_every_split_is_better_than_chance():
    vectors = scipy.sparse.csr_matrix(vectors_of(256, seed=4))
    tree = build_tree(vectors, ClusteringSettings(nr_splits=2, min_codes=2, max_leaf_size=32))
    random = np.random.default_rng(0)
    for level in range(1, tree.depth - 1):
        nodes, splits = tree.children(level)
        for begin, end in itertools.pairwise(splits):
            one, other = (tree.labels_under(level, node) for node in nodes[begin:end])
            labels = np.concatenate([one, other])
            found = lean(vectors, labels, len(one))
            drawn = [lean(vectors, random.permutation(labels), len(one)) for _ in range(20)]
            assert found > max(drawn)


@pytest.mark.parametrize("sparse", [False, True])
def test_groups_become_leaves(sparse):
    group = np.random.default_rng(1).permutation(np.arange(64) // 8)
    vectors = np.eye(8, 20, dtype=np.float32)[group]
    vectors += np.random.default_rng(2).normal(0, 0.02, vectors.shape).astype(np.float32)
    given = scipy.sparse.csr_matrix(vectors) if sparse else vectors
    tree = build_tree(given, ClusteringSettings(max_leaf_size=8))
    assert tree.sizes == [8, 64]
    pure = [len(set(group[tree.labels_under(0, leaf)])) == 1 for leaf in range(8)]
    assert sum(pure) >= 6


def test_settings_and_seeds():
    vectors = vectors_of(500)
    first = build_tree(vectors, ClusteringSettings(max_leaf_size=20))
    assert first == build_tree(vectors, ClusteringSettings(max_leaf_size=20), threads=3)
    others = [{"seed": 1}, {"spherical": False}, {"max_iter": 1}, {"min_sample_rate": 0.3}]
    for other in (*others, {"max_sample_rate": 0.5, "min_sample_rate": 0.5, "warmup_ratio": 0.0}):
        tree = build_tree(vectors, ClusteringSettings(max_leaf_size=20, **other))
        assert tree.sizes == first.sizes and tree != first


def test_labels_without_vectors_get_leaves():
    vectors = scipy.sparse.csr_matrix((90, 12), dtype=np.float32)
    assert build_tree(vectors, ClusteringSettings(max_leaf_size=10)).sizes == [16, 90]
    vectors = vectors_of(90).tolil()
    vectors[::2] = 0
    tree = build_tree(vectors.tocsr(), ClusteringSettings(max_leaf_size=10))
    assert sorted(np.concatenate([tree.labels_under(0, n) for n in range(16)])) == list(range(90))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_leaf_size": 1}, "max_leaf_size: must be an integer of at least 2, not 1"),
        ({"max_leaf_size": 2.5}, "max_leaf_size"),
        ({"nr_splits": 1}, "nr_splits: must be an integer of at least 2, not 1"),
        ({"min_codes": 0}, "min_codes: must be an integer of at least 1, not 0"),
        ({"max_iter": True}, "max_iter"),
        ({"min_sample_rate": 0.0}, "min_sample_rate"),
        (
            {"min_sample_rate": 0.5, "max_sample_rate": 0.4},
            "0.5 is above max_sample_rate, 0.4",
        ),
        ({"warmup_ratio": 2}, "warmup_ratio"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_tree(np.eye(10), ClusteringSettings(**settings))


def test_no_labels():
    with pytest.raises(DataError, match="vectors of no label"):
        build_tree(np.zeros((0, 4)))


@pytest.mark.parametrize("sparse", [False, True])
def test_new_labels_go_to_the_nearest_leaf(sparse, monkeypatch):
    old, new = vectors_of(60, seed=5).toarray(), vectors_of(25, density=0.2, seed=6).toarray()
    assert (np.linalg.norm(new, axis=1) > 0).all()
    tree = build_tree(old, ClusteringSettings(nr_splits=2, max_leaf_size=8))
    centroids = np.zeros((tree.sizes[-2], 40))
    for label, leaf in enumerate(tree.parents[-1]):
        centroids[leaf] += old[label]
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    monkeypatch.setattr("tfxc.labels.tree_building._MAX_SCORES", 70)
    kind = scipy.sparse.csr_matrix if sparse else np.asarray
    found = leaf_centroids(tree, kind(old))
    np.testing.assert_allclose(found.toarray() if sparse else found, centroids, atol=1e-6)
    extended, affected = add_labels(tree, kind(new), found)
    expected = (new @ centroids.T).argmax(axis=1)
    assert extended.parents[-1].tolist() == [*tree.parents[-1], *expected]
    assert affected.tolist() == sorted(set(expected)) and affected.dtype == np.int32
    assert extended.sizes == [*tree.sizes[:-1], 85] and tree.num_labels == 60
    assert all(map(np.array_equal, extended.parents[:-1], tree.parents[:-1]))


def test_ties_go_to_the_smallest_leaf():
    tree = ClusterTree([[0, 0, 0], [0, 0, 1, 2, 2, 1, 1]])
    centroids = np.float32([[1, 0], [1, 0], [1, 0]])
    extended, affected = add_labels(tree, np.float32([[2, 1]]), centroids)
    assert extended.parents[-1][7:].tolist() == [0] and affected.tolist() == [0]
    # Labels without a vector fill up the small leaves, after the others have found theirs.
    new = np.float32([[0, 0], [0, 0], [1, 0], [0, 0], [0, 0]])
    extended, affected = add_labels(tree, new, centroids)
    assert extended.parents[-1][7:].tolist() == [2, 0, 0, 1, 2] and affected.tolist() == [0, 1, 2]


def test_one_level_takes_all():
    tree, affected = add_labels(ClusterTree([[0, 0]]), np.eye(3), np.ones((1, 3)))
    assert tree.sizes == [5] and affected.tolist() == [0]


def test_what_cannot_be_added():
    tree = ClusterTree([[0, 0], [0, 1, 0]])
    with pytest.raises(DataError, match=r"shape \(3, 4\) instead of \(2, 4\)"):
        add_labels(tree, np.ones((1, 4)), np.ones((3, 4)))
    with pytest.raises(DataError, match="NaN or infinity"):
        add_labels(tree, np.full((1, 4), np.nan), np.ones((2, 4)))
    with pytest.raises(DataError, match="4 vectors, but 3 labels in the tree"):
        leaf_centroids(tree, np.ones((4, 2)))
