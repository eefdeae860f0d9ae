"""Relevance of the positives against dense arithmetic."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ranker.relevance import aligned, relevance_of

TREE = ClusterTree([[0, 0], [0, 1, 0, 1], [0, 1, 2, 3, 0, 1, 2]])
NORMS = {
    "l1": lambda rows: np.abs(rows).sum(axis=1),
    "l2": lambda rows: np.sqrt((rows**2).sum(axis=1)),
    "max": lambda rows: rows.max(axis=1),
    "none": lambda rows: np.ones(len(rows)),
}


def drawn():
    random = np.random.default_rng(0)
    labels = (random.random((20, 7)) < 0.4).astype(np.float32)
    labels[3] = 0
    return labels, labels * random.random(labels.shape).astype(np.float32)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("is_given", [True, False])
def test_induced_from_the_labels(norm, is_given):
    labels, given = drawn()
    targets = TREE.multi_resolution(scipy.sparse.csr_matrix(labels))
    relevance = scipy.sparse.csr_matrix(given) if is_given else None
    found = relevance_of(targets, TREE, "induce", norm, relevance)
    expected = given if is_given else labels
    for level in (2, 1, 0):
        sizes = NORMS[norm](expected)
        scaled = expected / np.where(sizes > 0, sizes, 1)[:, None]
        np.testing.assert_allclose(found[level].toarray(), scaled, rtol=1e-5)
        expected = expected @ TREE.matrix(level).toarray()


def test_of_the_last_level_only():
    labels, given = drawn()
    targets = TREE.multi_resolution(scipy.sparse.csr_matrix(labels))
    found = relevance_of(targets, TREE, "ranker-only", "none", scipy.sparse.csr_matrix(given))
    assert found[:2] == [None, None]
    np.testing.assert_array_equal(found[2].toarray(), given)
    assert relevance_of(targets, TREE, "ranker-only") == [None] * 3
    assert relevance_of(targets, TREE, "disable", given=found[2]) == [None] * 3


def test_only_positives_count():
    labels, given = drawn()
    more = scipy.sparse.csr_matrix(given + 1)
    found = aligned(more, scipy.sparse.csc_matrix(labels))
    np.testing.assert_array_equal(found.toarray(), labels * (given + 1))
    assert found.format == "csc"


def test_relevance_that_is_not_there():
    labels, given = drawn()
    labels = scipy.sparse.csr_matrix(labels)
    for value in (0, -1, np.nan):
        wrong = given.copy()
        wrong[given > 0.5] = value
        with pytest.raises(DataError, match="positives"):
            aligned(scipy.sparse.csr_matrix(wrong), labels)
    with pytest.raises(DataError, match="shape"):
        aligned(labels[:, :3], labels)


@pytest.mark.parametrize("name", ["mode", "norm"])
def test_unknown_names(name):
    with pytest.raises(ConfigError, match=f"relevance_{name}"):
        relevance_of([], TREE, **{name: "all"})
