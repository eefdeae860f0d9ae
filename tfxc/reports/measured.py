"""What was measured of a run, and the facts about it that a report and a model card show."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.messages import OUTPUT
from tfxc.labels.slices import LabelSlices, frequency_slices
from tfxc.metrics.base import ratio
from tfxc.tuning.results import read_results

if TYPE_CHECKING:
    from tfxc.metrics.suite import MetricSuite
    from tfxc.reports.decisions import Decisions
    from tfxc.reports.measurement import Measurement
    from tfxc.runs.loaded import LoadedRun

#: Wrong examples that a page shows.
MOST_WRONG = 200

SLICE_COLUMNS = (
    "labels",
    "training examples of a label",
    "occurrences",
    "precision",
    "recall",
    "macro F1",
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run on one set of examples.

    Attributes:
        loaded: the run.
        name: of the examples: a split or a file.
        metrics: with their results.
        decisions: what it predicts of them.
        texts: {example: text} of the wrong ones, possibly empty.
        pictures: {example: data URI} of the most confident wrong ones, where they are images.
    """

    loaded: "LoadedRun"
    name: str
    metrics: "MetricSuite"
    decisions: "Decisions"
    texts: Mapping[int, str]
    pictures: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def methods(self) -> list[tuple[str, str]]:
        """Returns (kind, name) of what the run's config consists of.

        Of one without a network that is its recipe.
        """
        config = self.loaded.config
        sections = [*config.network_sections.items()]
        if not any(method for _, method in sections):
            sections = [("recipe", config.recipe)]
        methods = [(kind, method.name) for kind, method in sections if method]
        return methods + [("technique", method.name) for method in config.techniques]

    def summary(self) -> dict[str, Any]:
        """Returns the run's summary, empty if it is not finished."""
        return self.loaded.folder.summary() or {}

    def search(self) -> dict[str, Any] | None:
        """Returns what the search for settings has found that the run is of; None if it is of none.

        See ``tfxc.tuning.results.read_results``; and ``place``, that of the run from 1.
        """
        run = self.loaded.folder.path.resolve()
        results = read_results(run.parent)
        if results is None:
            return None
        runs = [Path(row["run"]).name for row in results["settings"]]
        return {**results, "place": runs.index(run.name) + 1} if run.name in runs else None

    def headline(self) -> dict[str, float]:
        """Returns the few values that matter most, {name: value}, for what is predicted."""
        values = self.metrics.known_values()
        support = self.metrics.support()
        names = [name for name in values if name.startswith(("P@", "nDCG@")) and "/" not in name]
        first = ["P@1", *[name for name in names if name.startswith("nDCG@")][-1:]]
        headline = {name: values[name] for name in first if name in values and support[name]}
        averages = self.decisions.per_label.classification.result()
        headline |= {name: averages[name] for name in ("accuracy", "micro-F1", "macro-F1")}
        for metric in [*self.decisions.reliability.values()][:1]:
            headline["ECE"] = metric.result()["ECE"]
        return {name: value for name, value in headline.items() if value is not None}

    def slices(self) -> list[tuple[Any, ...]]:
        """Returns a row of ``SLICE_COLUMNS`` behind the name of each: head, torso and tail.

        The head are the most frequent labels, of which a third of all occurrences in training are;
        the torso those of the second third. Labels that all have as many examples are one slice.
        """
        per_label = self.decisions.per_label
        counts = self.loaded.label_counts
        assert counts is not None  # see ``LoadedRun.require_counts``
        slices = frequency_slices(counts, "shares")
        if counts.min() == counts.max():
            slices = LabelSlices(np.zeros(len(counts), np.int8), ("all",))
        _, _, f1 = per_label.precision_recall_f1()
        rows = []
        for number, name in enumerate(slices.names):
            inside = slices.slice_of_label == number
            if not inside.any():
                continue
            hits, predicted, true = (
                int(column[inside].sum())
                for column in (per_label.hits, per_label.predicted, per_label.true)
            )
            least = int(counts[inside].min())
            most = int(counts[inside].max())
            values = (float(ratio(hits, predicted)), float(ratio(hits, true)), _mean(f1[inside]))
            span = f"{least:,}" if least == most else f"{least:,} to {most:,}"
            rows.append((name, int(inside.sum()), span, true, *values))
        return rows


def _mean(values: np.ndarray) -> float | None:
    """Returns the mean of what is not NaN; None where all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def run_to_measure(loaded: "LoadedRun", measurement: "Measurement") -> "LoadedRun":
    """Returns the run, or if it was trained on all examples at last the one before inside it.

    That has a dev split it was not trained on, and is measured where no examples are named.
    """
    before = loaded.folder.held_out_runs()
    named = measurement.data or measurement.split
    if not before or named or "test" in loaded.manifest["splits"]:
        return loaded
    from tfxc.runs.loaded import LoadedRun

    path = before[0].path
    OUTPUT.info(f"measured is {path}, which was trained without its dev split")
    return LoadedRun(path, loaded.trust, loaded.options)


def measure(loaded: "LoadedRun", measurement: "Measurement", where: str) -> Measured:
    """Measures a run for a report or a card.

    Args:
        loaded: the run, with the number of examples of each label.
        measurement: what is measured, and on which examples.
        where: what names the run, for messages.

    Raises:
        ConfigError: the run does not know how frequent its labels are.
    """
    from tfxc.data.examples.kinds import IMAGE
    from tfxc.reports.measurement import of_unknown_labels
    from tfxc.reports.pictures import pictures_of
    from tfxc.reports.tables import most_confident

    loaded = run_to_measure(loaded, measurement)
    loaded.require_counts(where)
    name, rows = measurement.examples(loaded)
    metrics = measurement.metrics(loaded)
    decisions = measurement.decisions(loaded)
    _, unknown = measurement.update(loaded, rows, metrics, decisions)
    if unknown:
        OUTPUT.info(
            f"{name}: {metrics.num_examples:,} examples, {of_unknown_labels(unknown, loaded)}"
        )
    wanted = {row for row, *_ in decisions.per_label.wrong}
    texts = measurement.texts(loaded, name, wanted)
    pictures = {}
    if loaded.kind is IMAGE:
        shown = {row for row, *_ in most_confident(decisions.per_label)[:MOST_WRONG]}
        pictures = pictures_of(lambda: measurement.examples(loaded)[1], shown)
    return Measured(loaded, name, metrics, decisions, texts, pictures)
