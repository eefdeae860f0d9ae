"""What the ranker's training requires of a feature matrix."""

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError

_ENTRIES = 1 << 22  # looked at at once


def check_features(features: scipy.sparse.csr_matrix, where: str = "features") -> int:
    """Reads all features once and refuses what the solver cannot work with.

    Returns:
        the number of examples without features.

    Raises:
        DataError: no float32 CSR matrix, NaN or infinity, or unsorted or repeated entries.
    """
    if not (scipy.sparse.issparse(features) and features.format == "csr"):
        raise DataError(f"a CSR matrix expected, found {type(features).__name__}", where=where)
    if features.dtype != np.float32:
        raise DataError(f"float32 expected, found {features.dtype}", where=where)
    rows = max(1, int(_ENTRIES * features.shape[0] / max(features.nnz, 1)))
    for begin in range(0, features.shape[0], rows):
        splits = features.indptr[begin : begin + rows + 1].astype(np.int64)
        _check_window(features, begin, splits, where)
    return int((np.diff(features.indptr) == 0).sum())


def _check_window(features, begin, splits, where):
    values, ids = (part[splits[0] : splits[-1]] for part in (features.data, features.indices))
    wrong = ~np.isfinite(values)
    problem, found = "finite numbers expected", "found NaN or infinity"
    if not wrong.any() and len(ids):
        wrong = np.zeros(len(ids), bool)
        wrong[1:] = ids[1:] <= ids[:-1]
        starts = splits[:-1] - splits[0]
        wrong[starts[starts < len(ids)]] = False
        problem, found = "ascending feature numbers expected", "found unsorted or repeated ones"
    if wrong.any():
        entry = splits[0] + int(np.flatnonzero(wrong)[0])
        row = begin + int(np.searchsorted(splits, entry, side="right")) - 1
        raise DataError(
            f"{problem}, {found}",
            where=f"{where}, row {row}",
            fix="correct the row" if "NaN" in found else "call sum_duplicates() on the matrix",
        )
