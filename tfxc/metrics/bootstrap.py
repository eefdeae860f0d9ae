"""Is one run better than another on the same examples? A paired bootstrap answers."""

import numpy as np

from tfxc.core.errors import ConfigError, DataError

# Cells of one tile of resampling counts (int64): 32 MiB whatever the number of examples.
_TILE_CELLS = 1 << 22
# More distinct differences than this are gathered into as many bins of equal width.
_MAX_VALUES = 2048


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, samples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> dict[str, float]:
    """Resamples the mean difference of two runs' per-example values, in pairs.

    The examples are drawn with replacement, both runs' values together (Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993, chapters 13 and 16). Equal differences are drawn as one,
    with a multinomial count: the same distribution, at a cost that depends on the number of
    distinct differences (2k + 1 for P@k) and not on that of examples. Where there are more than
    2,048, those within 1/2,048 of the range are drawn as their mean, which leaves the mean as it
    is and changes the variance by less than the square of that width.

    Args:
        a: (n,) values of the first run, e.g. from ``MetricSuite.per_example``.
        b: (n,) values of the second run, of the same examples in the same order. Examples that are
            NaN in both (left out by the metric) are dropped.
        samples: number of resamplings.
        seed: seed of the draws.
        confidence: probability the interval is meant to hold.

    Returns:
        dict with ``difference`` (mean of a − b), ``low`` and ``high`` (percentile interval) and
        ``p_value`` (two-sided, of the hypothesis that the means are equal: share of resampled
        means at least ``|difference|`` away from ``difference``, plus one resampling for the
        observed one, so never 0).

    Raises:
        DataError: the two do not pair up, or nothing is left to compare.
        ConfigError: ``samples`` or ``confidence`` is out of its range.

    Example:
        >>> paired_bootstrap([1, 1, 0, 1], [0, 0, 0, 1], samples=100)["difference"]
        0.5
    """
    if samples < 1:
        raise ConfigError(f"{samples} is less than 1", where="samples")
    if not 0 < confidence < 1:
        raise ConfigError(f"{confidence} is not between 0 and 1", where="confidence")
    a = np.asarray(a, np.float64)
    b = np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise DataError(
            f"the shapes {a.shape} and {b.shape} are not those of two lists of equal length",
            fix="evaluate both runs on the same examples",
        )
    if (np.isnan(a) != np.isnan(b)).any():
        raise DataError(
            "an example has a value in one run only",
            fix="evaluate both runs on the same examples, in the same order",
        )
    differences = (a - b)[~np.isnan(a)]
    if not differences.size:
        raise DataError("no example has a value")
    rng = np.random.default_rng(seed)
    values, counts = _distinct(differences)
    means = np.empty(samples)
    tile = max(1, _TILE_CELLS // len(values))
    for start in range(0, samples, tile):
        size = min(tile, samples - start)
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=size)
        means[start : start + size] = drawn @ values / counts.sum()
    difference = differences.mean()
    # Resampled means lie on a grid for discrete metrics: a rounding error must not decide.
    far = np.abs(means - difference) >= abs(difference) * (1 - 1e-9) - 1e-15
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return {
        "difference": float(difference),
        "low": float(low),
        "high": float(high),
        "p_value": float((1 + np.count_nonzero(far)) / (1 + samples)),
    }


def _distinct(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns distinct values and how often each occurs, at most ``_MAX_VALUES``."""
    # Rounded so that differences equal but for their last bits are drawn as one.
    values, counts = np.unique(differences.round(12), return_counts=True)
    if len(values) <= _MAX_VALUES:
        return values, counts
    share = (values - values[0]) / (values[-1] - values[0])
    bins = np.minimum((share * _MAX_VALUES).astype(np.int64), _MAX_VALUES - 1)
    sums = np.bincount(bins, weights=values * counts)
    counts = np.bincount(bins, weights=counts)
    return sums[counts > 0] / counts[counts > 0], counts[counts > 0].astype(np.int64)
