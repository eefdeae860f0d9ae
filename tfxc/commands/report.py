"""Write a report about a run: tables and plots of its strengths and errors.

    tfxc report --run RUN --split test

Writes a folder with

  report.html   one page that needs no other file and no network: metrics,
                learning curves, frequent and rare labels, calibration, every
                label, confused labels, wrong examples, data, config and machine
  report.md     the same in short
  *.csv         the complete tables

docs/training.md, "What is measured", says which labels count as predicted.
"""

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.escaping import markdown_text, one_line
from tfxc.core.shared_options import RunOption
from tfxc.inference.search_options import SearchOptions
from tfxc.reports.measurement import Measurement

if TYPE_CHECKING:
    from tfxc.reports.measured import Measured


_MAX = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOption):
    """Options of ``tfxc report``.

    Attributes:
        output: folder to write to; None means RUN/report.
        no_plots: draw no plots.
        no_page: write no report.html, which needs Jinja2.
        measurement: what is measured, and on what
        search: how labels are searched
    """

    output: Annotated[str | None, Option("FOLDER", mirror="writes")] = None
    no_plots: bool = False
    no_page: bool = False
    measurement: Measurement = Measurement()
    search: SearchOptions = SearchOptions()


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report of one run."""
    options = parse(Options, argv, "report", __doc__)
    from tfxc.core.storage.files import atomic_files
    from tfxc.reports.measured import measure
    from tfxc.reports.page import FILE, page_template, write_page
    from tfxc.runs.loaded import load_run

    if not options.no_page:
        page_template()
    loaded = load_run(
        options.run, options.trust, dataclasses.replace(options.search, streamed=True)
    )
    folder = Path(options.output or loaded.folder.place("report"))
    measured = measure(loaded, options.measurement, "--run")
    with atomic_files(folder) as scratch:
        write(scratch, measured, plots=not options.no_plots)
        if not options.no_page:
            write_page(scratch, measured)
    print(f"written: {folder}/report.md" + ("" if options.no_page else f" and {FILE}"))
    return 0


def write(folder: Path, measured: "Measured", plots: bool) -> None:
    """Writes report.md, labels.csv, confusions.csv, wrong.csv and the plots.

    Args:
        folder: an existing folder.
        measured: what it is about.
        plots: whether to draw.
    """
    from tfxc.core.storage.files import atomic_file
    from tfxc.reports.charts import write_charts
    from tfxc.reports.plots import (
        confusion_matrix,
        labels_by_frequency,
        learning_charts,
        sets_charts,
    )

    loaded = measured.loaded
    per_label = measured.decisions.per_label
    rows = measured.decisions.write_tables(folder, loaded, measured.texts)
    drawn = {}
    if plots:
        charts = learning_charts(loaded.folder / "metrics.jsonl")
        drawn["curves"] = bool(charts)
        if charts:
            write_charts(folder / "curves.svg", charts)
        assert loaded.label_counts is not None, "measure has asked for them"
        labels_by_frequency(per_label, loaded.label_counts, folder / "labels.svg")
        sets = sets_charts(measured.decisions)
        drawn["sets"] = bool(sets)
        if sets:
            write_charts(folder / "sets.svg", sets)
        names = loaded.vocabulary.names
        drawn["confusions"] = confusion_matrix(per_label, names, folder / "confusions.svg")
    with atomic_file(folder / "report.md") as stream:
        stream.write("\n".join(_lines(measured, rows, drawn)))


def _lines(
    measured: "Measured", rows: "Sequence[Sequence[tuple[Any, ...]]]", drawn: dict[str, bool]
) -> Iterator[str]:
    from tfxc.reports.tables import (
        CONFUSION_COLUMNS,
        LABEL_COLUMNS,
        average_rows,
        markdown,
        wrong_columns,
    )

    decisions = measured.decisions
    label_rows, confusions, wrong = rows
    per_label = decisions.per_label
    yield from _run_lines(measured)
    yield f"## Metrics\n\n```\n{measured.metrics.table()}\n```\n"
    yield f"Of the {per_label.decision}:\n"
    averages = average_rows(per_label, measured.loaded.vocabulary.names)
    yield markdown(("average", "precision", "recall", "F1"), averages) + "\n"
    if drawn.get("sets"):
        yield "![risk, coverage and sizes of sets](sets.svg)\n"
    if drawn.get("curves"):
        yield "## Learning curves\n\n![curves](curves.svg)\n"
    yield "## Labels\n"
    if drawn:
        yield "![labels](labels.svg)\n"
    yield f"Lowest F1 of {len(label_rows):,} labels ([all](labels.csv)):\n"
    yield markdown(LABEL_COLUMNS, label_rows, _MAX) + "\n"
    yield "Highest F1:\n"
    best = sorted(label_rows, key=lambda row: (-row[-1], -row[2], row[0]))[: _MAX // 2]
    yield markdown(LABEL_COLUMNS, best, _MAX) + "\n"
    yield "## Confused labels ([all](confusions.csv))\n"
    if drawn.get("confusions"):
        yield "![confusions](confusions.svg)\n"
    yield markdown(CONFUSION_COLUMNS, confusions, _MAX) + "\n"
    shown = "all" if len(wrong) == per_label.num_wrong else f"the {len(wrong):,} most confident"
    wrong_ones = f"{per_label.num_wrong:,} of {per_label.num_examples:,}"
    yield f"## Wrong examples: {wrong_ones} ([{shown}](wrong.csv))\n"
    yield markdown(wrong_columns(decisions.scores), wrong, _MAX) + "\n"


def _run_lines(measured: "Measured") -> Iterator[str]:
    """Yields what was trained, and how."""
    loaded = measured.loaded
    summary = measured.summary()
    config = loaded.config
    data = loaded.manifest
    yield f"# {markdown_text(f'{loaded.folder.path} on {measured.name}')}\n"
    methods = [f"{kind} `{name}`" for kind, name in measured.methods()]
    steps = f"{summary['steps']:,} steps " if "steps" in summary else ""
    yield (
        f"Data {data['name']}: {data['num_labels']:,} labels. Model: {', '.join(methods)}. "
        f"Trained {steps}in {summary.get('seconds', 0):,} s, seed {config.seed}. "
        "The command, with the config.json of the run folder:\n"
    )
    path = shlex.quote(f"{loaded.folder.path}/config.json")
    yield f"    tfxc train --config {one_line(path)}\n"
