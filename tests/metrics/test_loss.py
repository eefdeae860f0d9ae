import numpy as np
import pytest

from tests.contracts.metrics import random_batch
from tfxc.core.errors import ConfigError, DataError
from tfxc.metrics.loss import FullLoss
from tfxc.metrics.suite import build_metrics


def batch_with_losses(seed=0):
    """A batch and losses up to 9, NaN where no label is known."""
    ids, scores, labels = random_batch(seed)
    losses = np.random.default_rng(seed).uniform(0, 9, len(ids))
    return ids, scores, labels, np.where(((labels >= 0) & (labels < 30)).any(1), losses, np.nan)


def test_mean_over_batches_and_merged_suites():
    first, second = batch_with_losses(1), batch_with_losses(2)
    suites = [build_metrics((1, 3), full_loss=True) for _ in range(3)]
    for suite, batches in zip(suites, [[first], [second], [first, second]], strict=True):
        for batch in batches:
            suite.update(*batch)
    suites[0].merge(suites[1])
    losses = np.concatenate([first[3], second[3]])
    for suite in suites[0], suites[2]:
        assert suite.result()["full_loss"] == pytest.approx(np.nanmean(losses))
        assert suite.support()["full_loss"] == np.isfinite(losses).sum()
        assert suite.counts()["examples without a known label"] == np.isnan(losses).sum() > 0
    np.testing.assert_array_equal(suites[0].per_example(*first)["full_loss"], first[3])
    suites[2].reset()
    assert suites[2].counts()["examples without a known label"] == 0


def test_it_is_no_percentage_and_less_is_better():
    suite = build_metrics((1,), full_loss=True)
    assert "full_loss: -" in suite.table()
    suite.update(np.array([[3]]), np.array([[0.5]]), np.array([[3]]), np.array([12.34567]))
    assert suite.table().splitlines()[-4:-2] == ["full_loss: 12.3457", "examples: 1"]
    assert not suite.best_is_larger("full_loss") and suite.best_is_larger("P@1")
    assert "full_loss" not in build_metrics((1,)).names


def test_losses_that_are_missing_or_too_many():
    ids, scores, labels, losses = batch_with_losses()
    with pytest.raises(ConfigError, match=r"full_loss needs the loss of each example"):
        FullLoss().update(ids, scores, labels)
    with pytest.raises(DataError, match=r"losses of shape \(39,\) for 40 examples"):
        FullLoss().update(ids, scores, labels, losses[1:])
