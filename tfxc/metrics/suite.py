"""All metrics of one evaluation, updated together and printed as one table."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.decision.decision import Decision
from tfxc.metrics.base import Metric, RankedBatch, checked_ks
from tfxc.metrics.classification import Classification
from tfxc.metrics.ranking import NDCG, NormalisedPrecision, Precision, Recall

if TYPE_CHECKING:
    from tfxc.labels.slices import LabelSlices

RARE_BOUNDS = (0, 5, 50)  # training examples of new, rare and less frequent labels, at most


def build_metrics(
    ks: Sequence[int] = (1, 3, 5),
    label_counts: Sequence[int] | np.ndarray | None = None,
    num_train_examples: int | None = None,
    propensity: str | Sequence[float] = "default",
    slices: "LabelSlices | None" = None,
    full_loss: bool = False,
    classification: Classification | None = None,
    more: Sequence[Metric] = (),
) -> "MetricSuite":
    """Returns the metrics that the given facts allow.

    Always P, normalised P, R and nDCG at each k. With ``label_counts`` also label coverage,
    macro-F1, R and P by frequency slice, and the share of rare and of new labels that is found;
    with ``num_train_examples`` also PSP and PSnDCG.

    Args:
        ks: cut-offs.
        label_counts: (num_labels,) number of training examples of each label.
        num_train_examples: number of training examples.
        propensity: ``"default"``, ``"wikipedia"``, ``"amazon"`` or a pair (A, B); used where
            there are propensity-scored metrics.
        slices: ``labels.slices.LabelSlices``; default ``frequency_slices(label_counts)``.
        full_loss: adds the cross-entropy of the softmax over all labels; batches then come with
            ``losses``.
        classification: ``Classification``, whose precision, recall, F1 and accuracy it adds.
        more: metrics to add, such as ``metrics_of_pairs``.

    Returns:
        ``MetricSuite``.

    Raises:
        ConfigError: an argument is out of its range, or ``num_train_examples`` or ``slices`` come
            without ``label_counts``.

    Example:
        >>> suite = build_metrics(ks=(1, 2))
        >>> suite.update(np.array([[0, 2], [1, 2]]), np.array([[9, 5], [8, 2]]), [[0], [2]])
        >>> suite.result()["P@1"]
        0.5
    """
    ks = checked_ks(ks)
    metrics: list[Metric] = [Precision(ks), NormalisedPrecision(ks), Recall(ks), NDCG(ks)]
    if label_counts is None and (num_train_examples is not None or slices is not None):
        raise ConfigError(
            "num_train_examples and slices need label_counts, which is missing",
            where="label_counts",
            fix="give the number of training examples of each label",
        )
    if num_train_examples is not None:
        from tfxc.metrics.propensity_scored import PropensityScoredNDCG, PropensityScoredPrecision

        assert label_counts is not None
        facts = (label_counts, num_train_examples, propensity, ks)
        metrics += [PropensityScoredPrecision(*facts), PropensityScoredNDCG(*facts)]
    if classification is not None:
        metrics.append(classification)
    metrics += more
    if label_counts is not None:
        from tfxc.labels.slices import frequency_slices
        from tfxc.metrics.coverage import (
            FoundLabels,
            LabelCoverage,
            MacroF1,
            SlicedPrecision,
            SlicedRecall,
        )

        slices = slices or frequency_slices(label_counts)
        metrics += [SlicedRecall(slices, ks), SlicedPrecision(slices, ks)]
        metrics.append(FoundLabels(frequency_slices(label_counts, bounds=RARE_BOUNDS), ks))
        metrics += [LabelCoverage(len(label_counts), ks), MacroF1(len(label_counts), ks)]
    if full_loss:
        from tfxc.metrics.loss import FullLoss

        metrics.append(FullLoss())
    return MetricSuite(metrics)


def metrics_of_pairs(ks: Sequence[int], trained: "LabelSlices | None", ranks: bool) -> list[Metric]:
    """Returns metrics of labels with and without training examples apart, and of ranks.

    Args:
        ks: cut-offs.
        trained: ``labels.slices.trained_slices``; None where all have training examples.
        ranks: adds MRR and H@k over all pairs; batches then come with ``ranks``.
    """
    metrics: list[Metric] = []
    if trained is not None:
        from tfxc.metrics.coverage import TrainedRecall

        metrics.append(TrainedRecall(trained, ks))
    if ranks:
        from tfxc.metrics.ranks import Ranks

        metrics.append(Ranks(ks, trained))
    return metrics


def metrics_of_decision(
    decision: Decision,
    ks: Sequence[int],
    probabilities: bool,
    label_counts: np.ndarray | None = None,
) -> list[Metric]:
    """Returns metrics of probabilities, and of the sets of labels that are returned.

    Args:
        decision: which labels are returned; of the best one alone there are no sets.
        ks: cut-offs.
        probabilities: whether the batches' scores are probabilities.
        label_counts: (num_labels,) number of training examples of each label, for the slices head,
            torso and tail; None leaves these out.
    """
    metrics: list[Metric] = []
    if probabilities:
        from tfxc.metrics.probability_errors import ProbabilityErrors, RiskCoverage

        metrics += [ProbabilityErrors(ks), RiskCoverage()]
    if not decision.best_alone:
        from tfxc.labels.slices import frequency_slices
        from tfxc.metrics.returned import SetCoverage, SetSizes

        slices = None if label_counts is None else frequency_slices(label_counts, "shares")
        metrics += [SetCoverage(decision, slices), SetSizes(decision, slices)]
    return metrics


class MetricSuite(Metric):
    """Several metrics as one; hits are searched once per batch.

    Args:
        metrics: list of ``Metric`` with distinct names.

    Attributes:
        names: keys of ``result()``, in order.
        min_predictions: the smallest K that ``update`` accepts.
        num_examples: number of examples counted.

    Raises:
        ConfigError: two metrics report the same name.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = tuple(metrics)
        self.names = tuple(name for metric in self.metrics for name in metric.names)
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise ConfigError(f"several metrics report {', '.join(sorted(twice))}")
        self.min_predictions = max((m.min_predictions for m in self.metrics), default=1)
        self.num_examples = 0

    @property
    def decision(self) -> Decision:
        """The ``Decision`` of its ``Classification``; the best label alone without one."""
        decisions = (m.decision for m in self.metrics if isinstance(m, Classification))
        return next(decisions, Decision())

    def settings(self) -> tuple[Any, ...]:
        return tuple(metric.settings() for metric in self.metrics)

    def update_ranked(self, batch: RankedBatch) -> None:
        for metric in self.metrics:
            metric.update_ranked(batch)
        self.num_examples += len(batch)

    def per_example_ranked(self, batch: RankedBatch) -> dict[str, np.ndarray]:
        return _join(metric.per_example_ranked(batch) for metric in self.metrics)

    def merge(self, other: Metric) -> None:
        """Adds what ``other``, a suite built with the same arguments, has counted.

        Raises:
            ConfigError: ``other`` holds other metrics.
        """
        if not isinstance(other, MetricSuite) or self.settings() != other.settings():
            raise ConfigError(
                "the suites contain different metrics",
                fix="build both with the same arguments",
            )
        for mine, theirs in zip(self.metrics, other.metrics, strict=True):
            mine.merge(theirs)
        self.num_examples += other.num_examples

    def reset(self) -> None:
        """Forgets all examples."""
        for metric in self.metrics:
            metric.reset()
        self.num_examples = 0

    def result(self) -> dict[str, float]:
        return _join(metric.result() for metric in self.metrics)

    def known_values(self) -> dict[str, float | None]:
        """As ``result``, with None if ``support()`` is 0."""
        support = self.support()
        return {name: v if support[name] else None for name, v in self.result().items()}

    def support(self) -> dict[str, int]:
        return _join(metric.support() for metric in self.metrics)

    def counts(self) -> dict[str, int]:
        """Returns the number of examples, of those left out, and of what else is to be reported."""
        return {"examples": self.num_examples} | _join(m.counts() for m in self.metrics)

    def best_is_larger(self, name: str) -> bool:
        """Says whether a larger value is a better one; False for ``loss`` and names ending in it.

        Raises:
            ConfigError: the suite reports no such metric.
        """
        for metric in self.metrics:
            if name in metric.names:
                return metric.larger_is_better
        if name.endswith("loss"):
            return False
        spelled = {known.lower(): known for known in self.names}
        near = difflib.get_close_matches(name.lower(), spelled, n=1)
        names = ", ".join(self.names)
        raise ConfigError(
            f"there is no metric {name!r}",
            fix=f"write {spelled[near[0]]!r}, or another of {names}"
            if near
            else f"choose one of {names}",
        )

    def table(self) -> str:
        """Returns the result as text: percentages, one row per metric and one column per cut-off.

        A value with nothing to average over is shown as a dash. What is not a percentage has a line
        of its own.

        Example:
            >>> suite = build_metrics(ks=(1, 2))
            >>> suite.update(np.array([[0, 2], [1, 2]]), np.array([[9, 5], [8, 2]]), [[0], [2]])
            >>> print(suite.table())
            %                 @1      @2
            P              50.00   50.00
            normalised P   50.00  100.00
            R              50.00  100.00
            nDCG           50.00   81.55
            examples: 2
            examples without labels: 0
        """
        rows, others = self.cells()
        columns = {column for cells in rows.values() for column in cells}
        # Metrics without a cut-off share the first column instead of having an empty one.
        numbered = sorted(columns - {""}, key=lambda column: int(column[1:])) or [""]
        width = max([len(row) for row in rows] + [1])
        lines = ["%".ljust(width) + "".join(column.rjust(8) for column in numbered)]
        for row, cells in rows.items():
            texts = [cells[""]] if "" in cells else [cells.get(c, "") for c in numbered]
            lines.append(row.ljust(width) + "".join(text.rjust(8) for text in texts))
        lines = [line.rstrip() for line in lines]
        lines += [f"{name}: {text}" for name, text in others.items()]
        counts = [f"{name}: {number:,}" for name, number in self.counts().items()]
        return "\n".join([*lines, *counts])

    def cells(self) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        """Returns what ``table`` shows: ``{row: {column: text}}``, and ``{name: text}`` of other
        values.

        Columns are called ``@1`` and so on, and the empty string for a metric without cut-off.
        """
        rows: dict[str, dict[str, str]] = {}
        others = {}
        values = self.result()
        support = self.support()
        shares = {name for metric in self.metrics if metric.is_share for name in metric.names}
        for name, value in values.items():
            if name not in shares:
                others[name] = f"{value:.4f}" if support[name] else "-"
                continue
            row, column = _cell(name)
            rows.setdefault(row, {})[column] = f"{100 * value:.2f}" if support[name] else "-"
        return rows, others


def _join(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for part in parts:
        joined |= part
    return joined


def _cell(name: str) -> tuple[str, str]:
    """Returns the row and column of a metric's name: ``R@5/tail`` is in row ``R/tail``, column
    ``@5``.
    """
    at = re.fullmatch(r"(.*)@(\d+)(.*)", name)
    return (at[1] + at[3], f"@{at[2]}") if at else (name, "")
