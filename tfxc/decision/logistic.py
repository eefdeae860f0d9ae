"""The logistic function, its inverse, and logistic regression in a few columns."""

import numpy as np

_WEAK = 1e-6  # of a slope's square: hardly any penalty; it only bounds that of separable pairs
_STEPS = 100


def probabilities(odds: np.ndarray) -> np.ndarray:
    """Returns the probabilities of log-odds, without overflow."""
    small = np.exp(-np.abs(odds))
    return np.where(odds < 0, small, 1) / (1 + small)


def log_odds(shares: np.ndarray) -> np.ndarray:
    """Returns the log-odds of probabilities; those of 0 and 1 are infinite."""
    with np.errstate(divide="ignore"):
        return np.log(shares) - np.log1p(-shares)


def fit_logistic(inputs: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Returns the weights that minimise the logistic loss, by Newton steps.

    Args:
        inputs: float64 (n, columns), the first of ones; its weight is not penalised.
        hits: bool (n,), both values.

    Returns:
        float64 (columns,).

    Example:
        >>> ones = np.ones((4, 1))
        >>> fit_logistic(ones, np.array([True, True, True, False])).round(4).tolist()
        [1.0986]
    """
    signs = np.where(hits, -1, 1)
    penalty = np.full(inputs.shape[1], _WEAK)
    penalty[0] = 0

    def loss(weights: np.ndarray) -> float:
        return float(np.logaddexp(0, signs * (inputs @ weights)).sum() + penalty @ weights**2 / 2)

    weights = np.zeros(inputs.shape[1])
    weights[0] = log_odds(hits.mean())
    before = loss(weights)
    for _ in range(_STEPS):
        expected = probabilities(inputs @ weights)
        gradient = (expected - hits) @ inputs + penalty * weights
        curvature = (inputs.T * (expected * (1 - expected))) @ inputs + np.diag(penalty)
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        after = loss(weights - step)
        while after > before * (1 + 1e-12):  # too far, where the loss is no parabola
            step /= 2
            after = loss(weights - step)
        weights = weights - step
        if np.abs(step).max() <= 1e-9 * max(1.0, np.abs(weights).max()):
            break
        before = after
    return weights
