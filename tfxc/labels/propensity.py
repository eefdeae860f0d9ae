"""Label propensities: how likely a true label is to be annotated, by its frequency.

Source: Jain, Prabhu and Varma, KDD 2016, equation for ``p_l`` and the constants fitted there;
used in the same form by the Extreme Classification Repository.
"""

from collections.abc import Sequence

import numpy as np

from tfxc.core.errors import ConfigError


def propensities(label_counts: np.ndarray, num_examples: int, A: float, B: float) -> np.ndarray:
    """Returns the propensity of labels with the given training frequencies.

    ``p_l = 1 / (1 + C · exp(−A · log(N_l + B)))`` with ``C = (log N − 1) · (B + 1)^A``, where N_l
    is the label's number of training examples (0 for a label never seen) and N the number of
    training examples.

    Args:
        label_counts: array of any shape, N_l.
        num_examples: N, at least 3 (below e the propensities would exceed 1).
        A: slope, at least 0.
        B: offset, above 0 (a label never seen must keep a finite weight).

    Returns:
        float64 of the shape of ``label_counts``, within (0, 1).

    Raises:
        ConfigError: ``num_examples``, A or B is out of its range.

    Example:
        >>> propensities([1, 1000], num_examples=10_000, A=0.55, B=1.5).round(3)
        array([0.109, 0.767])
    """
    if num_examples < 3:
        raise ConfigError(
            f"{num_examples} training examples are fewer than 3",
            where="num_examples",
            fix="give the size of the training set, not of the evaluated one",
        )
    if not (A >= 0 and B > 0):
        raise ConfigError(
            f"A={A}, B={B} is out of range", where="propensity", fix="give A >= 0 and B > 0"
        )
    C = (np.log(num_examples) - 1) * (B + 1) ** A
    return 1 / (1 + C * np.exp(-A * np.log(np.asarray(label_counts, np.float64) + B)))


def checked_counts(label_counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns ``label_counts`` as an array.

    Raises:
        ConfigError: not a non-empty list of numbers of examples.
    """
    counts = np.asarray(label_counts)
    if counts.ndim != 1 or not counts.size:
        raise ConfigError(
            f"shape {counts.shape} is not a list of numbers of training examples",
            where="label_counts",
            fix="give one number for each label",
        )
    if counts.dtype.kind not in "iuf" or not np.isfinite(counts).all():
        raise ConfigError(
            f"the numbers of training examples are of type {counts.dtype}, or not finite",
            where="label_counts",
            fix="give one number for each label",
        )
    if counts.min() < 0:
        raise ConfigError(
            f"a label has {counts.min()} training examples, which is less than 0",
            where="label_counts",
        )
    return counts


def counts_of(ids: np.ndarray, label_counts: np.ndarray) -> np.ndarray:
    """Returns the training frequency of each label id, 0 for ids never seen in training and for −1.

    Args:
        ids: int array of any shape.
        label_counts: (num_labels,).

    Returns:
        An array of the shape of ``ids``.

    Example:
        >>> counts_of(np.array([1, 7, -1]), np.array([3, 4])).tolist()
        [4, 0, 0]
    """
    ids = np.asarray(ids)
    seen = (ids >= 0) & (ids < len(label_counts))
    return np.where(seen, label_counts[np.where(seen, ids, 0)], 0)
