"""The compiled kernels of ``gather``: scratch memory, threads and merging."""

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.ops.search.bucket_search.gather_numpy import AGGREGATES, sorted_best
from tfxc.ops.search.bucket_search.inverse_lookups import InverseLookups, check_range

try:
    from tfxc.ops.search.bucket_search import _gather, _walk
except ImportError:  # not built: the NumPy path does the work
    _gather = _walk = None  # type: ignore[assignment]

_SMALLEST_PART = 4096  # classes below which another thread does not pay
_NO_CLASS = np.iinfo(np.int32).max


def is_built() -> bool:
    """Says whether both extension modules can be imported."""
    return _gather is not None and _walk is not None


class Kernels:
    """The functions of ``gather_numpy`` of the same names, with ``threads`` threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def brute(
        self, bucket_scores: np.ndarray, lookups: np.ndarray, k: int, aggregate: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """See ``gather_numpy.brute``; needs R · B · 64 bytes of scratch for 16 examples.

        Raises:
            ConfigError: a bucket is out of range.
        """
        batch, repetitions, num_buckets = bucket_scores.shape
        if batch == 1 and aggregate != "median":
            return self._brute_of_one(bucket_scores[0], lookups, k, aggregate)
        width = 4 if batch <= 4 else min(8 if batch <= 8 else 16, _gather.WIDEST)
        parts = min(self.threads, -(-lookups.shape[1] // _SMALLEST_PART))
        # Every thread scans its part of the classes for the same few examples: one table.
        size = repetitions * num_buckets * width
        memory = np.empty(size + 16, np.float32)
        # It begins on a cache line, so that no row of 16 floats spans two.
        table = memory[-(memory.ctypes.data // 4) % 16 :][:size]
        staged = np.empty((parts, repetitions * _gather.STAGED_LOOKUPS), np.int32)
        work = np.empty((parts, repetitions * _gather.MEDIAN_VALUES), np.float32)
        ids = np.empty((batch, k), np.int32)
        scores = np.empty((batch, k), np.float32)
        for first in range(0, batch, width):
            group = bucket_scores[first : first + width]
            _gather.interleave(group, table, width, self.threads)
            part_ids = np.full((parts, len(group), k), _NO_CLASS, np.int32)
            part_scores = np.full(part_ids.shape, -np.inf, np.float32)
            in_range = _gather.scan(
                table,
                lookups.view(np.uint8),
                lookups.itemsize,
                num_buckets,
                width,
                AGGREGATES.index(aggregate),
                part_ids,
                part_scores,
                staged,
                work,
            )
            if not in_range:
                check_range(lookups, num_buckets)
            rows = slice(first, first + len(group))
            ids[rows], scores[rows] = sorted_best(
                np.concatenate(part_ids, axis=1), np.concatenate(part_scores, axis=1), k
            )
        return ids, scores

    def _brute_of_one(
        self, bucket_scores: np.ndarray, lookups: np.ndarray, k: int, aggregate: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """As ``brute``, for one example of (R, B) scores, which need no scratch."""
        parts = min(self.threads, -(-lookups.shape[1] // _SMALLEST_PART))
        ids = np.full((parts, k), _NO_CLASS, np.int32)
        scores = np.full((parts, k), -np.inf, np.float32)
        minimum = aggregate == "min"
        if not _gather.scan_row(
            bucket_scores, lookups.view(np.uint8), lookups.itemsize, minimum, ids, scores
        ):
            check_range(lookups, bucket_scores.shape[1])
        return sorted_best(ids.reshape(1, -1), scores.reshape(1, -1), k)

    def walk(
        self,
        bucket_scores: np.ndarray,
        lookups: np.ndarray,
        inverse: InverseLookups,
        k: int,
        aggregate: str,
        budget: int,
    ) -> tuple[np.ndarray, ...]:
        """See ``gather_numpy.walk``.

        Raises:
            ConfigError: the inverse or the lookups hold numbers out of range.
        """
        batch, repetitions, num_buckets = bucket_scores.shape
        threads = max(1, min(self.threads, batch))
        groups = min(num_buckets, int(num_buckets**0.5) // 16 * 16 + 16)
        row = repetitions * (num_buckets + groups + 3) + groups
        ids = np.full((batch, k), _NO_CLASS, np.int32)
        scores = np.full((batch, k), -np.inf, np.float32)
        state = np.zeros(batch, np.uint8)
        _walk.walk(
            bucket_scores,
            lookups.view(np.uint8),
            lookups.itemsize,
            *inverse,
            AGGREGATES.index(aggregate),
            budget,
            ids,
            scores,
            state,
            np.empty((threads, row), np.float32),
            np.empty((threads, repetitions + 1)),
            np.zeros((threads, lookups.shape[1] + 1), np.uint8),
            groups,
        )
        _check_state(state)
        return *sorted_best(ids, scores, k), state == _walk.EXACT

    def approximate(
        self,
        bucket_scores: np.ndarray,
        lookups: np.ndarray,
        inverse: InverseLookups,
        k: int,
        aggregate: str,
        num_buckets_taken: int,
        min_count: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See ``gather_numpy.approximate``; needs 6 bytes of scratch per class and thread.

        Raises:
            ConfigError: the inverse or the lookups hold numbers out of range.
        """
        batch, repetitions, _ = bucket_scores.shape
        threads = max(1, min(self.threads, batch))
        num_labels = lookups.shape[1]
        ids = np.full((batch, k), _NO_CLASS, np.int32)
        scores = np.full((batch, k), -np.inf, np.float32)
        state = np.zeros(batch, np.uint8)
        _walk.approximate(
            bucket_scores,
            lookups.view(np.uint8),
            lookups.itemsize,
            *inverse,
            AGGREGATES.index(aggregate),
            num_buckets_taken,
            min(min_count, repetitions),
            ids,
            scores,
            state,
            np.empty((threads, 2 * repetitions + num_buckets_taken), np.float32),
            np.empty((threads, repetitions + 1)),
            np.empty((threads, num_buckets_taken + num_labels), np.int32),
            np.zeros((threads, num_labels), np.uint16),
            np.empty((threads, repetitions + 1), np.intp),
        )
        _check_state(state)
        ids, scores = sorted_best(ids, scores, k)
        return np.where(ids == _NO_CLASS, np.int32(-1), ids), scores


def _check_state(state: np.ndarray) -> None:
    if (state == _walk.BROKEN_INVERSE).any():
        raise ConfigError(
            "it contains numbers that are out of range",
            where="inverse",
            fix="make it from the same lookups and bucket count with invert_lookups",
        )
