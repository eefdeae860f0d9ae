"""Titles of labels among the examples: a catalogue's own names, which are no queries."""

import numpy as np
import scipy.sparse

from tfxc.ranker.fusion.fused_numpy import pair_sums, split_blocks
from tfxc.ranker.fusion.memory import csr_rows, kernels

_ALL = 0.999  # of the squares of an example's features


def title_examples(
    features: scipy.sparse.csr_matrix,
    labels: scipy.sparse.csr_matrix,
    texts: scipy.sparse.csr_matrix,
    width: int | None = None,
) -> np.ndarray:
    """Returns which examples are titles, bool (examples,).

    The title of a label is, of its examples all of whose features are in the label's text, the one
    most like it. Others with all features there are none.

    Args:
        features: CSR (examples, D).
        labels: CSR (examples, num_labels).
        texts: CSR (num_labels, D), features of the labels' texts.
        width: how many of the features count, from the first; None means all.

    Example:
        >>> rows, texts = (scipy.sparse.csr_matrix(x) for x in ([[1, 1], [1, 0]], [[1, 1]]))
        >>> title_examples(rows, scipy.sparse.csr_matrix([[1], [1]]), texts).tolist()
        [True, False]
    """
    block = [0, features.shape[1] if width is None else width]
    queries = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    similarities, shares, _ = (pair_sums if kernels is None else kernels.pair_sums)(
        split_blocks(csr_rows(features), block)[0],
        split_blocks(csr_rows(texts), block)[0],
        queries,
        labels.indices.astype(np.int64),
        block[1],
    )
    pairs = np.flatnonzero(shares > _ALL)
    pairs = pairs[np.lexsort((-similarities[pairs], labels.indices[pairs]))]
    _, firsts = np.unique(labels.indices[pairs], return_index=True)
    titles = np.zeros(labels.shape[0], bool)
    titles[queries[pairs[firsts]]] = True
    return titles
