"""Write the encoder's vectors of examples to a file.

    tfxc encode RUN texts.txt --output vectors.npy

The output is a NumPy array of shape (examples, dim), in the order of FILE. FILE is any readable
data file (its labels are ignored), plain text with one text per line, or a folder of images.
Without FILE, or with -, lines of standard input are encoded, as by "tfxc predict". The output is
written batch by batch and may be larger than memory.

Run again, the same command resumes, unless it reads standard input. With --cluster, the workers of
a Dask scheduler encode the examples.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tfxc.core import cli
from tfxc.core.bounds import Option
from tfxc.core.command_options import parse, restored
from tfxc.core.errors import DataError
from tfxc.core.shared_options import FileOptions, RunOption

if TYPE_CHECKING:
    import numpy as np

    from tfxc.core.progress import Progress
    from tfxc.data.examples.chunk import Chunk
    from tfxc.data.store.row_writer import RowWriter
    from tfxc.inference.shared_chunks import Work
    from tfxc.runs.loaded import LoadedRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(FileOptions, RunOption):
    """Options of ``tfxc encode``.

    Attributes:
        output: .npy file to write.
        unit_norm: scale vectors to length 1.
        dtype: type of the stored values.
    """

    run: Annotated[str, Option("RUN", first=True, mirror="reads")]
    output: Annotated[str, Option("FILE", read=cli.ending(".npy"), mirror="writes")]
    unit_norm: bool = False
    dtype: Literal["float32", "float16"] = "float32"


def main(argv: Sequence[str] | None = None) -> int:
    """Encodes a file or a pipe."""
    options = parse(Options, argv, "encode", __doc__)
    from tfxc.core.interrupts import StopAtOnce, Stopped

    try:
        with StopAtOnce("finished vectors are"):
            return _encode(options)
    except Stopped as stop:
        if options.file == "-":
            print("stopped, nothing is saved")
        else:
            print(f"{stop}; run the same command again to resume")
        return 128 + stop.signal_number


def _encode(options: Options) -> int:
    from tfxc.core.progress import Progress
    from tfxc.data.store.row_writer import RowWriter
    from tfxc.inference.shared_chunks import shared_answers
    from tfxc.parallel import cluster
    from tfxc.runs.loaded import load_run

    cli.check_keeps_input(options.output, options.file)
    cli.check_shared_output(options.cluster, options.file, options.output, [options.run])
    loaded = load_run(options.run, options.trust)
    loaded.require("encoder", "--run")
    with (
        cluster(options.cluster),
        RowWriter(options.output, dtype=options.dtype, computation=_computation(options)) as writer,
        Progress("encoding", unit="examples") as progress,
    ):
        batches = _numbered(options, loaded, writer, progress)
        if options.cluster is None:
            vectors_of = _vectors_of(options, loaded)
            for first, chunk in batches:
                writer.write(first, vectors_of(first, chunk))
                progress.advance(len(chunk))
        else:
            job = dataclasses.replace(options, run=os.path.abspath(options.run))
            with shared_answers(
                open_encoder, dataclasses.asdict(job), batches, options.output
            ) as answers:
                for first, size, vectors in answers:
                    writer.write(first, vectors)
                    progress.advance(size)
        if not progress.done:
            where = "standard input" if options.file == "-" else options.file
            raise DataError("there are no examples", where=where, fix="check the reader's options")
    assert writer.row_shape is not None, "rows are written"
    width = writer.row_shape[0]
    print(f"{options.output}: {progress.done:,} vectors of {width:,} {options.dtype}")
    return 0


def open_encoder(job: dict[str, Any]) -> "Work":
    """Returns the ``Work`` of a worker of a cluster: vectors as they are written.

    Args:
        job: the command's options, a dict.
    """
    from tfxc.runs.loaded import load_run

    options = restored(Options, job)
    vectors_of = _vectors_of(options, load_run(options.run, options.trust))

    def vectors(first: int, chunks: "Iterator[Chunk]") -> "Iterator[np.ndarray]":
        for chunk in chunks:
            yield vectors_of(first, chunk)
            first += len(chunk)

    return vectors


def _vectors_of(options: Options, loaded: "LoadedRun") -> "Callable[[int, Chunk], np.ndarray]":
    """Returns what makes vectors of the number of a batch's first example and its ``Chunk``."""
    embed = loaded.embedder("--run")
    where = "standard input" if options.file == "-" else options.file

    def vectors_of(first: int, chunk: "Chunk") -> "np.ndarray":
        return _checked(embed(loaded.encoder_features_of(chunk, where)), first, options)

    return vectors_of


def _numbered(
    options: Options, loaded: "LoadedRun", writer: "RowWriter", progress: "Progress"
) -> "Iterator[tuple[int, Chunk]]":
    """Yields (number of the first example, ``Chunk``) of batches whose vectors are missing."""
    first = 0
    for chunk in _chunks(options, loaded):
        if writer.is_done(first, first + len(chunk)):
            progress.advance(len(chunk))
        else:
            yield first, chunk
        first += len(chunk)


def _computation(options: Options) -> dict[str, Any] | None:
    """Returns what determines the bytes of the output; None if the input cannot be read again."""
    from tfxc.data.reading.source_files import state_of
    from tfxc.runs.loaded import fingerprint_of_run

    if options.file == "-":
        return None
    return {
        "run": fingerprint_of_run(options.run),
        "examples": state_of(options.file),
        "reader": [options.reader, options.reader_options],
        "unit_norm": options.unit_norm,
        "batch_size": options.batch_size,
    }


def _chunks(options: Options, loaded: "LoadedRun") -> "Iterator[Chunk]":
    from tfxc.data.reading.formats import open_like
    from tfxc.data.reading.typed_examples import chunks_of_pipe

    if options.file == "-":
        width = loaded.manifest["num_features"]
        return chunks_of_pipe(sys.stdin.fileno(), loaded.encoder_takes, width, options.batch_size)
    data = loaded.config.data
    reader_options = options.reader_options
    reader = open_like(options.file, data, loaded.encoder_takes, options.reader, reader_options)
    return reader.chunks(options.batch_size)


def _checked(vectors: "np.ndarray", first: int, options: Options) -> "np.ndarray":
    """Returns vectors as they are written.

    Raises:
        DataError: one is not finite, or not finite when rounded to 16 bits.
    """
    import numpy as np

    computed = vectors
    if options.unit_norm:
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        scaled = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths != 0)
        vectors = scaled.astype(np.float32)
    fixes = {
        "float32": "train the run again, with training.clip_norm or a lower learning rate",
        "float16": "add --unit-norm, or use --dtype float32",
    }
    with np.errstate(over="ignore"):
        stored = vectors.astype(options.dtype)
    for values in (computed, stored):
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if wrong.size:
            raise DataError(
                f"the vector of example {first + wrong[0] + 1:,} is not finite in {values.dtype}",
                where=options.run,
                fix=fixes[str(values.dtype)],
            )
    return stored
