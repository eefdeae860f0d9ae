"""Beam search through layers of linear classifiers over a label tree.

Every node of a layer has a sparse linear classifier; only the children of the nodes kept in the
layer above are scored (Prabhu et al., "Parabel", WWW 2018; Yu et al., "PECOS", JMLR 2022, arXiv
2010.05878). The weights are stored in chunks by parent, of which only the rows of a query's
features are read (Etter et al., "Accelerating Inference for Sparse Extreme Multi-Label Ranking
Trees", WWW 2022, arXiv 2106.02697). The compiled path and the NumPy one give the same ids, and
scores that differ by rounding only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.declared import check_choice
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.resources import thread_count
from tfxc.ops.csr import Matrix, bounds_of
from tfxc.ops.search.beam_search.chunked_layer import check_layer, index_of

if TYPE_CHECKING:
    from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer


try:
    from tfxc.ops.search.beam_search import _beam_search, _chunk_index  # noqa: F401  (both or none)
except ImportError:  # not built: the NumPy path does the work
    _beam_search = None  # type: ignore[assignment]

ORDERS = ("score", "index")

# Dense rows, or those of a CSR matrix: (splits, ids, weights, D).
_Rows = np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray, int]
_TOGETHER = 16  # queries from which on a layer is scored chunk by chunk
_MAX_MARGINS = 1 << 23  # of a block of queries: 32 MB


def has_native() -> bool:
    """Says whether the compiled kernels are there (``python setup.py build_ext --inplace``)."""
    return _beam_search is not None


def search(
    layers: "Sequence[ChunkedLayer]",
    features: scipy.sparse.csr_matrix,
    only_topk: Sequence[int | None],
    post_processors: Sequence[Any],
    *,
    bias: float | None = None,
    csr_codes: scipy.sparse.csr_matrix | None = None,
    threads: int | None = None,
    order: str = "score",
    native: bool | None = None,
) -> scipy.sparse.csr_matrix:
    """Searches once; ``BeamSearch`` is for layers searched again and again.

    Args:
        layers: ``ChunkedLayer``s (or anything with these attributes) from the top.
        features, only_topk, post_processors, csr_codes, threads, order: see ``BeamSearch.search``.
        bias, native: see ``BeamSearch``.

    Returns:
        CSR float32 (N, K): see ``BeamSearch.search``.

    Raises:
        ConfigError, DataError: see ``BeamSearch``.
    """
    beam = BeamSearch(layers, features.shape[1], bias=bias, native=native)
    return beam.search(
        features, only_topk, post_processors, csr_codes=csr_codes, threads=threads, order=order
    )


class BeamSearch:
    """Layers made ready for searching.

    Args:
        layers: ``ChunkedLayer``s (or anything with these attributes) from the top; memory-mapped
            arrays will do. The compiled path reads ``rows`` once to index them (at most 16 bytes
            a row).
        num_features: D.
        bias: weight of the constant last feature; None or 0 for none.
        native: None uses the compiled kernels where they are built, True insists on them, False
            takes the NumPy path, which is some 20 times slower.

    Raises:
        DataError: arrays of other types, or that do not fit together.
        ConfigError: no layer, or ``native=True`` without the compiled kernels.
    """

    def __init__(
        self,
        layers: "Sequence[ChunkedLayer]",
        num_features: int,
        *,
        bias: float | None = None,
        native: bool | None = None,
    ) -> None:
        if not layers:
            raise ConfigError("the list is empty", where="layers", fix="give at least one")
        if native and not has_native():
            raise ConfigError(
                "the compiled kernels of the beam search are not built",
                where="native",
                fix="run `python setup.py build_ext --inplace`, or leave `native` at None",
            )
        self.num_features = int(num_features)
        self.bias = float(bias or 0)
        self.sizes = [len(layer.children) for layer in layers]
        self.num_parents = len(layers[0].child_splits) - 1
        above = self.num_parents
        for number, layer in enumerate(layers):
            check_layer(layer, above, self.num_features, f"layer {number}")
            above = self.sizes[number]
        self._widths = [int(np.diff(layer.child_splits).max(initial=1)) for layer in layers]
        if has_native() if native is None else native:
            indexes = [index_of(layer, self.num_features) for layer in layers]
            self._kernels: Any = _beam_search.LayerKernels(layers, indexes)
        else:
            from tfxc.ops.search.beam_search import beam_search_numpy

            self._kernels = beam_search_numpy.LayerKernels(layers)

    def search(
        self,
        features: Matrix,
        only_topk: Sequence[int | None],
        post_processors: Sequence[Any],
        *,
        csr_codes: scipy.sparse.csr_matrix | None = None,
        threads: int | None = None,
        order: str = "score",
    ) -> scipy.sparse.csr_matrix:
        """Returns the best nodes of the last layer.

        Args:
            features: float32 CSR (N, D), or a dense array.
            only_topk: nodes kept per query in every layer, a list; 0 or None keeps all.
            post_processors: ``tfxc.ranker.post_processors.PostProcessor`` of every layer.
            csr_codes: CSR (N, parents of the first layer), nodes to begin with and their scores,
                explicit zeros included. None begins with the only root, whose score does not
                count.
            threads: at most this many; None means all cores. The NumPy path uses one.
            order: ``"score"``: entries of a row by descending score, then ascending node;
                ``"index"``: by ascending node.

        Returns:
            CSR float32 (N, K) with at most ``only_topk[-1]`` entries per row.

        Raises:
            ConfigError: a number, a length or a choice that is not allowed.
            DataError: features or codes of other shapes, NaN or infinity in the features.
        """
        check_choice("order", order, ORDERS)
        ids, scores, counts = self.top(
            features, only_topk, post_processors, csr_codes=csr_codes, threads=threads
        )
        splits = bounds_of(counts)
        taken = np.arange(ids.shape[1]) < counts[:, None]
        shape = (len(ids), self.sizes[-1])
        best = scipy.sparse.csr_matrix((scores[taken], ids[taken], splits), shape)
        if order == "index":
            best.sort_indices()
        return best

    def top(
        self,
        features: Matrix,
        only_topk: Sequence[int | None],
        post_processors: Sequence[Any],
        *,
        csr_codes: scipy.sparse.csr_matrix | None = None,
        threads: int | None = None,
    ) -> tuple[np.ndarray, ...]:
        """As ``search``: ids int32, scores float32 (N, k) best first, and counts int32 (N,).

        Only the first ``counts[i]`` places of row i are meaningful.
        """
        rows = _checked_features(features, self.num_features)
        settings = self._settings(only_topk, post_processors)
        begins, counts, *parents = self._start(csr_codes, features.shape[0])
        threads = thread_count(threads)
        search = self._kernels.search_each
        block = number = len(counts)
        if number >= _TOGETHER:
            search = self._kernels.search_together
            block = self._block(settings, int(counts.max()))
        if not number:
            k = settings[-1][1]
            return np.empty((0, k), np.int32), np.empty((0, k), np.float32), np.empty(0, np.int32)
        blocks = []
        for first in range(0, number, block):
            part = slice(first, first + block)
            start = (csr_codes is not None, begins[part], counts[part], *parents)
            blocks.append(search(_part_of(rows, part), self.bias, settings, *start, threads))
        if len(blocks) == 1:
            return blocks[0]
        return tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))

    def _settings(
        self, only_topk: Sequence[int | None], post_processors: Sequence[Any]
    ) -> list[tuple[Any, int]]:
        for name, values in (("only_topk", only_topk), ("post_processors", post_processors)):
            if len(values) != len(self.sizes):
                raise ConfigError(
                    f"there are {len(values)} values for {len(self.sizes)} layers (of "
                    f"{', '.join(map(str, self.sizes))} nodes)",
                    where=name,
                    fix="give one for each layer",
                )
        for topk in only_topk:
            if topk is not None and (topk != int(topk) or topk < 0):
                raise ConfigError(f"{topk} is not an integer of at least 0", where="only_topk")
        return [
            (rule, min(int(topk or size), size))
            for rule, topk, size in zip(post_processors, only_topk, self.sizes, strict=True)
        ]

    def _start(
        self, csr_codes: scipy.sparse.csr_matrix | None, number: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns the first and number of every query's parents, the parents, their scores."""
        if csr_codes is None:
            if self.num_parents != 1:
                raise ConfigError(
                    f"the first layer has {self.num_parents} parents, whose scores are missing",
                    where="csr_codes",
                    fix="give the scores of the nodes to begin with",
                )
            root = np.zeros(1, np.int32)
            score = np.ones(1, np.float32)
            return np.zeros(number, np.int64), np.ones(number, np.int32), root, score
        if csr_codes.shape != (number, self.num_parents):
            raise DataError(
                f"the shape is {csr_codes.shape} instead of {(number, self.num_parents)}",
                where="csr_codes",
            )
        splits, parents, scores, _ = _csr_arrays(csr_codes, "csr_codes")
        return splits[:-1], np.diff(splits).astype(np.int32), parents, scores

    def _block(self, settings: Sequence[tuple[Any, int]], most_parents: int) -> int:
        """Returns queries whose margins in any layer fit the memory for them."""
        widest = 1
        for width, (_, topk) in zip(self._widths, settings, strict=True):
            widest = max(widest, most_parents * width)
            most_parents = topk
        return max(_TOGETHER, _MAX_MARGINS // widest)


def _checked_features(features: Matrix, num_features: int) -> _Rows:
    """Returns (splits, ids, weights, D) of CSR features, or a contiguous float32 matrix."""
    if features.ndim != 2 or features.shape[1] != num_features:
        raise DataError(
            f"the shape is {features.shape}, but the model has {num_features} features",
            where="features",
            fix=f"give a matrix (queries, {num_features})",
        )
    if scipy.sparse.issparse(features):
        arrays: _Rows = _csr_arrays(features.tocsr(), "features")
        weights = arrays[2]
    else:
        arrays = weights = np.ascontiguousarray(features, np.float32)
    # A sum is NaN or infinite wherever a weight is, and hardly ever elsewhere.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(weights.sum())
    if not finite and not np.isfinite(weights).all():
        raise DataError("a weight is NaN or infinite", where="features")
    return arrays


def _csr_arrays(
    matrix: scipy.sparse.csr_matrix, where: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    splits = matrix.indptr.astype(np.int64, copy=False)
    ids = np.ascontiguousarray(matrix.indices, np.int32)
    if len(ids) and not (ids.min() >= 0 and ids.max() < matrix.shape[1]):
        raise DataError(
            f"the columns go from {ids.min()} to {ids.max()}, but there are only 0 to "
            f"{matrix.shape[1] - 1}",
            where=where,
        )
    return splits, ids, np.ascontiguousarray(matrix.data, np.float32), matrix.shape[1]


def _part_of(rows: _Rows, part: slice) -> _Rows:
    if isinstance(rows, tuple):
        splits, ids, weights, num_features = rows
        return splits[part.start : part.stop + 1], ids, weights, num_features
    return rows[part]
