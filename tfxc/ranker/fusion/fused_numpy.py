"""Fuses what a ranker, the nearest training examples and the texts of labels say of a query.

An exported model has a copy of this file, which therefore needs NumPy alone.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

#: Bounds, ids and weights of sparse rows.
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
#: Ids and scores of the best, (queries, k), id -1 where there are fewer.
Lists = tuple[np.ndarray, np.ndarray]
#: Function of rows that returns the ``Lists`` of the most similar ones it knows.
Search = Callable[[Rows], Lists]


class Parts(NamedTuple):
    """What finds candidates.

    Attributes:
        rows: a ``Search`` of the training examples for each block of features.
        texts: the same of the labels' texts; empty without texts.
        text_rows: the ``Rows`` of the labels' texts, for each block.
        row_splits, row_labels: labels of each training example, as lists in one array.
        label_counts: training examples of each label, int (num_labels,).
        blocks: where the blocks of features begin, and the end of the last.
        ranker_labels: int32, the label of each label of the ranker, -1 for none; None: the same.
        trees: arrays of the trees that give a pair its score, see ``tree_scores``; None adds up.
    """

    rows: Sequence[Search]
    texts: Sequence[Search]
    text_rows: Sequence[Rows]
    row_splits: np.ndarray
    row_labels: np.ndarray
    label_counts: np.ndarray
    blocks: Sequence[int]
    ranker_labels: np.ndarray | None = None
    trees: Mapping[str, np.ndarray] | None = None


class Pairs(NamedTuple):
    """Candidates of some queries.

    Attributes:
        queries, labels: int64 (pairs,), by query, then by label.
        sources: of each source float64 (pairs,), its score of the pair, 0 where it has none.
        best: of each memory float64 (pairs,), similarity of the nearest example with the label.
    """

    queries: np.ndarray
    labels: np.ndarray
    sources: list[np.ndarray]
    best: list[np.ndarray]


class Fusion:
    """Finds labels by several sources and gives each candidate one score.

    Args:
        parts: ``Parts``.
        power: a neighbour votes with this power of its similarity.
        tail_places: of the first ten places, how many are kept for rare labels.
        rare: most training examples of such a label.
        kernels: what has the functions ``pair_sums`` and ``tree_scores``; None takes those below.
    """

    def __init__(
        self,
        parts: Parts,
        power: float = 2.0,
        tail_places: int = 0,
        rare: int = 5,
        kernels: Any = None,
    ) -> None:
        self._parts = parts
        self._power = power
        self._tail_places = tail_places
        self._is_rare = parts.label_counts <= rare
        # Of labels that were added later, the ranker's silence says nothing.
        self._is_ranked = parts.label_counts > 0
        if parts.ranker_labels is not None:
            self._is_ranked &= np.isin(np.arange(len(parts.label_counts)), parts.ranker_labels)
        self._pair_sums = pair_sums if kernels is None else kernels.pair_sums
        self._tree_scores = tree_scores if kernels is None else kernels.tree_scores

    def top_k(self, features: Rows, ranked: Lists | None, k: int) -> Lists:
        """Returns the best labels.

        Args:
            features: of the queries, all blocks side by side.
            ranked: what the ranker has found for them, or None without one.
            k: labels wanted.
        """
        blocks = split_blocks(features, self._parts.blocks)
        pairs = self.candidates(blocks, ranked)
        if self._parts.trees is None:
            scores = sum(_shares(pairs.queries, values) for values in pairs.sources)
        else:
            columns = self.pair_features(blocks, pairs)
            scores = 1 / (1 + np.exp(-self._tree_scores(columns, **self._parts.trees)))
        scores = np.asarray(scores, np.float32)
        return self._lists(pairs, scores, len(features[0]) - 1, k)

    def candidates(self, blocks: Sequence[Rows], ranked: Lists | None) -> Pairs:
        """Returns the labels that any source has found."""
        num_labels = len(self._parts.label_counts)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        nearest = []
        if ranked is not None:
            ids, scores = ranked
            if self._parts.ranker_labels is not None:
                ids = np.where(ids >= 0, self._parts.ranker_labels[ids], -1)
            found.append(flat_lists(ids, scores, num_labels))
        for search, part in zip(self._parts.rows, blocks, strict=True):
            keys, votes, best = self._votes(*search(part))
            found.append((keys, votes))
            nearest.append((keys, best))
        for search, part in zip(self._parts.texts, blocks, strict=False):
            keys, scores = flat_lists(*search(part), num_labels)
            found.append((keys, np.maximum(scores, 0) ** self._power))
        keys = np.unique(np.concatenate([keys for keys, _ in found]))
        sources = [_at(keys, *source) for source in found]
        similarities = [_at(keys, *source) for source in nearest]
        return Pairs(keys // num_labels, keys % num_labels, sources, similarities)

    def pair_features(self, blocks: Sequence[Rows], pairs: Pairs) -> np.ndarray:
        """Returns what the trees are given, float32 (pairs, columns).

        Of each source its score, how far it is below the query's best, and 1 / rank; of memories
        the similarity of the nearest example; of texts the similarity of each pair, how much of the
        query is in the text and how much of the text in the query; then what is known of the label
        and of the query; last, whether the ranker has learned the label.
        """
        queries = pairs.queries
        starts = np.flatnonzero(np.diff(queries, prepend=-1))
        sizes = np.diff(np.append(starts, len(queries)))

        def best_of(values: np.ndarray) -> np.ndarray:
            if not len(starts):
                return values
            return np.repeat(np.maximum.reduceat(values, starts), sizes)

        columns = []
        together = np.zeros(len(queries))
        ranks_together = np.zeros(len(queries))
        texts = []
        widths = np.diff(self._parts.blocks).tolist()
        for rows, part, width in zip(self._parts.text_rows, blocks, widths, strict=False):
            sums = self._pair_sums(part, rows, queries, pairs.labels, width)
            columns += [sums[1], sums[2], sums[1] - best_of(sums[1]), sums[2] - best_of(sums[2])]
            texts.append(sums[0])
        memories = len(pairs.sources) - len(self._parts.texts)
        for number, values in enumerate([*pairs.sources[:memories], *texts]):
            best = best_of(values)
            places = np.where(values > 0, 1 / (1 + ranks_within(starts, sizes, values)), 0.0)
            columns += [values, values - best, places]
            together += values / np.where(best > 0, best, 1)
            ranks_together += places
            if number >= memories or number == 0:
                columns.append(best)
        for values in pairs.best:
            best = best_of(values)
            columns += [values, values - best, best]
        columns += [together, together - best_of(together), ranks_together]
        columns.append(1 / (1 + ranks_within(starts, sizes, together)))
        columns.append(np.log1p(self._parts.label_counts[pairs.labels]))
        columns.append(np.log1p(np.diff(blocks[0][0])[queries]))
        for rows in self._parts.text_rows:
            columns.append(np.log1p(np.diff(rows[0])[pairs.labels]))
        columns.append(self._is_ranked[pairs.labels])
        return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)

    def _votes(self, ids: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns keys of (query, label), shares of the votes, similarities of the nearest."""
        splits = self._parts.row_splits
        num_labels = len(self._parts.label_counts)
        queries, places = np.nonzero((ids >= 0) & (scores > 0))
        rows = ids[queries, places]
        similarities = scores[queries, places].astype(np.float64)
        votes = similarities**self._power
        totals = np.bincount(queries, votes, len(ids))[queries]
        lengths = splits[rows + 1] - splits[rows]
        labels = self._parts.row_labels[_ranges(splits[rows], lengths)]
        keys, inverse = np.unique(
            np.repeat(queries, lengths) * num_labels + labels, return_inverse=True
        )
        best = np.zeros(len(keys))
        np.maximum.at(best, inverse, np.repeat(similarities, lengths))
        shares = votes / np.where(totals > 0, totals, 1)  # 0 where a high power leaves nothing
        return keys, np.bincount(inverse, np.repeat(shares, lengths), len(keys)), best

    def _lists(self, pairs: Pairs, scores: np.ndarray, count: int, k: int) -> Lists:
        """Returns the best pairs of each query, some places kept for rare labels."""
        queries = pairs.queries
        order = np.lexsort((pairs.labels, -scores, queries))
        starts = np.searchsorted(queries, np.arange(count))
        ranks = np.arange(len(order)) - starts[queries]
        if self._tail_places:
            first = 10 - self._tail_places
            behind = ranks >= first
            rare = behind & self._is_rare[pairs.labels[order]]
            number = np.cumsum(rare) - rare
            number -= number[starts[queries]] if len(order) else 0
            kept = rare & (number < self._tail_places)
            order = order[np.lexsort((ranks, np.where(behind & ~kept, 1, 0), queries))]
        ids, best = ordered_lists(queries, pairs.labels[order], scores[order], count, k)
        # Behind a kept place no label has a higher score: a list is sorted.
        return ids, np.minimum.accumulate(best, axis=1)


