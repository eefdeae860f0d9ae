"""The rule by which labels of a ranked list are returned."""

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

#: Labels searched per example where a threshold decides.
SEARCHED = 100
#: A threshold that no score reaches; JSON has no infinity.
NEVER = float(np.finfo(np.float32).max)
_ARRAYS = ("of_labels", "gains")  # attributes that have a value for each label
#: Of a probability in a graph, relative to it.
ROUNDING = 1e-5


def just_below(value: float) -> float:
    """Returns a threshold that this score reaches wherever it is computed, however it is rounded.

    Example:
        >>> just_below(0.5)
        0.499995
    """
    return value - ROUNDING * abs(value)


@dataclasses.dataclass(frozen=True)
class Decision:
    """The one rule by which labels of a ranked list count as predicted.

    They are the labels whose score reaches the threshold, all labels' or their own; with gains,
    those that exceed it by most; without any threshold the best label alone.

    Attributes:
        threshold: smallest score that counts, or None.
        probabilities: whether scores must be probabilities.
        of_labels: float32 (num_labels,), the smallest score of each label, or None.
        at_least: labels that count however low their scores are.
        at_most: labels that count however high the others' scores are; None means all.
        penalty: None, or ``threshold`` is held against what the labels before leave of 1, less this
            for each place behind the first ``free`` ones: an adaptive set.
        free: places without a penalty.
        abstain: smallest score of the best label; where it has less, no label counts. None means
            any.
        gains: float32 (num_labels,), or None. With them, the ``count`` labels count for which the
            label's gain times its score, less ``of_labels``, is highest, of the first ``at_most``.
        count: see ``gains``.

    Example:
        >>> str(Decision(0.5, probabilities=True))
        'labels of probability 0.5 or more'
        >>> ids, scores = np.array([[3, 1, 2]]), np.array([[0.9, 0.6, 0.4]])
        >>> Decision(0.5, at_most=1).predicted(ids, scores).tolist()
        [[True, False, False]]
        >>> Decision(0.3, penalty=0.0).predicted(ids, np.array([[0.5, 0.2, 0.1]])).tolist()
        [[True, True, True]]
    """

    threshold: float | None = None
    probabilities: bool = False
    of_labels: np.ndarray | None = dataclasses.field(default=None, compare=False)
    at_least: int = 0
    at_most: int | None = None
    penalty: float | None = None
    free: int = 1
    abstain: float | None = None
    gains: np.ndarray | None = dataclasses.field(default=None, compare=False)
    count: int = 0

    @property
    def best_alone(self) -> bool:
        """Whether there is no threshold."""
        return self.threshold is None and self.of_labels is None

    def __str__(self) -> str:
        if self.best_alone:
            return "best label"
        kind = "probability" if self.probabilities else "score"
        if self.gains is not None:
            parts = [f"labels of highest weighted {kind}, {self.count} of the best {self.at_most}"]
        elif self.threshold is None:
            parts = [f"labels whose {kind} reaches the label's own threshold"]
        elif self.threshold == NEVER:
            parts = ["best labels"]
        elif self.penalty is not None:
            parts = [
                f"labels until those before have a {kind} of {1 - self.threshold:.4g} together"
            ]
            if self.penalty:
                parts = [f"{parts[0]}, counting {self.penalty:g} more for each place"]
        else:
            parts = [f"labels of {kind} {self.threshold:g} or more"]
        if self.at_least:
            parts.append(f"at least {self.at_least}")
        if self.at_most is not None and self.gains is None:
            parts.append(f"at most {self.at_most}")
        if self.abstain is not None:
            parts.append(f"none where the best label has less than {self.abstain:g}")
        return ", ".join(parts)

    def predicted(self, ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns bool (batch, K): the labels that count.

        Args:
            ids: int (batch, K), best first, padded with -1.
            scores: float (batch, K).
        """
        places = np.arange(ids.shape[1])
        if self.best_alone:
            return (places < 1) & (ids >= 0)
        least = self.threshold if self.of_labels is None else self.of_labels[np.maximum(ids, 0)]
        if self.gains is None:
            reached = self.held_against(scores) >= least
        else:
            values = self.gains[np.maximum(ids, 0)] * scores - least
            considered = places < (self.at_most or ids.shape[1])
            values = np.where((ids >= 0) & considered, values, -np.inf)
            best = np.argsort(-values, axis=1, kind="stable")[:, : self.count]
            reached = np.zeros(ids.shape, bool)
            np.put_along_axis(reached, best, True, axis=1)
        if self.at_most is not None:
            reached &= places < self.at_most
        chosen = (reached | (places < self.at_least)) & (ids >= 0)
        return chosen if self.abstain is None else chosen & (scores[:, :1] >= self.abstain)

    def held_against(self, scores: np.ndarray) -> np.ndarray:
        """Returns what thresholds are held against, float (batch, K).

        Args:
            scores: see ``predicted``.
        """
        if self.penalty is None:
            return scores
        likely = np.where(np.isneginf(scores), 0, scores).astype(scores.dtype)
        before = np.cumsum(likely, axis=1) - likely
        behind = np.maximum(np.arange(1, scores.shape[1] + 1) - self.free, 0)
        return 1 - before - scores.dtype.type(self.penalty) * behind.astype(scores.dtype)

    def may_go_on(self, ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Tells whether labels behind the end of each list may count, too: bool (batch,).

        Args:
            ids, scores: see ``predicted``.
        """
        if self.best_alone or (self.at_most is not None and self.at_most <= ids.shape[1]):
            return np.zeros(len(ids), bool)
        if self.gains is not None:
            return ids[:, -1] >= 0
        least = self.threshold if self.of_labels is None else self.of_labels.min()
        return (self.held_against(scores)[:, -1] >= least) & (ids[:, -1] >= 0)

    def content(self) -> dict[str, Any]:
        """Returns what a JSON file holds of it.

        Thresholds are in base 64: of millions of labels, numbers would take minutes.
        """
        content = dataclasses.asdict(self)
        for name in _ARRAYS:
            array = getattr(self, name)
            if array is not None:
                content[name] = base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")
        return content

    @classmethod
    def of(cls, content: Mapping[str, Any], num_labels: int) -> "Decision":
        """Makes a decision of its ``content``.

        Raises:
            ValueError, TypeError, KeyError: it is none, or not of so many labels.
        """
        arrays = {}
        for name in _ARRAYS:
            text = content[name]
            if text is not None:
                arrays[name] = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
                if len(arrays[name]) != num_labels:
                    raise ValueError(
                        f"it has thresholds of {len(arrays[name]):,} labels, not {num_labels:,}"
                    )
        return cls(**{**content, **arrays})

    def depth(self, least: int, num_labels: int, searched: int = SEARCHED) -> int:
        """Returns labels to search for each example.

        Args:
            least: as many as other metrics need.
            num_labels: size of the label space.
            searched: as many as a threshold is held against.
        """
        if self.best_alone:
            return max(least, 1)
        return min(num_labels, max(least, self.at_most or searched))


def at_least(
    ids: np.ndarray, scores: np.ndarray, min_score: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns lists without the labels whose score is below ``min_score``.

    Args:
        ids: int (N, k), best first, padded with -1.
        scores: float (N, k).
        min_score: the least score that is kept.

    Returns:
        ids and scores of the same shape: -1 and minus infinity where a label was left out.
    """
    reached = scores >= min_score
    return np.where(reached, ids, np.int32(-1)), np.where(reached, scores, np.float32(-np.inf))
