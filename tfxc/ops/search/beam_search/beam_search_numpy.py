"""The NumPy path of ``beam_search``: the same labels where nothing is compiled.

An exported ranker has a copy of this file, which therefore needs NumPy alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Products of a query's features and chunks that are looked up at once: some 100 MB.
_MOST_LOOKUPS = 1 << 21


class LayerKernels:
    """The methods of ``_beam_search.LayerKernels``, all pairs of query and parent at once.

    Args:
        layers: ``ChunkedLayer``s from the top.
        scales: of each layer float32 (K,), by which the sums of a node are multiplied, in the order
            of ``children``; None where ``values`` are the weights themselves.
    """

    def __init__(
        self, layers: Sequence[Any], scales: Sequence[np.ndarray | None] | None = None
    ) -> None:
        self._layers = layers
        self._scales = scales or [None] * len(layers)
        self._keys = []
        for layer in layers:
            chunks = np.arange(len(layer.row_splits) - 1)
            parents = np.repeat(chunks, _spans(layer.row_splits, chunks)[1])
            self._keys.append(_keys(parents, layer.rows))

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
        rows = _with_bias(features, bias)
        beam = max([int(counts.max(initial=1)), *(topk for _, topk in settings[:-1])])
        size = max(1, _MOST_LOOKUPS * len(counts) // (len(rows[1]) * beam + 1))
        blocks = []
        for first in range(0, max(1, len(counts)), size):
            part = slice(first, first + size)
            start = (begins[part], counts[part], parents, parent_scores)
            bounds = rows[0][first : first + size + 1]
            blocks.append(self._search((bounds, *rows[1:]), settings, combines, *start))
        return tuple(np.concatenate(arrays) for arrays in zip(*blocks, strict=True))

    search_each = search_together

    def _search(
        self,
        rows: tuple[np.ndarray, np.ndarray, np.ndarray],
        settings: Sequence[tuple[Any, int]],
        combines: bool,
        begins: np.ndarray,
        counts: np.ndarray,
        parents: np.ndarray,
        parent_scores: np.ndarray,
    ) -> tuple[np.ndarray, ...]:
        """As ``search_together``, of so few queries that all is done at once."""
        queries = np.repeat(np.arange(len(counts)), counts)
        places = _ranges(begins, counts)
        parents = parents[places]
        parent_scores = parent_scores[places]
        for number, (rule, topk) in enumerate(settings):
            pairs, nodes, margins = self._children(number, rows, queries, parents)
            scores = rule.transform(margins)
            if combines:
                scores = rule.combine(scores, parent_scores[pairs])
            queries = queries[pairs]
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

    def _children(
        self,
        number: int,
        rows: tuple[np.ndarray, np.ndarray, np.ndarray],
        queries: np.ndarray,
        parents: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns pair, node and margin of every trained child of the (query, parent) pairs."""
        layer = self._layers[number]
        keys = self._keys[number]
        splits, ids, weights = rows
        # Which of a query's features have a row in the chunk of the parent.
        firsts, lengths = _spans(splits, queries)
        pairs = np.repeat(np.arange(len(queries)), lengths)
        places = _ranges(firsts, lengths)
        wanted = _keys(parents[pairs], ids[places])
        chunk_rows = np.searchsorted(keys, wanted)
        known = np.flatnonzero(np.append(keys, -1)[chunk_rows] == wanted)
        chunk_rows = chunk_rows[known]
        # The entries of these rows, summed up by child.
        firsts, lengths = _spans(layer.entry_splits, chunk_rows)
        entries = _ranges(firsts, lengths)
        known = np.repeat(known, lengths)
        firsts, counts = _spans(layer.child_splits, parents)
        ends = np.cumsum(counts)
        targets = (ends - counts)[pairs[known]] + layer.columns[entries]
        products = weights[places[known]] * layer.values[entries]
        margins = np.bincount(targets, products, minlength=ends[-1] if len(ends) else 0)
        children = _ranges(firsts, counts)
        scale = self._scales[number]
        if scale is not None:
            margins = margins * scale[children]
        nodes = layer.children[children]
        trained = np.flatnonzero(layer.trained[nodes])
        pairs = np.repeat(np.arange(len(queries)), counts)
        return pairs[trained], nodes[trained], margins[trained].astype(np.float32)


def _with_bias(
    features: np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray, int], bias: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns bounds, ids and weights of rows that end in the constant feature."""
    if isinstance(features, tuple):
        bounds, ids, weights, num_features = features
        bounds = np.asarray(bounds, np.int64)
        ids = ids[bounds[0] : bounds[-1]]
        weights = weights[bounds[0] : bounds[-1]]
        bounds = bounds - bounds[0]
    else:
        count, num_features = features.shape
        bounds = np.arange(count + 1, dtype=np.int64) * num_features
        ids = np.tile(np.arange(num_features, dtype=np.int32), count)
        weights = features.ravel()
    ids = np.insert(ids, bounds[1:], num_features)
    weights = np.insert(weights, bounds[1:], bias)
    return bounds + np.arange(len(bounds)), ids, weights


def _keys(parents: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns a number for each pair of a parent and a feature, in their order."""
    return parents.astype(np.int64) << 32 | rows


def _spans(splits: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where lists begin and how long they are; ``splits`` may be of a narrow type."""
    places = places.astype(np.int64)  # 255 + 1 is 0 in a byte
    firsts = splits[places].astype(np.int64)
    return firsts, splits[places + 1] - firsts


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the numbers from each start on, as many as its length, one range after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
