"""A hash function that gives each of a set of numbers a slot of its own: one look finds any.

Hash and displace (Pagh, "Hash and Displace: Efficient Evaluation of Minimal Perfect Hash
Functions", WADS 1999; Belazzougui et al., ESA 2009): the numbers are hashed into small buckets, and
every bucket gets a second hash function that maps its numbers to free slots, large buckets first,
while the table is empty. Both multiply and keep the upper bits (Dietzfelbinger et al., 1997).
"""

from typing import NamedTuple

import numpy as np

MULTIPLIER = 0x9E3779B97F4A7C15  # of the first function: 2^64 over the golden ratio
HALF = 32  # bits that the second function keeps before they are scaled to the slots
_BUCKET = 3  # numbers in a bucket, on average at most
_LOAD = 0.93  # share of the slots that are taken
_TRIES = 5000  # functions tried for a bucket, before the table is made larger


class PerfectHash(NamedTuple):
    """A hash function without collisions among the numbers it was made for.

    Attributes:
        multipliers: uint64 (buckets,), of every bucket's function.
        shift: bits of a product below those that are the bucket.
        num_slots: of the table; slots are less than that for any number whatsoever.
    """

    multipliers: np.ndarray
    shift: int
    num_slots: int

    def slots_of(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the slot int64 (n,) of every number, int64 (n,)."""
        factors = np.asarray(numbers, np.int64).view(np.uint64)
        return _slots(factors, self.multipliers[_buckets(factors, self.shift)], self.num_slots)


def perfect_hash(numbers: np.ndarray) -> PerfectHash:
    """Returns a hash function for numbers.

    Args:
        numbers: int64 (n,) above 0 (products with 0 are all the same), all different, in any order.

    Returns:
        ``PerfectHash`` of about 1.08 n slots and n / 3 to 2 n / 3 multipliers; the same for the
        same numbers.

    Example:
        >>> numbers = np.arange(9, 90_009, 9)
        >>> found = perfect_hash(numbers)
        >>> len(np.unique(found.slots_of(numbers))), found.num_slots
        (10000, 10753)
    """
    factors = np.sort(np.asarray(numbers, np.int64)).view(np.uint64)
    bits = max(1, (len(factors) // _BUCKET).bit_length())
    buckets = _buckets(factors, 64 - bits)
    order = np.argsort(buckets, kind="stable")
    sizes = np.bincount(buckets, minlength=1 << bits)
    num_slots = int(len(factors) / _LOAD) + 1
    while True:
        multipliers = _multipliers(factors[order], sizes, num_slots)
        if multipliers is not None:
            return PerfectHash(multipliers, 64 - bits, num_slots)
        num_slots += num_slots // 4 + 1


def _buckets(factors: np.ndarray, shift: int) -> np.ndarray:
    return ((factors * np.uint64(MULTIPLIER)) >> np.uint64(shift)).astype(np.int64)


def _slots(factors: np.ndarray, multipliers: np.ndarray, num_slots: int) -> np.ndarray:
    upper = (factors * multipliers) >> np.uint64(HALF)
    return ((upper * np.uint64(num_slots)) >> np.uint64(HALF)).astype(np.int64)


def _multipliers(factors: np.ndarray, sizes: np.ndarray, num_slots: int) -> np.ndarray | None:
    """Finds a multiplier for every bucket, uint64; None if there is none for one of them."""
    firsts = np.cumsum(sizes) - sizes
    random = np.random.default_rng(0)
    multipliers = np.ones(len(sizes), np.uint64)
    taken = np.zeros(num_slots, bool)
    for size in np.unique(sizes[sizes > 0])[::-1]:
        left = np.flatnonzero(sizes == size)
        for _ in range(_TRIES):
            tried = random.integers(0, 1 << 64, len(left), np.uint64) | np.uint64(1)
            numbers = factors[firsts[left][:, None] + np.arange(size)]
            slots = _slots(numbers, tried[:, None], num_slots)
            free = np.flatnonzero(~taken[slots].any(1))
            # Those count whose slots are different, and none another one's that counts.
            places = np.arange(free.size * size).reshape(-1, size)
            claims = np.empty(num_slots, np.int64)
            claims[slots[free]] = places
            free = free[(claims[slots[free]] == places).all(1)]
            taken[slots[free]] = True
            multipliers[left[free]] = tried[free]
            left = np.delete(left, free)
            if not len(left):
                break
        else:
            return None
    return multipliers
