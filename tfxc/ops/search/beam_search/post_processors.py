"""From a classifier's margin to a node's score, and from a parent's score to its child's.

The formulas and names are those of PECOS (Yu et al., JMLR 2022, arXiv 2010.05878). An exported
ranker has a copy of this file, which therefore needs NumPy alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PostProcessor:
    """A rule for scores; none falls where the margin or the parent's score rises.

    Args:
        name: key in ``POST_PROCESSORS``.
        code: which formula, as ``ops.search.beam_search._beam_search`` numbers them: 0 the margin
            itself, 1 sigmoid, 2 its logarithm, 3 hinge, 4 its logarithm.
        power: of a hinge.

    Example:
        >>> hinge = POST_PROCESSORS["l3-hinge"]
        >>> hinge.transform(np.float32([2, 0])).round(3).tolist()
        [1.0, 0.36800000071525574]
    """

    name: str
    code: int
    power: int = 1

    def transform(self, margins: Sequence[float] | np.ndarray) -> np.ndarray:
        """Returns scores float32 of margins, without a parent."""
        margins = np.asarray(margins, np.float32)
        if self.code == 0:
            return margins
        if self.code == 1:
            small = np.exp(-np.abs(margins))
            return np.where(margins < 0, small, np.float32(1)) / (1 + small)
        if self.code == 2:
            return np.minimum(margins, 0) - np.log1p(np.exp(-np.abs(margins)))
        distance = np.maximum(1 - margins, 0) ** self.power
        return np.exp(-distance) if self.code == 3 else -distance

    def combine(
        self, scores: float | np.ndarray, parent_scores: float | np.ndarray
    ) -> float | np.ndarray:
        """Returns scores of children from their own, as ``transform`` returns them, and their
        parents'.
        """
        if self.code == 0:
            return scores
        return scores * parent_scores if self.code in (1, 3) else scores + parent_scores


_KNOWN = [PostProcessor("noop", 0), PostProcessor("sigmoid", 1), PostProcessor("log-sigmoid", 2)]
_KNOWN += [PostProcessor(f"l{power}-hinge", 3, power) for power in (1, 2, 3, 4)]
_KNOWN += [PostProcessor(f"log-l{power}-hinge", 4, power) for power in (1, 2, 3, 4)]
POST_PROCESSORS = {known.name: known for known in _KNOWN}
