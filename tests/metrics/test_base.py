import numpy as np
import pytest

from tests.contracts.metrics import random_batch, true_labels
from tfxc.core.errors import ConfigError
from tfxc.metrics.base import checked_ks, hits
from tfxc.metrics.ranking import Precision, Recall


@pytest.mark.parametrize("seed", range(5))
def test_hits_equal_a_search_row_by_row(seed):
    ids, _, labels = random_batch(seed)
    expected = [
        [int(i) in true_labels(row) for i in line] for line, row in zip(ids, labels, strict=True)
    ]
    assert hits(ids, labels).tolist() == expected


def test_hits_of_the_largest_ids_do_not_overflow():
    largest = np.iinfo(np.int32).max
    ids = np.full((1000, 2), largest, np.int32)
    labels = np.full((1000, 1), largest, np.int32)
    labels[::2] = largest - 1
    assert hits(ids, labels)[:, 0].tolist() == [False, True] * 500


def test_hits_do_not_leak_into_the_neighbouring_row():
    # With keys row · stride + id a careless stride lets (row 0, id 2) meet (row 1, id 0).
    ids = np.array([[2, -1], [0, 1]])
    labels = np.array([[0, -1], [2, -1]])
    assert not hits(ids, labels).any()


@pytest.mark.parametrize("ks", [(), (0,), (1, 1), (1.5,), (-1, 3)])
def test_cut_offs_must_be_distinct_positive_integers(ks):
    with pytest.raises(ConfigError, match="distinct positive integers"):
        checked_ks(ks)


def test_merge_refuses_other_settings():
    with pytest.raises(ConfigError, match=r"Precision with .* cannot be merged with Recall"):
        Precision().merge(Recall())
    with pytest.raises(ConfigError, match="P@1"):
        Precision((1,)).merge(Precision((1, 3)))
