"""The pictures of a report, of a search and of a verification, as files of SVG."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxc.reports import curves
from tfxc.reports.charts import (
    Axis,
    Chart,
    element,
    hint,
    label,
    line_chart,
    write_charts,
    write_svg,
)
from tfxc.reports.curves import Curve

if TYPE_CHECKING:
    from tfxc.metrics.per_label import PerLabel
    from tfxc.metrics.roc import Roc
    from tfxc.reports.decisions import Decisions

_MOST_LABELS = 60  # of a confusion matrix
_CELL = 11
_MOST_ANSWERED = 200  # points of a risk-coverage curve
_LARGEST_SET = 20  # larger ones have one bar
_NAMES = 150  # space for names of labels, which are cut
_LONGEST_NAME = 18
_BLUE = "#0b62a8"


def learning_charts(metrics_file: str | Path) -> list[Chart]:
    """Returns loss, learning rate and dev metrics over the epochs; nothing where there are none.

    Args:
        metrics_file: a run's ``metrics.jsonl``.
    """
    return [
        line_chart(
            title.replace("_", " ") or ("loss" if drawn[0].name.endswith("loss") else "dev"),
            "epoch",
            drawn,
        )
        for title, drawn in curves.learning_curves(metrics_file)
    ]


def labels_by_frequency(per_label: "PerLabel", label_counts: np.ndarray, path: str | Path) -> None:
    """Draws each label's precision and recall over the number of its training examples.

    Where all labels have about as many, it draws the values in ascending order.
    """
    precision, recall, _ = per_label.precision_recall_f1()
    charts = []
    for name, values, occurrences in (
        ("precision", precision, per_label.predicted),
        ("recall", recall, per_label.true),
    ):
        counts = label_counts[occurrences > 0]
        values = values[occurrences > 0]
        y = Axis("", 0, 1)
        if counts.max(initial=0) < 2 * max(1, counts.min(initial=2**31)):
            x = Axis("labels, lowest first", 0, max(1, len(values) - 1))
            charts.append(Chart(name, x, y, cloud=[*enumerate(np.sort(values).tolist())]))
            continue
        means = curves.means_by_frequency(counts, {name: values})
        mean = Curve(f"mean {name}", tuple((power + 0.5, of[name]) for power, _, of in means))
        powers = np.log10(np.maximum(counts, 0.5))
        high = math.floor(powers.max()) + 1
        x = Axis("training examples of the label", min(0, powers.min()), high, logarithmic=True)
        cloud = [*zip(powers.tolist(), values.tolist(), strict=True)]
        charts.append(Chart(name, x, y, [mean], cloud=cloud))
    write_charts(path, charts)


def sets_charts(decisions: "Decisions") -> list[Chart]:
    """Returns the risk-coverage curve of the best labels, and the sizes of the sets returned.

    Each is left out where there is none, see ``Decisions``.
    """
    charts = []
    if decisions.risk is not None and decisions.risk.support()["AURC"]:
        risks, last = decisions.risk.curve()
        places = np.flatnonzero(last)
        places = places[np.unique(np.linspace(0, len(places) - 1, _MOST_ANSWERED).astype(int))]
        points = zip(((places + 1) / len(risks)).tolist(), risks[places].tolist(), strict=True)
        axes = (
            Axis("share of the examples answered, the surest first", 0, 1),
            Axis("share of wrong best labels", 0, max(0.01, float(risks[places].max()))),
        )
        area = decisions.risk.result()["AURC"]
        curve = Curve("wrong best labels", tuple(points))
        charts.append(Chart(f"risk and coverage, area {area:.4f}", *axes, [curve]))
    if decisions.sizes is not None and len(decisions.sizes.of_all()):
        counts = decisions.sizes.of_all()
        if len(counts) > _LARGEST_SET:
            counts = np.append(counts[:_LARGEST_SET], counts[_LARGEST_SET:].sum())
        shares = (counts / counts.sum()).tolist()
        bars = []
        for size, (count, share) in enumerate(zip(counts.tolist(), shares, strict=True)):
            more = " or more" if size == _LARGEST_SET else ""
            text = f"{count:,} examples ({share:.1%}) get {size}{more} labels"
            bars.append((size - 0.4, size + 0.4, share, text))
        axes = Axis("labels returned", -0.5, len(shares) - 0.5), Axis("share", 0, max(shares))
        charts.append(Chart("sizes of the sets returned", *axes, bars=bars))
    return charts


def confusion_matrix(per_label: "PerLabel", names: Sequence[str], path: str | Path) -> bool:
    """Draws which labels are confused with which, for at most 60 labels; False if there are more.

    Rows are true labels and sum to 1; correct predictions are on the diagonal.
    """
    if per_label.num_labels > _MOST_LABELS:
        return False
    matrix = np.diag(per_label.hits).astype(np.float64)
    for true, predicted, count in per_label.confusions().tolist():
        if true < per_label.num_labels:
            matrix[true, predicted] += count
    matrix /= np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = _CELL * len(matrix)
    parts = [
        label("predicted", _NAMES + side / 2, 14),
        label("true", -(_NAMES + side / 2), 14, transform="rotate(-90)"),
        element("rect", x=_NAMES, y=_NAMES, width=side, height=side, fill="none", stroke="#d9dee7"),
    ]
    for number, name in enumerate(names):
        short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
        middle = _NAMES + _CELL * (number + 0.75)
        parts.append(label(short, _NAMES - 4, middle, "end", font_size=8))
        parts.append(
            label(short, 4 - _NAMES, middle, "start", font_size=8, transform="rotate(-90)")
        )
    for true, predicted in np.argwhere(matrix).tolist():
        share = matrix[true, predicted]
        text = f"{names[true]}, predicted as {names[predicted]}: {100 * share:.1f} %"
        place = {"x": _NAMES + _CELL * predicted, "y": _NAMES + _CELL * true}
        size = {"width": _CELL, "height": _CELL, "fill": _BLUE, "fill_opacity": f"{share:.3f}"}
        parts.append(element("rect", hint(text), **place, **size))
    write_svg(path, _NAMES + side + 10, _NAMES + side + 10, parts)
    return True


def curve_of_repetitions(
    columns: Sequence[str], rows: Sequence[Sequence[float]], path: str | Path
) -> None:
    """Draws metrics over the number of repetitions.

    Args:
        columns: names, the number of repetitions first.
        rows: a number of repetitions and the values of the metrics, for each point.
        path: the plot.
    """
    drawn = [
        Curve(f"{name}, %", tuple((row[0], 100 * row[place]) for row in rows))
        for place, name in enumerate(columns[1:], start=1)
    ]
    write_charts(path, [line_chart("", columns[0], drawn)])


def shares_of_keys(shares: Mapping[str, float], path: str | Path) -> None:
    """Draws which share of the differences between results each config key explains.

    Args:
        shares: {key: share}.
        path: the plot.
    """
    parts = [label("share of the differences in the result", 10, 18, "start")]
    for number, (key, share) in enumerate(shares.items()):
        top = 30 + 36 * number
        parts.append(label(f"{key}: {share:.1%}", 10, top + 12, "start"))
        width = round(440 * share, 1)
        parts.append(element("rect", x=10, y=top + 17, width=width, height=10, fill=_BLUE))
    write_svg(path, 460, 36 + 36 * len(shares), parts)


def roc_curve(curve: "Roc", title: str, path: str | Path) -> None:
    """Draws true over false accept rates, these on a logarithmic axis.

    Args:
        curve: a ``Roc``.
        title: one line above the plot.
        path: the plot.
    """
    above = curve.far > 0  # a rate of 0 has no place on a logarithmic axis
    powers = np.log10(curve.far[above])
    low = min(-1.0, float(powers.min()))
    # The best rate at each of as many places as there is room for, and steps between them.
    columns, last = np.unique(np.ceil(200 * (1 - powers[::-1] / low)), return_index=True)
    points = zip(low * (1 - columns / 200), curve.tar[above][::-1][last], strict=True)
    steps: list[tuple[float, float]] = []
    for x, y in points:
        steps += [(x, steps[-1][1])] if steps else []
        steps.append((x, y))
    axes = Axis("false accept rate", low, 0, logarithmic=True), Axis("true accept rate", 0, 1)
    write_charts(path, [Chart(title, *axes, [Curve("true accept rate", tuple(steps))])])
