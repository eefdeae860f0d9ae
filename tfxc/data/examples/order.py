"""Orders of examples: random ones that depend on numbers alone, and by the rarest label."""

import numpy as np

_PIECE = 65_536


def permutation(count: int, *key: int) -> np.ndarray:
    """Returns a permutation of ``range(count)`` that is a function of the integers in ``key``
    alone.
    """
    numbers = np.arange(count, dtype=np.int32 if count < 1 << 31 else np.int64)
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    generator.shuffle(numbers)
    return numbers


def rarest_labels(indptr: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns the label each example is assigned by: the rarest of its own, the lowest id among
    equals.

    Args:
        indptr: int64 (examples + 1,), bounds of each example's labels in ``ids``.
        ids: int32 (labels of all examples,).

    Returns:
        int32 (examples,), -1 for an example without labels.

    Example:
        >>> rarest_labels(np.array([0, 1, 3, 3]), np.array([0, 0, 1])).tolist()
        [0, 1, -1]
    """
    frequency = np.bincount(ids, minlength=1)
    count = len(indptr) - 1
    rarest = np.full(count, -1, np.int32)
    # Piece by piece: the sorting takes many times what the labels do.
    for first in range(0, count, _PIECE):
        bounds = indptr[first : first + _PIECE + 1]
        labels = ids[bounds[0] : bounds[-1]]
        sizes = np.diff(bounds)
        order = np.lexsort((labels, frequency[labels], np.repeat(np.arange(len(sizes)), sizes)))
        has_labels = sizes > 0
        rarest_places = (bounds[:-1] - bounds[0])[has_labels]
        rarest[first : first + _PIECE][has_labels] = labels[order][rarest_places]
    return rarest
