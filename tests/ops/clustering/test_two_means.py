"""Cutting rows into halves, native and NumPy against each other and against a plain k-means."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.ops.clustering import two_means
from tfxc.ops.clustering.two_means import Bisection, has_native

native = pytest.mark.skipif(not has_native(), reason="the native kernel is not built")


def random_vectors(count=200, width=60, seed=0):
    return scipy.sparse.random(
        count, width, 0.15, format="csr", rng=np.random.default_rng(seed), dtype=np.float32
    )


def levels(count, depth=3):
    """The nodes of each level of a tree of halves."""
    bounds = [0, count]
    for _ in range(depth):
        nodes = [(a, b, (a + b) // 2 - a) for a, b in itertools.pairwise(bounds)]
        yield nodes
        bounds = sorted({*bounds, *(begin + left for begin, _, left in nodes)})


def cut(vectors, depth=3, rate=1.0, **settings):
    halves = Bisection(vectors, **{"seed": 5, **settings})
    for nodes in levels(vectors.shape[0], depth):
        halves.cut(nodes, rate)
    return halves.order


def plain_halves(vectors, left, one, other, spherical, rounds):
    """Members of the first half, by the book: dense, double, one step after the other."""
    points = vectors.toarray().astype(np.float64)
    first, second = points[one], points[other]
    sides = None
    for _ in range(rounds):
        lean = points @ (first - second)
        chosen = sorted(range(len(points)), key=lambda row: (-lean[row], row))[:left]
        if sides == set(chosen):
            break
        sides = set(chosen)
        mask = np.isin(np.arange(len(points)), chosen)
        first, second = points[mask].mean(axis=0), points[~mask].mean(axis=0)
        if spherical:
            first, second = (c / (np.linalg.norm(c) or 1) for c in (first, second))
    return sides


class Draws:
    """In place of a generator: the same two draws for each node."""

    def __init__(self, *draws):
        self.draws = draws

    def random(self, shape):
        return np.tile(np.float64(self.draws), (shape[0], 1))


@pytest.mark.parametrize("native", [pytest.param(True, marks=native), False])
@pytest.mark.parametrize(("spherical", "rounds"), [(True, 20), (False, 20), (True, 1), (True, 3)])
def test_one_cut_is_plain_k_means(native, spherical, rounds):
    for seed in range(6):
        vectors = random_vectors(41, seed=seed)
        halves = Bisection(vectors, 0, spherical, rounds, native=native)
        halves._generator = Draws(0.3, 0.6)
        halves.cut([(0, 41, 15)])
        points, one = vectors.toarray().astype(np.float64), int(0.3 * 41)
        far = ((points - points[one]) ** 2).sum(axis=1)
        other = int(np.argmax(np.cumsum(far) > 0.6 * far.sum()))
        expected = plain_halves(vectors, 15, one, other, spherical, rounds)
        assert set(halves.order[:15].tolist()) == expected
        assert (np.diff(halves.order[:15]) > 0).all() and (np.diff(halves.order[15:]) > 0).all()


@native
@pytest.mark.parametrize("settings", [{}, {"spherical": False}, {"rounds": 2}, {"rate": 0.4}])
@pytest.mark.parametrize("dense", [False, True])
def test_native_equals_numpy(settings, dense):
    vectors = random_vectors()
    vectors = vectors.toarray() if dense else vectors
    found = [cut(vectors, native=native, **settings) for native in (True, False)]
    np.testing.assert_array_equal(*found)
    assert sorted(found[0].tolist()) == list(range(200))
    if not settings:
        sparse = cut(scipy.sparse.csr_matrix(vectors), native=True)
        np.testing.assert_array_equal(found[0], sparse)


@native
def test_threads_do_not_matter():
    vectors = random_vectors(500, 200, seed=1)
    one = cut(vectors, 6, threads=1)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(one, cut(vectors, 6, threads=threads))
    assert (one != cut(vectors, 6, seed=6)).any()


@pytest.mark.parametrize("native", [pytest.param(True, marks=native), False])
@pytest.mark.parametrize("dense", [False, True])
def test_rows_that_are_all_the_same(native, dense):
    for row in ([0.0, 0.0], [0.6, 0.8]):
        vectors = np.tile(np.float32(row), (9, 1))
        order = cut(vectors if dense else scipy.sparse.csr_matrix(vectors), 2, native=native)
        assert sorted(order.tolist()) == list(range(9))
    order = cut(scipy.sparse.csr_matrix((8, 0), dtype=np.float32), 3, native=native)
    assert sorted(order.tolist()) == list(range(8))


@pytest.mark.parametrize("native", [pytest.param(True, marks=native), False])
def test_groups_are_found_from_a_sample(native):
    random = np.random.default_rng(3)
    group = random.permutation(np.arange(100) % 2)
    vectors = np.eye(2, 30)[group] + random.normal(0, 0.02, (100, 30))
    order = cut(vectors.astype(np.float32), 1, rate=0.2, native=native)
    assert len(set(group[order[:50]])) == 1


def test_nothing_to_cut():
    halves = Bisection(random_vectors(4), seed=0)
    halves.cut([])
    assert halves.order.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_have_to_be_finite(value):
    vectors = random_vectors(5)
    vectors.data[0] = value
    for found in (vectors, vectors.toarray()):
        with pytest.raises(DataError, match="NaN or infinity"):
            Bisection(found, seed=0)


def test_without_the_kernel(monkeypatch):
    expected = cut(random_vectors(), native=False)
    monkeypatch.setattr(two_means, "_two_means", None)
    assert not has_native()
    np.testing.assert_array_equal(cut(random_vectors()), expected)
