"""Probabilities from the scores of ranked lists."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfxc.decision.logistic import log_odds, probabilities

LEAST = 1e-5  # of a share, so that its log-odds are finite
TIES = 1e-3  # part of the line in the answer: it keeps the order where the curve is flat


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A non-decreasing piecewise linear function, constant beyond its ends.

    Attributes:
        knots: float64 (n,), ascending.
        values: float64 (n,), non-decreasing.

    Example:
        >>> curve = Curve.fit(np.array([3.0, 1.0, 2.0]), np.array([1, 0, 0]))
        >>> curve.knots.tolist(), curve.values.tolist()
        ([2.25, 2.75], [0.0, 1.0])
    """

    knots: np.ndarray
    values: np.ndarray

    @classmethod
    def fit(cls, inputs: np.ndarray, hits: np.ndarray) -> "Curve":
        """Fits the share of hits by isotonic regression: Zadrozny and Elkan, KDD 2002.

        Between two shares the curve rises in the middle half of the way, so that rounding of an
        input that was seen, as of a score in another program, changes nothing.

        Args:
            inputs: float (n,).
            hits: bool (n,).
        """
        from scipy.optimize import isotonic_regression  # a third of a second, to learn only

        knots, places, sizes = np.unique(inputs, return_inverse=True, return_counts=True)
        shares = np.bincount(places, hits) / sizes
        values = isotonic_regression(shares, weights=sizes).x
        (rises,) = np.nonzero(np.diff(values))
        if not len(rises):
            return cls(knots[:1].astype(np.float64), values[:1])
        between = knots[[rises, rises + 1]].astype(np.float64)
        ends = between + [[0.25], [-0.25]] * np.diff(between, axis=0)
        return cls(ends.T.ravel(), values[[rises, rises + 1]].T.ravel())

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Returns float64 of the shape of ``inputs``."""
        return np.interp(inputs, self.knots, self.values)

    def content(self) -> list[list[float]]:
        """Returns knots and values as lists."""
        return [self.knots.tolist(), self.values.tolist()]

    @classmethod
    def of(cls, content: Any) -> "Curve":
        """Makes a curve of its ``content``.

        Raises:
            ValueError, TypeError: it is none.
        """
        knots, values = (np.asarray(part, np.float64) for part in content)
        if knots.ndim != 1 or not len(knots) or knots.shape != values.shape:
            raise ValueError(f"a curve of {len(knots)} knots has {len(values)} values")
        return cls(knots, values)


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Maps the scores of a ranked list to probabilities; ``decision.probabilities`` learns it.

    It does not change the order of a list. Each part is left out where it is None.

    Attributes:
        shares: from a score to the share of true labels among such scores.
        weights: float64 (4,), of a line: its intercept, and the weights of the log-odds of that
            share (of the score, without ``shares``), of the logarithm of the label's place in the
            list, from 1, and of the log-odds of the list's best label. Its value are log-odds.
        last: from these log-odds to probabilities.

    Example:
        >>> calibration = Calibration(weights=np.array([0.0, 1.0, 0.0, 0.0]))
        >>> calibration(np.array([[0.0, -np.inf]])).tolist()
        [[0.5, -inf]]
    """

    shares: Curve | None = None
    weights: np.ndarray | None = None
    last: Curve | None = None

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Returns probabilities, float32 (n, k); minus infinity (no label) stays.

        Args:
            scores: float (n, k), lists from the best label on.
        """
        return self.at(scores, np.arange(scores.shape[1]), scores[:, :1])

    def at(
        self, scores: np.ndarray, places: np.ndarray, best: np.ndarray | np.floating
    ) -> np.ndarray:
        """Returns probabilities of labels anywhere, float32 of the shape of ``scores``.

        Args:
            scores: float.
            places: how many labels of the example have a higher score.
            best: score of the example's best label.
        """
        none = np.isneginf(scores)
        answer = np.where(none, 0.0, scores.astype(np.float64))
        if self.weights is None:
            assert self.shares is not None, "a calibration has a part"
            answer = self.shares(answer)
        else:
            odds = line_inputs(self.shares, answer, places, best) @ self.weights
            answer = probabilities(odds)
            if self.last is not None:
                answer = (1 - TIES) * self.last(odds) + TIES * answer
        return np.where(none, -np.inf, answer).astype(np.float32)

    def content(self) -> dict[str, Any]:
        """Returns what a JSON file holds of it."""
        return {
            "shares": None if self.shares is None else self.shares.content(),
            "weights": None if self.weights is None else self.weights.tolist(),
            "last": None if self.last is None else self.last.content(),
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Calibration":
        """Makes a calibration of its ``content``.

        Raises:
            ValueError, TypeError, KeyError: it is none.
        """
        weights = content["weights"]
        calibration = cls(
            None if content["shares"] is None else Curve.of(content["shares"]),
            None if weights is None else np.asarray(weights, np.float64),
            None if content["last"] is None else Curve.of(content["last"]),
        )
        if calibration.weights is None and calibration.shares is None:
            raise ValueError("it has no part")
        if calibration.weights is not None and calibration.weights.shape != (4,):
            raise ValueError(f"it has {calibration.weights.size} weights, not 4")
        return calibration


def line_inputs(
    shares: Curve | None,
    scores: np.ndarray,
    places: np.ndarray,
    best: np.ndarray | np.floating,
) -> np.ndarray:
    """Returns float64 (..., 4), what the weights of a ``Calibration`` are multiplied with.

    Args:
        shares: of the calibration.
        scores, places, best: see ``Calibration.at``.
    """
    best = np.where(np.isneginf(best), 0.0, best)
    odds, best_odds = (
        part if shares is None else log_odds(np.clip(shares(part), LEAST, 1 - LEAST))
        for part in (scores, best)
    )
    columns = np.broadcast_arrays(1.0, odds, np.log1p(places), best_odds)
    return np.stack(columns, axis=-1)
