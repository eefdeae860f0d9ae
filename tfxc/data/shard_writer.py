"""Streams of rows cut into shards, in order or shuffled, in constant memory."""

import io
from pathlib import Path

import numpy as np

from tfxc.data.manifest import ShardInfo, SplitInfo
from tfxc.data.records import shard_name, write_shard
from tfxc.data.rows import ARRAYS, Rows
from tfxc.data.sampling import permutation
from tfxc.files import checksum
from tfxc.progress import Progress

# Rows wait in memory up to this size before they are appended to the shards' files.
_BUFFER_BYTES = 256 << 20


def write_split(folder, split, shards, layout, num_labels):
    """Writes the shards of one split.

    Args:
        shards: iterable of ``Rows``, one per shard.
        num_labels: size of the vocabulary; ids from there on count as unseen.

    Returns:
        SplitInfo.
    """
    folder, infos, label_counts, unseen = Path(folder), [], [np.zeros(0, np.int64)], 0
    for rows in shards:
        # The number of shards is part of their names and known only after the last one.
        path = folder / f"{split}-{len(infos):05d}"
        write_shard(path, rows, layout)
        infos.append(
            ShardInfo(
                file=path.name, examples=len(rows), nonzeros=rows.nonzeros,
                tokens=rows.num_tokens, labels=len(rows.label_ids),
                bytes=path.stat().st_size, sha256=checksum(path),
            )
        )  # fmt: skip
        label_counts.append(np.diff(rows.label_indptr))
        unseen += int((rows.label_ids >= num_labels).sum())
    for number, info in enumerate(infos):
        name = shard_name(split, number, len(infos))
        (folder / info.file).rename(folder / name)
        info.file = name
    return _split_info(infos, np.concatenate(label_counts), unseen)


def _split_info(shards, label_counts, unseen):
    return SplitInfo(
        examples=len(label_counts),
        nonzeros=sum(shard.nonzeros for shard in shards),
        labels=int(label_counts.sum()),
        min_labels=int(label_counts.min()) if len(label_counts) else 0,
        max_labels=int(label_counts.max(initial=0)),
        without_labels=int((label_counts == 0).sum()),
        unseen_labels=unseen,
        shards=shards,
    )


def in_order(stream, shard_examples):
    """Yields the rows of a stream of ``Rows`` in shards of ``shard_examples``, the last smaller."""
    waiting, count = [], 0
    for rows in stream:
        waiting.append(rows)
        count += len(rows)
        if count >= shard_examples:
            whole = Rows.concatenate(waiting)
            end = count - count % shard_examples
            for start in range(0, end, shard_examples):
                yield whole.slice(start, start + shard_examples)
            waiting, count = [whole.slice(end, count)], count - end
    if count:
        yield Rows.concatenate(waiting)


def shuffled(stream, num_shards, seed, scratch):
    """Yields the rows of a stream of ``Rows`` in shards of random rows in random order.

    Of every k consecutive rows (k shards) each shard gets one, at random: shards differ by one row
    in size. A shard's rows are then permuted. The result is a function of the rows, how many come
    at a time, and the seed.

    Args:
        num_shards: number of shards.
        scratch: a folder for temporary files, left empty.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, num_shards))))
    spill = _Spill(scratch, num_shards)
    pending = np.zeros(0, np.int64)
    for rows in stream:
        missing = len(rows) - len(pending)
        if missing > 0:
            rounds = np.tile(np.arange(num_shards), (-(-missing // num_shards), 1))
            pending = np.concatenate([pending, generator.permuted(rounds, axis=1).ravel()])
        spill.add(rows, pending[: len(rows)])
        pending = pending[len(rows) :]
    spill.flush()
    with Progress("writing shards", num_shards, "shards") as progress:
        for number in range(num_shards):
            rows = spill.pop(number)
            yield rows.select(permutation(len(rows), seed, number))
            progress.advance(1)


def npy_bytes(*arrays):
    """The arrays in NumPy's file format, one after the other.

    ``numpy.save`` into a file does not say why it fails on a full disk; writing bytes does.
    """
    stream = io.BytesIO()
    for array in arrays:
        np.save(stream, array)
    return stream.getbuffer()


class _Spill:
    """Rows by shard, kept in one file per shard."""

    def __init__(self, folder, num_shards):
        self._paths = [Path(folder) / f"rows-{number:05d}" for number in range(num_shards)]
        self._rows, self._shards, self._bytes = [], [], 0
        self._num_features = self._kind = None

    def add(self, rows, shards):
        self._num_features, self._kind = rows.num_features, rows.kind
        self._rows.append(rows)
        self._shards.append(shards)
        self._bytes += rows.nbytes
        if self._bytes >= _BUFFER_BYTES:
            self.flush()

    def flush(self):
        if not self._rows:
            return
        rows, shards = Rows.concatenate(self._rows), np.concatenate(self._shards)
        by_shard = np.argsort(shards, kind="stable")
        bounds = np.searchsorted(shards[by_shard], np.arange(len(self._paths) + 1))
        for number, path in enumerate(self._paths):
            part = rows.select(by_shard[bounds[number] : bounds[number + 1]])
            with open(path, "ab") as stream:
                stream.write(npy_bytes(part.label_indptr, part.label_ids, *part.arrays.values()))
        self._rows, self._shards, self._bytes = [], [], 0

    def pop(self, number):
        """All rows of one shard, in the order they came in; its file is removed."""
        path, parts = self._paths[number], []
        size = path.stat().st_size
        with open(path, "rb") as stream:
            while stream.tell() < size:
                label_indptr, label_ids = np.load(stream), np.load(stream)
                features = {name: np.load(stream) for name in ARRAYS[self._kind]}
                parts.append(
                    Rows(
                        label_indptr=label_indptr, label_ids=label_ids,
                        num_features=self._num_features, **features,
                    )
                )  # fmt: skip
        path.unlink()
        return Rows.concatenate(parts)
