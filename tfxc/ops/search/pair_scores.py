"""Scores of chosen pairs of a query and a node of the last layer, without a beam.

A pair's score combines the margins of the node and of all its ancestors. A layer is searched from
the chosen nodes' parents only, by the kernels of ``tfxc.ops.search.beam_search.beam_search``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.ops.csr import Matrix, bounds_of
from tfxc.ops.search.beam_search.beam_search import BeamSearch
from tfxc.ops.search.beam_search.chunked_layer import parents_of

if TYPE_CHECKING:
    from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer

_MAX_SCORES = 1 << 22  # of a block of queries in one layer: 32 MB with their nodes


class PairScores:
    """Layers made ready for scoring pairs.

    Args:
        layers: ``ChunkedLayer``s from the top, the first under one root.
        num_features: D.
        bias, native: see ``BeamSearch``.

    Raises:
        DataError, ConfigError: see ``BeamSearch``.
    """

    def __init__(
        self,
        layers: "Sequence[ChunkedLayer]",
        num_features: int,
        *,
        bias: float | None = None,
        native: bool | None = None,
    ) -> None:
        self._searches = [
            BeamSearch([layer], num_features, bias=bias, native=native) for layer in layers
        ]
        self._widths = [np.diff(layer.child_splits) for layer in layers]
        self._parents = [parents_of(layer) for layer in layers]

    def score(
        self,
        features: Matrix,
        pairs: scipy.sparse.csr_matrix,
        post_processors: Sequence[Any],
        threads: int | None = None,
    ) -> scipy.sparse.csr_matrix:
        """Scores pairs.

        Args:
            features: float32 CSR (N, D), or a dense array.
            pairs: sparse (N, K); the places of its entries count, explicit zeros too.
            post_processors: ``tfxc.ranker.post_processors.PostProcessor`` of every layer.
            threads: see ``BeamSearch.search``.

        Returns:
            float32 CSR (N, K), with the places of ``pairs``, ascending in each row: what a search
            whose beam keeps all nodes finds for them; minus infinity where it finds none, as the
            node or one above it has no classifier.

        Raises:
            DataError: features or pairs of other shapes, NaN or infinity in the features.

        Example:
            >>> from tfxc.ops.search.beam_search.chunked_layer import chunks_of
            >>> from tfxc.ranker.post_processors import post_processor
            >>> weights = scipy.sparse.csc_matrix(np.float32([[1, 4], [0, 0]]))
            >>> scores = PairScores([chunks_of(weights, [0, 0], 1)], 1).score(
            ...     np.float32([[2], [3]]), np.float32([[0, 1], [1, 0]]), [post_processor("noop")]
            ... )
            >>> scores.toarray().tolist()
            [[0.0, 8.0], [3.0, 0.0]]
        """
        shape = (features.shape[0], self._searches[-1].sizes[-1])
        if pairs.shape != shape:
            raise DataError(
                f"the shape is {pairs.shape} instead of {shape}, a row for each query and a column "
                "for each label",
                where="pairs",
                fix="give them for the same queries and labels",
            )
        ones = scipy.sparse.csr_matrix(pairs, dtype=np.float32)
        rows = np.repeat(np.arange(shape[0]), np.diff(ones.indptr))
        wanted = self._levels(rows, ones.indices, shape[0])
        # The most nodes that any query has scored in a layer.
        most = [1, len(self._parents[0])]
        for above, widths in zip(wanted, self._widths[1:], strict=False):
            most.append(_most_children(above, widths))
        block = max(1, _MAX_SCORES // max(most))
        scores = []
        for first in range(0, shape[0], block):
            codes = None
            for number, level in enumerate(wanted):
                nodes = len(self._parents[0])
                if codes is not None:
                    nodes = _most_children(codes, self._widths[number])
                scored = self._searches[number].search(
                    features[first : first + block],
                    [max(1, nodes)],
                    [post_processors[number]],
                    csr_codes=codes,
                    threads=threads,
                    order="index",
                )
                codes, values = _picked(scored, level[first : first + block])
            scores.append(values)
        values = np.concatenate([np.empty(0, np.float32), *scores])
        parts = (values, wanted[-1].indices, wanted[-1].indptr)
        return scipy.sparse.csr_matrix(parts, shape, dtype=np.float32)

    def _levels(
        self, rows: np.ndarray, nodes: np.ndarray, number: int
    ) -> list[scipy.sparse.csr_matrix]:
        """Returns the nodes that are wanted of every layer, CSR patterns (N, K_t) from the top."""
        levels: list[scipy.sparse.csr_matrix] = []
        for search, parents in zip(self._searches[::-1], self._parents[::-1], strict=True):
            size = search.sizes[0]
            rows, nodes = np.divmod(np.unique(rows.astype(np.int64) * size + nodes), size)
            splits = bounds_of(np.bincount(rows, minlength=number))
            parts = (np.ones(len(nodes), bool), nodes.astype(np.int32), splits)
            levels.insert(0, scipy.sparse.csr_matrix(parts, (number, size)))
            nodes = parents[nodes]
        return levels


def _most_children(nodes: scipy.sparse.csr_matrix, widths: np.ndarray) -> int:
    """Returns the most children that the nodes of a row of a CSR matrix have together."""
    sums = np.concatenate([[0], np.cumsum(widths[nodes.indices])])
    return int(np.diff(sums[nodes.indptr]).max(initial=0))


def _picked(
    scored: scipy.sparse.csr_matrix, wanted: scipy.sparse.csr_matrix
) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """Picks the scored nodes that are wanted, as CSR; and the scores of all that are wanted."""
    have = _keys(scored)
    want = _keys(wanted)
    places = np.minimum(np.searchsorted(have, want), max(0, len(have) - 1))
    there = have[places] == want if len(have) else np.zeros(len(want), bool)
    scores = np.full(len(want), -np.inf, np.float32)
    scores[there] = scored.data[places[there]]
    rows = np.repeat(np.arange(wanted.shape[0]), np.diff(wanted.indptr))[there]
    splits = bounds_of(np.bincount(rows, minlength=wanted.shape[0]))
    parts = (scores[there], wanted.indices[there], splits)
    return scipy.sparse.csr_matrix(parts, wanted.shape), scores


def _keys(matrix: scipy.sparse.csr_matrix) -> np.ndarray:
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return rows * matrix.shape[1] + matrix.indices
