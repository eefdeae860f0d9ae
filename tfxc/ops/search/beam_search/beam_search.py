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
from tfxc.ops.csr import bounds_of
from tfxc.ops.search.beam_search import beam_search_numpy
from tfxc.ops.search.beam_search.chunked_layer import check_layer, index_of

if TYPE_CHECKING:
    from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer


try:
    from tfxc.ops.search.beam_search import _beam_search, _chunk_index  # noqa: F401  (both or none)
except ImportError:  # not built: the NumPy path does the work
    _beam_search = None  # type: ignore[assignment]

ORDERS = ("score", "index")

_TOGETHER = 16  # queries from which on a layer is scored chunk by chunk
_MAX_MARGINS = 1 << 23  # of a block of queries: 32 MB


def has_native() -> bool:
    """Whether the compiled kernels are there (``python setup.py build_ext --inplace``)."""
    return _beam_search is not None


def search(
    layers: "Sequence[ChunkedLayer]",
    features: scipy.sparse.csr_matrix,
    only_topk: Sequence[int | None],
    post_processors: Sequence[Any],
    *,
    bias: float | None = None,
    csr_codes: scipy.sparse.csr_matrix | None = None,
    **options: Any,
) -> scipy.sparse.csr_matrix:
    """Searches once; ``BeamSearch`` is for layers searched again and again.

    Args:
        layers: ``ChunkedLayer``s (or anything with these attributes) from the top.
        features: see ``BeamSearch.search``, as all the rest.
        bias: weight of the constant last feature; None or 0 for none.

    Returns:
        CSR float32 (N, K): see ``BeamSearch.search``.

    Raises:
        ConfigError, DataError: see ``BeamSearch``.
    """
    native = options.pop("native", None)
    beam = BeamSearch(layers, features.shape[1], bias=bias, native=native)
    return beam.search(features, only_topk, post_processors, csr_codes=csr_codes, **options)


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
            raise ConfigError("at least one layer expected, found none", where="layers")
        if native and not has_native():
            raise ConfigError(
                "the compiled kernels of the beam search are not built",
                where="native",
                fix="run `python setup.py build_ext --inplace`, or leave `native` at None",
            )
        self.num_features, self.bias = int(num_features), float(bias or 0)
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
            self._kernels = beam_search_numpy.LayerKernels(layers)

    def search(
        self,
        features: np.ndarray | scipy.sparse.csr_matrix,
        only_topk: Sequence[int | None],
        post_processors: Sequence[Any],
        *,
        csr_codes: scipy.sparse.csr_matrix | None = None,
        threads: int | None = None,
        order: str = "score",
    ) -> scipy.sparse.csr_matrix:
        """Best nodes of the last layer.

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
        found = scipy.sparse.csr_matrix((scores[taken], ids[taken], splits), shape)
        if order == "index":
            found.sort_indices()
        return found

    def top(
        self,
        features: np.ndarray | scipy.sparse.csr_matrix,
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
        found = []
        for first in range(0, number, block) if number else ():
            part = slice(first, first + block)
            start = (csr_codes is not None, begins[part], counts[part], *parents)
            found.append(search(_part_of(rows, part), self.bias, settings, *start, threads))
        if len(found) == 1:
            return found[0]
        kept = settings[-1][1]
        none = (np.empty((0, kept), np.int32), np.empty((0, kept), np.float32))
        found = found or [(*none, np.empty(0, np.int32))]
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))

    def _settings(self, only_topk, post_processors):
        for name, values in (("only_topk", only_topk), ("post_processors", post_processors)):
            if len(values) != len(self.sizes):
                raise ConfigError(
                    f"{len(self.sizes)} values expected, one for each layer (of "
                    f"{', '.join(map(str, self.sizes))} nodes), found {len(values)}",
                    where=name,
                )
        for kept in only_topk:
            if kept is not None and (kept != int(kept) or kept < 0):
                raise ConfigError(
                    f"integers of at least 0 expected, found {kept}", where="only_topk"
                )
        return [
            (post, min(int(kept or size), size))
            for post, kept, size in zip(post_processors, only_topk, self.sizes, strict=True)
        ]

    def _start(self, csr_codes, number):
        """First and number of every query's parents, the parents, their scores."""
        if csr_codes is None:
            if self.num_parents != 1:
                raise ConfigError(
                    f"scores of the {self.num_parents} parents of the first layer expected, found "
                    "None",
                    where="csr_codes",
                )
            root, score = np.zeros(1, np.int32), np.ones(1, np.float32)
            return np.zeros(number, np.int64), np.ones(number, np.int32), root, score
        if csr_codes.shape != (number, self.num_parents):
            raise DataError(
                f"shape {(number, self.num_parents)} expected, found {csr_codes.shape}",
                where="csr_codes",
            )
        splits, parents, scores, _ = _csr_arrays(csr_codes, "csr_codes")
        return splits[:-1], np.diff(splits).astype(np.int32), parents, scores

    def _block(self, settings, most_parents):
        """Queries whose margins in any layer fit the memory for them."""
        widest = 1
        for width, (_, kept) in zip(self._widths, settings, strict=True):
            widest = max(widest, most_parents * width)
            most_parents = kept
        return max(_TOGETHER, _MAX_MARGINS // widest)


def _checked_features(features, num_features):
    """(splits, ids, weights, D) of CSR features, or a contiguous float32 matrix."""
    if features.ndim != 2 or features.shape[1] != num_features:
        raise DataError(
            f"shape (queries, {num_features}) expected, as the model has {num_features} features, "
            f"found {features.shape}",
            where="features",
        )
    if scipy.sparse.issparse(features):
        found = _csr_arrays(features.tocsr(), "features")
        weights = found[2]
    else:
        found = weights = np.ascontiguousarray(features, np.float32)
    # A sum is NaN or infinite wherever a weight is, and hardly ever elsewhere.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(weights.sum())
    if not finite and not np.isfinite(weights).all():
        raise DataError("finite weights expected, found NaN or infinity", where="features")
    return found


def _csr_arrays(matrix, where):
    splits = matrix.indptr.astype(np.int64, copy=False)
    ids = np.ascontiguousarray(matrix.indices, np.int32)
    if len(ids) and not (ids.min() >= 0 and ids.max() < matrix.shape[1]):
        raise DataError(
            f"columns from 0 to {matrix.shape[1] - 1} expected, found {ids.min()} to {ids.max()}",
            where=where,
        )
    return splits, ids, np.ascontiguousarray(matrix.data, np.float32), matrix.shape[1]


def _part_of(rows, part):
    if isinstance(rows, tuple):
        splits, *others = rows
        return (splits[part.start : part.stop + 1], *others)
    return rows[part]
