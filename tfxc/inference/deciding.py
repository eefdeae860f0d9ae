"""Learns a decision of the best labels that a model finds for held-out examples."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfxc.core import registry
from tfxc.core.errors import DataError
from tfxc.core.messages import NOTES
from tfxc.decision.abstaining import least_confidence
from tfxc.decision.decision import NEVER, Decision
from tfxc.decision.fitted import FittedDecision
from tfxc.decision.held_out import HeldOut
from tfxc.inference.searcher import Searcher
from tfxc.metrics.base import distinct_labels, hits, ratio
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
            of the other half; empty where no rule was learned, or none can be of a half.
    """

    fitted: FittedDecision
    measured: dict[str, float]


class Examined(NamedTuple):
    """Examples, and a model that was not trained on them.

    Attributes:
        model: ``RunModel``; what it has learned before does not count.
        examples: examples with labels.
        names: of its labels, by id.
        excluded: labels that do not count, see ``Searcher``.
    """

    model: "RunModel"
    examples: "Examples"
    names: Sequence[object]
    excluded: "Excluded | None" = None


def learn_decision(
    examined: Iterable[Examined],
    batch_size: int,
    settings: "DecisionSettings",
    label_counts: np.ndarray,
    names: Sequence[object],
) -> Learned:
    """Learns a decision of examples that nothing was trained on.

    Args:
        examined: see ``Examined``; several are learned from together.
        batch_size: examples of a search.
        settings: the config's section.
        label_counts: int64 (num_labels,), training examples of each label.
        names: of the labels that the decision is for, by id.

    Raises:
        ConfigError: probabilities are needed, and there are none.
        DataError: there is no example, or all of the labels found are true, or none of them.
    """
    found: list[tuple[np.ndarray, ...]] = []
    native = False
    for model, examples, own_names, excluded in examined:
        model.decision = FittedDecision()
        native = settings.probabilities is None and model.has_probabilities
        k = min(settings.k, len(own_names))
        searcher = Searcher(model, k, probabilities=native, excluded=excluded)
        numbers = _numbers(own_names, names)
        for result in searcher.over(examples, batch_size, "deciding"):
            right = hits(result.ids, result.labels)
            true = _renumbered(result.labels, numbers, len(names))
            found.append((_renumbered(result.ids, numbers, len(names)), result.scores, right, true))
    if not found:
        raise DataError("there is no example to learn a decision from", fix="check the file")
    ids, scores, right, labels = map(_padded, zip(*found, strict=True))
    return learned_of_lists(ids, scores, right, labels, settings, label_counts, native)


def learned_of_lists(
    ids: np.ndarray,
    scores: np.ndarray,
    right: np.ndarray,
    labels: np.ndarray,
    settings: "DecisionSettings",
    label_counts: np.ndarray,
    native: bool = False,
) -> Learned:
    """Learns a decision of the labels that were found for examples.

    Args:
        ids, scores: (examples, k), best first, padded with -1 and minus infinity.
        right: bool (examples, k), which of them are true.
        labels: the true ones, padded with -1.
        settings, label_counts: see ``learn_decision``.
        native: whether the scores are probabilities.

    Raises:
        ConfigError, DataError: see ``learn_decision``.
    """
    labels = distinct_labels(labels)
    everything = HeldOut(ids, scores, label_counts, right, (labels >= 0).sum(axis=1), labels)
    fitted = _fitted(everything, settings, native)
    measured: dict[str, float] = {}
    if fitted.rule is not None:
        try:
            measured = _measured(everything, labels, settings, native)
        except DataError as error:
            NOTES.warning(f"the decision is not measured: of half of the examples, {error.problem}")
    return Learned(fitted, measured)


def _numbers(own_names: Sequence[object], names: Sequence[object]) -> np.ndarray | None:
    """Returns the id among ``names`` of each name; None where they are the same."""
    if own_names == names:
        return None
    ids = {name: number for number, name in enumerate(names)}
    return np.array([ids.get(name, -1) for name in own_names], np.int32)


def _renumbered(ids: np.ndarray, numbers: np.ndarray | None, num_labels: int) -> np.ndarray:
    """Returns ids in other numbers; those that have none, as of unknown labels, lie beyond all."""
    if numbers is None:
        return ids
    known = (ids >= 0) & (ids < len(numbers))
    beyond = np.where(ids < 0, -1, num_labels + ids)
    return np.where(known, numbers[np.where(known, ids, 0)], beyond).astype(np.int32)


def _padded(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Joins arrays of different widths; ids are padded with -1, scores with minus infinity."""
    padding = {"i": -1, "f": -np.inf, "b": False}[parts[0].dtype.kind]
    shape = (sum(map(len, parts)), max(part.shape[1] for part in parts))
    joined = np.full(shape, padding, parts[0].dtype)
    done = 0
    for part in parts:
        joined[done : done + len(part), : part.shape[1]] = part
        done += len(part)
    return joined


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
    if settings.abstain is not None:
        # Where no labels are chosen, the best one is the answer.
        rule = rule or Decision(NEVER, native or calibration is not None, at_least=1, at_most=1)
        least = settings.abstain.below
        if settings.abstain.risk is not None:
            least = least_confidence(held_out, settings.abstain.risk)
        rule = dataclasses.replace(rule, abstain=least)
    return FittedDecision(calibration, rule)


def _measured(
    held_out: HeldOut, labels: np.ndarray, settings: "DecisionSettings", native: bool
) -> dict[str, float]:
    """Measures each half of the examples by the decision that is learned of the other half."""
    metric = Classification(Decision())
    empty = size = 0
    found = 0.0
    is_odd = np.arange(len(labels)) % 2 == 1
    for half in (is_odd, ~is_odd):
        fitted = _fitted(held_out.rows(~half), settings, native)
        assert fitted.rule is not None, "callers have one learned"
        ids = held_out.ids[half]
        scores = held_out.scores[half]
        if fitted.calibration is not None:
            scores = fitted.calibration(scores)
        metric.decision = fitted.rule
        metric.update(ids, scores, labels[half])
        chosen = fitted.rule.predicted(ids, scores)
        empty += int((~chosen.any(axis=1)).sum())
        size += int(chosen.sum())
        right = (chosen & held_out.hits[half]).sum(axis=1)
        found += float(ratio(right, held_out.num_true[half]).sum())
    result = metric.result()
    return {name: result[name] for name in ("micro-F1", "macro-F1")} | {
        "without a label": empty / len(labels),
        "coverage": found / np.count_nonzero(held_out.num_true),
        "labels": size / len(labels),
    }
