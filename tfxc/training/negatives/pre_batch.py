"""The queue of labels of the last batches, as part of the training."""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.techniques.base import Technique

if TYPE_CHECKING:
    from tfxc.model import XCModel


class PreBatch(Technique):
    """Lets head ``label_text`` keep the columns of its last batches, see its ``pre_batch``.

    Args:
        batch_size: examples of a step, over all replicas.
    """

    setting = "head.pre_batch"

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size

    def build(self, model: "XCModel", strategy: tf.distribute.Strategy) -> None:
        """Makes the queue."""
        head: Any = model.head
        queue = head.keep_columns(self._batch_size)
        self.variables_to_save = [queue.ids, queue.rows]
