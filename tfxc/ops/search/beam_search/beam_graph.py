"""Beam search through layers of linear classifiers as TensorFlow operations, for exported models.

The same search as ``beam_search.BeamSearch``: for a query's features and the parents kept,
rows of the parents' chunks are found by a binary search over all (chunk, feature) pairs of the
layer.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.ops.search.beam_search.chunked_layer import check_layer

if TYPE_CHECKING:
    from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer


_HINGE, _LOG_HINGE = 3, 4
_BAG = {
    "ids": tf.TensorSpec([None], tf.int32, "ids"),
    "weights": tf.TensorSpec([None], tf.float32, "weights"),
    "row_splits": tf.TensorSpec([None], tf.int64, "row_splits"),
}


class BeamGraph(tf.Module):
    """Layers as variables of a graph; saved with it.

    Args:
        layers: ``chunked_layer.ChunkedLayer``s from the top, under one root.
        num_features: D.
        bias: weight of the constant last feature; None or 0 for none.
        only_topk: nodes kept in every layer, a list; the last is the number of labels given.
        post_processors: ``tfxc.ranker.post_processors.PostProcessor`` of every layer.

    Raises:
        DataError: arrays of other types, or that do not fit together.
    """

    def __init__(
        self,
        layers: "Sequence[ChunkedLayer]",
        num_features: int,
        *,
        bias: float | None,
        only_topk: Sequence[int | None],
        post_processors: Sequence[Any],
    ) -> None:
        super().__init__()
        self.num_features, self.bias = int(num_features), float(bias or 0)
        self._layers, above = [], 1
        settings = zip(layers, only_topk, post_processors, strict=True)
        for number, (layer, kept, post_processor) in enumerate(settings):
            check_layer(layer, above, num_features, f"layer {number}")
            above = len(layer.children)
            kept = min(kept or above, above)
            self._layers.append(_Layer(layer, num_features, kept, post_processor))

    @tf.function(input_signature=[_BAG], autograph=False)
    def __call__(self, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The best nodes of the last layer.

        Args:
            features: dict of ``ids`` int32 (nnz,), ``weights`` float32 (nnz,) and ``row_splits``
                int64 (batch + 1,).

        Returns:
            ids int32 and scores float32 (batch, k), by descending score, then ascending id; where
            fewer nodes are found, the rest is id −1 with score minus infinity.
        """
        bag = self._with_bias(features)
        batch = tf.size(bag[2]) - 1
        queries, parents = tf.range(batch), tf.zeros(batch, tf.int32)
        scores = None
        for layer in self._layers:
            ids, best = layer(bag, queries, parents, scores)
            found = tf.where(ids >= 0)
            queries = tf.cast(found[:, 0], tf.int32)
            parents, scores = tf.gather_nd(ids, found), tf.gather_nd(best, found)
        return ids, best

    def _with_bias(self, features):
        """Ids, weights and splits of the rows with the constant feature at their ends."""
        splits = features["row_splits"]
        batch = tf.size(splits, tf.int64) - 1
        lengths = splits[1:] - splits[:-1]
        places = tf.range(tf.size(features["ids"], tf.int64)) + _owners(lengths)
        ends = splits[1:] + tf.range(batch)
        order = tf.concat([places, ends], 0)[:, None]
        ids = tf.concat([features["ids"], tf.fill([batch], self.num_features)], 0)
        weights = tf.concat([features["weights"], tf.fill([batch], self.bias)], 0)
        shape = tf.size(ids, tf.int64)[None]
        ids, weights = tf.scatter_nd(order, ids, shape), tf.scatter_nd(order, weights, shape)
        return ids, weights, splits + tf.range(batch + 1)


