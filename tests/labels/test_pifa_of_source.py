"""PIFA of a source, read a batch at a time, against the definition an example at a time."""

import numpy as np
import pytest
import scipy.sparse

from tests.data.rows import rows_of_images
from tfxc.data.examples.rows import Rows
from tfxc.data.sources.base import ArraySource
from tfxc.labels.label_embeddings import pifa_of_source


def one_by_one(matrix, labels, num_labels):
    """Rows of l2(l2(Y)^T X): an example counts for its n labels with 1 / sqrt(n)."""
    total = np.zeros((num_labels, matrix.shape[1]))
    for row, true in zip(matrix, labels, strict=True):
        known = [label for label in true if label < num_labels]
        for label in known:
            total[label] += row / np.sqrt(len(known))
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    return total / np.where(lengths > 0, lengths, 1)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("sparse", [False, True])
def test_equals_the_definition(sparse, batch_size):
    random = np.random.default_rng(0)
    matrix = (random.random((50, 9)) * (random.random((50, 9)) < 0.4)).astype(np.float32)
    matrix[4] = 0
    # Labels 6 and 7 never occur, 8 and up were not seen when the ids were made.
    labels = [sorted(set(random.choice([0, 1, 2, 3, 4, 5, 8, 9], 3)) - {4}) for _ in range(49)]
    labels.append([])
    make = Rows.from_csr if sparse else Rows.from_dense
    source = ArraySource(make(scipy.sparse.csr_matrix(matrix) if sparse else matrix, labels), 8)
    found = pifa_of_source(source, 8, batch_size)
    assert scipy.sparse.issparse(found) == sparse
    assert found.shape == (8, 9) and found.dtype == np.float32
    found = found.toarray() if sparse else found
    np.testing.assert_allclose(found, one_by_one(matrix, labels, 8), atol=1e-6)
    assert not found[6:].any()


def test_images():
    """Pixels averaged over squares of two, less the mean over the labels that occur."""
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (12, 33, 20, 2)).astype(np.uint8)
    squares = pixels[:, :, :18].reshape(12, 11, 3, 6, 3, 2)
    matrix = squares.mean(axis=(2, 4)).reshape(12, -1)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    labels = [[0], [1], [3]] * 4
    plain = one_by_one(matrix, labels, 5)
    known = [0, 1, 3]
    plain[known] -= plain[known].mean(axis=0)
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    found = pifa_of_source(ArraySource(rows_of_images(pixels, labels)), 5, 5)
    assert found.dtype == np.float32 and not found[[2, 4]].any()
    np.testing.assert_allclose(found, plain / np.where(lengths > 0, lengths, 1), atol=1e-5)
