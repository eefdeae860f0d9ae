"""Lists of different lengths that lie one after the other in one array (CSR)."""

import numpy as np


def bounds_of(counts):
    """Where each of the lists begins and ends, as the ``indptr`` of a CSR matrix.

    Args:
        counts: (n,) how long each list is.

    Returns:
        int64 (n + 1,): list i is ``values[bounds[i]:bounds[i + 1]]``.

    Example:
        >>> bounds_of([2, 0, 3]).tolist()
        [0, 2, 2, 5]
    """
    bounds = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=bounds[1:])
    return bounds
