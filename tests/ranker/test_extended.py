"""New nodes in a trained layer, against training all of it."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ops.linear.settings import SolverSettings
from tfxc.ranker.extended import extend_layer
from tfxc.ranker.layer import Limits, train_layer
from tfxc.ranker.problem import LayerProblem
from tfxc.ranker.search import load_layer
from tfxc.ranker.store import weight_matrix

SETTINGS = SolverSettings(epsilon=1e-7, max_passes=2000, threshold=0.0)


def problem(seed):
    """X (60, 20), Y (60, 9) and a tree of three leaves in which the labels 7 and 8 are new."""
    rng = np.random.default_rng(seed)
    features = scipy.sparse.random(60, 20, 0.4, format="csr", rng=rng, dtype=np.float32)
    labels = scipy.sparse.csr_matrix((rng.random((60, 9)) < 0.25).astype(np.float32))
    return features, labels, ClusterTree([[0, 0, 0], [0, 0, 1, 1, 1, 2, 2, 0, 2]])


@pytest.mark.parametrize("relevance", [False, True])
def test_equals_a_training_of_all_blocks(tmp_path, relevance):
    features, labels, tree = problem(0)
    examples = tree.multi_resolution(labels)[0]
    weights = labels.multiply(2.5).tocsr() if relevance else None
    old_weights = None if weights is None else weights[:, :7]
    parents = tree.parents[1]
    first = LayerProblem(features, labels[:, :7], parents[:7], examples, old_weights)
    every = LayerProblem(features, labels, parents, examples, weights)
    one = Limits(threads=1)
    train_layer(first, tmp_path / "old", SETTINGS, limits=one)
    train_layer(every, tmp_path / "all", SETTINGS, limits=one)
    old = load_layer(tmp_path / "old")
    extended = extend_layer(old, [0, 2], every, tmp_path / "part", SETTINGS, limits=one)
    expected = weight_matrix(load_layer(tmp_path / "all"), 20).toarray()
    found = weight_matrix(extended, 20).toarray()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    unaffected = [2, 3, 4]
    before = weight_matrix(old, 20).toarray()
    np.testing.assert_array_equal(found[:, unaffected], before[:, unaffected])
    assert extended.trained.tolist() == [True] * 9
    for name, array in zip(extended._fields, extended, strict=True):
        assert array.dtype == getattr(old, name).dtype, name


def test_a_layer_under_one_root(tmp_path):
    features, labels, _ = problem(1)
    parents = np.zeros(9, np.int32)
    every = LayerProblem(features, labels, parents)
    train_layer(LayerProblem(features, labels[:, :7], parents[:7]), tmp_path / "old", SETTINGS)
    train_layer(every, tmp_path / "all", SETTINGS)
    old = load_layer(tmp_path / "old")
    extended = extend_layer(old, [0], every, tmp_path / "part", SETTINGS)
    expected = weight_matrix(load_layer(tmp_path / "all"), 20).toarray()
    np.testing.assert_allclose(weight_matrix(extended, 20).toarray(), expected, atol=2e-5)
