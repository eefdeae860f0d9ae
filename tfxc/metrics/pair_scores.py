"""From embeddings to distances and scores of pairs, and to templates, block by block."""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError

# Embeddings, and pairs of them, handled at a time: the latter fit into a processor's cache.
_BLOCK = 1 << 15
_PAIRS = 1 << 10


def add_halves(embeddings: np.ndarray) -> np.ndarray:
    """Sums the two halves of each row: image and mirrored image, stored side by side.

    Example:
        >>> add_halves(np.array([[1.0, 2.0, 10.0, 20.0]])).tolist()
        [[11.0, 22.0]]

    Raises:
        DataError: the width is odd.
    """
    width = embeddings.shape[1]
    if width % 2:
        raise DataError(f"the width of the embeddings, {width}, is odd, so it has no two halves")
    return embeddings[:, : width // 2] + embeddings[:, width // 2 :]


def pair_distances(
    embeddings: np.ndarray, pairs: Sequence[Sequence[int]] | np.ndarray
) -> np.ndarray:
    """Returns the squared distances of the embeddings of each pair after scaling them to length 1.

    Args:
        embeddings: float (m, dim), not scaled; where an image and its mirror image are used,
            their sum.
        pairs: int (n, 2) row numbers.

    Returns:
        float64 (n,) within [0, 4].

    Example:
        >>> pair_distances(np.array([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]]), [[0, 1], [0, 2]])
        array([2., 4.])
    """
    lengths = _lengths(embeddings)

    def distance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        left = embeddings[left] / lengths[left, None]
        return np.square(left - embeddings[right] / lengths[right, None]).sum(axis=1)

    return np.minimum(_over_pairs(distance, len(embeddings), pairs), 4)


def pair_scores(embeddings: np.ndarray, pairs: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    """Returns dot products of the embeddings (m, dim) of each pair, float64 (n,)."""

    def score(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.vecdot(embeddings[left], embeddings[right])

    return _over_pairs(score, len(embeddings), pairs)


def _lengths(embeddings: np.ndarray) -> np.ndarray:
    parts = [np.zeros(0)]
    for start in range(0, len(embeddings), _BLOCK):
        block = np.asarray(embeddings[start : start + _BLOCK], np.float64)
        parts.append(np.linalg.norm(block, axis=1))
    # A vector of zeros is at the same distance of 1 from everything.
    return np.maximum(np.concatenate(parts), np.finfo(np.float64).tiny)


def _over_pairs(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    num_rows: int,
    pairs: Sequence[Sequence[int]] | np.ndarray,
) -> np.ndarray:
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise DataError(f"the pairs have the shape {pairs.shape}, not (n, 2)")
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < num_rows:
        raise DataError(
            f"the pairs have row numbers from {pairs.min()} to {pairs.max()}, but there are only "
            f"rows 0 to {num_rows - 1}",
            fix="check that pairs and embeddings belong together",
        )
    result = np.empty(len(pairs))
    for start in range(0, len(pairs), _PAIRS):
        block = pairs[start : start + _PAIRS]
        result[start : start + _PAIRS] = function(block[:, 0], block[:, 1])
    return result


def pool_templates(
    embeddings: np.ndarray,
    template_ids: Sequence[int] | np.ndarray,
    media_ids: Sequence[int] | np.ndarray,
    weights: Sequence[float] | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pools a vector per template: means within each medium, summed over the media, of length 1.

    Averaging within a medium (a video, or one image) first keeps long videos from outweighing
    single images. Lengths of the embeddings are kept: they say how sure the encoder is.

    Args:
        embeddings: float (m, dim) of the images, any array that can be sliced.
        template_ids: int (m,), the template each image belongs to.
        media_ids: int (m,), the medium each image was taken from.
        weights: float (m,), e.g. the face detector's score; None = 1.

    Returns:
        ``(ids, vectors)``: sorted distinct template ids (t,), float32 (t, dim).

    Raises:
        DataError: the lengths differ.

    Example:
        >>> vectors = np.array([[8.0, 0.0], [4.0, 0.0], [0.0, 8.0]])
        >>> pool_templates(vectors, [7, 7, 7], [1, 1, 2])[1]
        array([[0.6, 0.8]], dtype=float32)
    """
    weights = np.ones(len(embeddings)) if weights is None else np.asarray(weights, np.float64)
    sizes = [len(embeddings), len(template_ids), len(media_ids), len(weights)]
    if len(set(sizes)) > 1:
        raise DataError(
            f"there are {sizes[0]:,} embeddings, but {sizes[1]:,} template ids, {sizes[2]:,} "
            f"medium ids and {sizes[3]:,} weights",
            fix="give one of each for every embedding",
        )
    ids, rows = np.unique(template_ids, return_inverse=True)
    medias, media = np.unique(media_ids, return_inverse=True)
    keys = rows * len(medias) + media
    _, media, counts = np.unique(keys, return_inverse=True, return_counts=True)
    shares = weights / counts[media]
    columns = np.arange(len(rows))
    matrix = scipy.sparse.csc_array((shares, (rows, columns)), (len(ids), len(rows)))
    pooled = np.zeros((len(ids), embeddings.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        block = np.asarray(embeddings[start : start + _BLOCK], np.float64)
        pooled += matrix[:, start : start + _BLOCK] @ block
    return ids, (pooled / _lengths(pooled)[:, None]).astype(np.float32)
