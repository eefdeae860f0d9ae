"""The plots of a report: learning curves, labels by frequency, confusions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import missing_package
from tfxc.core.escaping import one_line, plot_text
from tfxc.reports import curves
from tfxc.reports.fonts import drawable

if TYPE_CHECKING:
    from tfxc.metrics.per_label import PerLabel


_MAX_LABELS = 60  # of a confusion matrix


def pyplot(otherwise: str = "add --no-plots") -> Any:
    """Returns matplotlib's pyplot, drawing into files.

    Args:
        otherwise: for the message: how to go without plots.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    with missing_package("curves", otherwise=otherwise):
        import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def shares_of_keys(shares: Mapping[str, float], path: str | Path) -> None:
    """Draws which share of the differences between results each config key explains.

    Args:
        shares: {key: share}.
        path: the plot.
    """
    plots = pyplot()
    figure, axes = plots.subplots(figsize=(6, 1 + 0.4 * len(shares)), layout="constrained")
    axes.barh([plot_text(key) for key in shares][::-1], [*shares.values()][::-1])
    axes.set_xlabel("share of the differences in the result")
    figure.savefig(path, dpi=120)
    plots.close(figure)


def learning_curves(metrics_file: str | Path, path: str | Path) -> bool:
    """Draws loss, learning rate and dev metrics over the epochs; False where there are none.

    Args:
        metrics_file: a run's ``metrics.jsonl``.
        path: the plot.
    """
    groups = curves.learning_curves(metrics_file)
    if not groups:
        return False
    plots = pyplot()
    figure, axes = plots.subplots(
        1, len(groups), figsize=(4.6 * len(groups), 3.6), layout="constrained", squeeze=False
    )
    for axis, (title, drawn) in zip(axes[0], groups, strict=True):
        for curve in drawn:
            marker = "." if len(curve.points) < 60 else None
            x, y = zip(*curve.points, strict=True)
            axis.plot(x, y, label=curve.name, linewidth=1.4, marker=marker)
        axis.set(xlabel="epoch", title=title)
        axis.grid(True, alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        if len(drawn) > 1:
            axis.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=130)
    plots.close(figure)
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
    plots = pyplot()
    figure, axis = plots.subplots(figsize=(4.6, 3.6), layout="constrained")
    counts, *curves = zip(*rows, strict=True)
    for name, values in zip(columns[1:], curves, strict=True):
        axis.plot(counts, [100 * value for value in values], ".-", label=name, linewidth=1.4)
    axis.set(xlabel=columns[0], ylabel="%")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(True, alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=130)
    plots.close(figure)


def labels_by_frequency(per_label: "PerLabel", label_counts: np.ndarray, path: str | Path) -> None:
    """Draws each label's precision and recall over the number of its training examples.

    Where all labels have about as many, it draws the values in ascending order.
    """
    precision, recall, _ = per_label.precision_recall_f1()
    plots = pyplot()
    figure, axes = plots.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    occurring = {"precision": per_label.predicted > 0, "recall": per_label.true > 0}
    for axis, (name, values) in zip(
        axes, {"precision": precision, "recall": recall}.items(), strict=True
    ):
        counts = label_counts[occurring[name]]
        values = values[occurring[name]]
        if counts.max(initial=0) < 2 * max(1, counts.min(initial=2**31)):
            axis.plot(np.sort(values), ".", markersize=4)
            axis.set(xlabel="labels, lowest first", title=name)
        else:
            axis.scatter(np.maximum(counts, 0.5), values, s=9, alpha=0.4, linewidths=0)
            for power, _, means in curves.means_by_frequency(counts, {name: values}):
                ends = 10**power, 10 ** (power + 1) * 0.97
                axis.plot(ends, [means[name]] * 2, color="#D55E00", linewidth=2)
            axis.set(xscale="log", xlabel="training examples of the label", title=name)
        axis.set_ylim(-0.03, 1.03)
        axis.grid(True, alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plots.close(figure)


def confusion_matrix(per_label: "PerLabel", names: Sequence[str], path: str | Path) -> bool:
    """Draws which labels are confused with which, for at most 60 labels; False if there are more.

    Rows are true labels and sum to 1; correct predictions are on the diagonal. A name that no font
    of this machine has all characters of is replaced by the label's number.
    """
    if per_label.num_labels > _MAX_LABELS:
        return False
    matrix = np.diag(per_label.hits).astype(np.float64)
    for true, predicted, count in per_label.confusions().tolist():
        if true < per_label.num_labels:
            matrix[true, predicted] += count
    matrix /= np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    plots = pyplot()
    side = 3 + 0.16 * len(matrix)
    figure, axis = plots.subplots(figsize=(side + 0.6, side), layout="constrained")
    image = axis.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    places = range(len(matrix))
    short = [name if len(name) <= 18 else name[:17] + "…" for name in names]
    texts, fonts = drawable([one_line(name) for name in short])
    shown = [plot_text(text) for text in texts]
    axis.set_xticks(places, shown, rotation=90, fontsize=6, family=fonts)
    axis.set_yticks(places, shown, fontsize=6, family=fonts)
    axis.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, shrink=0.7)
    figure.savefig(path, dpi=130)
    plots.close(figure)
    return True
