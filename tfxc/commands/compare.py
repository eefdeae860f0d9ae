"""Plot a metric of several runs over the epochs and print its final values.

    tfxc compare runs/a runs/b --output curves.svg
    tfxc compare runs/scent* runs/sox* --label-by objective.name --metric "train full_loss"
    tfxc compare ours=runs/a ours=runs/b theirs=runs/c --output curves.svg

Runs with the same label are repetitions with other seeds: the plot shows their mean, with a band of
one standard deviation. Write a label in front of a run, or let --label-by name the config keys to
take it from. Otherwise the label is the run's folder.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.errors import CheckpointError, ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.storage.reading import read_json_lines
from tfxc.core.storage.remote import with_addresses
from tfxc.reports.charts import check_svg

_KEYS_OF_A_REPETITION = ("about", "run", "seed")
_WRITTEN_BY = {
    "full_loss": "train with evaluation.full_loss=true",
    "test ": "train with evaluation.test_on_improvement=true",
}


class Curve(NamedTuple):
    """The runs of one label.

    Attributes:
        label: text.
        at: (points,) epochs, or steps.
        values: (runs, points).
    """

    label: str
    at: np.ndarray
    values: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(points,)."""
        return self.values.mean(axis=0)

    @property
    def deviation(self) -> np.ndarray | None:
        """(points,) standard deviation over the runs, None for a single one."""
        return self.values.std(axis=0, ddof=1) if len(self.values) > 1 else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``tfxc compare``.

    Attributes:
        runs: run folder, or LABEL=FOLDER.
        metric: metric to plot, by its name in metrics.jsonl, e.g. loss or "dev full_loss".
        output: plot to write, e.g. curves.svg; None means none.
        csv: table to write with all points; None means none.
        label_by: label each run by the values of these config keys, e.g. objective.name; None means
            by its folder.
        axis: horizontal axis.
        scale: vertical scale.
        title: title of the plot.
    """

    runs: Annotated[Sequence[str], Option("RUN", positional=True, mirror="reads")]
    metric: str = "dev P@1"
    output: Annotated[str | None, Option("FILE", mirror="writes")] = None
    csv: Annotated[str | None, Option("FILE")] = None
    label_by: Annotated[str | None, Option("KEYS")] = None
    axis: Literal["epoch", "step"] = "epoch"
    scale: Literal["linear", "log"] = "linear"
    title: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the plot and prints the table."""
    options = parse(Options, argv, "compare", __doc__)
    if options.output:
        check_svg(options.output, "--output")  # before anything is read
    groups = grouped(options.runs, options.label_by)
    curves = [curve(label, paths, options.metric, options.axis) for label, paths in groups.items()]
    less_is_better = options.metric.endswith("loss")
    curves.sort(key=lambda method: method.mean[-1] if less_is_better else -method.mean[-1])
    print(table(curves, options.metric, options.axis))
    if options.csv:
        write_csv(Path(options.csv), curves, options.axis)
        print(f"written: {options.csv}")
    if options.output:
        draw(Path(options.output), curves, options)
        print(f"written: {options.output}")
    return 0


def grouped(runs: Sequence[str], label_by: str | None) -> dict[str, list[str]]:
    """Returns run folders by label, ``{label: [path]}``, in the order given.

    Args:
        runs: texts ``"FOLDER"`` or ``"LABEL=FOLDER"``.
        label_by: config keys, e.g. ``"objective.name"``, divided by commas; None labels each run
            by its folder or address.

    Raises:
        ConfigError: a folder is given twice, or a config has no such key.
        CheckpointError: a folder is not a run.
    """
    from tfxc.runs.folder import RunFolder

    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    seen = set()
    for text in runs:
        label, sign, path = text.partition("=")
        if not sign or Path(text).exists():
            label = ""
            path = text
        if os.path.realpath(path) in seen:
            raise ConfigError("this run is named twice", where=path, fix="name each run once")
        seen.add(os.path.realpath(path))
        config = RunFolder(path).config().model_dump(mode="json")
        if not label:
            keys = label_by.split(",") if label_by else ()
            label = ", ".join(str(_value(config, key, path)) for key in keys)
            label = label or with_addresses(path)
        groups.setdefault(label, []).append((path, config))
    for label, members in groups.items():
        # The runs of a label should be the same but for the seed.
        flat = [dict(_leaves(config)) for _, config in members]
        differing = [
            key
            for key in sorted(set().union(*flat))
            if key.split(".")[0] not in _KEYS_OF_A_REPETITION
            and any(tree.get(key) != flat[0].get(key) for tree in flat)
        ]
        if differing:
            print(
                f"note: the runs of {label!r} differ in more than the seed: "
                f"{', '.join(differing[:4])}",
                file=sys.stderr,
            )
    return {label: [path for path, _ in members] for label, members in groups.items()}


def _value(config: dict[str, Any], key: str, path: str) -> Any:
    for part in key.split("."):
        if not isinstance(config, dict) or part not in config:
            raise ConfigError(
                f"the config of {path} has no key {key!r}",
                where="--label-by",
                fix="write e.g. objective.name or head.name,objective.name",
            )
        config = config[part]
    return config


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json_text(value)


