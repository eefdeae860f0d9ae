"""What a linear classifier is trained for: the options of ``tfxc.ops.linear.solver``."""

from dataclasses import dataclass
from typing import Literal

from tfxc.core.declared import Count, Natural, NotNegative, Positive, checked

Loss = Literal["squared-hinge", "hinge", "logistic"]


@checked
@dataclass(frozen=True)
class SolverSettings:
    """What is minimised, how exactly, and which weights are kept.

    Args:
        cost_positive: cost of a positive example, times its relevance.
        cost_negative: cost of a negative example.
        bias: value of the constant feature; 0 for none.
        loss: ``"squared-hinge"``, ``"hinge"``, or ``"logistic"``, which has no compiled solver and
            takes far longer.
        epsilon: a label is done once its greatest and least projected gradient differ by no more.
        max_passes: passes over the examples at most.
        threshold: weights of a smaller magnitude are dropped, that of the bias too.
        max_nonzeros: greatest weights kept of each label; 0 for all.
        seed: of the order in which the examples are visited.

    Raises:
        ConfigError: a value out of range.
    """

    cost_positive: Positive = 1.0
    cost_negative: Positive = 1.0
    bias: NotNegative = 1.0
    loss: Loss = "squared-hinge"
    epsilon: Positive = 0.1
    max_passes: Count = 100
    threshold: NotNegative = 0.1
    max_nonzeros: Natural = 0
    seed: int = 0
