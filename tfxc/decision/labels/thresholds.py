"""A threshold for each label, the best one on its held-out examples."""

import numpy as np

from tfxc.core.declared import Natural, NotNegative, Share
from tfxc.decision.decision import Decision
from tfxc.decision.held_out import HeldOut
from tfxc.decision.labels.base import Labels
from tfxc.decision.labels.threshold import common_threshold


class Thresholds(Labels):
    """Labels that reach a threshold of their own, where its F-measure is highest (SCut).

    Few true examples say little of where that is: the label's own threshold is averaged with the
    common one, as if ``prior`` true examples had that. Unlike ``f_measure`` it needs no
    probabilities.

    References: Yang, "A Study on Thresholding Strategies for Text Categorization", SIGIR 2001; Fan
    and Lin, "A Study on Threshold Selection for Multi-label Classification", 2007 (``fbr``).

    Args:
        prior: true examples that the common threshold counts as; with 0 it counts only for labels
            that no held-out example has.
        fbr: labels whose F-measure is below it at every threshold are returned only where they have
            as high a score as their highest held-out one.
        at_least: labels that are returned however low their scores are.
    """

    def __init__(self, prior: NotNegative = 10, fbr: Share = 0, at_least: Natural = 0) -> None:
        self.prior = prior
        self.fbr = fbr
        self.at_least = at_least

    def fit(self, held_out: HeldOut, probabilities: bool) -> Decision:
        listed = held_out.listed
        ids = held_out.ids[listed]
        scores = held_out.scores[listed]
        order = np.lexsort((-scores, ids))
        ids = ids[order]
        scores = scores[order]
        positives = held_out.positives
        starts = np.flatnonzero(np.diff(ids, prepend=-1))
        labels = ids[starts]
        sizes = np.diff(starts, append=len(ids))
        true = np.cumsum(held_out.hits[listed][order])
        true -= np.repeat(true[starts] - held_out.hits[listed][order][starts], sizes)
        predicted = np.arange(1, len(ids) + 1) - np.repeat(starts, sizes)
        f1 = 2 * true / (predicted + positives[ids])
        f1[:-1][(ids[:-1] == ids[1:]) & (scores[:-1] == scores[1:])] = 0  # above it together
        highest = np.maximum.reduceat(f1, starts)
        best = np.flatnonzero(f1 == np.repeat(highest, sizes))
        firsts = best[np.flatnonzero(np.diff(ids[best], prepend=-1))]
        of_labels = np.full(len(positives), common_threshold(held_out))
        found = highest > 0
        own = positives[labels[found]]
        of_labels[labels[found]] = (
            own * scores[firsts[found]] + self.prior * of_labels[labels[found]]
        ) / (own + self.prior)
        guarded = highest < self.fbr
        of_labels[labels[guarded]] = scores[starts[guarded]]
        return Decision(
            probabilities=probabilities,
            of_labels=of_labels.astype(np.float32),
            at_least=self.at_least,
            at_most=held_out.ids.shape[1],
        )
