"""How much a positive counts in every layer: cost-sensitive learning of the ranker."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from tfxc.core.declared import check_choice
from tfxc.core.errors import DataError

if TYPE_CHECKING:
    from tfxc.labels.cluster_tree import ClusterTree


MODES = ("disable", "induce", "ranker-only")
NORMS = ("l1", "l2", "max", "none")


def relevance_of(
    targets: Sequence[scipy.sparse.csr_matrix],
    tree: "ClusterTree",
    mode: str = "disable",
    norm: str = "l1",
    given: scipy.sparse.csr_matrix | None = None,
) -> list[scipy.sparse.csr_matrix | None]:
    """Returns the relevance of the positives of every level.

    With ``"induce"`` a cluster's relevance is the sum of its children's. Each level is divided by
    the rows' norms, so that with l1 an example's positives cost as much as one.

    Args:
        targets: label matrices of the levels, CSR (N, K_t), the last one Y.
        tree: ``tfxc.labels.cluster_tree.ClusterTree``.
        mode: ``"disable"``; ``"induce"``: from the labels' relevance up; ``"ranker-only"``: only
            the last level, and only where relevance is given.
        norm: ``"l1"``, ``"l2"``, ``"max"`` or ``"none"``.
        given: sparse (N, L), relevance of each positive; None means 1.

    Returns:
        list with a CSR matrix or None (all count the same) for every level.

    Raises:
        ConfigError: an unknown mode or norm.
        DataError: relevance of another shape, or not above 0 for each positive.

    Reference: Chang et al., "Extreme Multi-label Learning for Semantic Matching in Product
    Search", KDD 2021; Zhang et al., NeurIPS 2021, arXiv 2110.00685.
    """
    check_names(mode, norm)
    levels: list[scipy.sparse.csr_matrix | None] = [None] * len(targets)
    if mode == "disable" or (mode == "ranker-only" and given is None):
        return levels
    labels = targets[-1]
    if given is None:
        ones = np.ones(labels.nnz, np.float32)
        levels[-1] = scipy.sparse.csr_matrix((ones, labels.indices, labels.indptr), labels.shape)
    else:
        levels[-1] = aligned(given, labels)
    if mode == "induce":
        for level in range(len(targets) - 1, 0, -1):
            levels[level - 1] = levels[level] @ tree.matrix(level)
    for matrix in levels:
        if matrix is None or norm == "none":
            continue
        if norm == "max":
            sizes = np.asarray(matrix.max(axis=1).todense()).ravel()
        else:
            power = 1 if norm == "l1" else 2
            sums = np.asarray(abs(matrix).power(power).sum(axis=1)).ravel()
            sizes = sums ** (1 / power)
        matrix.data /= np.repeat(np.where(sizes > 0, sizes, 1), np.diff(matrix.indptr))
    return levels


def check_names(mode: str, norm: str) -> None:
    """Refuses an unknown mode or norm of ``relevance_of``.

    Raises:
        ConfigError: the known ones are named.
    """
    check_choice("relevance_mode", mode, MODES)
    check_choice("relevance_norm", norm, NORMS)


def aligned(
    given: scipy.sparse.csc_matrix | scipy.sparse.csr_matrix,
    labels: scipy.sparse.csc_matrix | scipy.sparse.csr_matrix,
) -> scipy.sparse.csc_matrix | scipy.sparse.csr_matrix:
    """Returns the relevance of the positives only, its entries in their order.

    Args:
        given: sparse (N, K), relevance.
        labels: CSR or CSC (N, K) with ascending indices, the positives.

    Returns:
        float32, of the format and with the indices of ``labels``.

    Raises:
        DataError: another shape, or relevance that is not finite and above 0 for each positive.
    """
    if given.shape != labels.shape:
        raise DataError(
            f"the relevance has the shape {given.shape}, the labels have {labels.shape}"
        )
    pattern = labels.copy()
    pattern.data = np.ones(labels.nnz, np.float32)
    relevance = pattern.multiply(given).asformat(labels.format).astype(np.float32)
    relevance.sort_indices()
    good = np.isfinite(relevance.data) & (relevance.data > 0)
    if good.sum() != labels.nnz:
        raise DataError(
            f"only {good.sum():,} of {labels.nnz:,} positives have a relevance above 0 and finite"
        )
    return relevance
