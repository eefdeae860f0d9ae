"""A threshold for each label, for the highest F-measure."""

import numpy as np

from tfxc.core.declared import Natural, Share
from tfxc.decision.decision import Decision
from tfxc.decision.held_out import HeldOut
from tfxc.decision.labels.base import Labels, check_probabilities
from tfxc.decision.logistic import log_odds, probabilities

_SPREAD = 0.6  # standard deviation of labels' own log-odds about the calibrated ones
_PSEUDO = 0.5  # examples of the common F-measure that each label's own starts from
_STEPS = 15
_ROUNDS = 30
_FIRST = 0.3  # threshold of the first round
_LEAST = 1e-6  # of a probability, so that its log-odds are finite


class FMeasure(Labels):
    """Labels that reach a threshold of their own.

    The best threshold for an F-measure is half of the highest value that it can reach; that for a
    mean of the common F-measure (micro) and of every label's own (macro) lies between the halves of
    both. They are found by turns, from expected counts. A label that held-out examples say little
    of starts from the common value, and from as many true examples as its share of the training
    examples makes likely.

    References: Lipton, Elkan and Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1
    Measure", ECML 2014; Ye et al., "Optimizing F-measures", ICML 2012.

    Args:
        balance: share of micro-F1 in what is maximised, macro-F1 is the rest.
        at_least: labels that are returned however low their probabilities are.
    """

    def __init__(self, balance: Share = 0.5, at_least: Natural = 0) -> None:
        self.balance = balance
        self.at_least = at_least

    def fit(self, held_out: HeldOut, probabilities: bool) -> Decision:
        check_probabilities("f_measure", probabilities)
        return Decision(
            probabilities=True,
            of_labels=thresholds(held_out, self.balance),
            at_least=self.at_least,
            at_most=held_out.ids.shape[1],
        )


def thresholds(held_out: HeldOut, balance: float) -> np.ndarray:
    """Returns the threshold of each label, float32 (num_labels,), see ``FMeasure``."""
    listed = held_out.listed
    ids = held_out.ids[listed]
    odds = log_odds(np.clip(held_out.scores[listed].astype(np.float64), _LEAST, 1 - _LEAST))
    counts = held_out.label_counts
    num_labels = len(counts)
    offsets = label_offsets(ids, odds, held_out.hits[listed], num_labels)
    chances = probabilities(odds + offsets[ids])
    likely = counts * (held_out.truths / max(1, counts.sum()))
    positives = np.maximum(np.bincount(ids, chances, num_labels), likely)
    of_labels = np.full(num_labels, _FIRST)
    for _ in range(_ROUNDS):
        chosen = chances >= of_labels[ids]
        found = np.bincount(ids[chosen], chances[chosen], num_labels)
        sizes = np.bincount(ids[chosen], minlength=num_labels) + positives
        whole = max(sizes.sum(), _LEAST)
        common = 2 * found.sum() / whole
        own = (2 * found + _PSEUDO * common) / (sizes + _PSEUDO)
        # What a label's prediction more changes of the mean over labels, and of the common value.
        of_own = (1 - balance) / (num_labels * (sizes + _PSEUDO))
        of_common = balance / whole
        of_labels = (of_own * own + of_common * common) / (2 * (of_own + of_common))
    bounded = np.clip(of_labels, _LEAST, 1 - _LEAST)
    return probabilities(log_odds(bounded) - offsets).astype(np.float32)


def label_offsets(
    ids: np.ndarray, odds: np.ndarray, hits: np.ndarray, num_labels: int
) -> np.ndarray:
    """Returns by how much each label's log-odds of being true exceed the calibrated ones.

    They have a Gaussian prior: a label without evidence has 0.

    Args:
        ids: int (n,), labels.
        odds: float64 (n,), their calibrated log-odds.
        hits: bool (n,), whether they are true.
        num_labels: size of the label space.

    Returns:
        float64 (num_labels,).
    """
    precision = _SPREAD**-2
    true = np.bincount(ids, hits, num_labels)
    offsets = np.zeros(num_labels)
    for _ in range(_STEPS):
        expected = probabilities(odds + offsets[ids])
        gradient = true - np.bincount(ids, expected, num_labels) - precision * offsets
        curvature = np.bincount(ids, expected * (1 - expected), num_labels) + precision
        offsets += np.clip(gradient / curvature, -1, 1)
    return offsets
