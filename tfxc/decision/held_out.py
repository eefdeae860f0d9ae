"""Ranked labels of examples that a model was not trained on: what decisions are learned of."""

import dataclasses

import numpy as np

from tfxc.core.errors import DataError


@dataclasses.dataclass(frozen=True)
class RankedLists:
    """The best labels of examples.

    Attributes:
        ids: int32 (n, k), best first, padded with -1.
        scores: float (n, k), minus infinity where there is no label.
        label_counts: int64 (num_labels,), training examples of each label.
    """

    ids: np.ndarray
    scores: np.ndarray
    label_counts: np.ndarray

    @property
    def listed(self) -> np.ndarray:
        """bool (n, k): where there is a label."""
        return self.ids >= 0

    @property
    def truths(self) -> float:
        """Number of true labels that are expected of all examples: scores are probabilities."""
        return float(self.scores[self.listed].sum(dtype=np.float64))


@dataclasses.dataclass(frozen=True)
class HeldOut(RankedLists):
    """The best labels of examples whose true labels are known.

    Attributes:
        hits: bool (n, k), whether a label is true.
        num_true: int (n,), number of true labels of each example, listed or not.
        labels: int32 (n, w), the true labels of each example, each once, padded with -1; None where
            all of them are listed.

    Raises:
        DataError: no listed label is true, or all are, or a score is NaN or infinity.
    """

    hits: np.ndarray
    num_true: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        listed = self.listed
        true = int(self.hits[listed].sum())
        count = int(listed.sum())
        problem = None
        if not np.isfinite(self.scores[listed]).all():
            problem, fix = "a score is NaN or infinite", "train with a smaller learning rate"
        elif not true:
            problem = f"none of the {count:,} labels found is true"
            fix = "check that their labels are those of the run, and occur in several texts"
        elif true == count:
            problem = f"all {count:,} labels found are true"
            fix = "give examples of at least two labels"
        if problem is not None:
            raise DataError(
                f"{problem}, and a decision is learned of right and wrong ones",
                where="held-out examples",
                fix=fix,
            )

    @property
    def truths(self) -> float:
        """Number of true labels of all examples."""
        return int(self.num_true.sum())

    @property
    def positives(self) -> np.ndarray:
        """int64 (num_labels,): held-out examples of each label, listed or not."""
        num_labels = len(self.label_counts)
        true = self.ids[self.hits & self.listed] if self.labels is None else self.labels.ravel()
        return np.bincount(true[(true >= 0) & (true < num_labels)], minlength=num_labels)

    def rows(self, chosen: np.ndarray) -> "HeldOut":
        """Returns some of the examples.

        Args:
            chosen: bool (n,) or numbers of rows.
        """
        return HeldOut(
            self.ids[chosen],
            self.scores[chosen],
            self.label_counts,
            self.hits[chosen],
            self.num_true[chosen],
            None if self.labels is None else self.labels[chosen],
        )
