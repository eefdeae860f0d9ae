"""An order of the labels in which every digit of a code says something by itself."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from tfxc.labels.label_order import clustered_order
from tfxc.labels.mixed_radix import strides
from tfxc.ops.csr import Matrix

MAX_IN_BLOCK = 4096  # the Hungarian method takes the cube of it
_MAX_ROUNDS = 10
_DENSE_WIDTH = 256  # sparse vectors are brought to this


def product_order(label_vectors: Matrix, sizes: Sequence[int], seed: int) -> np.ndarray:
    """Returns codes of which every digit says something by itself.

    Digit 0 is that of ``clustered_order``. Each later digit says how a label differs from the mean
    of its block, the labels with the same digits before: over all blocks, the differences of the
    labels with the same digit are similar. So a classifier of one digit alone, as in ``mhp``,
    finds a pattern, where the last digit of ``clustered_order`` is arbitrary. In turns,
    the labels of each block are assigned to directions by the Hungarian method, and a direction
    becomes the mean of what was assigned to it: residual quantisation (Chen et al., Sensors 2010)
    in which every code occurs once.

    Args:
        label_vectors: float (num_labels, width), CSR or dense; a row of zeros fits anywhere.
            Sparse ones are first brought to 256 columns by a truncated SVD.
        sizes: number of values of each digit; their product is at least num_labels.
        seed: of the clustering.

    Returns:
        int32 (num_labels,), the code of each label: a permutation.

    Raises:
        ValueError: a block holds more than 4,096 labels: the first digit has too few values.

    Example:
        >>> corners = np.array([[1, 9], [1, 8], [-1, 8], [-1, 9]], np.float32)
        >>> codes = product_order(corners, (2, 2), seed=0)
        >>> codes[0] // 2 == codes[1] // 2, codes[0] % 2 == codes[3] % 2
        (np.True_, np.True_)
    """
    most = strides(sizes)[0]
    if len(sizes) > 1 and most > MAX_IN_BLOCK:
        raise ValueError(
            f"with heads {list(sizes)}, {most:,} labels have the same first digit, and label_order "
            f"'product' takes at most {MAX_IN_BLOCK:,}: the first size is too small"
        )
    codes = clustered_order(label_vectors, sizes, seed)
    width = min(_DENSE_WIDTH, min(label_vectors.shape) - 1)
    if not scipy.sparse.issparse(label_vectors):
        vectors = np.asarray(label_vectors, np.float32)
    elif width < 2:
        vectors = label_vectors.toarray()
    else:
        from sklearn.decomposition import TruncatedSVD

        vectors = TruncatedSVD(width, random_state=seed).fit_transform(label_vectors)
    for digit in range(1, len(sizes)):
        codes = _with_digit(codes, vectors, sizes, digit, seed)
    return codes


def _with_digit(
    codes: np.ndarray, vectors: np.ndarray, sizes: Sequence[int], digit: int, seed: int
) -> np.ndarray:
    """Changes the ``digit`` of the codes; later digits are in order of ascending id."""
    from sklearn.cluster import KMeans

    before, stride = strides(sizes)[digit - 1 : digit + 1]
    order = np.argsort(codes)
    blocks = [order[start : start + before] for start in range(0, len(order), before)]
    differences = np.concatenate([vectors[block] - vectors[block].mean(0) for block in blocks])
    differences = differences[np.argsort(order)]
    values = min(sizes[digit], len(codes))
    means = KMeans(values, n_init=1, random_state=seed).fit(differences).cluster_centers_
    assigned: np.ndarray | None = None
    for _ in range(_MAX_ROUNDS):
        last = assigned
        assigned = np.empty_like(codes)
        for block in blocks:
            assigned[block] = _assigned(differences[block] @ means.T, stride)
        if last is not None and (last == assigned).all():
            break
        sums = np.zeros_like(means)
        np.add.at(sums, assigned, differences)
        means = sums / np.bincount(assigned, minlength=values)[:, None].clip(1)
    assert assigned is not None, "there is at least one round"
    result = np.empty_like(codes)
    for number, block in enumerate(blocks):
        ranked = block[np.lexsort((block, assigned[block]))]
        result[ranked] = number * before + np.arange(len(block))
    return result


def _assigned(scores: np.ndarray, stride: int) -> np.ndarray:
    """Returns the column of each row (rows, columns), so that the first columns get ``stride`` rows
    each.
    """
    from scipy.optimize import linear_sum_assignment

    columns = np.arange(len(scores)) // stride
    rows, places = linear_sum_assignment(scores[:, columns], maximize=True)
    return columns[places][np.argsort(rows)]
