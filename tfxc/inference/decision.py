"""Which of a model's answers count, the same during training, in reports and for predictions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfxc.decision.decision import Decision
from tfxc.inference.protocol import RunModel
from tfxc.metrics.classification import Classification, positive_label

if TYPE_CHECKING:
    from tfxc.core.settings import EvaluationSettings


def decision_of(model: RunModel, single_label: bool, threshold: float | None = None) -> Decision:
    """Returns the rule by which a model's labels count as predicted, the same in every report.

    They are those whose score reaches the threshold that is given; without one, those of the rule
    that the run has learned. Without that, where the objective is a yes or no for each label and
    the data is not single-label, they are those of probability 0.5 or more. Else it is the best
    label alone.

    Args:
        model: ``RunModel``.
        single_label: whether every training example has exactly one label.
        threshold: smallest score, or None.

    Returns:
        ``Decision``; its ``probabilities`` where no threshold is given and the model has any.
    """
    if threshold is not None:
        return Decision(threshold)
    if model.decision.rule is not None:
        return model.decision.rule
    probabilities = model.has_probabilities
    if not single_label and probabilities and model.decides_each_label:
        threshold = 0.5
    return Decision(threshold, probabilities)


def classification_of(
    decision: Decision, single_label: bool, num_labels: int, names: Sequence[str]
) -> Classification | None:
    """Returns the metrics of a decision that every evaluation holds.

    They are part of it where a threshold on the scores is given, where the run has learned a rule,
    and where every training example has one label. Elsewhere the tables alone have them: of several
    labels per example the ranking metrics say more, and the best ones alone are searched.

    Args:
        decision: see ``decision_of``.
        single_label: whether every training example has exactly one label.
        num_labels: size of the label space.
        names: label names by id; needed if there are two.

    Returns:
        ``Classification``, or None.
    """
    learned = decision.at_most is not None
    given = decision.threshold is not None and not decision.probabilities
    if not (learned or given or single_label):
        return None
    return Classification(decision, num_labels, positive_label(names))


def measures_full_loss(settings: "EvaluationSettings", model: RunModel) -> bool:
    """Tells whether the loss over all labels is measured.

    Where the settings do not say, it is if the training loss says less: the objective scores a
    part of the labels only, and the head has a softmax over all.

    Args:
        settings: ``EvaluationSettings``.
        model: ``RunModel``.
    """
    if settings.full_loss is None:
        return model.partial_loss and model.full_softmax
    return settings.full_loss
