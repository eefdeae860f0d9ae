"""The two tasks of a block as functions of paths and numbers, for any process."""

from tfxc.data.store.blocks.chunk_file import read_chunk
from tfxc.data.store.blocks.converting import BlockConverter, BlockRows
from tfxc.data.store.blocks.job import CHUNK, job_of
from tfxc.data.store.blocks.reading import BlockRead, BlockReader


def read_block(folder: str, stage: str, number: int, start: int, stop: int | None) -> BlockRead:
    """Returns the first task of a block, in any process.

    Args:
        folder, stage: see ``tfxc.data.store.blocks.job.job_of``.
        number: of the block.
        start: number of its first example.
        stop: number of the one after the last; None if the examples are in a file of the block.

    Returns:
        BlockRead.

    Raises:
        DataError: as ``BlockReader.read``, or the source is malformed.
    """
    job = job_of(folder, stage)
    if stop is not None:
        return BlockReader(job).read(job.rows_of_source(start, stop), number, start)
    return BlockReader(job).read(read_chunk(job.file(CHUNK, number)), number, start)


def convert_block(folder: str, stage: str, number: int, count_labels: bool) -> BlockRows:
    """Returns the second task of a block, in any process.

    Args:
        folder, stage: see ``tfxc.data.store.blocks.job.job_of``.
        number: of the block.
        count_labels: whether to count the labels.

    Returns:
        BlockRows.
    """
    return BlockConverter(job_of(folder, stage)).convert(number, count_labels)
