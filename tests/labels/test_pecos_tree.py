"""Trees of PECOS, written here as libpecos 1.2.8 writes them."""

import json

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.pecos_tree import load_tree
from tfxc.recipes.xr_linear.settings import TreeSettings


@pytest.fixture
def tree():
    draw = np.random.default_rng(0)
    parents = [np.zeros(3, int), np.repeat(np.arange(3), (4, 3, 2))]
    return ClusterTree(
        [*parents, draw.permutation(np.append(np.arange(9), draw.integers(0, 9, 31)))]
    )


def write_chain(folder, tree):
    """What ``ClusterChain.save`` writes."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"len": tree.depth}))
    for level in range(tree.depth):
        scipy.sparse.save_npz(
            folder / f"C{level}.npz", tree.matrix(level).tocsc(), compressed=False
        )
    return folder


def rebuilt(matrix, nr_splits, min_codes):
    """The chain above a matrix of leaves by sets of nodes, as ``from_partial_chain`` has it."""
    levels = [[int(np.flatnonzero(row)[0]) for row in matrix.toarray()]]
    while max(levels[0]) + 1 > min_codes:
        levels.insert(0, [node // nr_splits for node in range(max(levels[0]) + 1)])
    return ClusterTree([[0] * (max(levels[0]) + 1), *levels])


def test_a_folder_of_matrices(tree, tmp_path):
    assert load_tree(write_chain(tmp_path / "code", tree)) == tree


@pytest.mark.parametrize(
    ("above", "sizes"),
    [
        ({}, [9, 40]),
        ({"nr_splits": 2}, [2, 3, 5, 9, 40]),
        ({"nr_splits": 2, "min_codes": 5}, [5, 9, 40]),
        ({"nr_splits": 4, "min_codes": None}, [3, 9, 40]),
    ],
)
def test_a_matrix_of_leaves(tree, tmp_path, above, sizes):
    leaves = tree.matrix(2).tocsc()
    scipy.sparse.save_npz(tmp_path / "code.npz", leaves, compressed=False)
    found = load_tree(tmp_path / "code.npz", above)
    nr_splits = above.get("nr_splits", 16)
    assert found == rebuilt(leaves, nr_splits, above.get("min_codes") or nr_splits)
    assert found.sizes == sizes


def test_one_level_and_our_own_trees(tree, tmp_path):
    scipy.sparse.save_npz(tmp_path / "one.npz", scipy.sparse.csc_matrix(np.ones((5, 1))))
    assert load_tree(tmp_path / "one.npz").sizes == [5]
    tree.save(tmp_path / "own.npz")
    assert load_tree(tmp_path / "own.npz") == tree


def test_as_the_tree_of_a_recipe(tree, tmp_path):
    scipy.sparse.save_npz(tmp_path / "code.npz", tree.matrix(2))
    given = {"file": str(tmp_path / "code.npz")}
    assert TreeSettings(given).sizes(40, 7) == [9, 40]
    assert TreeSettings(given, above={"nr_splits": 2}).sizes(40, 7) == [2, 3, 5, 9, 40]
    both = {**given, "nr_splits": 4}
    assert TreeSettings(both, above={"nr_splits": 2}).sizes(40, 7) == [3, 9, 40]
    with pytest.raises(
        ConfigError, match=r"recipe\.tree\.nr_splits: must be an integer of at least 2, not 1"
    ):
        TreeSettings({**given, "nr_splits": 1}).sizes(40, 7)
    with pytest.raises(
        ConfigError, match=r"recipe\.tree\.file: the tree has 40 labels, the data 41"
    ):
        TreeSettings(given).sizes(41, 7)
    folder = {"file": str(write_chain(tmp_path / "code", tree))}
    assert TreeSettings(folder).sizes(40, 7) == tree.sizes
    with pytest.raises(ConfigError, match="min_codes: this key has no effect on a complete tree"):
        TreeSettings({**folder, "min_codes": 4}).sizes(40, 7)
    with pytest.raises(ConfigError, match="max_leaf_size: this key is not used with a tree"):
        TreeSettings({**given, "max_leaf_size": 4})


def test_what_is_no_tree(tree, tmp_path):
    matrix = tree.matrix(2).tolil()
    matrix[7, (int(matrix[7].toarray().argmax()) + 1) % 9] = 1
    scipy.sparse.save_npz(tmp_path / "two.npz", matrix.tocsr())
    with pytest.raises(DataError, match=r"two\.npz: node 7 has 2 parents"):
        load_tree(tmp_path / "two.npz")
    wider = scipy.sparse.hstack([tree.matrix(2), scipy.sparse.csr_matrix((40, 1))])
    scipy.sparse.save_npz(tmp_path / "empty.npz", wider.tocsr())
    with pytest.raises(DataError, match=r"empty\.npz: .*every node needs a child, 1 have none"):
        load_tree(tmp_path / "empty.npz")
    folder = write_chain(tmp_path / "code", tree)
    scipy.sparse.save_npz(folder / "C1.npz", tree.matrix(2))
    with pytest.raises(
        DataError, match=r"C1\.npz: it has . columns, but the layer above has 3 nodes"
    ):
        load_tree(folder)
    (folder / "C1.npz").unlink()
    with pytest.raises(DataError, match=r"C1\.npz: no such file"):
        load_tree(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"config\.json: .*not a number of matrices"):
        load_tree(folder)
    (tmp_path / "text.npz").write_text("none")
    for path in (tmp_path / "text.npz", tmp_path / "missing.npz"):
        with pytest.raises(DataError, match=path.name):
            load_tree(path)
