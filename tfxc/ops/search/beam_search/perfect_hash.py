"""A hash function that gives each of a set of numbers a slot of its own: one look finds any.

Hash and displace (Pagh, "Hash and Displace: Efficient Evaluation of Minimal Perfect Hash
Functions", WADS 1999): the numbers are hashed into small buckets and, within their bucket, to
places; every bucket is moved so far that its numbers fall into free slots of the table. Large
buckets are moved first, while the table is empty.
"""

from typing import NamedTuple

import numpy as np

MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: parts near numbers the furthest
_BITS = 64
_BUCKET = 3  # numbers in a bucket, on average at most
_LOAD = 0.9  # share of the slots that are taken, but for those at the ends
_TRIES = 256  # displacements tried before the table is extended


class PerfectHash(NamedTuple):
    """A hash function without collisions among the numbers it was made for.

    Attributes:
        displacements: uint64 (buckets,), what is added to the hash of the numbers of a bucket.
        shift: a product's bits below those that are its hash.
        bucket_shift: a hash's bits below those that are its bucket.
        num_slots: of the table; slots are less than that for any number whatsoever.
    """

    displacements: np.ndarray
    shift: int
    bucket_shift: int
    num_slots: int

    def slots_of(self, numbers: np.ndarray) -> np.ndarray:
        """The slot int64 (n,) of every number, int64 (n,)."""
        hashes = _hashes(numbers, self.shift)
        return (hashes + self.displacements[hashes >> np.uint64(self.bucket_shift)]).view(np.int64)


def perfect_hash(numbers: np.ndarray) -> PerfectHash:
    """A hash function for numbers.

    Args:
        numbers: int64 (n,), all different, in any order.

    Returns:
        ``PerfectHash`` of at most 1.25 n slots and n displacements, for more than some hundred
        numbers; the same for the same numbers.

    Example:
        >>> numbers = np.arange(0, 90_000, 9)
        >>> found = perfect_hash(numbers)
        >>> len(np.unique(found.slots_of(numbers))), found.num_slots < 12_500
        (10000, True)
    """
    count = max(1, len(numbers))
    window_bits = max(4, (count // 16).bit_length() - 1)
    bucket_bits = max(1, (count // _BUCKET).bit_length())
    while True:
        shift = _BITS - bucket_bits - window_bits
        hashes = np.sort(_hashes(numbers, shift))
        # No displacement parts equal hashes. With all bits there are none: products are distinct.
        if not (hashes[1:] == hashes[:-1]).any():
            break
        bucket_bits += 1
    slots = int(count / _LOAD) + (1 << window_bits)
    moves, slots = _displacements(hashes, window_bits, 1 << bucket_bits, slots)
    buckets = np.arange(1 << bucket_bits, dtype=np.uint64)
    moves -= buckets << np.uint64(window_bits)  # modulo 2^64: takes the bucket off the hash
    return PerfectHash(moves, shift, window_bits, slots)


def _hashes(numbers, shift):
    return (np.asarray(numbers, np.int64).view(np.uint64) * np.uint64(MULTIPLIER)) >> np.uint64(
        shift
    )


def _displacements(hashes, window_bits, num_buckets, num_slots):
    """How far every bucket is moved, uint64, and the slots of the table."""
    owners = (hashes >> np.uint64(window_bits)).astype(np.int64)
    places = (hashes & np.uint64((1 << window_bits) - 1)).astype(np.int64)
    sizes = np.bincount(owners, minlength=num_buckets)
    firsts = np.cumsum(sizes) - sizes
    moves = np.zeros(num_buckets, np.uint64)
    taken, random = np.zeros(num_slots, bool), np.random.default_rng(0)
    for size in np.unique(sizes[sizes > 0])[::-1]:
        left, tries = np.flatnonzero(sizes == size), 0
        while len(left):
            if tries == _TRIES:
                taken = np.append(taken, np.zeros(len(taken) // 32 + (1 << window_bits), bool))
                tries = 0
            tries += 1
            move = random.integers(0, len(taken) - (1 << window_bits) + 1, len(left))
            wanted = places[firsts[left][:, None] + np.arange(size)] + move[:, None]
            fits = np.flatnonzero(~taken[wanted].any(1))
            fits = fits[_first_come(wanted[fits], len(taken))]
            taken[wanted[fits]] = True
            moves[left[fits]] = move[fits].astype(np.uint64)
            left = np.delete(left, fits)
    return moves, len(taken)


def _first_come(wanted, num_slots):
    """Which rows of slots, bool, do not meet another row that comes before them."""
    claims = np.empty(num_slots, np.int32)
    rows = np.arange(len(wanted), dtype=np.int32)[::-1, None]
    claims[wanted[::-1]] = np.broadcast_to(rows, wanted.shape)
    return (claims[wanted] == rows[::-1]).all(1)
