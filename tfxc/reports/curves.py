"""The curves of a report, whatever draws them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfxc.core.storage.reading import read_json_lines

_MAX_CURVES = 8


class Curve(NamedTuple):
    """A line of a chart.

    Attributes:
        name: what it shows.
        points: (x, y) in ascending order of x.
        band: (x, low, high) of an area around it, in the same order.
        style: number that its colour and dashes depend on; None for its place among the others.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float, float], ...] = ()
    style: int | None = None


def learning_curves(metrics_file: str | Path) -> list[tuple[str, list[Curve]]]:
    """Returns the curves of a training run over its epochs: losses, dev metrics, learning rate.

    Args:
        metrics_file: a run's ``metrics.jsonl``.

    Returns:
        (title, curves) of each picture; none without the file, or where every curve would be a
        single point, as of recipes that evaluate once. Names with the same points share a curve.
    """
    if not os.path.lexists(metrics_file):
        return []
    lines = read_json_lines(metrics_file, fix="delete the damaged line")
    names = sorted({name for line in lines for name in line})
    shares = [k for k in names if k.startswith("dev ") and not k.endswith("loss")]
    losses = [k for k in names if k.endswith("loss")]
    rates = [k for k in names if k == "learning_rate"]
    groups = [g for g in (losses, shares[:_MAX_CURVES], rates) if g]
    drawn = []
    for group in groups:
        sharing: dict[tuple, list[str]] = {}  # names of the same points
        for name in group:
            points = tuple(
                (x.get("epoch", x["step"]), x[name]) for x in lines if x.get(name) is not None
            )
            sharing.setdefault(points, []).append(name)
        curves = [Curve(_joined(same), points) for points, same in sharing.items()]
        if any(len(curve.points) > 1 for curve in curves):
            drawn.append((group[0] if len(group) == 1 else "", curves))
    return drawn


def _joined(names: Sequence[str]) -> str:
    return ", ".join([names[0], *(name.removeprefix("dev ") for name in names[1:])])


def means_by_frequency(
    counts: np.ndarray, values: Mapping[str, np.ndarray]
) -> Iterator[tuple[int, int, dict[str, float]]]:
    """Yields means over the labels of each power of ten of training examples.

    Args:
        counts: (num_labels,) training examples of each label.
        values: {name: (num_labels,)}.

    Yields:
        The power (of 0 and of 1 to 9 examples it is 0), the number of labels, and {name: mean}.
    """
    power = np.floor(np.log10(np.maximum(counts, 1))).astype(int)
    for each in np.unique(power).tolist():
        there = power == each
        means = {name: float(of_labels[there].mean()) for name, of_labels in values.items()}
        yield each, int(np.count_nonzero(there)), means
