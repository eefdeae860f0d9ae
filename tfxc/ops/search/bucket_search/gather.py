"""Exact top k classes from hashed bucket scores, without ever holding a score per class.

The score of class c is an aggregate (sum, minimum or median) over the repetitions r of the score
of its bucket, ``bucket_scores[example, r, lookups[r, c]]`` (Medini et al., "Extreme Classification
in Log Memory using Count-Min Sketch", NeurIPS 2019, arXiv 1910.13830). Every path below gives the
same ids and the same scores to the bit: sums are taken in float32 in the order of the repetitions,
equal scores go to the lower class id.
"""

from typing import Any, NamedTuple

import numpy as np

from tfxc.core.declared import check_choice
from tfxc.core.errors import ConfigError
from tfxc.core.resources import thread_count
from tfxc.ops.search.bucket_search import gather_native, gather_numpy
from tfxc.ops.search.bucket_search.inverse_lookups import (
    InverseLookups,
    check_inverse,
    checked_lookups,
    invert_lookups,
)

METHODS = ("auto", "brute", "threshold")

# Share of the brute force's lookups that a walk may make per example before it is given up. A
# lookup of the walk is a random access, some fifty times dearer than one of the brute force;
# "auto" gives up sooner, as the walk was not requested there.
_WALK_SHARE = {"threshold": 1 / 64, "auto": 1 / 128}
_SMALLEST_BUDGET = 1 << 14
_PROBED_EXAMPLES = 4


class ApproximateSettings(NamedTuple):
    """The classes that ``approximate_top_k`` looks at.

    Attributes:
        num_buckets: number of best buckets of every repetition that are considered, at least 1; all
            where there are fewer.
        min_count: classes found in at least this many of them, at least 1; lowered until there are
            k.
    """

    num_buckets: int = 50
    min_count: int = 2


CANDIDATES = ApproximateSettings()


def has_native() -> bool:
    """Says whether the compiled kernels are there (``python setup.py build_ext --inplace``)."""
    return gather_native.is_built()


