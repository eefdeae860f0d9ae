"""Probabilities from scores, learned on held-out examples, and lists cut at a least score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.core.declared import check_choice
from tfxc.core.errors import DataError
from tfxc.core.storage.files import write_json
from tfxc.core.storage.reading import read_json

METHODS = ("isotonic", "logistic")
#: The file of a run that holds its calibration.
CALIBRATION = "calibration.json"

_TRAIN = "restore the run's own files, or train again"
_ROUNDING = 1e-12  # of the spread of equal scores, relative to them
_WEAK = 1e-6  # of the slope's square: hardly any penalty; it only bounds that of separable pairs
_STEPS = 100


class Calibration:
    """A map from scores to the share of true labels among candidates of such scores.

    It never falls, so that it does not change the order of labels, but the isotonic one may make
    scores equal. Logistic: Platt, "Probabilistic Outputs for Support Vector Machines", 1999;
    isotonic: Zadrozny and Elkan, KDD 2002.

    Args:
        method: ``"isotonic"`` or ``"logistic"``.
        scores, values: isotonic: ascending scores and the probabilities there, between which
            straight lines run.
        slope, intercept: logistic: of the log-odds.

    Example:
        >>> calibration = Calibration.fit([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])
        >>> calibration.apply(np.array([[0.5, 0.25, 0.0]])).tolist()
        [[1.0, 0.5, 0.0]]
    """

    def __init__(
        self,
        method: str,
        *,
        scores: Sequence[float] | np.ndarray = (),
        values: Sequence[float] | np.ndarray = (),
        slope: float = 0.0,
        intercept: float = 0.0,
    ) -> None:
        self.method = method
        self.slope = float(slope)
        self.intercept = float(intercept)
        self.scores = np.asarray(scores, float)
        self.values = np.asarray(values, float)

    @classmethod
    def fit(
        cls,
        scores: Sequence[float] | np.ndarray,
        hits: Sequence[float] | np.ndarray,
        method: str = "isotonic",
    ) -> "Calibration":
        """Learns from (score, is true) pairs; see ``pairs_of``.

        Args:
            scores: (n,) numbers.
            hits: (n,) bool, whether the label is true.
            method: ``"isotonic"`` follows any increasing curve but needs some thousand pairs;
                ``"logistic"`` has two parameters.

        Returns:
            ``Calibration``.

        Raises:
            ConfigError: an unknown method.
            DataError: no pairs, NaN, all or none of them true, or scores that do not increase with
                the share of true labels.
        """
        check_choice("method", method, METHODS)
        scores = np.asarray(scores, float)
        hits = np.asarray(hits, bool)
        if not len(scores) or not np.isfinite(scores).all() or hits.all() or not hits.any():
            raise DataError(
                f"{hits.sum()} of {len(hits)} labels are true, and a calibration needs finite "
                "scores of both true and other ones",
                where="calibration pairs",
            )
        if method == "isotonic":
            from sklearn.isotonic import IsotonicRegression

            fitted = IsotonicRegression(increasing=True, out_of_bounds="clip").fit(scores, hits)
            return cls(method, scores=fitted.X_thresholds_, values=fitted.y_thresholds_)
        # From their mean and in units of their spread, so that the penalty does not depend on them.
        mean = scores.mean()
        spread = scores.std()
        if spread <= _ROUNDING * abs(mean):  # all alike, but for rounding
            scores = np.full_like(scores, mean)
            spread = 1.0
        slope, log_odds = _logistic_fit((scores - mean) / spread, hits)
        if slope < 0:
            raise DataError(
                "the share of true labels falls where the scores rise",
                where="calibration pairs",
                fix="check that scores and labels belong together",
            )
        slope /= spread
        return cls(method, slope=slope, intercept=log_odds - slope * mean)

    def apply(self, scores: float | np.ndarray) -> np.ndarray:
        """Returns probabilities float32 of scores of any shape; minus infinity (no label) stays."""
        scores = np.asarray(scores, float)
        if self.method == "isotonic":
            probabilities = np.interp(scores, self.scores, self.values)
        else:
            finite = np.where(np.isneginf(scores), 0, scores)
            probabilities = _probabilities(self.slope * finite + self.intercept)
        return np.where(np.isneginf(scores), -np.inf, probabilities).astype(np.float32)

    def content(self) -> dict[str, Any]:
        """Returns what a JSON file holds of it: the arguments."""
        if self.method == "isotonic":
            curve = {"scores": self.scores.tolist(), "values": self.values.tolist()}
            return {"method": self.method, **curve}
        return {"method": self.method, "slope": self.slope, "intercept": self.intercept}

    def save(self, path: str | Path) -> None:
        """Writes a JSON file."""
        write_json(path, {"format": 1, **self.content()}, indent=None)

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """Reads a file that ``save`` wrote.

        Raises:
            DataError: the file is missing or damaged.
        """
        content = read_json(path, fix=_TRAIN)
        try:
            if content.pop("format") != 1:
                raise ValueError("its format is not 1")
            calibration = cls(**content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"this is not a calibration ({error})", where=path, fix=_TRAIN
            ) from error
        num_scores = len(calibration.scores)
        num_values = len(calibration.values)
        if calibration.method == "isotonic" and (num_scores != num_values or not num_scores):
            raise DataError(
                f"a calibration of {num_scores} scores has {num_values} values",
                where=path,
                fix=_TRAIN,
            )
        check_choice(str(path), calibration.method, METHODS)
        return calibration


def _probabilities(log_odds: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(log_odds))
    return np.where(log_odds < 0, small, 1) / (1 + small)


def _logistic_fit(scores: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Returns slope and intercept of the log-odds that minimise the logistic loss, by Newton steps.

    The loss is that of ``LogisticRegression`` of scikit-learn with C = 1e6, whose default solver
    stops where the gradient of a pair is 1e-5; here it ends at 1e-16.
    """
    pairs = np.stack([scores, np.ones_like(scores)])
    penalty = np.array([_WEAK, 0])
    signs = np.where(hits, -1, 1)

    def loss(weights: np.ndarray) -> float:
        return np.logaddexp(0, signs * (weights @ pairs)).sum() + penalty @ weights**2 / 2

    share = hits.mean()
    weights = np.array([0, np.log(share / (1 - share))])
    for _ in range(_STEPS):
        expected = _probabilities(weights @ pairs)
        gradient = pairs @ (expected - hits) + penalty * weights
        curvature = (pairs * (expected * (1 - expected))) @ pairs.T + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        least = loss(weights) * (1 + 1e-12)
        while loss(weights - step) > least:  # too far, where the loss is no parabola
            step /= 2
        weights = weights - step
        if np.abs(step).max() <= 1e-9 * np.abs(weights).max():  # its square is below rounding
            break
    return weights


