"""Orders of the labels: which label gets which code.

Heads that write a label as digits share weights or candidates between the labels of a block of
neighbouring codes, so it matters who the neighbours are; see also ``labels.product_order``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfxc.labels.mixed_radix import strides
from tfxc.ops.clustering.two_means import Bisection

if TYPE_CHECKING:
    import scipy.sparse


def random_order(num_labels: int, seed: int | Sequence[int]) -> np.ndarray:
    """Returns a random permutation.

    Args:
        num_labels: N.
        seed: an integer, or several.

    Returns:
        int32 (num_labels,), the code of each label.

    Example:
        >>> sorted(random_order(4, seed=1).tolist())
        [0, 1, 2, 3]
    """
    return np.random.default_rng(seed).permutation(num_labels).astype(np.int32)


def clustered_order(
    label_vectors: "np.ndarray | scipy.sparse.csr_matrix", sizes: Sequence[int], seed: int
) -> np.ndarray:
    """Returns codes under which the labels of a block are similar.

    A block is the set of codes with the same leading digits. The labels are halved by spherical
    2-means with prescribed sizes (Prabhu et al., WWW 2018, "Parabel"; k-means++ start), always at
    the bounds of blocks, first those of digit 0, then those of the digits after it. Inside the
    smallest blocks, the labels are in order of ascending id.

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
    blocks = strides(sizes)[:-1]
    halves = Bisection(label_vectors, seed)
    waiting = [(0, label_vectors.shape[0])]
    while waiting:
        nodes = []
        for begin, end in waiting:
            # The first half is a multiple of the largest block there is more than one of.
            block = next((block for block in blocks if end - begin > block), None)
            if block is not None:
                left = block * max(1, (end - begin + block) // (2 * block))
                nodes.append((begin, end, left))
        halves.cut(nodes)
        cuts = [((begin, begin + left), (begin + left, end)) for begin, end, left in nodes]
        waiting = [node for pair in cuts for node in pair]
    return _invert(halves.order)


def _invert(order: np.ndarray) -> np.ndarray:
    """Returns the place of each number in a permutation.

    Example:
        >>> _invert(np.array([2, 0, 1], np.int32)).tolist()
        [1, 2, 0]
    """
    places = np.empty_like(order)
    places[order] = np.arange(len(order), dtype=order.dtype)
    return places
