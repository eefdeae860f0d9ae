"""Weights of one layer of a label tree, in chunks by parent, and the index of their rows.

A query needs the classifiers of a few parents' children, and of those the rows of its own
features (Etter et al., "Accelerating Inference for Sparse Extreme Multi-Label Ranking Trees", WWW
2022, arXiv 2106.02697).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.ops.csr import bounds_of

try:
    from tfxc.ops.search.beam_search import _chunk_index
except ImportError:  # not built: nothing needs an index
    _chunk_index = None  # type: ignore[assignment]

#: Nodes near the root whose margins are all computed in an export.
MOST_DENSE = 1024
_TYPES = {
    "children": (np.int32,),
    "child_splits": (np.int64,),
    "rows": (np.int32,),
    "row_splits": (np.int64,),
    "entry_splits": (np.int64,),
    "columns": (np.uint16, np.int32),
    "values": (np.float32,),
    "trained": (np.bool_,),
}
_BLOCKS = -1
_MIN_ROW_SHARE = 1 / 64  # share of the features from which on blocks take at most 16 bytes per row


class ChunkedLayer(NamedTuple):
    """One layer's weights: the columns of one parent's children together, by feature.

    Attributes:
        children: int32 (K,), nodes of the layer by parent, ascending for each parent.
        child_splits: int64 (parents + 1,); ``children[child_splits[p]:child_splits[p + 1]]`` are
            those of parent p.
        rows: int32, for each parent the ascending features (the bias is number D) with a weight
            in any of its children.
        row_splits: int64 (parents + 1,), as ``child_splits`` for ``rows``.
        entry_splits: int64 (len(rows) + 1,), range of each row's entries.
        columns: uint16 or int32, the entry's child as place among its parent's children.
        values: float32, the weights.
        trained: bool (K,), by node: False for nodes that are never predicted.
    """

    children: np.ndarray
    child_splits: np.ndarray
    rows: np.ndarray
    row_splits: np.ndarray
    entry_splits: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    trained: np.ndarray


def chunks_of(
    weights: scipy.sparse.csc_matrix,
    parents: Sequence[int] | np.ndarray,
    num_parents: int,
    trained: np.ndarray | None = None,
) -> "ChunkedLayer":
    """Returns chunks of a weight matrix.

    Args:
        weights: sparse float32 (D + 1, K); the last row is the bias.
        parents: int (K,), parent of every node.
        num_parents: nodes of the layer above.
        trained: bool (K,); all if None.

    Returns:
        ``ChunkedLayer``; explicit zeros are dropped.

    Example:
        >>> weights = scipy.sparse.csc_matrix(np.float32([[1, 0, 2], [0, 3, 0]]))
        >>> layer = chunks_of(weights, [1, 0, 1], 2)
        >>> layer.children.tolist(), layer.rows.tolist(), layer.columns.tolist()
        ([1, 0, 2], [1, 0], [0, 0, 1])
    """
    parents = np.asarray(parents)
    children = np.argsort(parents, kind="stable").astype(np.int32)
    counts = np.bincount(parents, minlength=num_parents)
    child_splits = bounds_of(counts)
    ordered = scipy.sparse.csc_matrix(weights)[:, children].tocoo()
    chunk = parents[children][ordered.col]
    real = ordered.data != 0
    chunk = chunk[real]
    row = ordered.row[real]
    column = ordered.col[real]
    order = np.lexsort((column, row, chunk))
    chunk = chunk[order]
    row = row[order]
    column = column[order]
    begins = np.ones(len(row), bool)  # of a row of a chunk
    begins[1:] = (chunk[1:] != chunk[:-1]) | (row[1:] != row[:-1])
    row_counts = np.bincount(chunk[begins], minlength=num_parents)
    return ChunkedLayer(
        children=children,
        child_splits=child_splits,
        rows=row[begins].astype(np.int32),
        row_splits=bounds_of(row_counts),
        entry_splits=np.append(np.flatnonzero(begins), len(row)).astype(np.int64),
        columns=(column - child_splits[chunk]).astype(
            np.uint16 if counts.max(initial=0) <= 1 << 16 else np.int32
        ),
        values=ordered.data[real][order].astype(np.float32),
        trained=np.ones(len(parents), bool) if trained is None else np.asarray(trained, bool),
    )


def column_of(layer: "ChunkedLayer", node: int, num_features: int) -> scipy.sparse.csr_matrix:
    """Returns the weights of one node.

    Args:
        layer: ``ChunkedLayer``.
        node: its number.
        num_features: D; the bias, row D, is left out.

    Returns:
        float32 CSR (1, D).

    Example:
        >>> weights = scipy.sparse.csc_matrix(np.float32([[1, 0, 2], [0, 3, 0], [9, 9, 9]]))
        >>> column_of(chunks_of(weights, [1, 0, 1], 2), 2, 2).toarray().tolist()
        [[2.0, 0.0]]
    """
    place = int(np.flatnonzero(layer.children == node)[0])
    parent = int(np.searchsorted(layer.child_splits, place, side="right")) - 1
    first, last = layer.row_splits[parent : parent + 2]
    splits = layer.entry_splits[first : last + 1]
    of_node = layer.columns[splits[0] : splits[-1]] == place - layer.child_splits[parent]
    rows = np.repeat(layer.rows[first:last], np.diff(splits))[of_node]
    values = layer.values[splits[0] : splits[-1]][of_node]
    known = rows < num_features
    bounds = [0, int(known.sum())]
    return scipy.sparse.csr_matrix((values[known], rows[known], bounds), (1, num_features))


def parents_of(layer: "ChunkedLayer") -> np.ndarray:
    """Returns the parent of every node, int32 (K,).

    Example:
        >>> weights = scipy.sparse.csc_matrix(np.float32([[1, 0, 2], [0, 3, 0]]))
        >>> parents_of(chunks_of(weights, [1, 0, 1], 2)).tolist()
        [1, 0, 1]
    """
    parents = np.empty(len(layer.children), np.int32)
    counts = np.diff(layer.child_splits)
    parents[layer.children] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return parents


def check_layer(layer: "ChunkedLayer", num_parents: int, num_features: int, where: str) -> None:
    """Checks what would lead a search outside the arrays.

    Columns of uint16 are not read for it, as a search has room for all of them.

    Raises:
        DataError: arrays of other types, or that do not fit together.
    """
    for name, types in _TYPES.items():
        array = getattr(layer, name)
        if array.ndim != 1 or array.dtype not in types:
            wanted = " or ".join(np.dtype(kind).name for kind in types)
            raise DataError(
                f"there are {array.ndim} dimensions of {array.dtype} instead of one of {wanted}",
                where=f"{where}, {name}",
            )
    _check_splits(layer.child_splits, num_parents, len(layer.children), f"{where}, child_splits")
    _check_splits(layer.row_splits, num_parents, len(layer.rows), f"{where}, row_splits")
    entries = len(layer.values)
    _check_splits(layer.entry_splits, len(layer.rows), entries, f"{where}, entry_splits")
    for name, length in (("columns", entries), ("trained", len(layer.children))):
        if len(getattr(layer, name)) != length:
            raise DataError(
                f"there are {len(getattr(layer, name))} entries instead of {length}",
                where=f"{where}, {name}",
            )
    _check_range(layer.children, len(layer.children), f"{where}, children")
    _check_range(layer.rows, num_features + 1, f"{where}, rows")
    if layer.columns.dtype == np.int32:
        widest = int(np.diff(layer.child_splits).max(initial=0))
        _check_range(layer.columns, widest, f"{where}, columns")


def index_of(layer: "ChunkedLayer", num_features: int) -> tuple[np.ndarray, ...]:
    """Returns the index of a layer's rows for the compiled search.

    Args:
        layer: ``ChunkedLayer``.
        num_features: D.

    Returns:
        index uint32, index_splits int64 (parents + 1,), shifts int8 (parents,): see
        ``tfxc.ops.search.beam_search._chunk_index.index_chunks``. At most 16 bytes per row.
    """
    counts = np.diff(layer.row_splits)
    # Not more than two buckets per row, of a power of two features.
    ratio = (num_features + 1) / np.maximum(2 * counts, 1)
    shifts = np.ceil(np.log2(np.maximum(ratio, 1))).astype(np.int64)
    sizes = (num_features >> shifts) + 2
    in_blocks = counts >= num_features * _MIN_ROW_SHARE
    sizes[in_blocks] = 2 * (num_features // 32 + 1)
    shifts[in_blocks] = _BLOCKS
    sizes[counts == 0] = 0
    splits = bounds_of(sizes)
    shifts = shifts.astype(np.int8)
    return _chunk_index.index_chunks(layer.rows, layer.row_splits, shifts, splits), splits, shifts


def _check_splits(splits: np.ndarray, count: int, total: int, where: str) -> None:
    if len(splits) != count + 1:
        raise DataError(f"there are {len(splits)} entries instead of {count + 1}", where=where)
    if splits[0] != 0 or splits[-1] != total or (splits[1:] < splits[:-1]).any():
        raise DataError(f"the numbers do not ascend from 0 to {total}", where=where)


def _check_range(numbers: np.ndarray, size: int, where: str) -> None:
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < size):
        raise DataError(
            f"the numbers go from {numbers.min()} to {numbers.max()}, but only 0 to {size - 1} "
            "are possible",
            where=where,
        )
