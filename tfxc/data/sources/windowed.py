"""Sources of blocks: in memory where they fit, else shuffled block by block inside windows."""

import abc
import concurrent.futures
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfxc.core.progress import Progress
from tfxc.data.examples.order import permutation
from tfxc.data.examples.rows import Rows
from tfxc.data.sources.base import ArraySource, LRUCache, Source

# The window in use, the one before it (late requests of parallel callers) and the next one.
WINDOWS_IN_MEMORY = 3


class WindowSource(Source):
    """Examples in blocks that can be read one by one, e.g. shards.

    Blocks that fit into the budget together are read once, at the first training batch, and
    permuted as a whole. Of others, each epoch permutes the blocks, groups consecutive ones of that
    order into windows of a third of the budget (one block at least) and permutes the rows inside a
    window; the next window is read in the background. The sequence of batches is a function of seed
    and step for one memory budget; another one can give another sequence.

    Args:
        name: what is loaded, for the progress.
        counts: examples of each block, in the order of the data.
        sizes: bytes each block takes in memory.
        memory_bytes: how much memory the rows may take.
        source: positional arguments of ``Source``.

    Attributes:
        in_memory: whether all blocks fit into the budget.
    """

    def __init__(
        self,
        *source: Any,
        name: str,
        counts: Sequence[int],
        sizes: Sequence[int],
        memory_bytes: int,
    ) -> None:
        super().__init__(*source)
        self._firsts = np.cumsum([0, *counts])
        self._sizes = sizes
        self.in_memory = sum(sizes) <= memory_bytes
        self._name = name
        self._loaded: ArraySource | None = None
        self._loading = threading.Lock()
        self._window_bytes = memory_bytes // WINDOWS_IN_MEMORY
        self._plans = LRUCache(2)
        self._windows = LRUCache(WINDOWS_IN_MEMORY)
        self._reader = concurrent.futures.ThreadPoolExecutor(1, "tfxc-window")

    @abc.abstractmethod
    def _load(self, numbers: Sequence[int], progress: Progress | None = None) -> Rows:
        """Returns the ``Rows`` of the given blocks, one block after the other."""

    def _whole(self) -> ArraySource:
        """Returns all examples in memory, which are read at the first call."""
        with self._loading:
            if self._loaded is None:
                with Progress(f"loading {self._name}", self.num_examples, "examples") as progress:
                    rows = self._load(range(len(self._sizes)), progress)
                self._loaded = ArraySource(rows, self.num_labels, self.image_shape)
            return self._loaded

    def group_by_length(self, batch_size: int) -> None:
        """See ``Source``."""
        if self.in_memory:
            self._whole().group_by_length(batch_size)
        else:
            super().group_by_length(batch_size)

    def group_near(self, batch_size: int, groups: np.ndarray) -> None:
        """See ``Source``."""
        if self.in_memory:
            self._whole().group_near(batch_size, groups)
        else:
            super().group_near(batch_size, groups)

    def _pieces(
        self, seed: int, epoch: int, start: int, stop: int
    ) -> Sequence[tuple[Rows, np.ndarray]]:
        if self.in_memory:
            return self._whole()._pieces(seed, epoch, start, stop)
        groups, stops = self._plan(seed, epoch)
        pieces = []
        while start < stop:
            number = int(np.searchsorted(stops, start, side="right"))
            first = int(stops[number - 1]) if number else 0
            last = min(stop, int(stops[number]))
            future = self._window(seed, epoch, number)
            if number + 1 < len(groups):
                self._window(seed, epoch, number + 1)
            else:
                self._window(seed, epoch + 1, 0)
            rows, order, example_index = future.result()
            chosen = order[start - first : last - first]
            pieces.append((rows.select(chosen), example_index[chosen]))
            start = last
        return pieces

    def _in_order(self) -> Iterator[Rows]:
        if self._loaded is not None:
            yield from self._loaded._in_order()
        else:
            for number in range(len(self._sizes)):
                yield self._load([number])

    def _plan(self, seed: int, epoch: int) -> tuple[list[list[int]], np.ndarray]:
        """Returns the epoch's windows: their block numbers, and the positions they end at."""

        def make() -> tuple[list[list[int]], np.ndarray]:
            groups: list[list[int]] = []
            group_bytes = 0
            for block in permutation(len(self._sizes), seed, epoch).tolist():
                if not groups or group_bytes + self._sizes[block] > self._window_bytes:
                    groups.append([])
                    group_bytes = 0
                groups[-1].append(block)
                group_bytes += self._sizes[block]
            counts = np.diff(self._firsts)
            return groups, np.cumsum([counts[group].sum() for group in groups])

        return self._plans.get((seed, epoch), make)

    def _window(self, seed: int, epoch: int, number: int) -> concurrent.futures.Future:
        """Returns the future of a window's rows, their permutation and their example indices."""

        def load() -> tuple[Rows, np.ndarray, np.ndarray]:
            blocks = self._plan(seed, epoch)[0][number]
            rows = self._load(blocks)
            indices = [np.arange(self._firsts[block], self._firsts[block + 1]) for block in blocks]
            return rows, permutation(len(rows), seed, epoch, number + 1), np.concatenate(indices)

        return self._windows.get((seed, epoch, number), lambda: self._reader.submit(load))
