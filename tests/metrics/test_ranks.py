"""MRR and H@k over pairs, whole and by slice."""

import numpy as np
import pytest

from tfxc.core.errors import ConfigError
from tfxc.labels.slices import trained_slices
from tfxc.metrics.ranks import Ranks
from tfxc.metrics.suite import build_metrics, metrics_of_pairs

IDS, SCORES = np.zeros((2, 1), int), np.zeros((2, 1))
LABELS = np.array([[1, 2, -1], [0, 5, -1]])
RANKS = np.array([[1.0, 4.0, np.nan], [2.5, np.inf, np.nan]])
SLICES = trained_slices([3, 3, 0])


def updated(*parts, slices=None):
    metric = Ranks((1, 3), slices)
    for rows in parts:
        metric.update(IDS[rows], SCORES[rows], LABELS[rows], ranks=RANKS[rows])
    return metric


def test_pairs_are_averaged():
    found = updated([0, 1]).result()
    assert found == {"MRR": pytest.approx((1 + 0.25 + 0.4) / 4), "H@1": 0.25, "H@3": 0.5}


def test_slices_are_averaged_apart():
    metric = updated([0, 1], slices=SLICES)
    found, support = metric.result(), metric.support()
    assert found["MRR/trained"] == pytest.approx(0.7) and support["MRR/trained"] == 2
    # Label 5 cannot be found: it is neither.
    assert found["MRR/untrained"] == pytest.approx(0.25) and support["H@1/untrained"] == 1
    assert found["H@3/trained"] == 1 and found["H@3/untrained"] == 0


def test_parts_add_up():
    whole, one = updated([0, 1], slices=SLICES), updated([0], slices=SLICES)
    one.merge(updated([1], slices=SLICES))
    assert one.result() == whole.result()


def test_order_of_the_labels_does_not_matter():
    metric, order = Ranks((1, 3), SLICES), [2, 1, 0]
    metric.update(IDS, SCORES, LABELS[:, order], ranks=RANKS[:, order])
    assert metric.result() == updated([0, 1], slices=SLICES).result()


def test_ranks_have_to_come():
    with pytest.raises(ConfigError, match="rank of each true label"):
        Ranks().update(IDS, SCORES, LABELS)


def test_suite_has_them_where_they_are_wanted():
    names = build_metrics(ks=(1,), more=metrics_of_pairs((1,), SLICES, True)).names
    assert {"MRR", "H@1/untrained", "R@1/harmonic mean"} <= set(names)
    assert not {"MRR", "R@1/trained"} & set(build_metrics(ks=(1,)).names)


def test_harmonic_mean_of_recall_is_that_of_the_parts():
    suite = build_metrics(ks=(1,), more=metrics_of_pairs((1,), SLICES, False))
    suite.update(np.array([[1], [2], [1]]), np.zeros((3, 1)), [[1], [2], [2]])
    found = suite.result()
    assert (found["R@1/trained"], found["R@1/untrained"]) == (1, 0.5)
    assert found["R@1/harmonic mean"] == pytest.approx(2 / 3)
    assert suite.support()["R@1/harmonic mean"] == 1