class _Layer(tf.Module):
    """One layer's arrays and its step of the search."""

    def __init__(self, layer, num_features, kept, post_processor):
        super().__init__()
        self.kept, self.post_processor = kept, post_processor
        self.num_features, self.num_nodes = int(num_features), len(layer.children)
        chunks = np.repeat(np.arange(len(layer.row_splits) - 1), np.diff(layer.row_splits))
        keys = chunks * (num_features + 1) + layer.rows
        self._keys = _constant(np.append(keys, np.iinfo(np.int64).max))
        self._entry_splits = _constant(np.append(layer.entry_splits, layer.entry_splits[-1:]))
        self._columns = _constant(layer.columns.astype(np.int32))
        self._values = _constant(layer.values)
        self._children = _constant(layer.children)
        self._child_splits = _constant(layer.child_splits)
        self._trained = _constant(layer.trained)

    def __call__(self, bag, queries, parents, parent_scores):
        """Ids and scores (batch, kept) of the best children of (query, parent) pairs."""
        first = tf.gather(self._child_splits, parents)
        widths = tf.gather(self._child_splits, parents + 1) - first
        margins = self._margins(bag, queries, parents, widths)
        pairs = _owners(widths)
        nodes = tf.gather(self._children, _ranges(first, widths, pairs))
        scores = _scores(self.post_processor, margins)
        if parent_scores is not None:
            scores = _combined(self.post_processor, scores, tf.gather(parent_scores, pairs))
        queries = tf.gather(queries, pairs)
        known = tf.gather(self._trained, nodes)
        parts = [tf.boolean_mask(part, known) for part in (queries, nodes, scores)]
        return self._best(*parts, tf.size(bag[2]) - 1)

    def _margins(self, bag, queries, parents, widths):
        """Margins of all children, pair after pair."""
        ids, weights, splits = bag
        begins = tf.gather(splits, queries)
        counts = tf.gather(splits, queries + 1) - begins
        pairs = _owners(counts)
        entries = _ranges(begins, counts, pairs)
        chunks = tf.cast(tf.gather(parents, pairs), tf.int64)
        keys = chunks * (self.num_features + 1) + tf.cast(tf.gather(ids, entries), tf.int64)
        # Read once, then gathered: a variable that ops gather from copies itself when it is read.
        known = tf.convert_to_tensor(self._keys)
        rows = tf.searchsorted(known, keys, out_type=tf.int64)
        hits = tf.where(tf.gather(known, rows) == keys)[:, 0]
        rows, pairs = tf.gather(rows, hits), tf.gather(pairs, hits)
        weights = tf.gather(tf.gather(weights, entries), hits)
        begins = tf.gather(self._entry_splits, rows)
        counts = tf.gather(self._entry_splits, rows + 1) - begins
        found = _owners(counts)
        entries = _ranges(begins, counts, found)
        starts = tf.gather(tf.gather(tf.cumsum(widths, exclusive=True), pairs), found)
        places = starts + tf.cast(tf.gather(self._columns, entries), tf.int64)
        values = tf.gather(self._values, entries) * tf.gather(weights, found)
        return tf.math.unsorted_segment_sum(values, places, tf.reduce_sum(widths))

    def _best(self, queries, nodes, scores, batch):
        # top_k prefers the first of equal scores, so nodes have to ascend.
        keys = tf.cast(queries, tf.int64) * self.num_nodes + tf.cast(nodes, tf.int64)
        order = tf.argsort(keys)
        queries, nodes, scores = (tf.gather(part, order) for part in (queries, nodes, scores))
        counts = tf.math.bincount(queries, minlength=batch, maxlength=batch)
        starts = tf.cumsum(counts, exclusive=True)
        places = tf.range(tf.size(queries)) - tf.gather(starts, queries)
        width = tf.maximum(tf.reduce_max(tf.concat([counts, [0]], 0)), self.kept)
        where = tf.stack([queries, places], 1)
        lowest = tf.fill([batch, width], -np.inf)
        best, columns = tf.math.top_k(
            tf.tensor_scatter_nd_update(lowest, where, scores), self.kept, index_type=tf.int32
        )
        none = tf.fill([batch, width], -1)
        ids = tf.gather(tf.tensor_scatter_nd_update(none, where, nodes), columns, batch_dims=1)
        ids.set_shape([None, self.kept])
        return ids, best


def _constant(array):
    return tf.Variable(np.asarray(array), trainable=False)


def _owners(lengths):
    """``tf.repeat(tf.range(n), lengths)`` without the (n, longest) mask that it makes."""
    ends, total = tf.cumsum(lengths), tf.reduce_sum(lengths)
    marks = tf.math.unsorted_segment_sum(tf.ones_like(ends), ends, total + 1)
    return tf.cumsum(marks)[:total]


def _ranges(starts, lengths, owners):
    """Numbers from every start on, so many as its length, one range after the other."""
    before = tf.gather(tf.cumsum(lengths, exclusive=True) - starts, owners)
    return tf.range(tf.size(owners, tf.int64)) - before


def _scores(post_processor, margins):
    """``PostProcessor.transform``."""
    if post_processor.code in (_HINGE, _LOG_HINGE):
        found = -(tf.nn.relu(1 - margins) ** post_processor.power)
        return tf.exp(found) if post_processor.code == _HINGE else found
    return (tf.identity, tf.sigmoid, tf.math.log_sigmoid)[post_processor.code](margins)


def _combined(post_processor, scores, parent_scores):
    """``PostProcessor.combine``."""
    if post_processor.code == 0:
        return scores
    if post_processor.code in (1, _HINGE):
        return scores * parent_scores
    return scores + parent_scores
