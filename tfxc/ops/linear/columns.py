"""The features of a block of examples, ready for the compiled linear solver."""

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse


try:
    from tfxc.ops.linear import _linear_solver
except ImportError:  # not built: nothing needs them
    _linear_solver = None  # type: ignore[assignment]

_ROWS = 1024  # examples whose norms are computed at once
_SINGLE_TYPES = (np.int32, np.int32, np.float32)  # rows, columns, values


class Columns:
    """Columns of a block of examples.

    The weights of a feature that a single example has follow from the example's dual, so such
    features are taken out; the others are renumbered so that their weights are contiguous.

    Args:
        features: float32 CSR (n, D).
        bias: value of the constant feature.
        compress: False leaves the features where and as they are, ``"in place"`` overwrites them.

    Attributes:
        ids: int32, the features that occur, ascending, and last D for the bias.
        num_slots: features with a row in the solver's weights.
        row_splits, slots, values: CSR of these.
        own, norms: float32 (n,): sums of squares of the features taken out, of all and the bias.
    """

    def __init__(
        self,
        features: "scipy.sparse.csr_matrix",
        bias: float,
        compress: bool | Literal["in place"] = True,
    ) -> None:
        size, num_features = features.shape
        squared = np.zeros(size)
        self.row_splits = features.indptr.astype(np.int64)
        own = np.zeros(size)
        if compress:
            in_place = compress == "in place"
            self.slots = features.indices.astype(np.int32, copy=not in_place)
            self.values = features.data if in_place else features.data.copy()
            slots = np.empty(num_features, np.int32)
            self.ids, self._places = _linear_solver.number_columns(self.slots, slots)
            self.num_slots = len(self._places) - 1
            singles = len(self.ids) - 1 - self.num_slots
            rows, columns, values = (np.empty(singles, kind) for kind in _SINGLE_TYPES)
            self._singles = (rows, columns, values)
            new_splits = np.empty_like(self.row_splits)
            entries = (self.row_splits, self.slots, self.values)
            _linear_solver.separate(*entries, slots, new_splits, *self._singles, own, squared)
            self.row_splits = new_splits
        else:
            rows, columns, values = (np.empty(0, kind) for kind in _SINGLE_TYPES)
            self._singles = (rows, columns, values)
            self.ids = np.arange(num_features + 1, dtype=np.int32)
            self._places = self.ids
            self.num_slots = num_features
            self.slots = features.indices.astype(np.int32, copy=False)
            self.values = features.data.astype(np.float32, copy=False)
            for begin in range(0, size, _ROWS):  # the values may be on the disk
                splits = self.row_splits[begin : begin + _ROWS + 1]
                part = self.values[splits[0] : splits[-1]].astype(np.float64)
                sums = np.concatenate([[0], np.cumsum(part * part)])
                squared[begin : begin + _ROWS] = np.diff(sums[splits - splits[0]])
        self.own = own.astype(np.float32)
        self.norms = (squared + bias * bias).astype(np.float32)

    def kept(
        self, weights: np.ndarray, duals: np.ndarray, terms: np.ndarray, least: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the weights of at least the magnitude ``least``, above 0, lane by lane.

        Args:
            weights, duals, terms: (slots + 1, 16) and (n, 16), of ``_linear_solver.solve``.
            least: magnitude.

        Returns:
            Bounds of the 16 lanes int64 (17,), positions in ``ids`` int32, values float32.
        """
        rows, columns, values = self._singles
        return _linear_solver.keep(
            weights, duals, terms, self._places, rows, columns, values, least
        )


def cache_aligned(rows: int, width: int, kind: type) -> np.ndarray:
    """Zeros (rows, width) that begin on a cache line, so that a row of 16 floats is one line."""
    size = rows * width * np.dtype(kind).itemsize
    memory = np.zeros(size + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][:size].view(kind).reshape(rows, width)
