"""The tree of label clusters, against walks from each label to the root."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.labels.cluster_tree import ClusterTree


def random_tree(sizes=(3, 7, 30), seed=0):
    random = np.random.default_rng(seed)
    parents = [np.zeros(sizes[0], int)]
    for above, size in itertools.pairwise(sizes):
        parents.append(random.permutation(np.arange(size) % above))
    return ClusterTree(parents)


def way_up(tree, label):
    """The node of each level above a label, from the top, and the label."""
    way = [label]
    for parents in tree.parents[:0:-1]:
        way.insert(0, int(parents[way[0]]))
    return way


TREES = [random_tree(), random_tree((4,)), random_tree((1, 2, 5, 9, 40), seed=1)]


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_matrices_children_and_labels(tree):
    assert tree.depth == len(tree.sizes) and tree.num_labels == tree.sizes[-1]
    for level, size in enumerate(tree.sizes):
        above = tree.sizes[level - 1] if level else 1
        matrix, (nodes, splits) = tree.matrix(level), tree.children(level)
        assert matrix.shape == (size, above) and matrix.format == "csr"
        assert len(splits) == above + 1
        for node in range(above):
            expected = [n for n in range(size) if tree.parents[level][n] == node]
            assert nodes[splits[node] : splits[node + 1]].tolist() == expected
            assert matrix[:, [node]].nonzero()[0].tolist() == expected
        for node in range(size):
            expected = [n for n in range(tree.num_labels) if way_up(tree, n)[level] == node]
            assert tree.labels_under(level, node).tolist() == expected
    assert tree.labels_under(-1, 2).tolist() == [2]
    with pytest.raises(IndexError):
        tree.labels_under(0, tree.sizes[0])


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_multi_resolution_counts(tree):
    truth = (np.random.default_rng(2).random((20, tree.num_labels)) < 0.2).astype(np.int64)
    truth[3] = 0
    found = tree.multi_resolution(scipy.sparse.csr_matrix(truth))
    expected = [np.zeros((20, size)) for size in tree.sizes]
    for row, label in zip(*truth.nonzero(), strict=True):
        for level, node in enumerate(way_up(tree, label)):
            expected[level][row, node] += 1
    for matrix, values in zip(found, expected, strict=True):
        assert matrix.has_sorted_indices and matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix.toarray(), values)
    with pytest.raises(DataError, match="the matrix has 2 columns"):
        tree.multi_resolution(scipy.sparse.csr_matrix((4, 2)))


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_saving(tree, tmp_path):
    tree.save(tmp_path / "new" / "tree.npz")
    loaded = ClusterTree.load(tmp_path / "new" / "tree.npz")
    assert loaded == tree and loaded.parents[0].dtype == np.int32
    assert loaded != random_tree((2, 4)) and loaded != 3
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tree.npz"]


def test_damage_is_reported(tmp_path):
    path = tmp_path / "tree.npz"
    with pytest.raises(DataError, match="no such file"):
        ClusterTree.load(path)
    random_tree().save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:200], whole[:300] + b"?" * 20 + whole[320:], b"text"):
        path.write_bytes(content)
        with pytest.raises(
            DataError, match=r"tree\.npz: the file cannot be read as a label tree.*Build the tree"
        ):
            ClusterTree.load(path)
    np.savez(path, C=np.eye(3))
    with pytest.raises(DataError, match=r"tree\.npz: the file cannot be read as a label tree"):
        ClusterTree.load(path)
    arrays = {"kind": "tfxc label tree", "version": 1, "parents_0": [0, 0], "parents_1": [0, 0, 2]}
    np.savez(path, sizes=[2, 3], **arrays)
    with pytest.raises(DataError, match=r"tree\.npz: level 1: the parents go from"):
        ClusterTree.load(path)
    np.savez(path, sizes=[2, 4], **arrays)
    with pytest.raises(DataError, match=r"its levels have other sizes than"):
        ClusterTree.load(path)
    np.savez(path, **(arrays | {"version": 9, "sizes": [2, 3]}))
    with pytest.raises(DataError, match="not a label tree of version 1"):
        ClusterTree.load(path)


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ([], "the tree has no level"),
        ([[]], "level 0: .* is not a list of integers"),
        ([[0, 0], [0.0, 1.0]], "level 1: .* is not a list of integers"),
        ([[[0], [0]]], "level 0: .* is not a list of integers"),
        ([[0, 1]], "level 0: the parents go from 0 to 1, .* 0 to 0"),
        ([[0, 0], [0, -1]], "level 1: the parents go from -1 to 0, .* 0 to 1"),
        ([[0, 0, 0], [2, 0]], "level 0: every node needs a child, 1 have none, the first is 1"),
    ],
)
def test_what_is_no_tree(parents, message):
    with pytest.raises(DataError, match=message):
        ClusterTree(parents)
