import numpy as np
import pytest
import scipy.sparse

from tfxc.labels.label_order import clustered_order, random_order


def blobs(num_labels, clusters, seed=0, width=30):
    """Vectors around far-off centres; the cluster of each label."""
    random = np.random.default_rng(seed)
    cluster = random.permutation(np.arange(num_labels) * clusters // num_labels)
    centres = np.eye(clusters, width)
    vectors = centres[cluster] + random.normal(0, 0.03, (num_labels, width))
    return (vectors * (np.abs(vectors) > 0.02)).astype(np.float32), cluster


def test_random_order():
    codes = random_order(1000, 4)
    assert codes.dtype == np.int32 and sorted(codes) == list(range(1000))
    np.testing.assert_array_equal(codes, random_order(1000, 4))
    assert (codes != random_order(1000, 5)).mean() > 0.9


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("num_labels", "sizes"), [(64, (8, 8)), (60, (8, 8)), (61, (3, 3, 7)), (7, (7,)), (40, (2, 20))]
)
def test_codes_are_a_permutation(num_labels, sizes, sparse):
    vectors, _ = blobs(num_labels, min(num_labels, 4))
    vectors = scipy.sparse.csr_matrix(vectors) if sparse else vectors
    codes = clustered_order(vectors, sizes, seed=1)
    assert codes.dtype == np.int32 and sorted(codes) == list(range(num_labels))
    np.testing.assert_array_equal(codes, clustered_order(vectors, sizes, seed=1))


@pytest.mark.parametrize("sparse", [False, True])
def test_blocks_hold_similar_labels(sparse):
    """Where clusters and blocks can agree, they do."""
    vectors, cluster = blobs(64, 8)
    vectors = scipy.sparse.csr_matrix(vectors) if sparse else vectors
    codes = clustered_order(vectors, (8, 8), seed=0)
    block = codes // 8
    pure = [len(set(cluster[block == b])) == 1 for b in range(8)]
    assert sum(pure) >= 6
    assert all((np.diff(codes[block == b]) > 0).all() for b in range(8)), "rising ids in a block"


def within_blocks(vectors, codes, size):
    """Mean cosine of two labels of one block."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    same = codes[:, None] // size == codes[None] // size
    return (unit @ unit.T)[same & ~np.eye(len(codes), dtype=bool)].mean()


@pytest.mark.parametrize("size", [4, 16, 50])
def test_every_leading_digit_counts(size):
    vectors, _ = blobs(200, 20, seed=3)
    codes = clustered_order(vectors, (4, 4, 4, 4), seed=0)
    assert within_blocks(vectors, codes, size) > 2 * within_blocks(vectors, np.arange(200), size)


def test_labels_without_examples_find_a_place():
    vectors, _ = blobs(40, 4)
    vectors[::3] = 0
    codes = clustered_order(scipy.sparse.csr_matrix(vectors), (4, 10), seed=0)
    assert sorted(codes) == list(range(40))
    codes = clustered_order(scipy.sparse.csr_matrix((40, 9), dtype=np.float32), (4, 10), seed=0)
    assert sorted(codes) == list(range(40))
