"""Approximate search of the rows with the largest inner products, by a graph of neighbours."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfxc.core.errors import missing_package
from tfxc.core.progress import Progress

_LINKS = 32  # of a row in the graph, twice as many in its lowest level
_BUILD_DEPTH = 100  # rows looked at where one is added
_DEPTH = 128  # rows looked at in a search, at least
_AT_ONCE = 16_384  # rows that are added with one call


class InnerProducts(NamedTuple):
    """Scores of labels, written as inner products of a query and a row of each label.

    Attributes:
        rows: (begin, end) -> float (end - begin, width), rows of a range of labels.
        queries: float (batch, dim) vectors of examples -> float32 (batch, width).
        width: of both.
    """

    rows: Callable[[int, int], tf.Tensor]
    queries: Callable[[tf.Tensor], tf.Tensor]
    width: int


def of_linear_scores(
    rows: Callable[[int, int], tf.Tensor], bias: tf.Tensor | None, dim: int
) -> InnerProducts:
    """Returns scores of weights and biases; a bias counts as the weight of a feature that is 1.

    Args:
        rows: (begin, end) -> float (end - begin, dim), weights of a range of labels.
        bias: float (labels,), or None.
        dim: of the vectors.

    Example:
        >>> table, bias = tf.constant([[2.0], [3.0]]), tf.constant([7.0, 8.0])
        >>> products = of_linear_scores(lambda b, e: table[b:e], bias, 1)
        >>> products.rows(1, 2).numpy().tolist(), products.queries(table).numpy().tolist()
        ([[3.0, 8.0]], [[2.0, 1.0], [3.0, 1.0]])
    """
    if bias is None:
        return InnerProducts(rows, lambda features: tf.cast(features, tf.float32), dim)

    def biased(begin: int, end: int) -> tf.Tensor:
        column = tf.cast(bias[begin:end, None], tf.float32)
        return tf.concat([tf.cast(rows(begin, end), tf.float32), column], axis=1)

    def queries(features: tf.Tensor) -> tf.Tensor:
        ones = tf.ones([tf.shape(features)[0], 1])
        return tf.concat([tf.cast(features, tf.float32), ones], axis=1)

    return InnerProducts(biased, queries, dim + 1)


class NearestRows:
    """An index of rows, which finds most of the best ones in a time that hardly grows with them.

    Args:
        products: what is searched; the rows are copied.
        count: how many there are.

    Raises:
        ConfigError: faiss is not installed.

    Reference: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    Hierarchical Navigable Small World graphs", arXiv 1603.09320, in faiss; Bachrach et al.,
    "Speeding up the Xbox recommender system using a Euclidean transformation for inner-product
    spaces", RecSys 2014.

    Example:
        >>> table = tf.constant([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
        >>> products = InnerProducts(lambda b, e: table[b:e], lambda x: x, 2)
        >>> NearestRows(products, 3).search(np.float32([[1.0, 0.5]]), 2)[0].tolist()
        [[2, 0]]
    """

    def __init__(self, products: InnerProducts, count: int) -> None:
        with missing_package("approximate", where="--search", otherwise="leave it out"):
            import faiss
        parts = range(0, count, _AT_ONCE)
        squares = [
            tf.reduce_sum(tf.square(_between(products, begin, count)), axis=1).numpy()
            for begin in parts
        ]
        longest = max((float(part.max()) for part in squares), default=0.0)
        # Rows that are alike must be near each other whatever their length: one more number gives
        # all the same length, and the nearest rows are then those with the largest products.
        self._index: Any = faiss.IndexHNSWFlat(products.width + 1, _LINKS)
        self._index.hnsw.efConstruction = _BUILD_DEPTH
        with Progress("indexing labels", count, "labels") as progress:
            for begin, part in zip(parts, squares, strict=True):
                rows = _between(products, begin, count).numpy()
                missing = np.sqrt(np.maximum(longest - part, 0)).astype(np.float32)
                self._index.add(np.concatenate([rows, missing[:, None]], axis=1))
                progress.advance(len(rows))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the best rows of each query.

        Args:
            queries: float32 (batch, width).
            k: how many.

        Returns:
            ids int32 and inner products float32, both (batch, k), best first; id -1 and minus
            infinity where fewer are found.
        """
        self._index.hnsw.efSearch = max(_DEPTH, 2 * k)
        longer = np.pad(np.asarray(queries, np.float32), [(0, 0), (0, 1)])
        _, ids = self._index.search(np.ascontiguousarray(longer), k)
        rows = self._index.reconstruct_batch(np.maximum(ids, 0).ravel())
        scores = np.einsum("bw,bkw->bk", longer, rows.reshape(*ids.shape, -1))
        scores = np.where(ids >= 0, scores, -np.inf).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")
        ids, scores = (np.take_along_axis(part, order, axis=1) for part in (ids, scores))
        return ids.astype(np.int32), scores


def _between(products: InnerProducts, begin: int, count: int) -> tf.Tensor:
    """Returns some rows, float32."""
    return tf.cast(products.rows(begin, min(begin + _AT_ONCE, count)), tf.float32)
