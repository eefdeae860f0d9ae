"""What was measured of a run, and the facts about it that a report and a model card show."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.labels.slices import LabelSlices, frequency_slices
from tfxc.metrics.base import ratio
from tfxc.tuning.results import read_results

if TYPE_CHECKING:
    from tfxc.metrics.suite import MetricSuite
    from tfxc.reports.decisions import Decisions
    from tfxc.runs.loaded import LoadedRun

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
    """Of what is not NaN; None where all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
