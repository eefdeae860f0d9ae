"""Two passes under different dropout masks that have to agree."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.core.declared import NotNegative
from tfxc.ops.divergence import symmetric_divergence
from tfxc.techniques.base import Technique

if TYPE_CHECKING:
    import keras


class RDrop(Technique):
    """Mean loss of two passes plus ``alpha / 2 (KL(p || q) + KL(q || p))`` of their predictions.

    p and q are the softmax over the columns of a logit group where the objective's link is a
    softmax, else one probability per column (Bernoulli). Divergences are summed over columns and
    groups, and averaged over the batch. Both passes have the same columns, those that a head
    samples too. An encoder without dropout has nothing to regularise. Costs a second pass.

    Args:
        alpha: weight of the divergence.

    Raises:
        ConfigError: ``alpha`` is negative.

    Example:
        >>> RDrop(alpha=1.0).alpha
        1.0

    Reference: Liang et al., NeurIPS 2021 (arXiv 2106.14448).
    """

    role = "loss"

    def __init__(self, *, alpha: NotNegative = 4.0) -> None:
        self.alpha = alpha

    def losses(
        self,
        model: "keras.Model",
        groups_of: Callable[..., Any],
        batch: Mapping[str, Any],
        update_state: bool,
    ) -> tf.Tensor:
        """Returns the losses of a batch, float32 (batch,)."""
        passes = [model.encoder(batch["features"], training=True) for _ in range(2)]
        pair = groups_of(passes, batch["labels"])
        index = batch.get("example_index")
        losses = [
            model.objective.of_groups(groups, index, update_state and not number)
            for number, groups in enumerate(pair)
        ]
        divergences = [
            symmetric_divergence(first, second, model.objective.link)
            for first, second in zip(*pair, strict=True)
        ]
        return 0.5 * tf.add_n(losses) + 0.5 * self.alpha * tf.add_n(divergences)
