"""One-vs-rest linear classifiers of the labels under one parent, by dual coordinate descent.

For a label with examples I the weights w and the bias b minimise

    1/2 (|w|² + b²) + sum over I of cost_i · max(0, 1 − y_i (<w, x_i> + b · bias))²

or the same with the hinge itself instead of its square (Hsieh et al., "A Dual Coordinate Descent
Method for Large-scale Linear SVM", ICML 2008), or with the logistic loss ln(1 + exp(−m)) of the
same margin m (Yu et al., "Dual Coordinate Descent Methods for Logistic Regression and Maximum
Entropy Models", Machine Learning 2011), by scikit-learn. Labels under one parent share their
negatives (Yu et al., "PECOS", JMLR 2022), which the compiled path makes use of: it solves 16 labels
at once, and a feature that only one example has costs nothing. Without it scikit-learn's
``LinearSVC`` does the work, some 50 times as slowly.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.ops.linear.block import PIECE_BYTES, assembled, greatest
from tfxc.ops.linear.columns import Columns, cache_aligned
from tfxc.ops.linear.settings import SolverSettings

if TYPE_CHECKING:
    import scipy.sparse

    from tfxc.ops.linear.block import Block


try:
    from tfxc.ops.linear import _linear_solver
except ImportError:  # not built: scikit-learn does the work
    _linear_solver = None  # type: ignore[assignment]

_Piece = tuple[int, np.ndarray, np.ndarray]  # child, positions of its weights, weights
_COMPILED = ("squared-hinge", "hinge")
_LANES = 16
_OVERHEAD = 1 << 18  # bytes of objects whatever the sizes are
_COPIED = 16  # bytes of an entry in rows that are chosen and stacked
_SOLVED = 36  # bytes of an entry in liblinear
_SINGLE_PRECISION = 1e-3  # the least epsilon that float32 reaches


def has_native() -> bool:
    """Says whether the compiled solver is there (``python setup.py build_ext --inplace``)."""
    return _linear_solver is not None


def solve_block(
    features: "scipy.sparse.csr_matrix",
    positives: Sequence[Sequence[int] | np.ndarray],
    settings: SolverSettings,
    *,
    relevance: Sequence[np.ndarray] | None = None,
    members: np.ndarray | None = None,
    compress: bool | Literal["in place"] = True,
    threads: int = 1,
    native: bool | None = None,
) -> "Block":
    """Trains the children of one parent.

    Args:
        features: float32 CSR (n, D) of the parent's examples without duplicate entries.
        positives: for each child an int array of its positive rows; a child without any that counts
            gets no weights.
        settings: ``SolverSettings``.
        relevance: for each child factors of its positives' costs; None for 1. With 0 an example
            does not count.
        members: bool (n,): rows that are examples of all children; the others are examples only of
            the children they are positives of. None for all.
        compress: copy the features and number the block's own columns anew, which is faster;
            otherwise they are read where they are (memory-mapped ones too). ``"in place"``
            overwrites the features, for a caller who needs them no more.
        threads: labels are shared out to at most this many threads, with the same result.
        native: None uses the compiled solver where it is built and has the loss, True insists on
            it, False takes scikit-learn.

    Returns:
        ``Block``.

    Raises:
        ConfigError: ``native=True`` without the compiled solver, or with a loss it has not.

    Example:
        >>> import scipy.sparse
        >>> features = scipy.sparse.csr_matrix(np.float32([[1, 0], [0, 1]]))
        >>> block = solve_block(features, [[0], [1]], SolverSettings(epsilon=1e-6))
        >>> block.rows.tolist(), block.columns.tolist(), np.round(3 * block.values).tolist()
        ([0, 1], [0, 1, 0, 1], [2.0, -2.0, -2.0, 2.0])
    """
    if native and not has_native():
        raise ConfigError(
            "the compiled linear solver is not built",
            where="native",
            fix="run `python setup.py build_ext --inplace`, or leave `native` at None",
        )
    if native and settings.loss not in _COMPILED:
        raise ConfigError(
            f"the compiled solver has no {settings.loss}, only {' and '.join(_COMPILED)}",
            where="loss",
            fix="leave `native` at None",
        )
    if settings.loss not in _COMPILED:
        native = False
    problem = _Problem(features, positives, settings, relevance, members)
    counts = np.array([len(problem.costs(child)[0]) for child in range(len(positives))], np.int64)
    # Labels of similar frequency, which end after similar times, are adjacent.
    order = np.argsort(-counts, kind="stable").astype(np.int32)
    order = order[counts[order] > 0]
    solve: Callable[[np.ndarray], tuple[list[_Piece], int]]
    if has_native() if native is None else native:
        columns = Columns(features, settings.bias, compress)
        groups = [order[begin : begin + _LANES] for begin in range(0, len(order), _LANES)]
        ids = columns.ids
        solve = functools.partial(problem.native, columns)
    else:
        groups = list(order[:, None])
        ids = np.arange(features.shape[1] + 1, dtype=np.int32)
        solve = problem.solve_with_sklearn
    if threads > 1 and len(groups) > 1:
        with ThreadPoolExecutor(threads) as pool:
            solved = list(pool.map(solve, groups))
    else:
        solved = [solve(children) for children in groups]
    pieces = [piece for group, _ in solved for piece in group]
    unfinished = sum(late for _, late in solved)
    del solved
    return assembled(pieces, ids, len(positives), unfinished)


def block_memory(
    num_rows: int,
    nonzeros: int,
    num_features: int,
    children: int,
    settings: SolverSettings,
    *,
    compress: bool = True,
    threads: int = 1,
    occurring: int | None = None,
) -> int:
    """Returns bytes that ``solve_block`` takes at most, the copy of its features included.

    How many weights are kept is known only when they are found, so all may be.

    Args:
        occurring: how many features occur in the rows, where that is known.

    Example:
        >>> block_memory(1000, 100_000, 5000, 16, SolverSettings()) // 1_000_000
        2
    """
    width = 4 if settings.epsilon >= _SINGLE_PRECISION else 8
    most = min(nonzeros, num_features) if occurring is None else occurring
    shared = nonzeros // 2 if occurring is None else nonzeros - occurring
    columns = 1 + most
    if compress:  # a feature of one row has no slot
        slots = 1 + min(most, shared)
        copied = nonzeros * 8 + num_features * 5
    else:
        slots = num_features + 1
        copied = num_features * 16
    group = _LANES * (slots * width + num_rows * (width + 4)) + num_rows * 16
    pieces = min(_LANES, children) * columns * PIECE_BYTES
    weights = children * min(columns, settings.max_nonzeros or columns)
    groups = -(-children // _LANES)
    active = min(threads, groups)
    solving = active * (group + pieces) + weights * PIECE_BYTES * (groups - active) // groups
    if settings.loss not in _COMPILED:  # scikit-learn's copies, of one child at a time
        solving += nonzeros * (_COPIED * min(threads, children) + _SOLVED)
    fixed = num_rows * 60 + copied + columns * 60 + children * 500 + _OVERHEAD
    return fixed + max(solving, 2 * weights * PIECE_BYTES)


class _Problem(NamedTuple):
    """The children's examples and costs; solves some of the children at a time."""

    features: "scipy.sparse.csr_matrix"
    positives: Sequence[Sequence[int] | np.ndarray]
    settings: SolverSettings
    relevance: Sequence[np.ndarray] | None
    members: np.ndarray | None

    def costs(self, child: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows and costs of a child's positives that count."""
        rows = np.asarray(self.positives[child])
        if self.relevance is None:
            return rows, np.full(len(rows), self.settings.cost_positive)
        relevance = np.asarray(self.relevance[child], np.float64)
        counts = relevance > 0
        return rows[counts], self.settings.cost_positive * relevance[counts]

    def native(self, columns: Columns, children: np.ndarray) -> tuple[list[_Piece], int]:
        """Returns kept weights of up to 16 children as pieces, and how many children are
        unfinished.
        """
        settings = self.settings
        size = self.features.shape[0]
        kind = np.float32 if settings.epsilon >= _SINGLE_PRECISION else np.float64
        terms = np.full((size, _LANES), self._term(-settings.cost_negative), np.float32)
        present = np.full(size, 0xFFFF, np.uint16)
        if self.members is not None:
            present[~self.members] = 0
        for lane, child in enumerate(children):
            if self.members is None and self.relevance is None:
                terms[self.positives[child], lane] = self._term(settings.cost_positive)
                continue
            present[self.positives[child]] &= 0xFFFF ^ 1 << lane
            rows, costs = self.costs(child)
            present[rows] |= 1 << lane
            terms[rows, lane] = self._term(costs)
        weights = cache_aligned(columns.num_slots + 1, _LANES, kind)
        duals = cache_aligned(size, _LANES, kind)
        features = (columns.row_splits, columns.slots, columns.values, columns.own, columns.norms)
        lanes_taken = (1 << len(children)) - 1
        squared = settings.loss == "squared-hinge"
        rules = (settings.bias, squared, settings.epsilon, settings.max_passes)
        seed = _seed(settings.seed, children[0])
        unfinished = _linear_solver.solve(
            *features, terms, present, lanes_taken, *rules, seed, weights, duals
        )
        least = max(settings.threshold, float(np.finfo(np.float32).tiny))
        bounds, places, values = columns.kept(weights, duals, terms, least)
        most = settings.max_nonzeros
        lanes = map(slice, bounds[:-1].tolist(), bounds[1:].tolist())
        pieces = [
            (child, *greatest(places[mine], values[mine], most))
            for child, mine in zip(children, lanes, strict=False)
        ]
        return pieces, int(unfinished).bit_count()

    def _term(self, signed_cost: float | np.ndarray) -> float | np.ndarray:
        """Returns what the compiled solver takes for a cost: its bound or, halved, its inverse."""
        return 0.5 / signed_cost if self.settings.loss == "squared-hinge" else signed_cost

    def solve_with_sklearn(self, children: np.ndarray) -> tuple[list[_Piece], int]:
        """Returns the same of one child by scikit-learn."""
        from tfxc.ops.linear import sklearn_solver

        (child,) = children
        size = self.features.shape[0]
        taken = np.ones(size, bool) if self.members is None else self.members.copy()
        costs = np.full(size, self.settings.cost_negative)
        signs = np.full(size, -1)
        positive = np.asarray(self.positives[child])
        taken[positive] = False
        signs[positive] = 1
        rows, costs_of_rows = self.costs(child)
        taken[rows] = True
        costs[rows] = costs_of_rows
        seed = _seed(self.settings.seed, child) % 2**32
        weights, late = sklearn_solver.solve(
            self.features[taken], signs[taken], costs[taken], self.settings, seed
        )
        places = np.flatnonzero((np.abs(weights) >= self.settings.threshold) & (weights != 0))
        piece = greatest(places.astype(np.int32), weights[places], self.settings.max_nonzeros)
        return [(child, *piece)], late


def _seed(seed: int, child: int) -> int:
    """Returns a 64-bit number above zero that differs between the groups of a block."""
    number = seed * 0x9E3779B97F4A7C15 + int(child) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB
    return number % 2**64 or 1
