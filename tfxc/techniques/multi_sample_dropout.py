"""The mean of logits under several dropout masks."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tensorflow as tf
from annotated_types import Gt, Lt

from tfxc.core.declared import Count
from tfxc.ops.randomness import dropout
from tfxc.techniques.base import Technique

if TYPE_CHECKING:
    from tfxc.ops.logit_group import LogitGroup


class MultiSampleDropout(Technique):
    """Drops units of the encoder's vector several times over; the loss sees the mean logits.

    The masks act in training, between encoder and head, after what the encoder drops itself. The
    head's weights are shared, and all samples have the same columns. Costs ``rounds`` times the
    head.

    Args:
        rounds: number of masks.
        rate: share of the units that each drops.
        seed: of the masks.

    Raises:
        ConfigError: an argument out of range.

    Example:
        >>> MultiSampleDropout(rounds=8, rate=0.3).rounds
        8

    Reference: Inoue 2019 (arXiv 1905.09788), who averages the losses; here it is the logits.
    """

    def __init__(
        self, *, rounds: Count = 5, rate: Annotated[float, Gt(0), Lt(1)] = 0.5, seed: int = 0
    ) -> None:
        self.rounds = rounds
        self.rate = rate
        self.seed = seed

    def groups(
        self, compute: Callable[..., Any], passes: Sequence[tf.Tensor], labels: tf.Tensor | None
    ) -> "list[tuple[LogitGroup, ...]]":
        """Returns the groups of mean logits, for each pass."""
        seed = self.seed * 1000 + 960
        copies = [dropout(v, self.rate, seed) for v in passes for _ in range(self.rounds)]
        groups = compute(copies, labels)
        samples = (groups[n : n + self.rounds] for n in range(0, len(groups), self.rounds))
        return [tuple(map(_mean, *sample)) for sample in samples]


def _mean(*groups: "LogitGroup") -> "LogitGroup":
    """Returns a group with the mean logits, and penalties, of groups with the same columns."""
    logits = [tf.cast(group.logits, tf.float32) for group in groups]
    mean = groups[0]._replace(logits=tf.add_n(logits) / len(logits))
    if mean.penalties is None:
        return mean
    penalties = tf.add_n([group.penalties for group in groups]) / len(groups)
    return mean._replace(penalties=penalties)