def pairs_of(
    ids: np.ndarray, scores: np.ndarray, labels: np.ndarray | scipy.sparse.spmatrix
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (score, is true) of all candidates.

    Args:
        ids: int (N, k) predicted labels, padded with −1.
        scores: (N, k).
        labels: the true ones: sparse (N, L), or int (N, most) padded with −1.

    Returns:
        scores (n,) and hits bool (n,), padding left out.
    """
    ids = np.asarray(ids)
    rows = np.arange(len(ids))[:, None]
    if scipy.sparse.issparse(labels):
        matrix = scipy.sparse.csr_matrix(labels).astype(bool)
        true = np.asarray(matrix[np.broadcast_to(rows, ids.shape), np.maximum(ids, 0)].todense())
        true = true.reshape(ids.shape)
    else:
        true = (ids[:, :, None] == np.asarray(labels)[:, None, :]).any(axis=2)
    real = ids >= 0
    return np.asarray(scores)[real], true[real]


def at_least(
    ids: np.ndarray, scores: np.ndarray, min_score: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns lists without the labels whose score is below ``min_score``.

    Args:
        ids: int (N, k), best first, padded with −1.
        scores: float (N, k).
        min_score: the least score that is kept.

    Returns:
        ids and scores of the same shape: −1 and minus infinity where a label was left out.
    """
    reached = scores >= min_score
    return np.where(reached, ids, np.int32(-1)), np.where(reached, scores, np.float32(-np.inf))
