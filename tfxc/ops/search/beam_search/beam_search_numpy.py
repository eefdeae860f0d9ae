"""The NumPy path of ``beam_search``: the same results where nothing is compiled."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

if TYPE_CHECKING:
    from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer


class LayerKernels:
    """The methods of ``_beam_search.LayerKernels``, one chunk's queries at a time."""

    def __init__(self, layers: "Sequence[ChunkedLayer]") -> None:
        self._layers = layers

    def search_together(
        self,
        features: np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray, int],
        bias: float,
        settings: Sequence[tuple[Any, int]],
        combines: bool,
        begins: np.ndarray,
        counts: np.ndarray,
        parents: np.ndarray,
        parent_scores: np.ndarray,
        threads: int,
    ) -> tuple[np.ndarray, ...]:
        """See the compiled one; ``threads`` does not matter here."""
        if isinstance(features, tuple):
            splits, ids, weights, num_features = features
            entries = slice(splits[0], splits[-1])
            parts = (weights[entries], ids[entries], splits - splits[0])
            matrix = scipy.sparse.csr_matrix(parts, (len(splits) - 1, num_features))
        else:
            matrix = scipy.sparse.csr_matrix(features)
        constant = np.full((matrix.shape[0], 1), bias, np.float32)
        matrix = scipy.sparse.hstack([matrix, constant], format="csr")
        queries = np.repeat(np.arange(len(counts)), counts)
        places = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
        places += np.repeat(begins, counts)
        parents = parents[places]
        parent_scores = parent_scores[places]
        for layer, (post_processor, topk) in zip(self._layers, settings, strict=True):
            queries, nodes, margins, pairs = _children(layer, matrix, queries, parents)
            scores = post_processor.transform(margins)
            if combines:
                scores = post_processor.combine(scores, parent_scores[pairs])
            order = np.lexsort((nodes, -scores, queries))
            counts = np.bincount(queries, minlength=len(counts))
            ranks = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
            best = order[ranks < topk]
            queries = queries[best]
            parents = nodes[best]
            parent_scores = scores[best]
            counts = np.minimum(counts, topk)
            combines = True
        ids = np.zeros((len(counts), topk), np.int32)
        best_scores = np.zeros((len(counts), topk), np.float32)
        ranks = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
        ids[queries, ranks] = parents
        best_scores[queries, ranks] = parent_scores
        return ids, best_scores, counts.astype(np.int32)

    search_each = search_together


def _children(
    layer: "ChunkedLayer", matrix: scipy.sparse.csr_matrix, queries: np.ndarray, parents: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Returns query, node, margin and pair of every trained child of the (query, parent) pairs."""
    parts = []
    order = np.argsort(parents, kind="stable")
    distinct, begins = np.unique(parents[order], return_index=True)
    for parent, pairs in zip(distinct, np.split(order, begins)[1:], strict=True):
        nodes = layer.children[layer.child_splits[parent] : layer.child_splits[parent + 1]]
        columns = np.flatnonzero(layer.trained[nodes])
        begin, end = layer.row_splits[parent : parent + 2]
        splits = layer.entry_splits[begin : end + 1]
        entries = slice(splits[0], splits[-1])
        csr = (layer.values[entries], layer.columns[entries].astype(np.int32), splits - splits[0])
        weights = scipy.sparse.csr_matrix(csr, (end - begin, len(nodes)))
        margins = (matrix[queries[pairs]][:, layer.rows[begin:end]] @ weights).toarray()
        margins = margins[:, columns]
        shape = margins.shape
        parts.append(
            (
                np.broadcast_to(queries[pairs][:, None], shape).ravel(),
                np.broadcast_to(nodes[columns], shape).ravel(),
                margins.ravel(),
                np.broadcast_to(pairs[:, None], shape).ravel(),
            )
        )
    if not parts:
        none = np.empty(0, np.int64)
        return none, none, np.empty(0, np.float32), none
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
