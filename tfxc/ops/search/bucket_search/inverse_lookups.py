"""The lookups of a hashed head, (repetitions, classes) -> bucket, and their inverse."""

from typing import NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError


class InverseLookups(NamedTuple):
    """The classes of every bucket of every repetition.

    Attributes:
        class_order: int32 (R, N), class ids by bucket, ascending inside a bucket.
        offsets: int64 (R, B + 1); ``class_order[r, offsets[r, b]:offsets[r, b + 1]]`` are the
            classes of bucket b.
    """

    class_order: np.ndarray
    offsets: np.ndarray


def invert_lookups(lookups: np.ndarray, num_buckets: int) -> InverseLookups:
    """Returns the inverse of (R, N) lookups, which the threshold method and the approximate one
    walk.

    Args:
        lookups: uint16 or int32 (R, N), bucket of every class in every repetition.
        num_buckets: B.

    Returns:
        ``InverseLookups``.

    Raises:
        ConfigError: a bucket is outside 0..B-1, or the array has another type or rank.

    Example:
        >>> invert_lookups(np.array([[1, 0, 1]], np.int32), 2).class_order
        array([[1, 0, 2]], dtype=int32)
    """
    lookups = checked_lookups(lookups)
    check_range(lookups, num_buckets)
    class_order = np.empty(lookups.shape, np.int32)
    offsets = np.zeros((len(lookups), num_buckets + 1), np.int64)
    for repetition, lookup in enumerate(lookups):
        class_order[repetition] = np.argsort(lookup, kind="stable")
        np.cumsum(np.bincount(lookup, minlength=num_buckets), out=offsets[repetition, 1:])
    return InverseLookups(class_order, offsets)


def checked_lookups(lookups: np.ndarray) -> np.ndarray:
    """Returns lookups as the kernels take them: contiguous.

    Raises:
        ConfigError: the array has another type or rank.
    """
    lookups = np.ascontiguousarray(lookups)
    if lookups.ndim != 2 or 0 in lookups.shape or lookups.dtype not in (np.uint16, np.int32):
        raise ConfigError(
            f"{lookups.dtype} of shape {lookups.shape} is not uint16 or int32 of shape "
            "(repetitions, classes)",
            where="lookups",
            fix="make them with tfxc.labels.hashing.bucket_lookups",
        )
    return lookups


def check_range(lookups: np.ndarray, num_buckets: int) -> None:
    """Refuses lookups with a bucket outside 0..B-1.

    Raises:
        ConfigError: there is one.
    """
    lowest = lookups.min()
    highest = lookups.max()
    if lowest < 0 or highest >= num_buckets:
        raise ConfigError(
            f"the buckets go from {lowest} to {highest}, but there are only 0 to {num_buckets - 1}",
            where="lookups",
        )


def check_inverse(inverse: InverseLookups, shape: tuple[int, ...], num_buckets: int) -> None:
    """Refuses an inverse that is not that of (R, N) lookups, going by types and shapes.

    Raises:
        ConfigError: one differs.
    """
    class_order, offsets = inverse
    right = (np.int32, shape, np.int64, (shape[0], num_buckets + 1))
    facts = (class_order.dtype, class_order.shape, offsets.dtype, offsets.shape)
    contiguous = class_order.flags.c_contiguous and offsets.flags.c_contiguous
    if facts != right or not contiguous:
        raise ConfigError(
            f"class_order is {facts[0]} {facts[1]} and offsets {facts[2]} {facts[3]}, "
            f"not int32 {right[1]} and int64 {right[3]}, contiguous",
            where="inverse",
            fix="make it from the same lookups and bucket count with invert_lookups",
        )