def top_k(
    bucket_scores: np.ndarray,
    lookups: np.ndarray,
    k: int,
    *,
    aggregate: str = "sum",
    method: str = "auto",
    inverse: InverseLookups | None = None,
    threads: int | None = None,
    native: bool | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k best classes of every example, exactly.

    Args:
        bucket_scores: float32 (batch, R, B). Minus infinity is allowed; NaN, infinity and scores
            above ``float32 max / R`` (whose sum would overflow) are refused.
        lookups: uint16 or int32 (R, N), bucket of every class in every repetition.
        k: number of classes wanted, 1..N.
        aggregate: ``"sum"``, ``"min"`` or ``"median"`` over the repetitions (mean of the two
            middle ones where R is even).
        method: ``"brute"`` scores every class. ``"threshold"`` walks the best buckets of every
            repetition and stops once no other class can enter (Fagin's threshold rule); an
            example whose walk takes more than R·N/64 lookups is scored by brute force.
            ``"auto"`` is brute force where no ``inverse`` is given; with one it walks for at
            most R·N/128 lookups, and leaves the walk for good if that is too little for more than
            half of the batch's first 4 examples. The method changes the time, never the result.
        inverse: ``invert_lookups(lookups, B)``, to be made once; built on every call where the
            threshold method needs it and it is None (seconds for millions of classes).
        threads: at most this many threads; None means all cores. The NumPy path uses one.
        native: None uses the compiled kernels where they are built, True insists on them, False
            takes the NumPy path, which is 5 to 20 times slower.

    Returns:
        ids int32 (batch, k) and scores float32 (batch, k), by descending score, then ascending id.

    Raises:
        ConfigError: k > N, shapes or types that do not fit, a score that is not allowed, an
            inverse of other lookups, or ``native=True`` without the compiled kernels.

    Example:
        >>> scores = np.array([[[0.0, 2.0], [1.0, 0.0]]], np.float32)  # 1 example, R=2, B=2
        >>> lookups = np.array([[0, 1, 1], [1, 1, 0]], np.uint16)  # 3 classes
        >>> ids, best = top_k(scores, lookups, 2)
        >>> ids.tolist(), best.tolist()
        ([[2, 1]], [[3.0, 2.0]])
    """
    bucket_scores = _checked_scores(bucket_scores)
    lookups = checked_lookups(lookups)
    check_choice("aggregate", aggregate, gather_numpy.AGGREGATES)
    check_choice("method", method, METHODS)
    _check_k(k, lookups.shape[1])
    _check_same_repetitions(bucket_scores, lookups)
    num_buckets = bucket_scores.shape[2]
    if inverse is not None:
        check_inverse(inverse, lookups.shape, num_buckets)
    elif method == "threshold":
        inverse = invert_lookups(lookups, num_buckets)
    kernels = _kernels(native, threads)
    if method == "brute" or inverse is None:
        return kernels.brute(bucket_scores, lookups, k, aggregate)
    batch = len(bucket_scores)
    budget = max(int(lookups.size * _WALK_SHARE[method]), _SMALLEST_BUDGET)
    ids = np.empty((batch, k), np.int32)
    scores = np.empty((batch, k), np.float32)
    done = np.zeros(batch, bool)

    def walk(rows: slice) -> None:
        best = kernels.walk(bucket_scores[rows], lookups, inverse, k, aggregate, budget)
        ids[rows], scores[rows], done[rows] = best

    probe = slice(0, batch if method == "threshold" else _PROBED_EXAMPLES)
    walk(probe)
    if probe.stop < batch and 2 * done[probe].sum() >= probe.stop:
        walk(slice(probe.stop, batch))
    if not done.all():
        left = kernels.brute(bucket_scores[~done], lookups, k, aggregate)
        ids[~done], scores[~done] = left
    return ids, scores


def approximate_top_k(
    bucket_scores: np.ndarray,
    lookups: np.ndarray,
    inverse: InverseLookups,
    k: int,
    *,
    aggregate: str = "sum",
    candidates: "ApproximateSettings" = CANDIDATES,
    threads: int | None = None,
    native: bool | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the top k among the classes of the best buckets only: fast, and not exact.

    The candidates get the same scores as in ``top_k``, from their buckets of all repetitions.
    The MACH authors evaluated their largest sets with such candidates; the evaluation they
    published counts a bucket that was not taken as 0, which puts classes with a bad bucket before
    others.

    Args:
        bucket_scores: float32 (batch, R, B), see ``top_k``.
        lookups: uint16 or int32 (R, N).
        inverse: ``invert_lookups(lookups, B)``.
        k: number of classes wanted, 1..N.
        aggregate: see ``top_k``.
        candidates: ``ApproximateSettings``.
        threads, native: see ``top_k``; a thread needs 6 N bytes.

    Returns:
        ids int32 (batch, k) and scores float32 (batch, k), ordered as in ``top_k``. Where fewer
        than k classes are in the buckets taken, the rest is id −1 with score minus infinity.

    Raises:
        ConfigError: a number below 1, k > N, shapes that do not fit, a score that is not allowed,
            or an inverse of other lookups.
    """
    bucket_scores = _checked_scores(bucket_scores)
    lookups = checked_lookups(lookups)
    check_choice("aggregate", aggregate, gather_numpy.AGGREGATES)
    _check_k(k, lookups.shape[1])
    _check_same_repetitions(bucket_scores, lookups)
    num_buckets = bucket_scores.shape[2]
    check_inverse(inverse, lookups.shape, num_buckets)
    for name, value in candidates._asdict().items():
        if value < 1:
            raise ConfigError(f"{value} is less than 1", where=name)
    sizes = min(candidates.num_buckets, num_buckets), candidates.min_count
    kernels = _kernels(native, threads)
    return kernels.approximate(bucket_scores, lookups, inverse, k, aggregate, *sizes)


def _kernels(native: bool | None, threads: int | None) -> Any:
    threads = thread_count(threads)
    if native and not has_native():
        raise ConfigError(
            "the compiled gather kernels are not built",
            where="native",
            fix="run `python setup.py build_ext --inplace`, or leave `native` at None",
        )
    use_native = has_native() if native is None else native
    return gather_native.Kernels(threads) if use_native else gather_numpy


def _checked_scores(bucket_scores: np.ndarray) -> np.ndarray:
    bucket_scores = np.ascontiguousarray(bucket_scores, np.float32)
    if bucket_scores.ndim != 3 or 0 in bucket_scores.shape[1:]:
        raise ConfigError(
            f"the shape is {bucket_scores.shape}, not (batch, repetitions, buckets)",
            where="bucket_scores",
        )
    limit = np.finfo(np.float32).max / bucket_scores.shape[1]
    highest = bucket_scores.max(initial=-np.inf)
    if not highest < limit:  # also where it is NaN
        raise ConfigError(
            f"the highest score, {highest}, is NaN or not below {limit:.3g}",
            where="bucket_scores",
            fix="look for a diverged repetition, or scale the scores down",
        )
    return bucket_scores


def _check_same_repetitions(bucket_scores: np.ndarray, lookups: np.ndarray) -> None:
    if bucket_scores.shape[1] != len(lookups):
        raise ConfigError(
            f"there are {bucket_scores.shape[1]} repetitions, but lookups of {len(lookups)}",
            where="bucket_scores",
        )


def _check_k(k: int, num_labels: int) -> None:
    if not 1 <= k <= num_labels:
        raise ConfigError(
            f"{k} is out of range, as there are {num_labels} classes",
            where="k",
            fix=f"give 1 to {num_labels}",
        )
