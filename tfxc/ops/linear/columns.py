"""The features of a block of examples, ready for the compiled linear solver."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse


try:
    from tfxc.ops.linear import _linear_solver
except ImportError:  # not built: nothing needs them
    _linear_solver = None  # type: ignore[assignment]

_ROWS = 1024  # examples whose norms are computed at once


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
        self._singles = None
        if compress:
            own = self._separate(features, squared, compress == "in place")
        else:
            self.ids = np.arange(num_features + 1, dtype=np.int32)
            self._places, self.num_slots, own = self.ids, num_features, np.zeros(size)
            self.slots = features.indices.astype(np.int32, copy=False)
            self.values = features.data.astype(np.float32, copy=False)
            for begin in range(0, size, _ROWS):  # the values may be on the disk
                splits = self.row_splits[begin : begin + _ROWS + 1]
                part = self.values[splits[0] : splits[-1]].astype(np.float64)
                sums = np.concatenate([[0], np.cumsum(part * part)])
                squared[begin : begin + _ROWS] = np.diff(sums[splits - splits[0]])
        self.own = own.astype(np.float32)
        self.norms = (squared + bias * bias).astype(np.float32)

    def _separate(self, features, squared, in_place):
        num_features = features.shape[1]
        self.slots = features.indices.astype(np.int32, copy=not in_place)
        self.values = features.data if in_place else features.data.copy()
        slots = np.zeros(num_features, np.int32)
        _linear_solver.count_columns(self.slots, slots)
        ids = np.flatnonzero(slots)
        is_shared = slots[ids] > 1
        self.num_slots = int(is_shared.sum())
        slots[ids] = np.where(is_shared, np.cumsum(is_shared) - 1, -1 - np.arange(len(ids)))
        self.ids = np.append(ids, num_features).astype(np.int32)
        self._places = np.append(np.flatnonzero(is_shared), len(ids)).astype(np.int32)
        singles = len(ids) - self.num_slots
        self._singles = [np.empty(singles, kind) for kind in (np.int32, np.int32, np.float32)]
        own, new_splits = np.zeros(len(squared)), np.empty_like(self.row_splits)
        _linear_solver.separate(
            self.row_splits, self.slots, self.values, slots, new_splits, *self._singles, own,
            squared,
        )  # fmt: skip
        self.row_splits = new_splits
        return own

    def kept(
        self, weights: np.ndarray, duals: np.ndarray, terms: np.ndarray, least: float, chunk: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The weights of at least the magnitude ``least``, chunk by chunk.

        Yields:
            positions in ``ids``, lanes, values float32.
        """
        for begin in range(0, len(weights), chunk):
            row, lane, values = _at_least(weights[begin : begin + chunk], least)
            yield self._places[begin + row], lane, values
        if self._singles is None:
            return
        rows, columns, values = self._singles
        for begin in range(0, len(rows), chunk):
            taken = rows[begin : begin + chunk]
            signed = np.copysign(duals[taken], terms[taken])
            signed *= values[begin : begin + chunk, None]
            row, lane, found = _at_least(signed, least)
            yield columns[begin + row], lane, found


def _at_least(weights, least):
    flat = np.flatnonzero(np.abs(weights) >= least)
    row, lane = np.divmod(flat, weights.shape[1])
    return row, lane.astype(np.uint8), weights.ravel()[flat].astype(np.float32)


def cache_aligned(rows: int, width: int, kind: type) -> np.ndarray:
    """Zeros (rows, width) that begin on a cache line, so that a row of 16 floats is one line."""
    size = rows * width * np.dtype(kind).itemsize
    memory = np.zeros(size + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][:size].view(kind).reshape(rows, width)
