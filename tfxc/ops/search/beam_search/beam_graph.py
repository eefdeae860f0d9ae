"""Beam search through layers of linear classifiers as TensorFlow operations, for exported models.

The same search as ``beam_search.BeamSearch``, with its sums in the same order, in few operations
and without loops. The layers at the top are one dense table, and their margins one sparse product.
Below, the features of a query are looked up in the chunks of the nodes kept by a hash function
without collisions, and the entries of all rows that are found are summed by one sparse product.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfxc.ops.search.beam_search.chunked_layer import MOST_DENSE, check_layer, parents_of
from tfxc.ops.search.beam_search.perfect_hash import HALF, MULTIPLIER, perfect_hash

if TYPE_CHECKING:
    from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer


_SIGMOID = 1
_HINGE = 3
_LOG_HINGE = 4
_NONE = -1  # a key that no feature of a chunk has
_HALF = 1 << HALF  # the lower half comes first, as on all machines that TensorFlow is released for
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
        self._num_features = int(num_features)
        above = 1
        steps = []
        settings = zip(layers, only_topk, post_processors, strict=True)
        for number, (layer, kept, rule) in enumerate(settings):
            check_layer(layer, above, num_features, f"layer {number}")
            above = len(layer.children)
            steps.append(_Step(layer, min(kept or above, above), rule))
        dense = _num_dense(layers, num_features)
        constant = np.float32(bias or 0)
        self._top = _DenseLayers(steps[:dense], num_features, constant) if dense else None
        self._below = []
        for number in range(dense, len(steps)):
            before = steps[:number]
            self._below.append(_HashedLayer(steps[number], before, num_features, constant))

    @tf.function(input_signature=[_BAG], autograph=False)
    def __call__(self, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the best nodes of the last layer.

        Args:
            features: dict of ``ids`` int32 (nnz,), ``weights`` float32 (nnz,) and ``row_splits``
                int64 (batch + 1,).

        Returns:
            ids int32 and scores float32 (batch, k), by descending score, then ascending id; where
            fewer nodes are found, the rest is id −1 with score minus infinity.
        """
        sparse = tf.raw_ops.RaggedTensorToSparse(
            rt_nested_splits=[features["row_splits"]], rt_dense_values=features["weights"]
        )
        shape = tf.stack([sparse.sparse_dense_shape[0], self._num_features])
        ids = tf.cast(features["ids"], tf.int64)
        queries = _Queries(sparse.sparse_indices[:, 0], ids, features["weights"], shape)
        if self._top is None:
            nodes = tf.zeros([queries.shape[0], 1], tf.int32)
            scores = None
        else:
            nodes, scores = self._top(queries)
        for layer in self._below:
            nodes, scores = layer(queries, nodes, scores)
        return nodes, scores


class _Step(NamedTuple):
    """A layer, how many of its nodes are kept, and its ``PostProcessor``."""

    layer: "ChunkedLayer"
    kept: int
    rule: Any


class _Queries(NamedTuple):
    """A batch of bags: every entry's query and feature int64 and its weight; and (batch, D)."""

    owners: tf.Tensor
    ids: tf.Tensor
    weights: tf.Tensor
    shape: tf.Tensor


