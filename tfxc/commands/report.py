"""Write a report about a run: tables and plots of its strengths and errors.

    tfxc report --run RUN --split test

Writes a folder with report.md (command, metrics, learning curves, best and worst labels, confused
labels, wrong examples) and the complete tables as CSV. docs/training.md, "What is measured", says
which labels count as predicted.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.commands.evaluate import (
    add_source_options,
    add_table_options,
    build_metrics,
    decisions_of,
    examples,
    search,
    texts_of_examples,
)
from tfxc.core import cli
from tfxc.core.escaping import markdown_text, one_line

if TYPE_CHECKING:
    from tfxc.metrics.suite import MetricSuite
    from tfxc.reports.decisions import Decisions
    from tfxc.runs.loaded import LoadedRun


_MAX = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report of one run."""
    options = _parser().parse_args(argv)
    from tfxc.core.storage.files import atomic_files
    from tfxc.reports.plots import pyplot
    from tfxc.runs.loaded import load_run

    if not options.no_plots:
        pyplot()  # before anything is measured
    loaded = load_run(options.run, options.trust)
    loaded.search_with(options.beam, options.post_processor)
    loaded.approximate_with(options.search, options.search_buckets, options.search_min_count)
    loaded.require_counts("--run")
    name, rows = examples(loaded, options)
    metrics, decisions = build_metrics(loaded, options), decisions_of(loaded, options)
    search(loaded, rows, metrics, options, decisions)
    folder = Path(options.output or Path(options.run) / "report")
    wanted = {row for row, *_ in decisions.found.wrong}
    texts = texts_of_examples(loaded, options, name, wanted)
    with atomic_files(folder) as scratch:
        write(scratch, loaded, name, metrics, decisions, texts, plots=not options.no_plots)
    print(f"written: {folder}/report.md")
    return 0


def write(
    folder: Path,
    loaded: "LoadedRun",
    name: str,
    metrics: "MetricSuite",
    decisions: "Decisions",
    texts: Mapping[int, str],
    plots: bool,
) -> None:
    """Writes report.md, labels.csv, confusions.csv, wrong.csv and the plots.

    Args:
        folder: an existing folder.
        loaded: ``LoadedRun``.
        name: of the examples.
        metrics: ``MetricSuite`` with their results.
        decisions: ``Decisions`` of theirs.
        texts: {example: text} of wrong examples, possibly empty.
        plots: whether to draw.
    """
    from tfxc.core.storage.files import atomic_file
    from tfxc.reports.plots import confusion_matrix, labels_by_frequency, learning_curves

    names, found = loaded.vocabulary.names, decisions.found
    rows = decisions.write_tables(folder, loaded, texts)
    drawn = {}
    if plots:
        log = loaded.folder / "metrics.jsonl"
        drawn["curves"] = learning_curves(log, folder / "curves.png")
        assert loaded.label_counts is not None, "main has asked for them"
        labels_by_frequency(found, loaded.label_counts, folder / "labels.png")
        drawn["confusions"] = confusion_matrix(found, names, folder / "confusions.png")
    with atomic_file(folder / "report.md") as stream:
        lines = _lines(loaded, name, metrics, decisions, rows, drawn)
        stream.write("\n".join(lines))


def _lines(loaded, name, metrics, decisions, rows, drawn):
    from tfxc.reports.tables import (
        CONFUSION_COLUMNS,
        LABEL_COLUMNS,
        average_rows,
        markdown,
        wrong_columns,
    )

    found, (label_rows, confusions, wrong) = decisions.found, rows
    yield from _run_lines(loaded, name)
    yield f"## Metrics\n\n```\n{metrics.table()}\n```\n"
    yield f"Of the {found.decision}:\n"
    averages = average_rows(found, loaded.vocabulary.names)
    yield markdown(("average", "precision", "recall", "F1"), averages) + "\n"
    if drawn.get("curves"):
        yield "## Learning curves\n\n![curves](curves.png)\n"
    yield "## Labels\n"
    if drawn:
        yield "![labels](labels.png)\n"
    yield f"Lowest F1 of {len(label_rows):,} labels ([all](labels.csv)):\n"
    yield markdown(LABEL_COLUMNS, label_rows, _MAX) + "\n"
    yield "Highest F1:\n"
    best = sorted(label_rows, key=lambda row: (-row[-1], -row[2], row[0]))[: _MAX // 2]
    yield markdown(LABEL_COLUMNS, best, _MAX) + "\n"
    yield "## Confused labels ([all](confusions.csv))\n"
    if drawn.get("confusions"):
        yield "![confusions](confusions.png)\n"
    yield markdown(CONFUSION_COLUMNS, confusions, _MAX) + "\n"
    shown = "all" if len(wrong) == found.num_wrong else f"the {len(wrong):,} most confident"
    wrong_ones = f"{found.num_wrong:,} of {found.num_examples:,}"
    yield f"## Wrong examples: {wrong_ones} ([{shown}](wrong.csv))\n"
    yield markdown(wrong_columns(decisions.scores), wrong, _MAX) + "\n"


def _run_lines(loaded, name):
    """What was trained, and how."""
    config, summary = loaded.config, loaded.folder.summary() or {}
    yield f"# {markdown_text(f'{loaded.folder.path} on {name}')}\n"
    sections = [*config.network_sections.items()]
    if not any(method for _, method in sections):
        sections = [("recipe", config.recipe)]
    methods = [f"{kind} `{method.name}`" for kind, method in sections if method]
    methods += [f"technique `{method.name}`" for method in config.techniques]
    data = loaded.manifest
    steps = f"{summary['steps']:,} steps " if "steps" in summary else ""
    yield (
        f"Data {data['name']}: {data['num_labels']:,} labels. Model: {', '.join(methods)}. "
        f"Trained {steps}in {summary.get('seconds', 0):,} s, seed {config.seed}. "
        "The command, with the config.json of the run folder:\n"
    )
    path = shlex.quote(f"{loaded.folder.path}/config.json")
    yield f"    tfxc train --config {one_line(path)}\n"


def _parser():
    options = cli.parser("report", __doc__)
    cli.add_trust_option(options)
    options.add_argument("--run", required=True, metavar="RUN", help="run folder")
    add_source_options(options)
    options.add_argument(
        "--output", metavar="FOLDER", help="folder to write to (default: RUN/report)"
    )
    add_table_options(options)
    options.add_argument(
        "--no-plots", action="store_true", help="draw no plots, which need matplotlib"
    )
    return options
