"""Sources of batches: rows in memory, and prepared shards larger than memory."""

import concurrent.futures
from pathlib import Path

import numpy as np

from tfxc.data.manifest import Manifest
from tfxc.data.rows import RowsBuilder
from tfxc.data.sampling import ArraySource, LastUsed, Source, permutation
from tfxc.errors import DataError
from tfxc.files import checksum
from tfxc.progress import Progress

__all__ = ["ArraySource", "ShardSource", "Source", "check_sizes", "verify"]

DEFAULT_MEMORY_BYTES = 2 << 30
# The window in use, the one before it (late requests of parallel callers) and the next one.
_WINDOWS_IN_MEMORY = 3


class ShardSource(Source):
    """One split of a prepared folder.

    A split within the memory budget is loaded once and permuted as a whole. A larger one is read
    window by window: each epoch permutes the shards, groups consecutive ones into windows of a
    third of the budget (one shard at least) and permutes the rows inside a window; the next window
    is read in the background. The sequence of batches is a function of seed and step for one memory
    budget; another one can give another sequence.

    Args:
        folder: a prepared folder.
        split: ``"train"``, ``"dev"`` or ``"test"``.
        memory_bytes: how much memory the rows may take.

    Raises:
        DataError: not a prepared folder, no such split, a shard that is missing, of another size
            than the manifest says, cut off or damaged.
    """

    def __init__(self, folder, split, memory_bytes=DEFAULT_MEMORY_BYTES):
        self.folder, self.manifest = Path(folder), Manifest.load(folder)
        info = self.manifest.split(split)
        super().__init__(
            info.examples, self.manifest.num_features, self.manifest.num_labels,
            self.manifest.row_kind, self.manifest.image_shape,
        )  # fmt: skip
        self._shards = info.shards
        check_sizes(self.folder, self._shards)
        self._firsts = np.cumsum([0] + [shard.examples for shard in self._shards])
        images = self.manifest.image_store is not None
        sizes = [shard.memory_bytes(self.dense, images) for shard in self._shards]
        self._whole = None
        if sum(sizes) <= memory_bytes:
            with Progress(f"loading {split}", info.examples, "examples") as progress:
                rows = self._load(range(len(self._shards)), progress)
            self._whole = ArraySource(rows, self.num_labels, self.image_shape)
            return
        self._sizes, self._window_bytes = sizes, memory_bytes // _WINDOWS_IN_MEMORY
        self._plans = LastUsed(2)
        self._windows = LastUsed(_WINDOWS_IN_MEMORY)
        self._reader = concurrent.futures.ThreadPoolExecutor(1, "tfxc-window")

    @property
    def in_memory(self):
        """Whether the whole split is in memory."""
        return self._whole is not None

    def _pieces(self, seed, epoch, start, stop):
        if self.in_memory:
            return self._whole._pieces(seed, epoch, start, stop)
        groups, stops = self._plan(seed, epoch)
        pieces = []
        while start < stop:
            number = int(np.searchsorted(stops, start, side="right"))
            first = int(stops[number - 1]) if number else 0
            last = min(stop, int(stops[number]))
            future = self._window(seed, epoch, number)
            self._window(*self._following(seed, epoch, number, len(groups)))
            rows, order, example_index = future.result()
            chosen = order[start - first : last - first]
            pieces.append((rows.select(chosen), example_index[chosen]))
            start = last
        return pieces

    def _in_order(self):
        if self.in_memory:
            yield from self._whole._in_order()
            return
        for number in range(len(self._shards)):
            yield self._load([number])

    def _plan(self, seed, epoch):
        """The epoch's windows: their shard numbers, and the positions they end at."""
        return self._plans.get((seed, epoch), lambda: self._make_plan(seed, epoch))

    def _make_plan(self, seed, epoch):
        groups, group_bytes = [], 0
        for shard in permutation(len(self._shards), seed, epoch).tolist():
            if not groups or group_bytes + self._sizes[shard] > self._window_bytes:
                groups.append([])
                group_bytes = 0
            groups[-1].append(shard)
            group_bytes += self._sizes[shard]
        counts = [sum(self._shards[shard].examples for shard in group) for group in groups]
        return groups, np.cumsum(counts)

    def _following(self, seed, epoch, number, num_windows):
        return (seed, epoch, number + 1) if number + 1 < num_windows else (seed, epoch + 1, 0)

    def _window(self, seed, epoch, number):
        """The future of a window's rows, their permutation and their example indices."""
        key = (seed, epoch, number)
        return self._windows.get(key, lambda: self._reader.submit(self._load_window, *key))

    def _load_window(self, seed, epoch, number):
        shards = self._plan(seed, epoch)[0][number]
        rows = self._load(shards)
        indices = [np.arange(self._firsts[shard], self._firsts[shard + 1]) for shard in shards]
        return rows, permutation(len(rows), seed, epoch, number + 1), np.concatenate(indices)

    def _load(self, numbers, progress=None):
        # TensorFlow is imported here: a source of rows in memory does without.
        from tfxc.data.records import read_shard

        shards = [self._shards[number] for number in numbers]
        builder = RowsBuilder(
            kind=self.kind,
            num_examples=sum(shard.examples for shard in shards),
            num_values=sum(shard.nonzeros for shard in shards),
            num_labels=sum(shard.labels for shard in shards),
            num_features=self.num_features, image_shape=self.image_shape,
        )  # fmt: skip
        for shard in shards:
            path = self.folder / shard.file
            columns = self.num_features if self.dense else None
            rows = read_shard(
                path, self.manifest.layout, columns, self.num_features,
                self.manifest.image_store, self.image_shape,
            )  # fmt: skip
            _check_counts(path, shard, rows)
            builder.append(rows)
            if progress is not None:
                progress.advance(len(rows))
        return builder.finish()


def check_sizes(folder, shards):
    """Cheap check that every shard is there and as long as the manifest says.

    Raises:
        DataError: names the first shard that is not.
    """
    for shard in shards:
        path = Path(folder) / shard.file
        found = path.stat().st_size if path.is_file() else None
        if found != shard.bytes:
            found = "no such file" if found is None else f"{found:,} bytes"
            raise DataError(
                f"a shard of {shard.bytes:,} bytes expected, found {found}",
                where=path,
                fix="run prepare again",
            )


def verify(folder):
    """Compares every shard of a prepared folder with the checksum in its manifest.

    Returns:
        Manifest.

    Raises:
        DataError: names the first shard that is missing or differs.
    """
    manifest = Manifest.load(folder)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    check_sizes(folder, shards)
    with Progress("verifying", len(shards), "shards") as progress:
        for shard in shards:
            path = Path(folder) / shard.file
            if checksum(path) != shard.sha256:
                raise DataError(
                    f"the checksum {shard.sha256} expected, found another one",
                    where=path,
                    fix="run prepare again",
                )
            progress.advance(1)
    return manifest


def _check_counts(path, shard, rows):
    found = (len(rows), rows.nonzeros, len(rows.label_ids))
    expected = (shard.examples, shard.nonzeros, shard.labels)
    if found != expected:
        raise DataError(
            f"a shard of {expected} examples, feature values and labels expected, found {found}",
            where=path,
            fix="run prepare again",
        )
