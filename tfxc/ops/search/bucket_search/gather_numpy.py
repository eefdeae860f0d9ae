"""The NumPy path of ``gather``: the same results where nothing is compiled."""

from collections.abc import Iterator

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.ops.search.bucket_search.inverse_lookups import InverseLookups, check_range

AGGREGATES = ("sum", "min", "median")

_TILE = 1 << 14  # classes scored at a time
_ROWS = 16  # examples scored at a time
_FIRST_DEPTH = 8  # buckets of every repetition in the first round of a walk
# The budget is meant for the native walk, which gives most classes up early and competes with a
# far faster brute force.
_BUDGET_FACTOR = 6


def sorted_best(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k best of (rows, n) candidates, by descending score, then ascending id."""
    order = np.lexsort((ids, -scores))[:, :k]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)


def class_scores(bucket_scores: np.ndarray, lookups: np.ndarray, aggregate: str) -> np.ndarray:
    """Returns scores (rows, n) of n classes from (rows, R, B) bucket scores and (R, n) lookups."""
    values = (np.take(bucket_scores[:, r], lookup, axis=1) for r, lookup in enumerate(lookups))
    if aggregate == "median":
        ordered = np.sort(np.stack(list(values)), axis=0)
        middle = len(ordered) // 2
        if len(ordered) % 2:
            return ordered[middle]
        return (ordered[middle - 1] + ordered[middle]) * np.float32(0.5)
    combine = np.add if aggregate == "sum" else np.minimum
    total = next(values)
    for value in values:
        combine(total, value, out=total)
    return total


def brute(
    bucket_scores: np.ndarray, lookups: np.ndarray, k: int, aggregate: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the top k of every example from the scores of all classes, a tile at a time.

    Arguments and result as in ``gather.top_k``.

    Raises:
        ConfigError: a bucket is out of range.
    """
    check_range(lookups, bucket_scores.shape[2])
    all_ids = np.empty((len(bucket_scores), k), np.int32)
    all_scores = np.empty((len(bucket_scores), k), np.float32)
    for begin in range(0, len(bucket_scores), _ROWS):
        group = bucket_scores[begin : begin + _ROWS]
        ids = np.empty((len(group), 0), np.int32)
        scores = np.empty(ids.shape, np.float32)
        for first in range(0, lookups.shape[1], _TILE):
            tile = class_scores(group, lookups[:, first : first + _TILE], aggregate)
            columns = np.arange(tile.shape[1], dtype=np.int32)
            if scores.shape[1] == k:
                # Ids ascend from tile to tile: a class that equals the k-th best loses the tie.
                columns = columns[(tile > scores[:, -1:]).any(axis=0)]
            new_ids = np.broadcast_to(columns + np.int32(first), (len(tile), len(columns)))
            ids, scores = sorted_best(
                np.concatenate([ids, new_ids], axis=1),
                np.concatenate([scores, tile[:, columns]], axis=1),
                k,
            )
        all_ids[begin : begin + _ROWS] = ids
        all_scores[begin : begin + _ROWS] = scores
    return all_ids, all_scores


def walk(
    bucket_scores: np.ndarray,
    lookups: np.ndarray,
    inverse: InverseLookups,
    k: int,
    aggregate: str,
    budget: int,
) -> tuple[np.ndarray, ...]:
    """Returns the top k of every example by walking the best buckets, ``budget`` limits the
    lookups.

    Returns:
        ids int32 (batch, k), scores float32 (batch, k), and bool (batch,): whether the walk came
        to its end; where it did not, the other two mean nothing.

    Raises:
        ConfigError: the inverse or the lookups hold numbers out of range.
    """
    _check_members(lookups, bucket_scores.shape[2], "lookups")
    _check_members(inverse.class_order, lookups.shape[1], "inverse")
    ids = np.zeros((len(bucket_scores), k), np.int32)
    scores = np.zeros(ids.shape, np.float32)
    done = np.zeros(len(bucket_scores), bool)
    for row, example in enumerate(bucket_scores):
        best = _walk_example(example, lookups, inverse, k, aggregate, budget)
        if best is not None:
            ids[row], scores[row] = best
            done[row] = True
    return ids, scores, done


def _walk_example(
    example: np.ndarray,
    lookups: np.ndarray,
    inverse: InverseLookups,
    k: int,
    aggregate: str,
    budget: int,
) -> tuple[np.ndarray, np.ndarray] | None:
    depth = min(_FIRST_DEPTH, example.shape[1])
    while True:
        # Rounds of doubled depth: the classes of earlier rounds are scored once more at most.
        buckets = np.argpartition(-example, depth - 1, axis=1)[:, :depth]
        entries = np.concatenate(list(_members(inverse, buckets)))
        if len(entries) * len(lookups) > _BUDGET_FACTOR * budget:
            return None
        classes = np.unique(entries)
        of_classes = class_scores(example[None], lookups[:, classes], aggregate)
        ids, scores = sorted_best(classes[None], of_classes, k)
        if depth == example.shape[1]:
            return ids[0], scores[0]
        # No class outside these buckets scores more than the aggregate of their lowest scores; at
        # equality it could still win the tie by its lower id.
        last = np.take_along_axis(example, buckets, axis=1).min(axis=1, keepdims=True)
        bound = class_scores(last[None], np.zeros_like(buckets[:, :1]), aggregate)[0, 0]
        if scores.shape[1] == k and scores[0, -1] > bound:
            return ids[0], scores[0]
        depth = min(2 * depth, example.shape[1])


def approximate(
    bucket_scores: np.ndarray,
    lookups: np.ndarray,
    inverse: InverseLookups,
    k: int,
    aggregate: str,
    num_buckets_taken: int,
    min_count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the top k of every example among the classes of its best buckets; see ``gather``.

    Raises:
        ConfigError: the inverse or the lookups hold numbers out of range.
    """
    _check_members(lookups, bucket_scores.shape[2], "lookups")
    _check_members(inverse.class_order, lookups.shape[1], "inverse")
    ids = np.full((len(bucket_scores), k), -1, np.int32)
    scores = np.full(ids.shape, -np.inf, np.float32)
    for row, example in enumerate(bucket_scores):
        # The best buckets of every repetition; of equal ones the lower.
        last = -np.partition(-example, num_buckets_taken - 1, axis=1)
        last = last[:, num_buckets_taken - 1 : num_buckets_taken]
        better = example > last
        equal = example == last
        room = num_buckets_taken - better.sum(axis=1, keepdims=True)
        taken = better | (equal & (np.cumsum(equal, axis=1) <= room))
        buckets = np.nonzero(taken)[1].reshape(len(example), num_buckets_taken)
        entries = np.concatenate(list(_members(inverse, buckets)))
        classes, counts = np.unique(entries, return_counts=True)
        if len(classes):
            # The k-th highest count is the highest one at which k classes are left.
            highest = np.sort(counts)[-min(k, len(classes))]
            classes = classes[counts >= min(min_count, highest)]
        of_classes = class_scores(example[None], lookups[:, classes], aggregate)
        best_ids, best_scores = sorted_best(classes[None], of_classes, k)
        count = best_ids.shape[1]
        ids[row, :count] = best_ids[0]
        scores[row, :count] = best_scores[0]
    return ids, scores


def _members(inverse: InverseLookups, buckets: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the classes of the ``buckets`` (R, m) of every repetition."""
    for class_order, offsets, chosen in zip(*inverse, buckets, strict=True):
        starts = offsets[chosen]
        counts = offsets[chosen + 1] - starts
        ends = np.cumsum(counts)
        positions = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
        yield class_order[positions]


def _check_members(numbers: np.ndarray, limit: int, name: str) -> None:
    if numbers.min() < 0 or numbers.max() >= limit:
        raise ConfigError(
            f"the numbers go from {numbers.min()} to {numbers.max()}, but only 0 to {limit - 1} "
            "are possible",
            where=name,
            fix="make the inverse from the same lookups and bucket count with invert_lookups",
        )
