"""Vectors of labels to cluster them by, from the labels' training examples.

All take a label matrix Y (examples, labels), CSR, and give float32 vectors (labels, ...): CSR for
sparse features, an array for dense ones. A label without an example gets zeros.
"""

import numpy as np
import scipy.sparse
from sklearn.preprocessing import normalize

from tfxc.errors import ConfigError, DataError

MODES = ("concat", "convex")


def pifa(labels, features):
    """Positive instance feature aggregation: rows of ``l2(l2(Y)^T X)``.

    An example counts for each of its n labels with 1 / sqrt(n), its features as they are.

    Args:
        labels: Y (examples, labels), sparse.
        features: X (examples, width), CSR or dense.

    Returns:
        float32 (labels, width), rows of unit length or zero; sparse where X is.

    Raises:
        DataError: X and Y have different numbers of rows.

    Reference: Yu et al., "PECOS", JMLR 2022.

    Example:
        >>> labels = scipy.sparse.csr_matrix(np.array([[1, 0], [1, 1]], np.float32))
        >>> pifa(labels, np.array([[3.0, 0], [0, 1.0]]))[1].tolist()
        [0.0, 1.0]
    """
    if labels.shape[0] != features.shape[0]:
        raise DataError(
            f"as many rows of features as of labels, {labels.shape[0]:,}, are expected, "
            f"found {features.shape[0]:,}",
            fix="give both matrices of the same examples",
        )
    sums = _matrix(normalize(_matrix(labels)).T @ _matrix(features))
    return normalize(sums, copy=False)


def pii(labels):
    """Positive instance indices: which examples a label has, rows of ``l2(Y^T)``.

    Args:
        labels: Y (examples, labels), sparse.

    Returns:
        float32 CSR (labels, examples), rows of unit length or zero.

    Reference: Yu et al., "PECOS", JMLR 2022.

    Example:
        >>> pii(scipy.sparse.csr_matrix(np.array([[1, 0], [1, 1]]))).toarray().tolist()[1]
        [0.0, 1.0]
    """
    return normalize(_matrix(labels.T))


def pifa_with_label_features(labels, features, label_features, mode="concat", alpha=0.5):
    """PIFA joined with features of the labels themselves, such as those of their names.

    Args:
        labels, features: as for ``pifa``.
        label_features: Z (labels, any width; for ``convex`` the features'), CSR or dense.
        mode: ``"concat"`` puts both side by side, ``"convex"`` adds alpha PIFA + (1 - alpha) Z.
        alpha: share of PIFA in ``convex``, 0 to 1.

    Returns:
        float32 (labels, width), sparse where X or Z is; rows are not scaled again.

    Raises:
        ConfigError: an unknown mode, or alpha outside 0 to 1.
        DataError: shapes do not fit.

    Reference: Yu et al., "PECOS", JMLR 2022.

    Example:
        >>> labels = scipy.sparse.csr_matrix(np.eye(2, dtype=np.float32))
        >>> found = pifa_with_label_features(labels, np.eye(2), np.ones((2, 2)), "convex", 0.5)
        >>> found.tolist()
        [[1.0, 0.5], [0.5, 1.0]]
    """
    if mode not in MODES:
        raise ConfigError(f"one of {', '.join(MODES)} is expected, found {mode!r}", where="mode")
    if not 0 <= alpha <= 1:
        raise ConfigError(f"a number from 0 to 1 is expected, found {alpha!r}", where="alpha")
    found, given = pifa(labels, features), _matrix(label_features)
    expected = found.shape if mode == "convex" else (found.shape[0], given.shape[1])
    if given.shape != expected:
        raise DataError(
            f"label features of shape {expected} are expected, found {given.shape}",
            fix="give a row per label" + (", as wide as the features" if mode == "convex" else ""),
        )
    if scipy.sparse.issparse(found) or scipy.sparse.issparse(given):
        found, given = scipy.sparse.csr_matrix(found), scipy.sparse.csr_matrix(given)
    if mode == "convex":
        return np.float32(alpha) * found + np.float32(1 - alpha) * given
    if scipy.sparse.issparse(found):
        return scipy.sparse.hstack([found, given], format="csr", dtype=np.float32)
    return np.concatenate([found, given], axis=1)


def _matrix(values):
    """float32, as CSR or as an array."""
    if scipy.sparse.issparse(values):
        return scipy.sparse.csr_matrix(values, dtype=np.float32)
    return np.asarray(values, np.float32)
