"""What a matrix of labels means: one rule for all files and arrays that contain one."""

from pathlib import Path

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.ops.csr import entry_place, summed_entries

_FIX = "write 1 where an example has a label and nothing elsewhere, as csr_matrix(Y > 0) does"


def label_matrix(
    matrix: np.ndarray | scipy.sparse.spmatrix, where: str | Path, first_row: int = 0
) -> scipy.sparse.csr_matrix:
    """Returns the labels of examples: the places of the entries above 0.

    Entries of the same place are summed first, so that a label counts once; stored zeros and
    entries below 0 are no labels. −1 is refused: a matrix of +1 and −1 has an entry for every label
    of every example, which no matrix of many labels can hold.

    Args:
        matrix: (n, num_labels), sparse or dense, of real numbers or booleans; it is left as it is.
        where: file or argument that it comes from, for messages.
        first_row: number of its first row there.

    Returns:
        bool CSR (n, num_labels) with an entry True for each label, columns ascending within a row.

    Raises:
        DataError: an entry is NaN, infinite or −1, or the matrix holds no real numbers.

    Example:
        >>> scores = scipy.sparse.csr_matrix(([1, 1, 0, -0.5], [0, 0, 1, 2], [0, 2, 4]), (2, 3))
        >>> label_matrix(scores, "Y.npz").toarray().tolist()
        [[True, False, False], [False, False, False]]
    """
    labels = summed_entries(scipy.sparse.csr_matrix(matrix), where, first_row)
    minus = np.flatnonzero(labels.data == -1)
    if minus.size:
        raise DataError(
            f"-1 is not a label ({entry_place(labels, minus[0], first_row)}): labels are the "
            "entries above 0",
            where=where,
            fix=_FIX,
        )
    present = labels.data > 0
    before = np.concatenate([[0], np.cumsum(present)])
    bounds = before[labels.indptr]
    ones = np.ones(before[-1], bool)
    return scipy.sparse.csr_matrix((ones, labels.indices[present], bounds), labels.shape)