def ordered_lists(
    queries: np.ndarray, labels: np.ndarray, scores: np.ndarray, count: int, k: int
) -> Lists:
    """Returns the first labels of each query as lists.

    Args:
        queries: int64 (pairs,), ascending.
        labels, scores: of the pairs, those of a query in the order of its list.
        count: of the queries.
        k: labels of a list.
    """
    ranks = np.arange(len(queries)) - np.searchsorted(queries, np.arange(count))[queries]
    chosen = ranks < k
    ids = np.full((count, k), -1, np.int32)
    best = np.full((count, k), -np.inf, np.float32)
    ids[queries[chosen], ranks[chosen]] = labels[chosen]
    best[queries[chosen], ranks[chosen]] = scores[chosen]
    return ids, best


def split_blocks(features: Rows, blocks: Sequence[int]) -> list[Rows]:
    """Returns the columns of each block as rows of length 1, numbered from 0."""
    bounds, ids, weights = features
    queries = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    parts = []
    for first, last in itertools.pairwise(blocks):
        inside = (ids >= first) & (ids < last)
        rows = queries[inside]
        values = weights[inside].astype(np.float64)
        squares = np.bincount(rows, values * values, len(bounds) - 1)
        values = (values / np.sqrt(np.where(squares > 0, squares, 1))[rows]).astype(np.float32)
        lengths = np.bincount(rows, minlength=len(bounds) - 1)
        splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        parts.append((splits, (ids[inside] - first).astype(np.int32), values))
    return parts