def curve(label: str, paths: Sequence[str], metric: str, axis: str) -> Curve:
    """Returns ``Curve`` of the runs of one label, at the points that all of them have.

    Raises:
        CheckpointError: a run holds no such metric; those it holds are named. Or the runs have no
            point in common.
    """
    series = [values_of(path, metric, axis) for path in paths]
    common = sorted(set.intersection(*(set(points) for points in series)))
    if not common:
        raise CheckpointError(
            f"the runs of {label!r} have no {axis} of {metric!r} in common",
            where=paths[0],
            fix="give them different labels, LABEL=RUN",
        )
    values = np.array([[points[place] for place in common] for points in series])
    return Curve(label, np.array(common), values)


def values_of(path: str | Path, metric: str, axis: str) -> dict[float, float]:
    """Returns values of a metric in a run's metrics.jsonl, ``{epoch or step: value}``.

    Raises:
        CheckpointError: as ``curve``.
    """
    file = Path(path) / "metrics.jsonl"
    if not file.exists():
        raise CheckpointError(
            "the run has no metrics per epoch",
            where=file.parent,
            fix="train it first; `tfxc evaluate --run RUN --compare RUN2` compares runs without "
            "epochs",
        )
    lines = read_json_lines(file, fix="delete the damaged line")
    known = sorted({name for line in lines for name in line} - {"step", "epoch"})
    if metric not in known:
        means = next((way for part, way in _WRITTEN_BY.items() if part in metric), None)
        raise CheckpointError(
            f"there is no metric {metric!r}; the run has {', '.join(known) or 'none yet'}",
            where=path,
            fix=f"choose one of these with --metric{f', or {means}' if means else ''}",
        )
    # A line may hold the step alone.
    per_step = next((x["epoch"] / x["step"] for x in reversed(lines) if x.get("epoch")), None)
    if axis == "epoch" and per_step is None:
        raise CheckpointError("its metrics have no epochs", where=path, fix="use --axis step")
    points = {}
    for line in lines:
        if line.get(metric) is not None:
            epoch = line.get("epoch", line["step"] * (per_step or 0))
            points[line["step"] if axis == "step" else round(epoch, 2)] = line[metric]
    return points


def table(curves: Sequence[Curve], metric: str, axis: str) -> str:
    """Returns the final values as text, the best method first."""
    width = max(len("method"), *(len(method.label) for method in curves))
    lines = [metric, f"{'method':{width}}  runs  {axis:>8}        mean    std"]
    for method in curves:
        spread = "     -" if method.deviation is None else f"{method.deviation[-1]:6.4f}"
        lines.append(
            f"{method.label:{width}}  {len(method.values):4}  {method.at[-1]:8g}"
            f"  {method.mean[-1]:10.4f}  {spread}"
        )
    return "\n".join(lines)


def write_csv(path: Path, curves: Sequence[Curve], axis: str) -> None:
    """Writes all points: method, runs, epoch or step, mean, standard deviation."""
    from tfxc.reports import tables

    rows = []
    for method in curves:
        spread = [""] * len(method.at) if method.deviation is None else method.deviation.tolist()
        points = zip(method.at.tolist(), method.mean.tolist(), spread, strict=True)
        rows += [(method.label, len(method.values), *point) for point in points]
    tables.write_csv(path, ("method", "runs", axis, "mean", "std"), rows)


def draw(path: Path, curves: Sequence[Curve], options: Options) -> None:
    """Writes the plot. The best method comes first.

    Raises:
        ConfigError: a logarithmic axis and a value that has no logarithm.
    """
    logarithmic = options.scale == "log"
    if logarithmic and any((method.values <= 0).any() for method in curves):
        raise ConfigError(
            "a value of 0 or less has no logarithm", where="--scale", fix="use --scale linear"
        )
    from tfxc.reports import charts
    from tfxc.reports import curves as drawing

    # By name: a method looks the same in every plot of the same methods.
    names = sorted(method.label for method in curves)
    drawn = []
    for method in curves:
        values = [method.mean]
        if method.deviation is not None:
            least = method.values.min(axis=0) / 2 if logarithmic else -np.inf
            values += [np.maximum(method.mean - method.deviation, least)]
            values += [method.mean + method.deviation]
        mean, *band = np.log10(values) if logarithmic else values
        name = method.label
        if len(method.values) > 1:
            name += f" ({len(method.values)} runs)"
        points = zip(method.at.tolist(), mean.tolist(), strict=True)
        area = zip(method.at.tolist(), *band, strict=True) if band else ()
        drawn.append(drawing.Curve(name, tuple(points), tuple(area), names.index(method.label)))
    places = [x for curve in drawn for x, _ in curve.points]
    heights = [y for curve in drawn for _, y in curve.points]
    heights += [y for curve in drawn for _, *ends in curve.band for y in ends]
    axes = (
        charts.Axis.around(options.axis, places),
        charts.Axis.around(options.metric, heights, logarithmic),
    )
    charts.write_charts(path, [charts.Chart(options.title, *axes, drawn)])
