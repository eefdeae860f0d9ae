"""From which confidence on an example is answered."""

import numpy as np

from tfxc.core.errors import DataError
from tfxc.decision.decision import just_below
from tfxc.decision.held_out import HeldOut


def least_confidence(held_out: HeldOut, risk: float) -> float:
    """Returns the smallest score of a best label with which few best labels are wrong.

    Of the held-out examples from there on, and one more that is wrong, at most the share ``risk``
    has a wrong best label. As many as possible are answered.

    Reference: El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification",
    JMLR 2010.

    Args:
        held_out: examples.
        risk: share of the examples answered whose best label may be wrong.

    Raises:
        DataError: not even the surest are right often enough.

    Example:
        >>> ids, scores = np.array([[0], [1], [1]]), np.array([[0.9], [0.8], [0.3]])
        >>> hits = np.array([[True], [True], [False]])
        >>> examples = HeldOut(ids, scores, np.ones(2, int), hits, np.ones(3, int))
        >>> round(least_confidence(examples, 0.4), 4)
        0.8
    """
    answered = held_out.listed[:, 0]
    order = np.argsort(-held_out.scores[answered, 0], kind="stable")
    scores = held_out.scores[answered, 0][order]
    wrong = np.cumsum(~held_out.hits[answered, 0][order])
    shares = (wrong + 1) / (np.arange(len(wrong)) + 2)
    last = np.append(scores[1:] < scores[:-1], True)  # equal scores are answered together
    possible = np.flatnonzero(last & (shares <= risk))
    if not len(possible):
        raise DataError(
            f"however few of the {len(scores):,} examples are answered, more than {risk:.1%} of "
            "the best labels are wrong, counting one more",
            where="held-out examples",
            fix="raise decision.abstain.risk, or give more examples",
        )
    return just_below(float(scores[possible[-1]]))
