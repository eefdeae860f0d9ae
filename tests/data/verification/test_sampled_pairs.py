"""Pairs drawn from labelled examples."""

import itertools

import numpy as np
import pytest

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.verification.pairs import make_pairs, pairs_of_reader

LABELS = np.random.default_rng(0).integers(0, 25, 300)


@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("count", [200, 207])
def test_drawn_pairs(disjoint, count):
    pairs, same = make_pairs(LABELS, count, seed=3, folds=5, disjoint=disjoint)
    np.testing.assert_array_equal(LABELS[pairs[:, 0]] == LABELS[pairs[:, 1]], same)
    assert len({frozenset(pair) for pair in pairs.tolist()}) == count
    assert (pairs[:, 0] != pairs[:, 1]).all()
    classes = []
    for flags, part in zip(np.array_split(same, 5), np.array_split(pairs, 5), strict=True):
        assert 0 <= flags.sum() - (~flags).sum() <= 1
        classes.append(set(LABELS[part].ravel().tolist()))
    overlap = any(one & other for one, other in itertools.combinations(classes, 2))
    assert overlap is not disjoint
    again, _ = make_pairs(LABELS, count, seed=3, folds=5, disjoint=disjoint)
    np.testing.assert_array_equal(pairs, again)
    other, _ = make_pairs(LABELS, count, seed=4, folds=5, disjoint=disjoint)
    assert (pairs != other).any()


def test_same_pairs_are_spread_over_the_classes():
    labels = np.repeat(["large", "b", "c", "d"], [100, 4, 3, 2])
    pairs, same = make_pairs(labels, 40, folds=2)
    names, counts = np.unique(labels[pairs[same][:, 0]], return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {"large": 10, "b": 6, "c": 3, "d": 1}


def test_every_pair_there_is():
    """All pairs are drawn, each once; one more is refused."""
    labels = np.array([0, 0, 0, 1, 1, 2])
    pairs, same = make_pairs(labels, 8, folds=1)
    assert {frozenset(pair) for pair in pairs[same].tolist()} == {
        frozenset(pair) for pair in ([0, 1], [0, 2], [1, 2], [3, 4])
    }
    with pytest.raises(DataError, match=r"5 pairs of the same class were requested, .* only 4"):
        make_pairs(labels, 10, folds=1)
    with pytest.raises(DataError, match=r"4 pairs of different classes were requested, .* only 0"):
        make_pairs(np.zeros(9), 8, folds=1)
    with pytest.raises(ConfigError, match="9 pairs are less than two for each of 5 folds"):
        make_pairs(labels, 9, folds=5)
    _, crossing = np.unique(labels, return_inverse=True)
    possible = {
        (a, b) for a, b in itertools.combinations(range(6), 2) if crossing[a] != crossing[b]
    }
    drawn = set()
    for seed in range(60):
        pairs, same = make_pairs(labels, 2, seed=seed, folds=1)
        drawn |= {tuple(sorted(pair)) for pair in pairs[~same].tolist()}
    assert drawn == possible


class Numbers:
    """A reader of 300 numbers with their classes."""

    path = "numbers"

    def __init__(self, labels):
        self.labels = labels

    def chunks(self, size):
        for start in range(0, len(self.labels), size):
            rows = range(start, min(start + size, len(self.labels)))
            labels = [[self.labels[row]] for row in rows]
            yield Chunk(labels=labels, features=np.array(rows, np.float32)[:, None])


def test_disjoint_folds_need_two_classes_each():
    with pytest.raises(
        DataError, match=r"9 classes are less than two for each of 5 folds.*fewer folds"
    ):
        make_pairs(np.repeat(np.arange(9), 8), 20, folds=5, disjoint=True)
    assert len(make_pairs(np.repeat(np.arange(9), 8), 20, folds=4, disjoint=True)[0]) == 20


def test_pairs_of_a_reader():
    """Only the examples in pairs are read, and rows refer to them."""
    found = pairs_of_reader(Numbers(LABELS.tolist()), 40, seed=1)
    numbers = np.concatenate([chunk.features[:, 0] for chunk in found.source.chunks(7)])
    assert len(numbers) == found.source.num_examples == len(np.unique(found.pairs)) < 81
    expected, same = make_pairs(LABELS, 40, seed=1)
    np.testing.assert_array_equal(numbers[found.pairs], expected)
    np.testing.assert_array_equal(found.same, same)
    reader = Numbers(LABELS.tolist())
    reader.chunks = lambda _: iter([Chunk(labels=[["a"], ["b", "c"]])])
    with pytest.raises(DataError, match="numbers: example 2 has 2 labels instead of one"):
        pairs_of_reader(reader, 40)
