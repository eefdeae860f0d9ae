"""Which of a run's labels an exported model returns."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfxc.decision.decision import Decision
    from tfxc.runs.loaded import LoadedRun


def exported_rule(loaded_run: "LoadedRun", probabilities: bool) -> "Decision | None":
    """Returns the rule that the run has learned, if it is one for what is exported.

    Args:
        loaded_run: a ``LoadedRun``.
        probabilities: whether probabilities are exported, or scores.
    """
    rule = loaded_run.model.decision.rule
    return rule if rule is not None and rule.probabilities == probabilities else None
