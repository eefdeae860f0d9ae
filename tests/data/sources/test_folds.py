import numpy as np
import pytest

from tfxc.core.errors import ConfigError
from tfxc.data.examples.rows import Rows
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.folds import Fold, stratified_folds


def rows_of(labels):
    return Rows.from_dense(np.arange(len(labels), dtype=np.float32)[:, None], labels)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_equal_shares(count):
    random = np.random.default_rng(0)
    labels = random.choice(7, 501, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.04, 0.01])
    folds = stratified_folds(rows_of([[label] for label in labels]), count, seed=1)
    table = np.zeros((7, count), int)
    np.add.at(table, (labels, folds), 1)
    assert np.ptp(table, axis=1).max() <= 1
    assert np.ptp(np.bincount(folds)) <= 1
    assert (folds != stratified_folds(rows_of([[x] for x in labels]), count, seed=2)).any()


def test_several_labels_go_by_the_rarest():
    labels = [[0, 1]] * 10 + [[0]] * 10 + [[0, 2]] * 10 + [[]] * 10 + [[0, 1, 2]] * 0
    folds = stratified_folds(rows_of(labels), 5, seed=0)
    for start in range(0, 40, 10):
        assert np.bincount(folds[start : start + 10]).tolist() == [2] * 5


def test_sources():
    rows = rows_of([[number % 4] for number in range(23)])
    seen = []
    for number in range(5):
        fold = Fold(number, 5, seed=3)
        outside, inside = fold.sources(ArraySource(rows, 4))
        assert outside.num_examples == fold.num_outside(23)
        values = [
            np.concatenate([batch["features"][:, 0] for batch in source.sequential(4)])
            for source in (outside, inside)
        ]
        assert sorted(np.concatenate(values)) == list(range(23))
        assert outside.num_labels == inside.num_labels == 4
        seen.extend(values[1])
    assert sorted(seen) == list(range(23)), "each example is held out once"


def test_too_many_folds():
    with pytest.raises(
        ConfigError, match=r"recipe.folds: there are .* folds, but only 3 training examples"
    ):
        Fold(0, 4).sources(ArraySource(rows_of([[0], [1], [0]])))
