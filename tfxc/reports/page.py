"""The report as one page of HTML that needs nothing else: no network, no other file.

Everything the page shows was written by others: label names, texts, file names, config values. The
template escapes all of it, control characters are shown as their escapes, and the page's policy
allows its own script and style alone, by their checksums, and pictures that are inside it.
"""

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import missing_package
from tfxc.core.escaping import json_text, one_line, several_lines
from tfxc.core.storage.files import atomic_file
from tfxc.reports.charts import Axis, Chart
from tfxc.reports.curves import Curve, means_by_frequency
from tfxc.reports.measured import MOST_WRONG, SLICE_COLUMNS, Measured
from tfxc.reports.plots import learning_charts, sets_charts
from tfxc.reports.tables import (
    CONFUSION_COLUMNS,
    LABEL_COLUMNS,
    average_rows,
    confusion_rows,
    label_name,
    label_rows,
    most_confident,
)
from tfxc.tuning.results import shown_cells

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

    from tfxc.metrics.reliability import Reliability

FILE = "report.html"
_MOST_LABELS = 50_000
_ROWS_OF_PAGE = 25
_EXAMPLES_OF_PAGE = 10
_FEW_LABELS = 10
# Of the columns of labels, those that a short table has.
_FEW_COLUMNS = (0, 2, 7)
_MOST_PAIRS = 100
_MOST_SETTINGS = 20
_MOST_CHARACTERS = 2000


def page_template() -> "Template":
    """Returns the template of the page.

    Raises:
        ConfigError: Jinja2 is not installed.
    """
    with missing_package("report", otherwise="add --no-page"):
        import jinja2
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfxc.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.policies["json.dumps_function"] = json_text
    environment.policies["json.dumps_kwargs"] = {}
    return environment.get_template("report.html")


def write_page(folder: Path, measured: Measured) -> None:
    """Writes ``report.html``.

    Args:
        folder: an existing folder.
        measured: what it is about.

    Raises:
        ConfigError: Jinja2 is not installed.
    """
    text = page_template().render(
        style=_part("report.css"),
        script=_part("report.js"),
        policy=_policy(),
        **_head(measured),
        **_metrics(measured),
        **_charts(measured),
        **_search(measured),
        **_labels(measured),
        **_mistakes(measured),
        **_facts(measured),
    )
    with atomic_file(folder / FILE) as stream:
        stream.write(text)


def _shown(value: object) -> object:
    """Returns what the template writes in place of a value: control characters as their escapes."""
    return several_lines(value) if type(value) is str else value


def _part(name: str) -> "Markup":
    from markupsafe import Markup

    text = resources.files("tfxc.reports").joinpath("templates", name).read_text("utf-8")
    return Markup(text)  # our own file: nothing of it is escaped