def transposed(layer: Any, count: int) -> Rows:
    """Returns the rows that are the nodes of a layer of one parent.

    Args:
        layer: a ``ChunkedLayer``, see ``tfxc.ops.search.beam_search.chunked_layer``.
        count: rows.
    """
    order = np.argsort(layer.columns, kind="stable")
    features = np.repeat(layer.rows, np.diff(layer.entry_splits.astype(np.int64)))
    lengths = np.bincount(layer.columns, minlength=count)
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return splits, features[order].astype(np.int32), np.asarray(layer.values)[order]


def entry_splits(layer: Any, width: int) -> np.ndarray:
    """Returns where the entries of each feature of a layer of one parent begin, int64 (width + 1,).

    Args:
        layer: see ``transposed``.
        width: features.
    """
    splits = np.zeros(width + 1, np.int64)
    splits[layer.rows.astype(np.int64) + 1] = np.diff(layer.entry_splits.astype(np.int64))
    return np.cumsum(splits)


def nearest_rows(
    features: Rows,
    splits: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    num_rows: int,
    k: int,
) -> Lists:
    """Finds the rows with the largest inner products above 0, exactly.

    Args:
        features: of the queries, of length 1.
        splits: where the entries of each feature begin.
        rows, values: row and number of each entry, float32.
        num_rows: of the rows, of length 1.
        k: rows wanted of each query.

    Returns:
        ``Lists``, of equal rows the first one first. They are those of the compiled kernel, bit for
        bit: both add in float32, feature by feature.
    """
    bounds, columns, weights = features
    ids = np.full((len(bounds) - 1, k), -1, np.int32)
    scores = np.full(ids.shape, -np.inf, np.float32)
    sums = np.empty(num_rows, np.float32)
    for query in range(len(ids)):
        sums[:] = 0
        for entry in range(bounds[query], bounds[query + 1]):
            part = slice(splits[columns[entry]], splits[columns[entry] + 1])
            every = part.stop - part.start == num_rows  # as of the vectors of a static table
            sums[slice(None) if every else rows[part]] += weights[entry] * values[part]
        near = np.flatnonzero(sums > 0)
        if len(near) > k:
            near = near[sums[near] >= np.partition(sums[near], -k)[-k]]
        near = near[np.argsort(-sums[near], kind="stable")][:k]
        ids[query, : len(near)] = near
        scores[query, : len(near)] = sums[near]
    return ids, scores


