"""Write the encoder's vectors of examples to a file.

    tfxc encode --run RUN texts.txt --output vectors.npy

The output is a NumPy array of shape (examples, dim), in the order of FILE, which is any readable
data file (its labels are ignored), plain text, one text per line, or a folder of images. Without
FILE, or with -, lines of standard input are encoded, as by "tfxc predict". The output is written
batch by batch and may be larger than memory. Run again, the same command resumes, unless it reads
standard input. With --cluster, the workers of a Dask scheduler encode.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from tfxc.core import cli
from tfxc.core.errors import DataError


def main(argv: Sequence[str] | None = None) -> int:
    """Encodes a file or a pipe."""
    options = _parser().parse_args(argv)
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


def _encode(options):
    from tfxc.core.progress import Progress
    from tfxc.data.row_writer import RowWriter
    from tfxc.parallel import cluster
    from tfxc.runs.loaded import load_run

    cli.check_keeps_input(options.output, options.file)
    cli.check_shared_output(options, [options.run])
    loaded = load_run(options.run, options.trust)
    encode_all = _encode_here if options.cluster is None else _encode_there
    loaded.require("encoder", "--run")
    with (
        cluster(options.cluster),
        RowWriter(options.output, dtype=options.dtype, computation=_computation(options)) as writer,
        Progress("encoding", unit="examples") as progress,
    ):
        encode_all(options, loaded, writer, progress)
        if not progress.done:
            where = "standard input" if options.file == "-" else options.file
            raise DataError(
                "examples expected, found none", where=where, fix="check the reader's options"
            )
    width = writer.row_shape[0]
    print(f"{options.output}: {progress.done:,} vectors of {width:,} {options.dtype}")
    return 0


def _encode_here(options, loaded, writer, progress):
    vectors_of = _vectors_of(options, loaded)
    for first, chunk in _numbered(options, loaded, writer, progress):
        writer.write(first, vectors_of(first, chunk))
        progress.advance(len(chunk))


def _encode_there(options, loaded, writer, progress):
    from tfxc.inference.shared_chunks import shared_answers

    job = {**vars(options), "run": os.path.abspath(options.run)}
    batches = _numbered(options, loaded, writer, progress)
    with shared_answers(open_encoder, job, batches, options.output) as answers:
        for first, size, vectors in answers:
            writer.write(first, vectors)
            progress.advance(size)


def open_encoder(job):
    """The ``Work`` of a worker of a cluster: vectors as they are written.

    Args:
        job: the command's options, a dict.
    """
    from tfxc.runs.loaded import load_run

    options = argparse.Namespace(**job)
    vectors_of = _vectors_of(options, load_run(options.run, options.trust))

    def vectors(first, chunks):
        for chunk in chunks:
            yield vectors_of(first, chunk)
            first += len(chunk)

    return vectors


def _vectors_of(options, loaded):
    """Function of the number of a batch's first example and its ``Chunk`` -> vectors to write."""
    embed = loaded.embedder("--run")
    where = "standard input" if options.file == "-" else options.file

    def vectors_of(first, chunk):
        return _checked(embed(loaded.encoder_features_of(chunk, where)), first, options)

    return vectors_of


def _numbered(options, loaded, writer, progress):
    """Yields (number of the first example, ``Chunk``) of batches whose vectors are missing."""
    first = 0
    for chunk in _chunks(options, loaded):
        if writer.is_done(first, first + len(chunk)):
            progress.advance(len(chunk))
        else:
            yield first, chunk
        first += len(chunk)


def _computation(options):
    """What determines the bytes of the output; None if the input cannot be read again."""
    from tfxc.data.source_files import state_of
    from tfxc.runs.loaded import fingerprint_of_run

    if options.file == "-":
        return None
    return {
        "run": fingerprint_of_run(options.run),
        "examples": state_of(options.file),
        "reader": [options.reader, dict(options.reader_option)],
        "unit_norm": options.unit_norm,
        "batch_size": options.batch_size,
    }


def _chunks(options, loaded):
    from tfxc.data.formats import open_like
    from tfxc.data.typed_examples import chunks_of_pipe

    if options.file == "-":
        width = loaded.manifest["num_features"]
        return chunks_of_pipe(sys.stdin.fileno(), loaded.encoder_takes, width, options.batch_size)
    data = loaded.config.data
    given = dict(options.reader_option)
    reader = open_like(options.file, data, loaded.encoder_takes, options.reader, given)
    return reader.chunks(options.batch_size)


def _checked(vectors, first, options):
    """Vectors as they are written.

    Raises:
        DataError: one is not finite, or not finite when rounded to 16 bits.
    """
    import numpy as np

    given = vectors
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
    for values in (given, stored):
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if wrong.size:
            raise DataError(
                f"finite {values.dtype} values expected, the encoder outputs others for example "
                f"{first + wrong[0] + 1:,}",
                where=options.run,
                fix=fixes[str(values.dtype)],
            )
    return stored


def _parser():
    options = cli.parser("encode", __doc__)
    cli.add_trust_option(options)
    options.add_argument("--run", required=True, metavar="RUN", help="run folder")
    cli.add_file_options(options)
    cli.add_cluster_option(options)
    options.add_argument(
        "--output",
        required=True,
        type=cli.ending(".npy"),
        metavar="FILE",
        help=".npy file to write",
    )
    options.add_argument("--unit-norm", action="store_true", help="scale vectors to length 1")
    options.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="type of the stored values (default: %(default)s)",
    )
    return options
