"""Sets of labels that hold the true ones as often as is asked for."""

import math
from typing import Literal

import numpy as np

from tfxc.core.declared import Count, Natural, NotNegative, Share, ShareBelowOne
from tfxc.core.errors import ConfigError, DataError
from tfxc.decision.decision import NEVER, ROUNDING, Decision, just_below
from tfxc.decision.held_out import HeldOut
from tfxc.decision.labels.base import Labels


class Conformal(Labels):
    """Sets that, in the mean over new examples, miss at most the share ``alpha`` of true labels.

    This holds whatever the model is, where new examples are like the held-out ones: of one label
    per example the set holds it with a probability of at least 1 - alpha; of several, an example's
    set misses the share alpha of them in the mean. How large the sets are is up to the model.

    A label is in the set where its score reaches a threshold, the highest one with which held-out
    examples miss little enough. ``"adaptive"`` holds the threshold against what the labels before
    leave of 1: a hard example gets a longer list, and every example gets a label. It is the default
    where each example has one label, without ``tails``. ``"threshold"`` holds it against the
    probability itself, or the score of a model without: the smallest sets, of which some are empty.

    References: for several labels Angelopoulos et al., "Conformal Risk Control", ICLR 2024, which
    for one label is split conformal prediction. Adaptive sets (RAPS): Angelopoulos et al.,
    "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR 2021; here without its
    random number, which would give one example different sets. ``tails`` of 1 is the
    prevalence-adjusted score of Ding, Fermanian and Salmon, "Conformal Prediction for Long-Tailed
    Classification", arXiv 2507.06867; shares between are our own.

    Args:
        alpha: share of the true labels that may be missed.
        sets: adaptive or threshold; None chooses.
        penalty: of an adaptive set for each label behind the first ``free`` ones: it makes the
            longest sets shorter, and others longer. 0.1 and 1 had the smallest mean size of a few
            values tried on 95 % sets of clinc150 and banking77.
        free: labels without a penalty.
        tails: power of a label's share of the training examples by which its probability is
            divided. From 0 to 1, rare labels are missed less and common ones more.
        at_least: labels that are returned however low their probabilities are.
    """

    def __init__(
        self,
        alpha: ShareBelowOne = 0.1,
        sets: Literal["adaptive", "threshold"] | None = None,
        penalty: NotNegative = 0.1,
        free: Count = 1,
        tails: Share = 0.0,
        at_least: Natural = 0,
    ) -> None:
        self.alpha = alpha
        self.sets = sets
        self.penalty = penalty
        self.free = free
        self.tails = tails
        self.at_least = at_least

    def fit(self, held_out: HeldOut, probabilities: bool) -> Decision:
        sets = self.sets
        if sets is None:
            one_each = probabilities and bool((held_out.num_true == 1).all())
            sets = "adaptive" if one_each and not self.tails else "threshold"
        if sets == "adaptive" and not probabilities:
            raise ConfigError(
                "adaptive sets need probabilities, and the model has none",
                where="decision.labels",
                fix="set decision.probabilities, e.g. to rows",
            )
        if sets == "adaptive" and self.tails:
            raise ConfigError(
                "adaptive sets have one threshold, and tails give each label its own",
                where="decision.labels",
                fix="set sets to threshold, or leave tails out",
            )
        kept = {"at_least": self.at_least, "at_most": held_out.ids.shape[1]}
        if sets == "adaptive":
            rule = Decision(0.0, True, penalty=self.penalty, free=self.free, **kept)
            threshold = self._threshold(held_out, rule.held_against(held_out.scores))
            threshold -= ROUNDING  # of sums of probabilities
            return Decision(threshold, True, penalty=self.penalty, free=self.free, **kept)
        if not self.tails:
            return Decision(self._threshold(held_out, held_out.scores), probabilities, **kept)
        counts = held_out.label_counts + 1.0  # no label has none
        shares = (counts / counts.mean()) ** self.tails
        adjusted = held_out.scores / shares[np.maximum(held_out.ids, 0)]
        of_labels = np.minimum(self._threshold(held_out, adjusted) * shares, NEVER)
        return Decision(None, probabilities, of_labels=of_labels.astype(np.float32), **kept)

    def _threshold(self, held_out: HeldOut, values: np.ndarray) -> float:
        """Returns the highest threshold with which examples miss little enough.

        The mean of what n examples and one that misses all would miss is at most alpha then.

        Args:
            held_out: the examples; those without a true label have nothing to miss, and are no part
                of the mean.
            values: float (n, k), what the threshold is held against.
        """
        count = np.count_nonzero(held_out.num_true)
        found = held_out.hits & held_out.listed
        values = np.where(np.arange(values.shape[1]) < self.at_least, np.inf, values)[found]
        parts = (found / np.maximum(held_out.num_true, 1)[:, None])[found]
        order = np.argsort(-values, kind="stable")
        sums = np.cumsum(parts[order])
        wanted = (1 - self.alpha) * (count + 1) * (1 - 1e-12)
        place = int(np.searchsorted(sums, wanted))
        if place == len(sums):
            if wanted > count:  # not even with every true label found
                raise DataError(
                    f"alpha {self.alpha:g} needs {math.ceil(1 / self.alpha - 1):,} examples, and "
                    f"there are {count:,}",
                    where="held-out examples",
                    fix="raise alpha, or give more examples",
                )
            listed = held_out.ids.shape[1]
            raise DataError(
                f"alpha {self.alpha:g} needs {wanted / count:.1%} of the true labels, and the "
                f"{listed} best ones of {count:,} examples have {sums[-1] / count:.1%}",
                where="held-out examples",
                fix="raise alpha"
                if listed >= len(held_out.label_counts)
                else "raise decision.k or alpha",
            )
        value = float(values[order][place])
        return just_below(value) if value < NEVER else NEVER