def pair_sums(
    features: Rows, texts: Rows, queries: np.ndarray, labels: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compares queries and texts of labels, both of length 1.

    Args:
        features: of the queries.
        texts: of the labels.
        queries, labels: int64 (pairs,), queries ascending.
        width: of the block of features.

    Returns:
        float64 (pairs,): inner products, the share of the query's squares whose features are in the
        text, and the share of the text's squares whose features are in the query.
    """
    bounds, ids, weights = features
    splits, columns, values = texts
    products = np.zeros((3, len(queries)))
    scratch = np.zeros(width, np.float32)
    ends = np.searchsorted(queries, np.arange(len(bounds)))
    for query in range(len(bounds) - 1):
        mine = slice(ends[query], ends[query + 1])
        own = ids[bounds[query] : bounds[query + 1]]
        scratch[own] = weights[bounds[query] : bounds[query + 1]]
        firsts = splits[labels[mine]]
        lengths = splits[labels[mine] + 1] - firsts
        entries = _ranges(firsts, lengths)
        of_query = scratch[columns[entries]].astype(np.float64)
        of_text = values[entries].astype(np.float64)
        pairs = np.repeat(np.arange(len(lengths)), lengths)
        shared = of_text * of_text * (of_query != 0)
        for place, terms in enumerate((of_query * of_text, of_query * of_query, shared)):
            products[place, mine] = np.bincount(pairs, terms, len(lengths))
        scratch[own] = 0
    return products[0], products[1], products[2]


def tree_scores(
    columns: np.ndarray,
    roots: np.ndarray,
    features: np.ndarray,
    thresholds: np.ndarray,
    children: np.ndarray,
    values: np.ndarray,
    baseline: np.ndarray,
) -> np.ndarray:
    """Adds up the leaves that rows of numbers reach in trees.

    Args:
        columns: float32 (rows, width).
        roots: int32 (trees,), the first node of each.
        features: int32 (nodes,), the column that a node looks at; -1 in a leaf.
        thresholds: float64 (nodes,); rows with a number at most as large go to the left.
        children: int32 (nodes, 2), left and right.
        values: float64 (nodes,), of leaves.
        baseline: float64 (1,), what is added.

    Returns:
        float64 (rows,).
    """
    scores = np.full(len(columns), baseline[0])
    rows = np.arange(len(columns))
    for root in roots.tolist():
        nodes = np.full(len(columns), root)
        while (inner := features[nodes] >= 0).any():
            places = rows[inner]
            here = nodes[inner]
            right = columns[places, features[here]] > thresholds[here]
            nodes[inner] = children[here, right.astype(np.int64)]
        scores += values[nodes]
    return scores


def flat_lists(
    ids: np.ndarray, scores: np.ndarray, num_labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns keys and scores of what lists hold."""
    queries, places = np.nonzero(ids >= 0)
    keys = queries * num_labels + ids[queries, places]
    return keys, scores[queries, places].astype(np.float64)


def _at(keys: np.ndarray, some: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the values of some of the keys at their places among all, 0 at the others."""
    spread = np.zeros(len(keys))
    spread[np.searchsorted(keys, some)] = values
    return spread


def _shares(queries: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns each value divided by the sum of its query's."""
    totals = np.bincount(queries, values) if len(queries) else values
    return values / np.where(totals > 0, totals, 1)[queries]


def ranks_within(starts: np.ndarray, sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the rank of each value in its query, the largest first, from 0."""
    queries = np.repeat(np.arange(len(starts)), sizes)
    ranks = np.empty(len(values), np.int64)
    ranks[np.lexsort((-values, queries))] = np.arange(len(values)) - np.repeat(starts, sizes)
    return ranks


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the numbers from each start on, as many as its length, one range after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
