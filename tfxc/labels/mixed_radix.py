"""Labels as numbers with several digits, the most significant digit first.

With sizes (C_0, .., C_{H-1}) the label y has the digits ``d_h = (y // stride_h) mod C_h``, where
``stride_h`` is the product of the sizes after h. The product of the sizes may exceed the number
of labels; the codes from ``num_labels`` on then stand for no label.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


_MAX_CODES = 2**31  # codes are int32


def check_sizes(num_labels: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Checks that every label has a code.

    Args:
        num_labels: N.
        sizes: number of values of each digit.

    Returns:
        The sizes as a tuple.

    Raises:
        ValueError: no size, one below 1, fewer codes than labels, or 2**31 codes and more.

    Example:
        >>> check_sizes(100, [4, 5, 5])
        (4, 5, 5)
    """
    if isinstance(sizes, str) or not np.iterable(sizes) or not all(map(_is_count, sizes)):
        raise ValueError(f"heads: {sizes!r} is not a list of positive integers")
    sizes = tuple(int(size) for size in sizes)
    if not sizes:
        raise ValueError("heads: the list is empty; give positive integers")
    codes = math.prod(sizes)
    if codes < num_labels:
        raise ValueError(
            f"heads {list(sizes)} have {codes} codes for {num_labels} labels; the nearest that "
            f"suffice are {list(_nearest(num_labels, sizes))}, the smallest "
            f"{list(suggest_digit_sizes(num_labels, len(sizes)))}"
        )
    if codes >= _MAX_CODES:
        raise ValueError(
            f"heads {list(sizes)} have {codes} codes, which must be fewer than {_MAX_CODES}; "
            f"{list(suggest_digit_sizes(num_labels, len(sizes)))} suffice for {num_labels} labels"
        )
    return sizes


def strides(sizes: Sequence[int]) -> tuple[int, ...]:
    """Returns the weight of each digit.

    Example:
        >>> strides((4, 5, 5))
        (25, 5, 1)
    """
    return tuple(math.prod(sizes[digit + 1 :]) for digit in range(len(sizes)))


def encode(
    ids: "np.ndarray | tf.Tensor", sizes: Sequence[int]
) -> "tuple[np.ndarray | tf.Tensor, ...]":
    """Returns digits of label ids.

    Args:
        ids: int array or int32 tensor of any shape; -1 is padding.
        sizes: number of values of each digit.

    Returns:
        One array or tensor per digit, of the shape of ``ids``, -1 at padding.

    Example:
        >>> [digit.tolist() for digit in encode(np.array([67, 99, -1]), (4, 5, 5))]
        [[2, 3, -1], [3, 4, -1], [2, 4, -1]]
    """
    parts = ((ids // s) % c for s, c in zip(strides(sizes), sizes, strict=True))
    return tuple(_where(ids >= 0, part) for part in parts)


def decode(
    digits: "Sequence[np.ndarray | tf.Tensor]",
    sizes: Sequence[int],
    num_labels: int | None = None,
) -> "np.ndarray | tf.Tensor":
    """Returns label ids of digits.

    Args:
        digits: one int array or tensor per digit.
        sizes: number of values of each digit.
        num_labels: codes from here on become -1; None keeps them.

    Returns:
        Array or tensor of the digits' shape; -1 where a digit is -1.

    Example:
        >>> decode((np.array([2, 3]), np.array([3, 4]), np.array([2, 4])), (4, 5, 5), 99).tolist()
        [67, -1]
    """
    ids = sum(digit * stride for digit, stride in zip(digits, strides(sizes), strict=True))
    for digit in digits:
        ids = _where(digit >= 0, ids)
    return ids if num_labels is None else _where(ids < num_labels, ids)


def suggest_digit_sizes(num_labels: int, num_heads: int) -> tuple[int, ...]:
    """Returns the sizes with the fewest head columns that give every label a code.

    Among the sizes of at least 2 whose product reaches ``num_labels``, those with the smallest
    sum, and of these the ones with the smallest product.

    Args:
        num_labels: N, at least 1.
        num_heads: number of digits H.

    Returns:
        Tuple of H sizes, descending.

    Example:
        >>> suggest_digit_sizes(1000, 2), suggest_digit_sizes(670_091, 3)
        ((36, 28), (95, 85, 83))
    """
    if not (_is_count(num_labels) and _is_count(num_heads)):
        raise ValueError(f"{num_labels} labels and {num_heads} heads are not at least one of each")
    if num_heads == 1:
        return (num_labels,)
    # No sum below H times the geometric mean suffices; one that does is a few steps above it.
    total = max(2 * num_heads, int(num_heads * num_labels ** (1 / num_heads)) - 1)
    while _largest_product(total, num_heads) < num_labels:
        total += 1
    sizes = _smallest_product(total, num_heads, num_labels, total)
    assert sizes is not None  # as the largest product suffices
    return sizes


def _nearest(num_labels: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Returns ``sizes`` with one size raised: the one that needs the smallest raise."""
    codes = math.prod(sizes)
    needed = [-(-num_labels // (codes // size)) for size in sizes]
    extra, digit = min((n - s, -h) for h, (n, s) in enumerate(zip(needed, sizes, strict=True)))
    return tuple(size + extra * (h == -digit) for h, size in enumerate(sizes))


def _largest_product(total: int, count: int) -> int:
    """Returns the largest product of ``count`` integers of a given sum: as equal as can be."""
    size, larger = divmod(total, count)
    return (size + 1) ** larger * size ** (count - larger)


def _smallest_product(total: int, count: int, least: int, most: int) -> tuple[int, ...] | None:
    """Returns descending sizes in 2 .. most of sum ``total`` with the smallest product from
    ``least`` on.

    Returns None if there are none.
    """
    if count == 2:
        return _pair(total, least, most)
    best = None
    for first in range(-(-total // count), min(most, total - 2 * (count - 1)) + 1):
        rest_least = -(-least // first)
        # The farther the first size is above the mean, the smaller the largest product.
        if _largest_product(total - first, count - 1) < rest_least:
            break
        rest = _smallest_product(total - first, count - 1, rest_least, first)
        if rest and (best is None or first * math.prod(rest) < math.prod(best)):
            best = (first, *rest)
    return best


def _pair(total: int, least: int, most: int) -> tuple[int, int] | None:
    root = math.isqrt(max(total * total - 4 * least, 0))
    # The root is rounded down: the smaller size is this or the one below it.
    smaller = max(2, total - most, (total - root) // 2 - 1)
    while smaller * (total - smaller) < least and 2 * smaller < total:
        smaller += 1
    fits = smaller * (total - smaller) >= least and 2 * smaller <= total
    return (total - smaller, smaller) if fits else None


def _is_count(value: object) -> bool:
    """Says whether this is a positive integer."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value > 0)


def _where(
    condition: "np.ndarray | tf.Tensor", values: "np.ndarray | tf.Tensor"
) -> "np.ndarray | tf.Tensor":
    """Returns ``values`` where the condition holds, else -1."""
    if isinstance(values, np.ndarray | np.generic | int):
        return np.where(condition, values, -1)
    import tensorflow as tf  # NumPy callers do without

    return tf.where(condition, values, -tf.ones_like(values))
