"""Add new labels to a trained run, which is not changed.

    tfxc add-labels RUN --label-texts new.jsonl --output RUN2
    tfxc add-labels RUN --data new.jsonl --output RUN2

With --label-texts, to a run with head label_text: lines {"label": ..., "text": ...}. Their texts
are encoded and nothing is trained; the old labels keep their ids and vectors, bit for bit.

With --data, to a linear ranker, with or without an encoder: a file of examples. Each label is added
to the leaf of the label tree that is nearest by its examples. Only the classifiers under those
leaves are trained again, on the new examples and the run's own data, which must be available.
Everything else stays the same, bit for bit: the other classifiers, the ids of the old labels, the
encoder of an XR-Transformer. See docs/label_texts.md and docs/xr_linear.md.
"""

from collections.abc import Sequence

from tfxc.core import cli
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import one_line

_OF_TEXTS = {"run", "label_texts", "output", "trust"}


def main(argv: Sequence[str] | None = None) -> int:
    """Adds labels to one run."""
    parser = _parser()
    found = parser.parse_args(argv)
    if found.label_texts is not None:
        return _add_by_text(found, parser)
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
    print(_added(found.output, done.names))
    print(f"trained again: {done.affected:,} of {done.blocks:,} blocks of labels")
    return 0


def _add_by_text(found, parser):
    """Adds the labels of a file of texts."""
    for name, value in vars(found).items():
        if name not in _OF_TEXTS and value != parser.get_default(name):
            raise ConfigError(
                "--data expected with this option, found --label-texts",
                where=cli.option_of(name),
                fix="leave it out",
            )
    from tfxc.runs.loaded import load_run
    from tfxc.runs.new_labels import add_labels_by_text

    loaded = load_run(found.run, found.trust)
    print(_added(found.output, add_labels_by_text(loaded, found.label_texts, found.output)))
    return 0


def _added(output, names):
    shown = ", ".join(map(one_line, names[:5])) + (", …" if len(names) > 5 else "")
    return f"{output}: {len(names):,} new labels ({shown})"


def _parser():
    options = cli.parser("add-labels", __doc__)
    cli.add_trust_option(options)
    options.add_argument("run", metavar="RUN", help="run folder")
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--label-texts", metavar="TEXTS", help="texts of the new labels, as JSON lines"
    )
    source.add_argument("--data", metavar="FILE", help="examples of the new labels")
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
