"""Probabilities by a curve of any increasing form."""

from tfxc.decision.calibration import Calibration, Curve
from tfxc.decision.held_out import HeldOut
from tfxc.decision.probabilities.base import Probabilities


class Isotonic(Probabilities):
    """The share of true labels among those of a score, by isotonic regression.

    It needs some thousand labels, and may make neighbouring scores equal.

    Reference: Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass
    Probability Estimates", KDD 2002.
    """

    def fit(self, held_out: HeldOut) -> Calibration:
        listed = held_out.listed
        return Calibration(shares=Curve.fit(held_out.scores[listed], held_out.hits[listed]))
