"""Vectors of examples: ``tfxc encode --run RUN FILE --output vectors.npy``.

Writes what the run's encoder makes of every example, in the order of FILE: a NumPy array of shape
(examples, dim). FILE is any readable data file (labels in it are ignored), plain text, one text a
line, or a folder of images; without FILE, or with -, lines of standard input, as for
``tfxc predict``. The file is written as it goes and may be larger than memory. Stopped, the same
command goes on, unless it reads standard input.
"""

import sys
from collections.abc import Sequence

from tfxc.core import cli
from tfxc.core.errors import DataError


def main(argv: Sequence[str] | None = None) -> int:
    """Encodes a file or a pipe."""
    options = _parser().parse_args(argv)
    from tfxc.training.interrupts import StopAtOnce, Stopped

    try:
        with StopAtOnce("finished vectors are"):
            return _encode(options)
    except Stopped as stop:
        if options.file == "-":
            print("stopped, nothing is saved")
        else:
            print(f"{stop}; the same command goes on from there")
        return 128 + stop.signal_number


def _encode(options):
    from tfxc.core.progress import Progress
    from tfxc.data.row_writer import RowWriter
    from tfxc.runs.loaded import load_run

    loaded = load_run(options.run, options.trust)
    embed = loaded.embedder("--run")
    where = "standard input" if options.file == "-" else options.file
    with (
        RowWriter(options.output, dtype=options.dtype, computation=_computation(options)) as writer,
        Progress("encoding", unit="examples") as progress,
    ):
        for chunk in _chunks(options, loaded):
            first = progress.done
            if not writer.is_done(first, first + len(chunk)):
                vectors = embed(loaded.features_of(chunk, where))
                writer.write(first, _checked(vectors, first, options))
            progress.advance(len(chunk))
        if not progress.done:
            raise DataError("examples expected, found none", where=where)
    width = writer.row_shape[0]
    print(f"{options.output}: {progress.done:,} vectors of {width:,} {options.dtype}")
    return 0


def _computation(options):
    """What decides the bytes of the output; None where the input cannot be read again."""
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
        return chunks_of_pipe(sys.stdin.fileno(), loaded.takes, width, options.batch_size)
    data, given = loaded.config.data, dict(options.reader_option)
    reader = open_like(options.file, data, loaded.takes, options.reader, given)
    return reader.chunks(options.batch_size)


def _checked(vectors, first, options):
    """Vectors as they are written.

    Raises:
        DataError: one is not finite, or not once it is shortened to 16 bits.
    """
    import numpy as np

    given = vectors
    if options.unit_norm:
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        scaled = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths != 0)
        vectors = scaled.astype(np.float32)
    fixes = {
        "float32": "train the run again, with training.clip_norm or a lower learning rate",
        "float16": "add --unit-norm, or take --dtype float32",
    }
    with np.errstate(over="ignore"):
        stored = vectors.astype(options.dtype)
    for values in (given, stored):
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if wrong.size:
            raise DataError(
                f"finite {values.dtype} values expected, the encoder gives others for example "
                f"{first + wrong[0] + 1:,}",
                where=options.run,
                fix=fixes[str(values.dtype)],
            )
    return stored


def _parser():
    options = cli.parser("encode", __doc__)
    cli.add_trust_option(options)
    options.add_argument("--run", required=True, metavar="RUN", help="run folder")
    options.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="file, or - (default)"
    )
    options.add_argument(
        "--output", required=True, type=cli.ending(".npy"), metavar="FILE", help=".npy to write"
    )
    options.add_argument("--unit-norm", action="store_true", help="scale vectors to length 1")
    options.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="of the stored values (default: %(default)s)",
    )
    cli.add_reader_options(options, "format of FILE; 'lines' for plain text", "text_field=body")
    options.add_argument("--batch-size", type=cli.positive, default=256, help="examples at a time")
    return options
