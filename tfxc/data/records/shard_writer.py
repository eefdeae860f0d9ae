"""Streams of rows cut into shards, in order or shuffled, in constant memory."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tfxc.core.progress import Progress
from tfxc.core.storage.reading import checksum
from tfxc.data.columns import LABELS
from tfxc.data.manifest import ShardInfo, SplitInfo
from tfxc.data.records.tfrecord import shard_name, write_shard
from tfxc.data.rows import Rows
from tfxc.data.sources.base import permutation

# Rows wait in memory up to this size before they are appended to the shards' files.
_BUFFER_BYTES = 64 << 20
# A shard is the least that is read at once: it holds fewer examples rather than more bytes.
SHARD_BYTES = 32 << 20
IMAGE_SHARD_BYTES = 128 << 20


def write_split(
    folder: str | Path, split: str, shards: Iterable[Rows], layout: str, num_labels: int
) -> SplitInfo:
    """Writes the shards of one split.

    Args:
        shards: iterable of ``Rows``, one per shard.
        num_labels: size of the vocabulary; ids from there on count as unseen.

    Returns:
        SplitInfo.
    """
    infos: list[ShardInfo] = []
    folder, label_counts, unseen = Path(folder), [np.zeros(0, np.int64)], 0
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


def in_order(stream: Iterable[Rows], shard_examples: int) -> Iterator[Rows]:
    """Yields the rows of a stream of ``Rows`` in shards of ``shard_examples``, the last smaller.

    A shard of about 32 MB, or 128 MB of images, ends there.
    """
    waiting, count, held = [], 0, 0
    for rows in stream:
        start = 0
        most = IMAGE_SHARD_BYTES if rows.kind.is_image else SHARD_BYTES
        row_bytes = max(1, rows.nbytes // max(1, len(rows)))
        while start < len(rows):
            size = min(shard_examples - count, max(1, (most - held) // row_bytes))
            part = rows.slice(start, start + size)
            waiting.append(part)
            start, count, held = start + size, count + len(part), held + part.nbytes
            if count == shard_examples or held > most - row_bytes:
                yield Rows.concatenate(waiting)
                waiting, count, held = [], 0, 0
    if count:
        yield Rows.concatenate(waiting)


def shuffled(
    stream: Iterable[Rows], num_shards: int, seed: int, scratch: str | Path
) -> Iterator[Rows]:
    """Yields the rows of a stream of ``Rows`` in shards of random rows in random order.

    Of every k consecutive rows (k shards) each shard gets one, at random: shards differ by one row
    in size. A shard's rows are then permuted. The result is a function of the rows and the seed,
    however many come at a time.

    Args:
        num_shards: number of shards.
        scratch: a folder for temporary files, left empty.
    """
    deal = _Deal(num_shards, seed)
    spill = _Spill(scratch, num_shards)
    pending = np.zeros(0, np.int64)
    for rows in stream:
        missing = len(rows) - len(pending)
        if missing > 0:
            pending = np.concatenate([pending, deal.shards(missing)])
        spill.add(rows, pending[: len(rows)])
        pending = pending[len(rows) :]
    spill.flush()
    with Progress("writing shards", num_shards, "shards") as progress:
        for number in range(num_shards):
            rows = spill.pop(number)
            rows = rows.select(permutation(len(rows), seed, number))
            yield rows
            progress.advance(1)


def shuffled_order(num_rows: int, num_shards: int, seed: int) -> np.ndarray:
    """The order in which ``shuffled`` writes rows.

    Args:
        num_rows: of the stream.
        num_shards, seed: see ``shuffled``.

    Returns:
        int64 (num_rows,): the number in the stream of each written row, shard after shard.

    Example:
        >>> sorted(shuffled_order(5, num_shards=2, seed=0).tolist())
        [0, 1, 2, 3, 4]
    """
    shards = _Deal(num_shards, seed).shards(num_rows)[:num_rows]
    by_shard = np.argsort(shards, kind="stable")
    parts = np.split(by_shard, np.searchsorted(shards[by_shard], np.arange(1, num_shards)))
    orders = [rows[permutation(len(rows), seed, number)] for number, rows in enumerate(parts)]
    return np.concatenate(orders)


class _Deal:
    """Numbers of shards for rows: of every k of them each shard gets one."""

    def __init__(self, num_shards, seed):
        sequence = np.random.SeedSequence((seed, num_shards))
        self._generator = np.random.Generator(np.random.Philox(sequence))
        self._num_shards = num_shards

    def shards(self, count):
        """For the next ``count`` rows or some more, in whole rounds."""
        rounds = np.tile(np.arange(self._num_shards), (-(-count // self._num_shards), 1))
        return self._generator.permuted(rounds, axis=1).ravel()


def npy_bytes(*arrays: np.ndarray) -> memoryview:
    """The arrays in NumPy's file format, one after the other.

    ``numpy.save`` into a file does not say why it fails on a full disk; writing bytes does.
    """
    stream = io.BytesIO()
    for array in arrays:
        np.save(stream, array)
    return stream.getbuffer()


def _append(stream, array):
    """Writes an array in NumPy's format without a copy of it, see ``npy_bytes``."""
    description = np.lib.format.dtype_to_descr(array.dtype)
    head = {"descr": description, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(stream, head)
    stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


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
                for array in (*part.labels.values(), *part.arrays.values()):
                    _append(stream, array)
        self._rows, self._shards, self._bytes = [], [], 0

    def pop(self, number):
        """All rows of one shard, in the order they came in; its file is removed."""
        path, parts = self._paths[number], []
        size = path.stat().st_size
        with open(path, "rb") as stream:
            while stream.tell() < size:
                labels = {name: np.load(stream) for name in LABELS.types}
                arrays = {name: np.load(stream) for name in self._kind.arrays}
                parts.append(Rows(self._kind, arrays, **labels, num_features=self._num_features))
        path.unlink()
        return Rows.concatenate(parts)
