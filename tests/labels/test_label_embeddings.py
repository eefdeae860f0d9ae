"""Label vectors, against sums row by row in double precision."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.labels.label_embeddings import pifa, pifa_with_label_features, pii


def matrices(seed=0, examples=40, labels=9, width=25):
    """Y with a label nobody has and an example without labels; X with an empty row."""
    random = np.random.default_rng(seed)
    targets = (random.random((examples, labels)) < 0.25).astype(np.float32)
    targets[:, 4], targets[7] = 0, 0
    features = random.random((examples, width)) * (random.random((examples, width)) < 0.2)
    features[5] = 0
    return targets, features.astype(np.float32)


def unit(rows):
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def plain_pifa(targets, features):
    sums = np.zeros((targets.shape[1], features.shape[1]))
    for row, truth in enumerate(targets):
        for label in np.flatnonzero(truth):
            sums[label] += truth[label] * features[row] / np.sqrt((truth**2).sum())
    return unit(sums)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("counts", [False, True])
def test_pifa(sparse, counts):
    targets, features = matrices()
    targets *= 1 + 2 * counts * (np.arange(9) % 3)
    given = scipy.sparse.csr_matrix(features) if sparse else features
    found = pifa(scipy.sparse.csr_matrix(targets), given)
    assert scipy.sparse.issparse(found) == sparse and found.dtype == np.float32
    found = found.toarray() if sparse else found
    np.testing.assert_allclose(found, plain_pifa(targets, features), atol=1e-6)
    assert not found[4].any()


def test_pifa_leaves_the_matrices_as_they_are():
    targets, features = map(scipy.sparse.csr_matrix, matrices())
    before = targets.copy(), features.copy()
    pifa(targets, features)
    pii(targets)
    assert (targets != before[0]).nnz == 0 and (features != before[1]).nnz == 0


def test_the_greatest_features_of_a_label():
    targets, features = map(scipy.sparse.csr_matrix, matrices())
    whole = plain_pifa(targets.toarray(), features.toarray())
    expected = np.zeros_like(whole)
    for label, vector in enumerate(whole):
        kept = np.argsort(-vector, kind="stable")[:3]
        expected[label, kept] = vector[kept]
    found = pifa(targets, features, max_nonzeros=3)
    np.testing.assert_allclose(found.toarray(), unit(expected), atol=1e-6)
    # Dense vectors are no longer than the features.
    dense = pifa(targets, features.toarray(), max_nonzeros=3)
    np.testing.assert_allclose(dense, whole, atol=1e-6)


def test_pii():
    targets, _ = matrices()
    found = pii(scipy.sparse.csr_matrix(targets))
    assert found.format == "csr" and found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), unit(targets.T.astype(np.float64)), atol=1e-6)


@pytest.mark.parametrize("sparse", [(False, False), (True, True), (True, False), (False, True)])
def test_with_label_features(sparse):
    targets, features = matrices()
    names = matrices(seed=1, examples=9)[1]
    given = [
        scipy.sparse.csr_matrix(matrix) if wanted else matrix
        for matrix, wanted in zip((features, names), sparse, strict=True)
    ]
    plain = plain_pifa(targets, features)
    expected = {"concat": np.hstack([plain, names]), "convex": 0.3 * plain + 0.7 * names}
    for mode, values in expected.items():
        found = pifa_with_label_features(scipy.sparse.csr_matrix(targets), *given, mode, 0.3)
        assert scipy.sparse.issparse(found) == any(sparse) and found.dtype == np.float32
        found = found.toarray() if any(sparse) else found
        np.testing.assert_allclose(found, values, atol=1e-6)


def test_what_does_not_fit():
    targets, features = matrices()
    targets = scipy.sparse.csr_matrix(targets)
    with pytest.raises(DataError, match=r"39 rows of features, but 40 of labels"):
        pifa(targets, features[1:])
    with pytest.raises(DataError, match=r"39 rows of features, but 40 of labels"):
        pifa(targets, scipy.sparse.csr_matrix(features[1:]), max_nonzeros=2)
    with pytest.raises(DataError, match=r"shape \(8, 3\) instead of \(9, 3\)"):
        pifa_with_label_features(targets, features, np.ones((8, 3)))
    with pytest.raises(DataError, match=r"instead of \(9, 25\).*as wide"):
        pifa_with_label_features(targets, features, np.ones((9, 3)), "convex")
    with pytest.raises(ConfigError, match="mode: must be one of concat, convex, not 'sum'"):
        pifa_with_label_features(targets, features, features, "sum")
    with pytest.raises(ConfigError, match=r"alpha: must be a number from 0 to 1"):
        pifa_with_label_features(targets, features, features, "convex", 1.1)
