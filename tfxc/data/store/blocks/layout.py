"""Which rows of which blocks make a shard."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfxc.data.examples.order import permutation
from tfxc.data.store.blocks.converting import order_in_block

#: Examples of a block. Large sets have larger ones, as every shard reads a part of every block.
CHUNK_EXAMPLES = 8192
CHUNK_IMAGES = 512


class Segment(NamedTuple):
    """Rows ``start`` to ``stop`` (exclusive) of a block.

    Attributes:
        block: its number.
        start, stop: rows of its file, which are in random order in the training split.
    """

    block: int
    start: int
    stop: int


def dealt(sizes: Sequence[int], num_shards: int, shard: int) -> list[Segment]:
    """Returns the rows of a shard of the training split: some of each block.

    Of every ``num_shards`` consecutive rows, blocks after blocks, each shard has one, so that
    shards differ by one row in size.

    Args:
        sizes: rows of each block, by its number.
        num_shards, shard: how many shards there are, and which one it is.

    Example:
        >>> dealt([3, 4], num_shards=2, shard=0)
        [Segment(block=0, start=0, stop=2), Segment(block=1, start=0, stop=2)]
    """
    ends = np.cumsum(sizes)
    firsts = ends - sizes

    def before(shard: int) -> np.ndarray:
        """Returns the rows of each block that belong to shards below this one."""
        upto_end, upto_first = (
            ends_or_firsts // num_shards * shard + np.minimum(ends_or_firsts % num_shards, shard)
            for ends_or_firsts in (ends, firsts)
        )
        return upto_end - upto_first

    bounds = zip(before(shard).tolist(), before(shard + 1).tolist(), strict=True)
    return [
        Segment(block, start, stop) for block, (start, stop) in enumerate(bounds) if stop > start
    ]


def in_order(
    sizes: Sequence[int], row_bytes: Sequence[int], shard_examples: int, shard_bytes: int
) -> list[list[Segment]]:
    """Returns the rows of all shards of a split whose order is kept, the last shard smaller.

    Args:
        sizes: rows of each block, by its number.
        row_bytes: bytes that a row of each takes, about.
        shard_examples, shard_bytes: a shard with so many examples or bytes ends there.

    Example:
        >>> in_order([3, 3], [1, 1], shard_examples=4, shard_bytes=100)[1]
        [Segment(block=1, start=1, stop=3)]
    """
    shards: list[list[Segment]] = [[]]
    count = held = 0
    for block, (size, size_of_row) in enumerate(zip(sizes, row_bytes, strict=True)):
        start = 0
        while start < size:
            if count and (count == shard_examples or held + size_of_row > shard_bytes):
                shards.append([])
                count = held = 0
            rows = max(1, min(shard_examples - count, (shard_bytes - held) // max(size_of_row, 1)))
            stop = min(size, start + rows)
            shards[-1].append(Segment(block, start, stop))
            count += stop - start
            held += size_of_row * (stop - start)
            start = stop
    return [shard for shard in shards if shard]


def shuffled_order(sizes: Sequence[int], num_shards: int, seed: int) -> np.ndarray:
    """Returns the order in which the examples of a training split are written.

    Args:
        sizes: examples of each block, by its number.
        num_shards: number of shards.
        seed: of the data settings.

    Returns:
        int64 (examples,): the number in the source of each example, shard after shard.

    Example:
        >>> sorted(shuffled_order([3, 2], num_shards=2, seed=0).tolist())
        [0, 1, 2, 3, 4]
    """
    firsts = np.cumsum(sizes) - sizes
    blocks = [
        first + order_in_block(size, seed, number)
        for number, (first, size) in enumerate(zip(firsts, sizes, strict=True))
    ]
    orders = []
    for shard in range(num_shards):
        segments = dealt(sizes, num_shards, shard)
        rows = np.concatenate([blocks[block][start:stop] for block, start, stop in segments])
        orders.append(rows[permutation(len(rows), seed, shard)])
    return np.concatenate(orders).astype(np.int64)
