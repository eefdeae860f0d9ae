"""Learns a decision of the best labels that a model finds for held-out examples."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core import registry
from tfxc.core.errors import DataError
from tfxc.decision.decision import Decision
from tfxc.decision.fitted import FittedDecision
from tfxc.decision.held_out import HeldOut
from tfxc.inference.searcher import Searcher
from tfxc.metrics.base import distinct_labels, hits
from tfxc.metrics.classification import Classification

if TYPE_CHECKING:
    from tfxc.core.settings import DecisionSettings
    from tfxc.inference.protocol import RunModel
    from tfxc.inference.searcher import Examples, Excluded


@dataclasses.dataclass(frozen=True)
class Learned:
    """A decision, and how good it is.

    Attributes:
        fitted: what was learned of all examples.
        measured: metrics of the labels returned, for each half of the examples by what was learned
            of the other half; empty where no rule was learned.
    """

    fitted: FittedDecision
    measured: dict[str, float]


def learn_decision(
    model: "RunModel",
    examples: "Examples",
    batch_size: int,
    settings: "DecisionSettings",
    label_counts: np.ndarray,
    excluded: "Excluded | None" = None,
) -> Learned:
    """Learns a decision of examples that the model was not trained on.

    Args:
        model: ``RunModel``; what it may have learned before does not count.
        examples: examples with labels.
        batch_size: examples of a search.
        settings: the config's section.
        label_counts: int64 (num_labels,), training examples of each label.
        excluded: labels that do not count, see ``Searcher``.

    Raises:
        ConfigError: probabilities are needed, and there are none.
        DataError: there is no example, or all of the labels found are true, or none of them.
    """
    model.decision = FittedDecision()
    native = settings.probabilities is None and model.has_probabilities
    k = min(settings.k, model.num_labels)
    searcher = Searcher(model, k, probabilities=native, excluded=excluded)
    results = list(searcher.over(examples, batch_size, "deciding"))
    if not results:
        raise DataError("there is no example to learn a decision from", fix="check the file")
    ids = np.concatenate([result.ids for result in results])
    scores = np.concatenate([result.scores for result in results])
    labels = _padded([result.labels for result in results])
    everything = HeldOut(ids, scores, hits(ids, labels), _count(labels), label_counts)
    fitted = _fitted(everything, settings, native)
    measured: dict[str, float] = {}
    if fitted.rule is not None:
        measured = _measured(everything, labels, settings, native)
    return Learned(fitted, measured)


def _padded(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Joins arrays of label ids of different widths."""
    joined = np.full((sum(map(len, parts)), max(part.shape[1] for part in parts)), -1, np.int32)
    done = 0
    for part in parts:
        joined[done : done + len(part), : part.shape[1]] = part
        done += len(part)
    return joined


def _count(labels: np.ndarray) -> int:
    return int((distinct_labels(labels) >= 0).sum())


def _fitted(held_out: HeldOut, settings: "DecisionSettings", native: bool) -> FittedDecision:
    calibration = None
    if settings.probabilities is not None:
        calibration = registry.create("probabilities", settings.probabilities.section()).fit(
            held_out
        )
        held_out = dataclasses.replace(held_out, scores=calibration(held_out.scores))
    rule = None
    if settings.labels is not None:
        method = registry.create("labels", settings.labels.section())
        rule = method.fit(held_out, native or calibration is not None)
    return FittedDecision(calibration, rule)


def _measured(
    held_out: HeldOut, labels: np.ndarray, settings: "DecisionSettings", native: bool
) -> dict[str, float]:
    """Measures each half of the examples by the decision that is learned of the other half."""
    metric = Classification(Decision())
    empty = 0
    is_odd = np.arange(len(labels)) % 2 == 1
    for half in (is_odd, ~is_odd):
        fitted = _fitted(held_out.rows(~half, _count(labels[~half])), settings, native)
        assert fitted.rule is not None, "callers have one learned"
        ids = held_out.ids[half]
        scores = held_out.scores[half]
        if fitted.calibration is not None:
            scores = fitted.calibration(scores)
        metric.decision = fitted.rule
        metric.update(ids, scores, labels[half])
        empty += int((~fitted.rule.predicted(ids, scores).any(axis=1)).sum())
    names = ("micro-F1", "macro-F1")
    result = metric.result()
    return {name: result[name] for name in names} | {"without a label": empty / len(labels)}
