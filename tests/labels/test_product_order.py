import numpy as np
import pytest
import scipy.sparse

from tfxc.labels.label_order import clustered_order
from tfxc.labels.product_order import product_order


def grid(rows, columns, seed=0, noise=0.05):
    """Labels that are the sum of a row's and a column's direction, shuffled; their places."""
    random = np.random.default_rng(seed)
    one, other = (np.linalg.qr(random.normal(size=(40, 40)))[0] for _ in range(2))
    places = random.permutation(rows * columns)
    vectors = 2 * one[places // columns] + other[places % columns]
    return (vectors + random.normal(0, noise, vectors.shape)).astype(np.float32), places


def share_recovered(codes, places, digit, stride):
    """Share of the labels whose digit is that of most labels of their column."""
    digits = codes // stride % digit
    table = np.zeros((digit, places.max() + 1))
    np.add.at(table, (digits, places), 1)
    return table.max(axis=0).sum() / len(codes)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("num_labels", "sizes"),
    [(64, (8, 8)), (60, (8, 8)), (61, (3, 3, 7)), (7, (7,)), (40, (2, 20)), (5, (2, 4)), (1, (1,))],
)
def test_codes_are_a_permutation(num_labels, sizes, sparse):
    vectors = np.random.default_rng(0).normal(size=(num_labels, 30)).astype(np.float32)
    vectors[::5] = 0
    vectors = scipy.sparse.csr_matrix(vectors) if sparse else vectors
    codes = product_order(vectors, sizes, seed=1)
    assert codes.dtype == np.int32 and sorted(codes) == list(range(num_labels))
    np.testing.assert_array_equal(codes, product_order(vectors, sizes, seed=1))


def test_the_last_digit_means_something():
    vectors, places = grid(8, 10)
    plain, product = (order(vectors, (8, 10), 0) for order in (clustered_order, product_order))
    np.testing.assert_array_equal(plain // 10, product // 10)
    assert share_recovered(plain, places % 10, 10, 1) < 0.45
    assert share_recovered(product, places % 10, 10, 1) > 0.55


def test_no_other_exchange_within_a_block_is_better():
    """The Hungarian method against brute force: swaps of two labels of a block."""
    vectors, _ = grid(4, 6, noise=0.3)
    codes = product_order(vectors, (4, 6), 0)
    block, digit = codes // 6, codes % 6
    rest = vectors - np.stack([vectors[block == b].mean(0) for b in block])
    means = np.stack([rest[digit == d].mean(0) for d in range(6)])
    score = rest @ means.T
    for one in range(24):
        for other in np.flatnonzero(block == block[one]):
            kept = score[one, digit[one]] + score[other, digit[other]]
            assert kept >= score[one, digit[other]] + score[other, digit[one]] - 1e-5


def test_a_block_that_is_too_large():
    with pytest.raises(ValueError, match="4,500 labels have the same first digit"):
        product_order(np.ones((9000, 2), np.float32), (2, 4500), 0)
