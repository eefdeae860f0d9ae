"""Probabilities by a label's score, its place in the list, and the score of the best label."""

import numpy as np

from tfxc.decision.calibration import Calibration, Curve, line_inputs
from tfxc.decision.held_out import HeldOut
from tfxc.decision.logistic import fit_logistic
from tfxc.decision.probabilities.base import Probabilities

_PLACE = 2  # column of the place in the list


class Rows(Probabilities):
    """Isotonic regression of the scores, a line of the log-odds along the list, and once more.

    How often a label of some score is true depends on its place in the list, and on how sure the
    model is of the best label. A weight of the place by which probabilities would rise down the
    list is left out.
    """

    def fit(self, held_out: HeldOut) -> Calibration:
        listed = held_out.listed
        hits = held_out.hits[listed]
        shares = Curve.fit(held_out.scores[listed], hits)
        scores = np.where(listed, held_out.scores, 0.0)
        places = np.arange(scores.shape[1])
        inputs = line_inputs(shares, scores, places, held_out.scores[:, :1])[listed]
        weights = fit_logistic(inputs, hits)
        if weights[_PLACE] > 0:
            weights = fit_logistic(np.delete(inputs, _PLACE, axis=1), hits)
            weights = np.insert(weights, _PLACE, 0.0)
        return Calibration(shares, weights, Curve.fit(inputs @ weights, hits))
