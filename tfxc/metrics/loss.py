"""Cross-entropy of the softmax over all labels."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.metrics.base import MeanMetric

if TYPE_CHECKING:
    from tfxc.metrics.base import RankedBatch


class FullLoss(MeanMetric):
    """Mean over examples of the cross-entropy of the softmax over all labels, in nats.

    Several true labels share the target evenly: an example's loss is the mean over its labels that
    training knows, as in the objective ``softmax``. Examples without one are left out and counted.
    The losses come with the batch, as an array (batch,) with NaN for examples to leave out; they
    are computed where the scores of all labels are, see ``Head.top_k_and_loss``.

    Example:
        >>> metric = FullLoss()
        >>> ids, scores = np.array([[5], [2]]), np.zeros((2, 1))
        >>> metric.update(ids, scores, np.array([[5], [-1]]), np.array([0.25, np.nan]))
        >>> metric.result(), metric.counts()
        ({'full_loss': 0.25}, {'examples without a known label': 1})
    """

    names = ("full_loss",)
    larger_is_better = False
    is_share = False

    def initial_state(self) -> dict[str, Any]:
        return super().initial_state() | {"left out": np.int64(0)}

    def update_ranked(self, batch: "RankedBatch") -> None:
        super().update_ranked(batch)
        assert batch.losses is not None  # else ``per_example_ranked`` has refused it
        self.state["left out"] += np.count_nonzero(np.isnan(batch.losses))

    def counts(self) -> dict[str, int]:
        return {"examples without a known label": int(self.state["left out"])}

    def per_example_ranked(self, batch: "RankedBatch") -> dict[str, np.ndarray]:
        if batch.losses is None:
            raise ConfigError(
                "full_loss needs the loss of each example, and the batch has none",
                fix="update the metrics with losses of Searcher(..., full_loss=True)",
            )
        return {"full_loss": batch.losses}
