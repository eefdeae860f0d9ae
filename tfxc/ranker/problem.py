"""What the classifiers of a layer learn from, and its blocks: one problem for each parent."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.ops.csr import bounds_of
from tfxc.ops.linear.block import Block
from tfxc.ops.linear.settings import SolverSettings
from tfxc.ops.linear.solver import block_memory, solve_block
from tfxc.ranker.block_queue import AHEAD, Plan
from tfxc.ranker.relevance import aligned

_ROWS = 4096  # examples whose features are counted at once
_LARGE = 1 << 30  # bytes of mapped features that are not copied as a whole, which would be faster
_AT_ONCE = 1 << 22  # numbers of an array that are hashed or summed at once


class BudgetError(ConfigError):
    """The memory budget is too small.

    Args:
        least: bytes that suffice.
        budget: bytes of the budget.
    """

    def __init__(self, least: int, budget: int) -> None:
        self.least = least
        super().__init__(
            f"{budget:,} bytes are too few for the labels' matrices and the largest block",
            where="memory_budget",
            fix=f"allow at least {least:,}",
        )


class LayerProblem(NamedTuple):
    """What the classifiers of a level's nodes learn from.

    Attributes:
        features: float32 CSR (N, D) without NaN, infinity and duplicates: see
            ``tfxc.ranker.features.check_features``; memory-mapped arrays will do.
        targets: sparse (N, K), a positive is an entry that is not 0.
        parents: int (K,), parent of each node.
        examples: sparse (N, parents): the examples of a parent's children, in addition to their
            positives. None means all examples, for a layer under one root.
        relevance: sparse (N, K) with an entry above 0 for each positive; None for 1.
        digest: ``features_digest(features)``, where it is known.
    """

    features: scipy.sparse.csr_matrix
    targets: scipy.sparse.spmatrix
    parents: np.ndarray
    examples: scipy.sparse.spmatrix | None = None
    relevance: scipy.sparse.spmatrix | None = None
    digest: str | None = None


class Blocks:
    """The blocks of a layer: the problem of each parent, and its solution.

    Args:
        problem: ``LayerProblem``.
        settings: ``tfxc.ops.linear.settings.SolverSettings``.

    Attributes:
        num_parents: number of blocks.
        children: int32, nodes by parent.
        child_splits: bounds of each parent's part of them.
    """

    def __init__(self, problem: LayerProblem, settings: SolverSettings) -> None:
        features, targets, parents, examples, relevance, self._digest = problem
        self.features = features
        self.settings = settings
        self.parents = np.asarray(parents)
        self.num_parents = 1 if examples is None else examples.shape[1]
        self._counted: dict[int, int] = {}
        for name, matrix in (("targets", targets), ("examples", examples)):
            if matrix is not None and matrix.shape[0] != features.shape[0]:
                raise DataError(
                    f"it has {matrix.shape[0]:,} rows, the features {features.shape[0]:,}",
                    where=name,
                )
        if len(self.parents) != targets.shape[1]:
            raise DataError(
                f"there are {len(self.parents):,} parents for {targets.shape[1]:,} nodes",
                where="parents",
                fix="give one for each node",
            )
        known = (self.parents >= 0) & (self.parents < self.num_parents)
        if not known.all():
            raise DataError(
                f"they go from {self.parents.min()} to {self.parents.max()}",
                where="parents",
                fix=f"give numbers from 0 to {self.num_parents - 1}",
            )
        self.targets = _positives(targets)
        self.relevance = None if relevance is None else aligned(relevance, self.targets)
        self.examples = None if examples is None else _ascending(examples)
        self.children = np.argsort(self.parents, kind="stable").astype(np.int32)
        self.child_splits = bounds_of(np.bincount(self.parents, minlength=self.num_parents))

    def fingerprint(self) -> str:
        """Returns the text that changes with whatever the weights depend on: all of it is read."""
        arrays: dict[str, np.ndarray] = {"parents": self.parents}
        for key, matrix in (("targets", self.targets), ("examples", self.examples)):
            if matrix is not None:
                arrays |= {f"{key} indptr": matrix.indptr, f"{key} indices": matrix.indices}
        if self.relevance is not None:
            arrays["relevance"] = self.relevance.data
        features = self.features
        digests = self._digest or features_digest(features), _digest(arrays)
        return f"{' '.join(digests)} {features.shape} {self.settings}"

    def plan(self, budget: int | None, held: int, threads: int) -> Plan:
        """Returns the widest ``Plan`` that keeps to what is left of the budget.

        Raises:
            BudgetError: there is none.
        """
        size = self.features.data.nbytes + self.features.indices.nbytes
        compress = size < _LARGE or not _is_mapped(self.features.data)
        if self.num_parents < 2 * threads:
            plans = [Plan(1, count, compress) for count in range(threads, 0, -1)]
        else:
            plans = [Plan(threads, 1, compress)]
        plans.append(Plan(1, 1, False))
        if budget is None:
            return plans[0]
        left = budget - held
        needs = self._upper_bounds(plans[0])
        if sum(sorted(needs)[-plans[0].blocks * AHEAD :]) <= left:
            return plans[0]._replace(budget=left, needs=needs)
        indptr = self.features.indptr
        sizes = []
        for parent in range(self.num_parents):
            rows, _, positives, _ = self._problem(parent)
            entries = (indptr[rows + 1] - indptr[rows]).sum(dtype=np.int64)
            whole = len(rows) == self.features.shape[0]
            sizes.append((len(rows), int(entries), len(positives), whole))
        least = []
        for plan in plans:
            needs = [self._need(plan, parent, left, *size) for parent, size in enumerate(sizes)]
            if max(needs, default=0) <= left:
                return plan._replace(budget=left, needs=needs)
            least.append(max(needs))
        raise BudgetError(min(least) + held, budget)

    def entries(self) -> np.ndarray:
        """Returns the entries of the features that a block reads, once for 16 children: a measure
        of time.
        """
        rows = np.full(self.num_parents, self.features.shape[0])
        if self.examples is not None:
            rows = np.diff(self.examples.indptr)
        groups = -(-np.diff(self.child_splits) // 16)
        return rows * groups * (self.features.nnz / max(1, self.features.shape[0]))

    def spans(self, first: int) -> Iterator[tuple[int, int]]:
        """Yields each block by itself."""
        for parent in range(first, self.num_parents):
            yield parent, parent + 1

    def task(self, first: int, last: int, plan: Plan) -> tuple[Any, ...]:
        """Returns ``solve_span`` and its arguments, for this process."""
        return self.solve_span, first, last, plan

    def solve_span(self, first: int, last: int, plan: Plan) -> list[Block]:
        """Solves the ``Block``s of some parents."""
        return [self.solve(parent, plan) for parent in range(first, last)]

    def solve(self, parent: int, plan: Plan) -> Block:
        """Solves the ``Block`` of a parent."""
        rows, members, positives, relevance = self._problem(parent)
        part = len(rows) < self.features.shape[0]
        features = self.features[rows] if part else self.features
        settings = replace(self.settings, seed=self.settings.seed * 1_000_003 + parent)
        return solve_block(
            features,
            positives,
            settings,
            relevance=relevance,
            members=members,
            compress="in place" if part else plan.compress,
            threads=plan.threads,
        )

    def _problem(
        self, parent: int
    ) -> tuple[np.ndarray, np.ndarray | None, list[np.ndarray], list[np.ndarray] | None]:
        """Returns a block's rows; which of them belong to all children; positives, relevance."""
        nodes = self.children[self.child_splits[parent] : self.child_splits[parent + 1]]
        starts = self.targets.indptr[nodes]
        ends = self.targets.indptr[nodes + 1]
        parts = [slice(*ends_of) for ends_of in zip(starts, ends, strict=True)]
        positives = [self.targets.indices[part] for part in parts]
        relevance = None
        if self.relevance is not None:
            relevance = [self.relevance.data[part] for part in parts]
        if self.examples is None:
            return np.arange(self.features.shape[0]), None, positives, relevance
        splits = self.examples.indptr[parent : parent + 2]
        rows = self.examples.indices[slice(*splits)]
        members = None
        positive = np.concatenate([np.empty(0, np.int32), *positives])
        if not len(positive):
            return rows[:0], None, positives, relevance
        places = np.searchsorted(rows, positive)
        if places.max() >= len(rows) or (rows[places] != positive).any():
            shared = rows
            rows = np.union1d(rows, positive)
            members = np.zeros(len(rows), bool)
            members[np.searchsorted(rows, shared)] = True
            places = np.searchsorted(rows, positive)
        splits = np.cumsum(ends - starts).tolist()
        positives = [places[begin:end] for begin, end in zip([0, *splits], splits, strict=False)]
        return rows, members, positives, relevance

    def _upper_bounds(self, plan: Plan) -> list[int]:
        """Returns bytes that each block takes at most, from upper bounds of its rows and entries.

        They take a fraction of the time that counting these does.
        """
        most = self.features.shape[0]
        children = np.diff(self.child_splits)
        if self.examples is None:
            return [self._need(plan, None, 0, most, self.features.nnz, int(children[0]), True)]
        lengths = np.diff(self.features.indptr)
        rows = np.diff(self.examples.indptr) + self._by_parent(np.diff(self.targets.indptr))
        rows = np.minimum(rows, most)
        entries = _entries_of(self.examples, lengths)
        entries = entries + self._by_parent(_entries_of(self.targets, lengths))
        entries = np.minimum(entries, self.features.nnz)
        sizes = zip(rows.tolist(), entries.tolist(), children.tolist(), strict=True)
        return [
            max(self._need(plan, None, 0, *size, whole) for whole in {False, size[0] == most})
            for size in sizes
        ]

    def _by_parent(self, counts: np.ndarray) -> np.ndarray:
        """Returns sums of counts of nodes."""
        return np.bincount(self.parents, counts, self.num_parents).astype(np.int64)

    def _need(
        self,
        plan: Plan,
        parent: int | None,
        budget: int,
        rows: int,
        entries: int,
        children: int,
        whole: bool,
    ) -> int:
        """Returns bytes that a block takes at most; its features are counted where that may matter,
        and where its parent is given."""
        problem = (rows, entries, self.features.shape[1], children, self.settings)
        compress = plan.compress or not whole
        threads = plan.threads
        copied = 0 if whole else rows * 32
        need = block_memory(*problem, compress=compress, threads=threads) + copied
        if need <= budget or parent is None:
            return need
        if parent not in self._counted:
            occurs = np.zeros(self.features.shape[1], bool)
            block = self._problem(parent)[0]
            for begin in range(0, len(block), _ROWS):
                occurs[self.features[block[begin : begin + _ROWS]].indices] = True
            self._counted[parent] = int(occurs.sum())
        occurring = self._counted[parent]
        need = block_memory(*problem, compress=compress, threads=threads, occurring=occurring)
        return need + copied


