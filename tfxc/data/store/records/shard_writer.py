"""Writes the shards of a split, one by one or each by a task."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfxc.core.storage.reading import checksum
from tfxc.data.examples.columns import LABELS
from tfxc.data.examples.order import permutation
from tfxc.data.examples.rows import Rows
from tfxc.data.store.blocks.array_file import opened
from tfxc.data.store.blocks.job import ROWS, job_of
from tfxc.data.store.blocks.layout import Segment
from tfxc.data.store.manifest import ShardInfo, SplitInfo
from tfxc.data.store.records.record_writer import shard_name, write_shard

# A shard is the least that is read at once: it holds fewer examples rather than more bytes.
SHARD_BYTES = 32 << 20
IMAGE_SHARD_BYTES = 128 << 20


class Shard(NamedTuple):
    """A shard that was written.

    Attributes:
        info: for the manifest.
        min_labels, max_labels: of an example.
        without_labels: examples without any.
        unseen_labels: occurrences of labels that training does not know.
    """

    info: ShardInfo
    min_labels: int
    max_labels: int
    without_labels: int
    unseen_labels: int


def write_block_shard(
    scratch: str, stage: str, folder: str, number: int, count: int, segments: Sequence[Segment]
) -> Shard:
    """Writes a shard of rows of blocks, in any process; those of the training split are shuffled.

    Args:
        scratch, stage: see ``tfxc.data.store.blocks.job.job_of``.
        folder: of the shards.
        number, count: which shard it is of how many.
        segments: the rows that it holds, in their order.

    Returns:
        Shard.
    """
    job = job_of(scratch, stage)
    assert job.kind is not None and job.num_labels is not None, "all is learned"
    columns = (LABELS, *job.kind.columns)
    parts = []
    for block, start, stop in segments:
        arrays = opened(str(job.file(ROWS, block))).read_rows(columns, start, stop)
        labels = {name: arrays.pop(name) for name in LABELS.types}
        parts.append(Rows(job.kind, arrays, **labels, num_features=job.num_features))
    rows = Rows.concatenate(parts)
    if job.training:
        rows = rows.select(permutation(len(rows), job.settings.seed, number))
    path = Path(folder) / shard_name(job.split, number, count)
    return write_rows(path, rows, job.settings.layout, job.num_labels)


def write_rows(path: Path, rows: Rows, layout: str, num_labels: int) -> Shard:
    """Writes a shard.

    Args:
        path: of the shard.
        rows, layout: see ``tfxc.data.store.records.record_writer.write_shard``.
        num_labels: size of the vocabulary; ids from there on count as unseen.
    """
    write_shard(path, rows, layout)
    counts = np.diff(rows.label_indptr)
    info = ShardInfo(
        file=path.name,
        examples=len(rows),
        nonzeros=rows.nonzeros,
        tokens=rows.num_tokens,
        labels=len(rows.label_ids),
        bytes=path.stat().st_size,
        sha256=checksum(path),
    )
    return Shard(
        info,
        min_labels=int(counts.min()),
        max_labels=int(counts.max()),
        without_labels=int((counts == 0).sum()),
        unseen_labels=int((rows.label_ids >= num_labels).sum()),
    )


def write_split(
    folder: str | Path, split: str, shards: Sequence[Rows], layout: str, num_labels: int
) -> SplitInfo:
    """Writes the shards of a split.

    Args:
        shards: ``Rows``, one per shard.
        layout, num_labels: see ``write_rows``.
    """
    written = []
    for number, rows in enumerate(shards):
        path = Path(folder) / shard_name(split, number, len(shards))
        written.append(write_rows(path, rows, layout, num_labels))
    return split_info(written, [])


def split_info(shards: Sequence[Shard], blocks: Sequence[int]) -> SplitInfo:
    """Returns the ``SplitInfo`` of shards.

    Args:
        blocks: see ``SplitInfo``.
    """
    infos = [shard.info for shard in shards]
    return SplitInfo(
        examples=sum(info.examples for info in infos),
        nonzeros=sum(info.nonzeros for info in infos),
        labels=sum(info.labels for info in infos),
        min_labels=min((shard.min_labels for shard in shards), default=0),
        max_labels=max((shard.max_labels for shard in shards), default=0),
        without_labels=sum(shard.without_labels for shard in shards),
        unseen_labels=sum(shard.unseen_labels for shard in shards),
        blocks=list(blocks),
        shards=infos,
    )
