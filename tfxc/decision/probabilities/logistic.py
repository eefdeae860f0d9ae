"""Probabilities by a logistic curve."""

import numpy as np

from tfxc.core.errors import DataError
from tfxc.decision.calibration import Calibration
from tfxc.decision.held_out import HeldOut
from tfxc.decision.logistic import fit_logistic
from tfxc.decision.probabilities.base import Probabilities

_ROUNDING = 1e-12  # of the spread of equal scores, relative to them


class Logistic(Probabilities):
    """A logistic curve of the score: two numbers, which a hundred examples suffice for.

    Reference: Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
    """

    def fit(self, held_out: HeldOut) -> Calibration:
        listed = held_out.listed
        scores = held_out.scores[listed].astype(np.float64)
        # From their mean and in units of their spread, so that the penalty does not depend on them.
        mean = scores.mean()
        spread = scores.std()
        if spread <= _ROUNDING * abs(mean):  # all alike, but for rounding
            scores = np.full_like(scores, mean)
            spread = 1.0
        inputs = np.stack([np.ones_like(scores), (scores - mean) / spread], axis=1)
        log_odds, slope = fit_logistic(inputs, held_out.hits[listed])
        if slope < 0:
            raise DataError(
                "the share of true labels falls where the scores rise",
                where="held-out examples",
                fix="check that scores and labels belong together",
            )
        slope /= spread
        return Calibration(weights=np.array([log_odds - slope * mean, slope, 0.0, 0.0]))