def features_digest(features: scipy.sparse.csr_matrix) -> str:
    """Returns the text that changes with the features; all of them are read, once for all layers.

    Args:
        features: CSR (N, D).

    Example:
        >>> len(features_digest(scipy.sparse.csr_matrix((2, 3))))
        64
    """
    return _digest({name: getattr(features, name) for name in ("indptr", "indices", "data")})


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name, array in arrays.items():
        total.update(f"{name} {array.dtype} {array.shape} ".encode())
        for begin in range(0, len(array), _AT_ONCE):  # perhaps mapped, or not contiguous
            total.update(np.ascontiguousarray(array[begin : begin + _AT_ONCE]).data)
    return total.hexdigest()


def _entries_of(matrix: scipy.sparse.csc_matrix, lengths: np.ndarray) -> np.ndarray:
    """Returns sums, for each column of a CSC matrix, the lengths of its rows, int64."""
    before = np.zeros(len(matrix.indptr), np.int64)
    total = 0
    for begin in range(0, matrix.nnz, _AT_ONCE):
        rows = matrix.indices[begin : min(begin + _AT_ONCE, matrix.nnz)]
        sums = total + np.cumsum(lengths[rows], dtype=np.int64)
        columns = slice(*np.searchsorted(matrix.indptr, [begin, begin + len(sums)], side="right"))
        before[columns] = sums[matrix.indptr[columns] - begin - 1]
        total = sums[-1]
    return np.diff(before)


def _is_mapped(array: np.ndarray | None) -> bool:
    """Says whether an array is on the disk, as are the parts of a mapped matrix of SciPy's."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


def _ascending(matrix: scipy.sparse.spmatrix) -> scipy.sparse.csc_matrix:
    """Returns a matrix as CSC with ascending indices and no repeated ones."""
    columns = scipy.sparse.csc_matrix(matrix)
    if not columns.has_canonical_format:
        columns = columns.copy()
        columns.sum_duplicates()
    return columns


def _positives(matrix: scipy.sparse.spmatrix) -> scipy.sparse.csc_matrix:
    """Returns the same without explicit zeros."""
    columns = _ascending(matrix)
    if columns.nnz and not columns.data.all():
        columns = columns.copy()
        columns.eliminate_zeros()
    return columns
