"""Add the new labels of a file to a trained linear ranker, with or without an encoder.

    tfxc add-labels RUN --data new.jsonl --output RUN2

Each label is added to the leaf of the label tree that is nearest by its examples. Only the
classifiers under those leaves are trained again, on the new examples and the run's own data, which
must be available. Everything else stays the same, bit for bit: the other classifiers, the ids of
the old labels, the encoder of an XR-Transformer. RUN is not changed. See docs/xr_linear.md.
"""

from collections.abc import Sequence

from tfxc.core import cli
from tfxc.core.escaping import one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Adds labels to one run."""
    found = _parser().parse_args(argv)
    from tfxc.data.preparation import ensure_prepared
    from tfxc.recipes.xr_transformer.add_labels import add_new_labels, check_run
    from tfxc.reports.measurement import reader_of_file
    from tfxc.runs.loaded import load_run

    loaded = load_run(found.run, found.trust)
    check_run(loaded, found.output)
    options = dict(found.reader_option)
    reader = reader_of_file(loaded, found.data, found.reader, options, found.features)
    folder = ensure_prepared(loaded.config.data, found.prepared)
    done = add_new_labels(loaded, reader, found.output, folder, found.memory_gb)
    shown = ", ".join(map(one_line, done.names[:5])) + (", …" if len(done.names) > 5 else "")
    print(f"{found.output}: {len(done.names):,} new labels ({shown})")
    print(f"trained again: {done.affected:,} of {done.blocks:,} blocks of labels")
    return 0


def _parser():
    options = cli.parser("add-labels", __doc__)
    cli.add_trust_option(options)
    options.add_argument("run", metavar="RUN", help="run folder of a linear ranker")
    options.add_argument("--data", required=True, metavar="FILE", help="examples of the new labels")
    cli.add_reader_options(options, "format of FILE (default: by its name)", "sep=,")
    cli.add_features_option(options)
    options.add_argument("--output", required=True, metavar="RUN2", help="run folder to write")
    cli.add_prepared_option(options)
    options.add_argument(
        "--memory-gb",
        type=cli.number,
        help="memory that training may use, in GB (default: as in the run's recipe)",
    )
    return options
