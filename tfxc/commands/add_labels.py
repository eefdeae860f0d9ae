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

import argparse
from collections.abc import Sequence

from tfxc.core import cli
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import one_line

_OPTIONS_OF_TEXTS = {"run", "label_texts", "output", "trust"}


def main(argv: Sequence[str] | None = None) -> int:
    """Adds labels to one run."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.label_texts is not None:
        for name, value in vars(options).items():
            if name not in _OPTIONS_OF_TEXTS and value != parser.get_default(name):
                raise ConfigError(
                    "this option is for labels that are added with --data",
                    where=cli.option_of(name),
                    fix="leave it out",
                )
        from tfxc.runs.loaded import load_run
        from tfxc.runs.new_labels import add_labels_by_text

        loaded = load_run(options.run, options.trust)
        print(
            _added(options.output, add_labels_by_text(loaded, options.label_texts, options.output))
        )
        return 0
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.recipes.xr_transformer.add_labels import add_new_labels, check_run
    from tfxc.reports.measurement import reader_of_file
    from tfxc.runs.loaded import load_run

    loaded = load_run(options.run, options.trust)
    check_run(loaded, options.output)
    reader_options = dict(options.reader_option)
    reader = reader_of_file(loaded, options.data, options.reader, reader_options, options.features)
    folder = ensure_prepared(loaded.config.data, options.prepared)
    done = add_new_labels(loaded, reader, options.output, folder, options.memory_gb)
    print(_added(options.output, done.names))
    print(f"trained again: {done.affected:,} of {done.blocks:,} blocks of labels")
    return 0


def _added(output: str, names: Sequence[str]) -> str:
    shown = ", ".join(map(one_line, names[:5])) + (", …" if len(names) > 5 else "")
    return f"{output}: {len(names):,} new labels ({shown})"


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("add-labels", __doc__)
    cli.add_trust_option(options)
    options.add_argument("run", metavar="RUN", help="run folder")
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--label-texts",
        metavar="TEXTS",
        help="JSON lines with the name and the text of each new label",
    )
    source.add_argument("--data", metavar="FILE", help="file of examples of the new labels")
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