def _num_dense(layers: "Sequence[ChunkedLayer]", num_features: int) -> int:
    """Counts the layers at the top whose table has no more numbers than all have weights."""
    weights = sum(len(layer.values) for layer in layers)
    nodes = np.cumsum([len(layer.children) for layer in layers])
    return int((nodes <= min(MOST_DENSE, weights // max(1, num_features))).sum())


class _DenseLayers(tf.Module):
    """The layers at the top: of each node the weights of all features."""

    def __init__(self, steps: Sequence[_Step], num_features: int, bias: np.float32) -> None:
        super().__init__()
        layers = [step.layer for step in steps]
        tables = []
        for layer in layers:
            chunks = np.repeat(_chunks_of(layer), np.diff(layer.entry_splits))
            rows = np.repeat(layer.rows, np.diff(layer.entry_splits))
            nodes = layer.children[layer.child_splits[chunks] + layer.columns]
            weights = np.zeros((num_features + 1, len(layer.children)), np.float32)
            weights[rows, nodes] = layer.values
            tables.append(weights)
        table = np.concatenate(tables, 1)
        self._table = _constant(table[:-1])
        self._bias = table[-1] * bias
        self._parents = [parents_of(layer) for layer in layers]
        self._trained = [np.array(layer.trained) for layer in layers]
        self._kept = [step.kept for step in steps]
        self._rules = [step.rule for step in steps]

    def __call__(self, queries: _Queries) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns ids int32 and scores (batch, kept) of the last layer's best nodes."""
        margins = self._bias + tf.raw_ops.SparseTensorDenseMatMul(
            a_indices=tf.stack([queries.owners, queries.ids], 1),
            a_values=queries.weights,
            a_shape=queries.shape,
            b=self._table,
        )
        sizes = [len(parents) for parents in self._parents]
        if len(set(self._rules)) == 1:
            own_scores = tf.split(_scores(self._rules[0], margins), sizes, 1)
        else:
            parts = zip(self._rules, tf.split(margins, sizes, 1), strict=True)
            own_scores = [_scores(rule, part) for rule, part in parts]
        scores = wanted = None  # of the layer above; wanted: which nodes are kept, None for all
        for number, layer_scores in enumerate(own_scores):
            if number:
                above = tf.gather(scores, self._parents[number], axis=1)
                layer_scores = _combined(self._rules[number], layer_scores, above)
            known = self._known(number, wanted)
            scores = layer_scores if known is None else tf.where(known, layer_scores, -np.inf)
            best, nodes = tf.math.top_k(scores, self._kept[number])
            wanted = known
            if self._kept[number] < sizes[number]:
                wanted = tf.reduce_any(tf.one_hot(nodes, sizes[number], True, False), 1)
                wanted = wanted if known is None else wanted & known
        return nodes if known is None else tf.where(best > -np.inf, nodes, -1), best

    def _known(self, number: int, wanted: tf.Tensor | None) -> tf.Tensor | None:
        """Says which nodes count: with a classifier and a parent that is kept; None for all."""
        trained = self._trained[number]
        parents = self._parents[number]
        below = None if wanted is None else tf.gather(wanted, parents, axis=1)
        if trained.all():
            return below
        return tf.constant(trained[None]) if below is None else below & trained


class _HashedLayer(tf.Module):
    """A layer of which only the chunks of the nodes kept above it are read.

    ``children`` holds of every chunk, after an empty one, its children's (code, bias as bits);
    ``records`` of every slot the (key, first pair and number of pairs) of a row, the key being the
    chunk times D plus the feature; ``entries`` the rows' weights two by two, each with its child's
    place in the chunk below its bits. The code of node n is −1 − n, that of no node 0: of equal
    scores, the higher code comes first.
    """

    def __init__(
        self, step: _Step, before: Sequence[_Step], num_features: int, bias: np.float32
    ) -> None:
        super().__init__()
        layer, self._kept, self._rule = step
        self._combines = bool(before)
        self._num_features = num_features
        self._positive = {known.rule.code for known in (*before, step)} <= {_SIGMOID, _HINGE}
        self._beam = before[-1].kept if before else 1
        self._width = max(int(np.diff(layer.child_splits).max()), -(-self._kept // self._beam))
        self._children = _constant(_children(layer, self._width, num_features, bias))
        entries, firsts, counts = _entries(layer)
        self._entries = _constant(entries)
        self._pair_bits = len(entries).bit_length()
        self._count_bits = self._width.bit_length()
        below = layer.rows < num_features
        keys = (_chunks_of(layer)[below] + 1) * num_features + layer.rows[below]
        hashing = perfect_hash(keys)
        self._multipliers = _constant(hashing.multipliers)
        self._hash_shift = np.uint64(hashing.shift)
        self._num_slots = np.uint64(hashing.num_slots)
        records = np.full((hashing.num_slots, 2), _NONE, np.int64)
        spans = (firsts << self._count_bits) + counts
        records[hashing.slots_of(keys)] = np.stack([keys, spans[below]], 1)
        self._records = _constant(records)

    def __call__(
        self, queries: _Queries, nodes: tf.Tensor, scores: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns ids int32 and scores (batch, kept) of the best children of the nodes (batch,
        beam).
        """
        chunks = nodes + 1
        codes, bias = tf.unstack(tf.gather(self._children, chunks), axis=-1)
        margins = self._sums(queries, chunks) + tf.bitcast(bias, tf.float32)
        child_scores = _scores(self._rule, margins)
        if self._combines:
            assert scores is not None, "the layers before give their nodes' scores"
            child_scores = _combined(self._rule, child_scores, scores[:, :, None])
        return self._best(codes, tf.where(codes < 0, child_scores, -np.inf))

    def _sums(self, queries: _Queries, chunks: tf.Tensor) -> tf.Tensor:
        """Margins float32 (batch, beam, width) without the bias."""
        keys = tf.gather(tf.cast(chunks, tf.int64) * self._num_features, queries.owners)
        keys = tf.reshape(keys + queries.ids[:, None], [-1])
        number = tf.size(keys, tf.int64)
        margins = self._beam * self._width
        owners, pairs = self._pairs(keys, number)
        # In the lower half of a number where to add a product, in the upper its feature's weight.
        places = queries.owners[:, None] * margins + np.arange(0, margins, self._width)
        places = tf.reshape(places, [-1]) + tf.range(0, number * _HALF, _HALF)
        places = tf.gather(tf.tile(places[:, None], [1, 2]), owners)
        places += tf.bitwise.bitwise_and(pairs, _HALF - 1)
        sums = tf.raw_ops.SparseTensorDenseMatMul(
            a_indices=tf.reshape(tf.bitcast(places, tf.int32), [-1, 2]),
            a_values=tf.reshape(tf.bitcast(pairs, tf.float32), [-1, 2])[:, 1],
            a_shape=tf.stack([queries.shape[0] * margins, number]),
            b=tf.reshape(tf.tile(queries.weights[:, None], [1, self._beam]), [-1, 1]),
        )
        return tf.reshape(sums, [-1, self._beam, self._width])

    def _pairs(self, keys: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the pairs of entries of the keys' rows, int64 (pairs, 2), and their places."""
        factors = tf.bitcast(keys, tf.uint64)
        buckets = tf.bitwise.right_shift(factors * MULTIPLIER, self._hash_shift)
        multipliers = tf.gather(self._multipliers, tf.bitcast(buckets, tf.int64))
        half = tf.constant(HALF, tf.uint64)
        slots = tf.bitwise.right_shift(factors * multipliers, half) * self._num_slots
        slots = tf.bitcast(tf.bitwise.right_shift(slots, half), tf.int64)
        hashed, spans = tf.unstack(tf.gather(self._records, slots), axis=1)
        counts = tf.bitwise.bitwise_and(spans, (1 << self._count_bits) - 1)
        starts = tf.bitwise.right_shift(spans, self._count_bits)
        counts = tf.where(hashed == keys, counts, tf.zeros([], tf.int64))  # 0 without such a row
        starts += tf.range(0, number * (1 << self._pair_bits), 1 << self._pair_bits)
        ranges = tf.raw_ops.RaggedRange(
            starts=starts, limits=starts + counts, deltas=tf.constant(1, tf.int64)
        ).rt_dense_values
        pairs = tf.bitwise.bitwise_and(ranges, (1 << self._pair_bits) - 1)
        return tf.bitwise.right_shift(ranges, self._pair_bits), tf.gather(self._entries, pairs)

    def _best(self, codes: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the best by numbers that are ordered by score, then code."""
        if not self._positive:
            scores = tf.where(scores == 0, 0.0, scores)  # minus zero is no less than zero
        bits = self._in_order(tf.bitcast(scores, tf.int32))
        numbers = tf.bitcast(tf.stack([codes, bits], -1), tf.int64)
        numbers = tf.reshape(numbers, [-1, self._beam * self._width])
        best = tf.math.top_k(numbers, self._kept).values
        codes, bits = tf.unstack(tf.bitcast(best, tf.int32), axis=-1)
        return -1 - codes, tf.bitcast(self._in_order(bits), tf.float32)

    def _in_order(self, bits: tf.Tensor) -> tf.Tensor:
        """Returns bits of floats as integers of the same order, and back: the negative ones are
        turned.
        """
        if self._positive:  # but for minus infinity
            return bits
        turned = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, 31), 0x7FFFFFFF)
        return tf.bitwise.bitwise_xor(bits, turned)


def _constant(array: np.ndarray) -> tf.Variable:
    return tf.Variable(array, trainable=False)


def _chunks_of(layer: "ChunkedLayer") -> np.ndarray:
    """Returns int64: the chunk of every row."""
    return np.repeat(np.arange(len(layer.row_splits) - 1), np.diff(layer.row_splits))


def _children(layer: "ChunkedLayer", width: int, num_features: int, bias: np.float32) -> np.ndarray:
    """Returns int32 (chunks + 1, width, 2), see ``_HashedLayer``."""
    table = np.zeros((len(layer.child_splits), width, 2), np.int32)
    counts = np.diff(layer.child_splits)
    chunks = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(chunks)) - layer.child_splits[chunks]
    known = layer.trained[layer.children]
    table[chunks + 1, places, 0] = np.where(known, -1 - layer.children, 0)
    of_bias = np.repeat(layer.rows == num_features, np.diff(layer.entry_splits))
    chunks = np.repeat(_chunks_of(layer), np.diff(layer.entry_splits))[of_bias]
    values = layer.values[of_bias] * bias
    table[chunks + 1, layer.columns[of_bias], 1] = values.view(np.int32)
    return table


def _entries(layer: "ChunkedLayer") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a layer's rows in pairs of entries, int64 (pairs, 2); first pair and pairs of every
    row.

    An entry's upper half are the bits of the weight, the lower its column; an odd last one is
    paired with a weight of 0.
    """
    sizes = np.diff(layer.entry_splits)
    counts = (sizes + 1) // 2
    firsts = np.cumsum(counts) - counts
    pairs = np.zeros((int(counts.sum()), 2, 2), np.int32)
    places = np.arange(len(layer.values)) + np.repeat(2 * firsts - layer.entry_splits[:-1], sizes)
    flat = pairs.reshape(-1, 2)
    flat[places, 0] = layer.columns
    flat[places, 1] = layer.values.view(np.int32)
    return flat.view(np.int64).reshape(-1, 2), firsts, counts


def _scores(rule: Any, margins: tf.Tensor) -> tf.Tensor:
    """Does what ``PostProcessor.transform`` does, rounded where the native search rounds."""
    if rule.code in (_HINGE, _LOG_HINGE):
        # Not max(1 - margins, 0): TensorFlow would move the 1 into the sum that the margins are.
        distance = 1 - tf.minimum(margins, 1)
        if rule.power > 1:
            hinge = product = tf.cast(distance, tf.float64)
            for _ in range(1, rule.power):
                product *= hinge
            distance = tf.cast(product, tf.float32)
        return _exactly(tf.exp, -distance) if rule.code == _HINGE else -distance
    if rule.code == 0:
        return margins
    small = _exactly(tf.exp, -tf.abs(margins))
    if rule.code == _SIGMOID:
        return tf.where(margins < 0, small, 1) / (1 + small)
    return tf.minimum(margins, 0) - _exactly(tf.math.log1p, small)


def _exactly(function: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor) -> tf.Tensor:
    """Returns a function rounded once: TensorFlow's own float32 ones differ in the last bits."""
    return tf.cast(function(tf.cast(values, tf.float64)), tf.float32)


def _combined(rule: Any, scores: tf.Tensor, parent_scores: tf.Tensor) -> tf.Tensor:
    """Does what ``PostProcessor.combine`` does."""
    if rule.code == 0:
        return scores
    if rule.code in (_SIGMOID, _HINGE):
        return scores * parent_scores
    return scores + parent_scores