def _policy() -> str:
    """Returns the Content-Security-Policy: no request at all, and this style and script alone."""
    sums = {
        name: base64.b64encode(hashlib.sha256(_part(name).encode()).digest()).decode()
        for name in ("report.css", "report.js")
    }
    return (
        f"default-src 'none'; style-src 'sha256-{sums['report.css']}'; "
        f"script-src 'sha256-{sums['report.js']}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _head(measured: Measured) -> dict[str, Any]:
    loaded = measured.loaded
    summary = measured.summary()
    manifest = loaded.manifest
    facts = {"model": ", ".join(f"{kind} {name}" for kind, name in measured.methods())}
    facts["data"] = f"{manifest['name']}: {manifest['num_labels']:,} labels"
    if "steps" in summary:
        facts["training"] = f"{summary['steps']:,} steps in {summary.get('seconds', 0):,} s"
    facts["seed"] = str(loaded.config.seed)
    return {
        "title": f"{loaded.folder.path} on {measured.name}",
        "facts": facts,
        "tiles": [
            (name, f"{value:.3f}" if name == "ECE" else f"{100 * value:.1f} %")
            for name, value in measured.headline().items()
        ],
        "num_examples": measured.metrics.num_examples,
    }


def _metrics(measured: Measured) -> dict[str, Any]:
    rows, others = measured.metrics.cells()
    columns = sorted({c for cells in rows.values() for c in cells if c}, key=lambda c: int(c[1:]))
    table = [
        # A metric without cut-off stands in the first column, as in ``MetricSuite.table``.
        (
            name,
            [
                cells.get(column, cells.get("", "") if not place else "")
                for place, column in enumerate(columns)
            ],
        )
        for name, cells in rows.items()
    ]
    names = measured.loaded.vocabulary.names
    per_label = measured.decisions.per_label
    counts = {name: f"{value:,}" for name, value in measured.metrics.counts().items()}
    return {
        "metric_columns": columns,
        "metric_rows": table,
        "metric_values": {**others, **counts},
        "decision": str(per_label.decision),
        "averages": average_rows(per_label, names),
    }


def _charts(measured: Measured) -> dict[str, Any]:
    reliability = [
        (title, metric.result()["ECE"], metric.support()["ECE"], _reliability_chart(metric))
        for title, metric in measured.decisions.reliability.items()
        if metric.support()["ECE"]
    ]
    return {
        "curves": learning_charts(measured.loaded.folder / "metrics.jsonl"),
        "slice_columns": SLICE_COLUMNS,
        "slices": measured.slices(),
        "frequency": _frequency_chart(measured),
        "reliability": reliability,
        "sets": sets_charts(measured.decisions),
    }


def _search(measured: Measured) -> dict[str, Any]:
    """Returns the best settings of the search that the run is of, and which keys matter."""
    search = measured.search()
    if search is None:
        return {"settings": None}
    keys = list(search["settings"][0]["changes"])
    return {
        "settings": [shown_cells(row, keys) for row in search["settings"][:_MOST_SETTINGS]],
        "setting_columns": [f"dev {search['metric']}", *keys],
        "num_settings": len(search["settings"]),
        "place": search["place"],
        "importance": search["importance"],
    }


def _frequency_chart(measured: Measured) -> Chart | None:
    """Draws mean precision and recall by the power of ten of the training examples, if several."""
    per_label = measured.decisions.per_label
    counts = measured.loaded.label_counts
    assert counts is not None  # see ``LoadedRun.require_counts``
    values = dict(zip(("precision", "recall", "F1"), per_label.precision_recall_f1(), strict=True))
    known = ~np.isnan(values["F1"])
    groups = [*means_by_frequency(counts[known], {n: v[known] for n, v in values.items()})]
    if len(groups) < 2:
        return None
    curves = [
        Curve(name, tuple((power + 0.5, means[name]) for power, _, means in groups))
        for name in values
    ]
    x = Axis("training examples of the label", groups[0][0], groups[-1][0] + 1, logarithmic=True)
    return Chart("means of the labels by frequency", x, Axis("", 0, 1), curves)


def _reliability_chart(metric: "Reliability") -> Chart:
    bars = [
        (
            bin.low,
            bin.high,
            bin.correct,
            f"{bin.size:,} predictions of {bin.low:.2f} to {bin.high:.2f}: "
            f"mean probability {bin.confidence:.3f}, right {bin.correct:.3f}",
        )
        for bin in metric.bins()
    ]
    axes = Axis("probability", 0, 1), Axis("share that is right", 0, 1)
    return Chart("reliability diagram", *axes, bars=bars, diagonal=True)


def _labels(measured: Measured) -> dict[str, Any]:
    """Returns the table of labels: columns for the script, and first rows for those without it."""
    loaded = measured.loaded
    per_label = measured.decisions.per_label
    assert loaded.label_counts is not None  # see ``LoadedRun.require_counts``
    rows = label_rows(per_label, loaded.vocabulary.names, loaded.label_counts)
    num_labels = len(rows)
    if num_labels > _MOST_LABELS:
        rows = sorted(rows, key=lambda row: -row[2])[:_MOST_LABELS]
        rows.sort(key=lambda row: row[-1])
    rows = [(one_line(row[0]), *row[1:-3], *(round(v, 4) for v in row[-3:])) for row in rows]
    few = min(_FEW_LABELS, len(rows) // 2)
    best = sorted(rows, key=lambda row: (-row[-1], -row[2], row[0]))[:few]
    return {
        "few_label_columns": [LABEL_COLUMNS[place] for place in _FEW_COLUMNS],
        "worst_labels": [[row[place] for place in _FEW_COLUMNS] for row in rows[:few]],
        "best_labels": [[row[place] for place in _FEW_COLUMNS] for row in best],
        "label_columns": LABEL_COLUMNS,
        "label_data": [list(column) for column in zip(*rows, strict=True)],
        "label_rows": rows[:_ROWS_OF_PAGE],
        "num_labels": num_labels,
        "labels_shown": len(rows),
    }


def _mistakes(measured: Measured) -> dict[str, Any]:
    per_label = measured.decisions.per_label
    names = measured.loaded.vocabulary.names
    wrong = [
        {
            "number": row + 1,
            "picture": measured.pictures.get(row),
            "text": _cut(measured.texts.get(row, "")),
            "true": [label_name(names, label) for label in true.tolist()],
            "predicted": [
                (label_name(names, label), f"{score:.3g}")
                for label, score in zip(ids.tolist(), scores.tolist(), strict=True)
            ],
        }
        for row, ids, scores, true in most_confident(per_label)[:MOST_WRONG]
    ]
    return {
        "rows_of_page": _ROWS_OF_PAGE,
        "examples_of_page": _EXAMPLES_OF_PAGE,
        "confusion_columns": CONFUSION_COLUMNS,
        "pairs_of_labels": confusion_rows(per_label, names, _MOST_PAIRS),
        "num_pairs": len(per_label.confusions()),
        "wrong": wrong,
        "num_wrong": per_label.num_wrong,
        "scores": measured.decisions.scores,
    }


def _facts(measured: Measured) -> dict[str, Any]:
    loaded = measured.loaded
    manifest = loaded.manifest
    environment = loaded.folder.environment()
    times = {"training": f"{measured.summary().get('seconds', 0):,} s"}
    machine = {}
    versions = {}
    if environment is not None:
        times["finished"] = environment.finished
        versions = {"tfxc": environment.tfxc, "python": environment.python} | environment.packages
        machine = environment.machine()
    return {
        "config": loaded.config.to_json(),
        "splits": manifest["splits"],
        "sources": manifest.get("sources", {}),
        "fingerprints": manifest.get("fingerprints", {}),
        "machine": machine,
        "versions": versions,
        "times": times,
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + " …"
