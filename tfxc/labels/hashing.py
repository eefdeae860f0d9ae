"""Hashed buckets of classes and features (MACH).

Bucket of item i in a repetition with seed s: ``murmurhash3_32(int32 i, seed=s) mod B``, where the
hash is a signed number and the remainder the mathematical one, 0..B−1 (Medini et al., NeurIPS
2019, arXiv 1910.13830; the same numbers as the authors' code).
"""

from collections.abc import Iterable
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from tfxc.core.declared import Count, check, checked
from tfxc.core.errors import ConfigError

_MAX_ITEMS = 2**31  # the hash takes int32 numbers
_MAX_SEEDS = 2**32
_Number = Annotated[int, Ge(1), Le(_MAX_ITEMS)]
_Seed = Annotated[int, Ge(0), Le(_MAX_SEEDS - 1)]


@checked
def check_buckets(num_items: int, num_buckets: Count, num_repetitions: Count) -> None:
    """Checks the sizes of a hashed label space.

    Raises:
        ConfigError: fewer than one bucket or repetition, or more buckets than labels.

    Example:
        >>> check_buckets(num_items=670_091, num_buckets=10_000, num_repetitions=16)
    """
    if num_buckets > num_items:
        raise ConfigError(
            f"{num_buckets} buckets are more than the {num_items} labels, which makes hashing "
            "pointless",
            where="num_buckets",
            fix="use the dense head or fewer buckets",
        )


@checked
def bucket_lookup(num_items: _Number, num_buckets: _Number, seed: _Seed) -> np.ndarray:
    """Returns the bucket of every item in the repetition ``seed``.

    Args:
        num_items: N, number of classes or features.
        num_buckets: B; may exceed N, which ``check_buckets`` refuses for labels.
        seed: 0..2³²−1; repetition r uses r.

    Returns:
        (N,), uint16 where B ≤ 65,536, else int32.

    Raises:
        ConfigError: a number out of its range.

    Example:
        >>> bucket_lookup(10, 7, seed=0)[:4].tolist()
        [0, 5, 6, 3]
    """
    from sklearn.utils import murmurhash3_32

    hashes = murmurhash3_32(np.arange(num_items, dtype=np.int32), seed=seed)
    return np.mod(hashes, num_buckets).astype(_bucket_type(num_buckets))


@checked
def bucket_lookups(num_items: _Number, num_buckets: int, seeds: Iterable[int]) -> np.ndarray:
    """Calls ``bucket_lookup`` for several repetitions.

    Args:
        num_items: N.
        num_buckets: B.
        seeds: R seeds.

    Returns:
        (R, N), uint16 where B ≤ 65,536, else int32.

    Raises:
        ConfigError: no seed, or a number out of its range.

    Example:
        >>> bucket_lookups(1000, 100, seeds=range(16)).shape
        (16, 1000)
    """
    seeds = list(seeds)
    check(Count, "the number of seeds", len(seeds))
    lookups: np.ndarray = np.empty((len(seeds), num_items), _bucket_type(num_buckets))
    for row, seed in enumerate(seeds):
        lookups[row] = bucket_lookup(num_items, num_buckets, seed)
    return lookups


def _bucket_type(num_buckets: int) -> type:
    return np.uint16 if num_buckets <= 1 << 16 else np.int32
