"""Orders of the labels: which label gets which code.

Heads that write a label as digits share weights or candidates between the labels of a block of
neighbouring codes, so it matters who the neighbours are; see also ``labels.product_order``.
"""

import numpy as np
import scipy.sparse

from tfxc.labels.mixed_radix import strides

_MOST_ROUNDS = 20  # of the alternation between centres and halves


def random_order(num_labels, seed):
    """A random permutation.

    Returns:
        int32 (num_labels,), the code of each label.

    Example:
        >>> sorted(random_order(4, seed=1).tolist())
        [0, 1, 2, 3]
    """
    return np.random.default_rng(seed).permutation(num_labels).astype(np.int32)


def clustered_order(label_vectors, sizes, seed):
    """Codes under which the labels of a block are similar.

    A block is the set of codes with the same leading digits. The labels are halved by spherical
    2-means with prescribed sizes (Prabhu et al., WWW 2018, "Parabel"; k-means++ start), always at
    the bounds of blocks, first those of digit 0, then those of the digits behind it. Inside the
    smallest blocks, the labels stand by rising id.

    Args:
        label_vectors: float (num_labels, width), CSR or dense; a row of zeros fits anywhere.
        sizes: number of values of each digit; their product is at least num_labels.
        seed: of the first centres.

    Returns:
        int32 (num_labels,), the code of each label: a permutation.

    Example:
        >>> vectors = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
        >>> codes = clustered_order(vectors, (2, 2), seed=0)
        >>> codes[0] // 2 == codes[2] // 2, codes[0] // 2 == codes[1] // 2
        (np.True_, np.False_)
    """
    num_labels = label_vectors.shape[0]
    blocks = strides(sizes)[:-1]
    generator = np.random.default_rng(seed)
    codes = np.empty(num_labels, np.int32)
    waiting = [(0, np.arange(num_labels), _compact(label_vectors))]
    while waiting:
        begin, labels, vectors = waiting.pop()
        left = _left_size(len(labels), blocks)
        if left is None:
            codes[labels] = np.arange(begin, begin + len(labels))
            continue
        is_left = _halve(vectors, left, generator)
        for mask, start in ((is_left, begin), (~is_left, begin + left)):
            waiting.append((start, labels[mask], _compact(vectors[mask])))
    return codes


def _left_size(count, blocks):
    """Labels of the first half, a multiple of the largest block there is more than one of."""
    for block in blocks:
        if count > block:
            return block * max(1, (count + block) // (2 * block))
    return None


def _halve(vectors, left, generator):
    """Mask of the ``left`` rows that are nearer to the first of two centres."""
    one = generator.integers(vectors.shape[0])
    far = np.maximum(1 - vectors @ _dense_row(vectors, one), 0).astype(np.float64)
    far[one] = 0
    chances = far / far.sum() if far.sum() > 0 else None
    other = generator.choice(vectors.shape[0], p=chances)
    difference = _dense_row(vectors, one) - _dense_row(vectors, other)
    before = None
    for _ in range(_MOST_ROUNDS):
        ranking = np.argsort(-(vectors @ difference), kind="stable")
        is_left = np.zeros(vectors.shape[0], bool)
        is_left[ranking[:left]] = True
        if before is not None and (is_left == before).all():
            break
        before = is_left
        centres = (vectors.T @ half.astype(np.float32) for half in (is_left, ~is_left))
        first, second = (centre / max(np.linalg.norm(centre), 1e-12) for centre in centres)
        difference = first - second
    return is_left


def _dense_row(vectors, row):
    found = vectors[row : row + 1]
    return (found.toarray() if scipy.sparse.issparse(found) else found)[0]


def _compact(vectors):
    """A small sparse matrix without the columns that are empty in it."""
    if not scipy.sparse.issparse(vectors) or 4 * vectors.nnz > vectors.shape[1]:
        return vectors
    used, columns = np.unique(vectors.indices, return_inverse=True)
    shape = (vectors.shape[0], max(1, len(used)))
    return scipy.sparse.csr_matrix((vectors.data, columns, vectors.indptr), shape)
