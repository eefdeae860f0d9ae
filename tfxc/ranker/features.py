"""What the ranker's training requires of a feature matrix."""

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError

_ENTRIES = 1 << 22  # looked at at once


def check_features(features: scipy.sparse.csr_matrix) -> int:
    """Reads all features once and refuses what the solver cannot work with.

    Returns:
        the number of examples without features.

    Raises:
        DataError: no float32 CSR matrix, NaN or infinity, or unsorted or repeated entries.
    """
    if not (scipy.sparse.issparse(features) and features.format == "csr"):
        raise DataError(f"{type(features).__name__} is not a CSR matrix", where="features")
    if features.dtype != np.float32:
        raise DataError(f"the features are {features.dtype}, not float32", where="features")
    rows = max(1, int(_ENTRIES * features.shape[0] / max(features.nnz, 1)))
    for begin in range(0, features.shape[0], rows):
        splits = features.indptr[begin : begin + rows + 1].astype(np.int64)
        ids = features.indices[splits[0] : splits[-1]]
        infinite = ~np.isfinite(features.data[splits[0] : splits[-1]])
        unordered = np.zeros(len(ids), bool)
        unordered[1:] = ids[1:] <= ids[:-1]
        starts = splits[:-1] - splits[0]
        unordered[starts[starts < len(ids)]] = False
        for wrong, problem, fix in (
            (infinite, "a feature is NaN or infinite", "correct the row"),
            (
                unordered,
                "the feature numbers do not ascend, or one is repeated",
                "call sum_duplicates() on the matrix",
            ),
        ):
            if wrong.any():
                entry = splits[0] + int(np.flatnonzero(wrong)[0])
                row = begin + int(np.searchsorted(splits, entry, side="right")) - 1
                raise DataError(problem, where=f"features, row {row}", fix=fix)
    return int((np.diff(features.indptr) == 0).sum())
