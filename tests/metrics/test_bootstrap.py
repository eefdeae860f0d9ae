import numpy as np
import pytest
import scipy.stats

from tfxc.core.errors import ConfigError, DataError
from tfxc.metrics.bootstrap import paired_bootstrap


@pytest.mark.parametrize("distinct", [6, 5000], ids=["few values", "binned values"])
def test_interval_agrees_with_scipy(distinct):
    rng = np.random.default_rng(0)
    a = rng.integers(0, distinct, 3000) / (distinct - 1)
    b = np.clip(a - 0.02 + 0.3 * rng.standard_normal(3000), 0, 1)
    b = np.round(b * (distinct - 1)) / (distinct - 1)
    found = paired_bootstrap(a, b, samples=4000)
    expected = scipy.stats.bootstrap(
        (a - b,), np.mean, n_resamples=1000, method="percentile", rng=1
    ).confidence_interval
    width = expected.high - expected.low
    assert found["difference"] == pytest.approx(np.mean(a - b))
    assert found["low"] == pytest.approx(expected.low, abs=0.1 * width)
    assert found["high"] == pytest.approx(expected.high, abs=0.1 * width)
    assert found["low"] < found["difference"] < found["high"]


def test_p_value_agrees_with_the_t_test():
    rng = np.random.default_rng(1)
    a = rng.standard_normal(400)
    for shift in (0.0, 0.07, 0.1):
        b = a + rng.standard_normal(400) - shift
        expected = scipy.stats.ttest_rel(a, b).pvalue
        assert paired_bootstrap(a, b, samples=5000)["p_value"] == pytest.approx(expected, abs=0.03)


def test_equal_runs():
    values = np.random.default_rng(2).random(50)
    result = paired_bootstrap(values, values, samples=200)
    assert result == {"difference": 0, "low": 0, "high": 0, "p_value": 1}


def test_a_clear_difference_has_the_smallest_p_value():
    result = paired_bootstrap(np.ones(100), np.arange(100) % 10 == 0, samples=999)
    assert result["p_value"] == 1 / 1000
    assert result["low"] > 0.8


def test_swapped_runs_mirror_the_interval():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 4, (2, 200)) / 3
    one, two = paired_bootstrap(a, b, samples=4000), paired_bootstrap(b, a, samples=4000)
    assert one["difference"] == pytest.approx(-two["difference"])
    assert one["low"] == pytest.approx(-two["high"], abs=0.02)


def test_the_seed_decides():
    rng = np.random.default_rng(4)
    a, b = rng.random((2, 100))
    assert paired_bootstrap(a, b, 500, seed=5) == paired_bootstrap(a, b, 500, seed=5)
    assert paired_bootstrap(a, b, 500, seed=5) != paired_bootstrap(a, b, 500, seed=6)


def test_examples_without_a_value_are_dropped_in_pairs():
    a, b = np.array([0.5, np.nan, 1.0]), np.array([0.0, np.nan, 1.0])
    assert paired_bootstrap(a, b, 100)["difference"] == pytest.approx(0.25)
    with pytest.raises(DataError, match="a value in one run only"):
        paired_bootstrap(a, np.zeros(3))
    with pytest.raises(DataError, match="no example has a value"):
        paired_bootstrap([np.nan], [np.nan])


def test_wrong_arguments():
    with pytest.raises(DataError, match="shapes"):
        paired_bootstrap([1, 0], [1])
    with pytest.raises(ConfigError, match="samples"):
        paired_bootstrap([1], [0], samples=0)
    with pytest.raises(ConfigError, match="confidence"):
        paired_bootstrap([1], [0], confidence=95)
