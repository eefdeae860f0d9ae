"""What every objective shares."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import Declared

if TYPE_CHECKING:
    from tfxc.ops.fused.logit_chunks import LogitChunks
    from tfxc.ops.logit_group import LogitGroup


class Objective(Declared, keras.layers.Layer):
    """Turns a logit group into one loss per example.

    ``call(group, example_index=None)`` returns (batch,). It never knows the label space: a group
    may hold all labels, buckets, digits or candidates.

    Class attributes:
        link: how logits become probabilities, ``"sigmoid"`` or ``"softmax"``; ``"hinge"`` where
            they are margins, which become none.
        providers: functions that find such arguments in the training split, by argument, where
            ``data.sources.providers.PROVIDERS`` has none or another; see there.
        over_shards: whether ``call`` handles groups with ``cross_replica``.
        partial_loss: whether the loss of a batch is not a measure of the fit to all labels.
        num_examples: training examples that it keeps numbers of, or None.
        tables: Keras variables of these numbers, float32 (num_examples,) each, once it is built.
        weighs_examples: whether ``example_weights`` can be set.
        example_weights: float32 (num_examples,), factors of the training examples' losses; or None.
        fused: whether it defines ``begin``, ``loss_of_logits`` and ``gradient_of_logits``, for
            heads that update their weights a chunk of columns at a time.
    """

    link = "sigmoid"
    providers: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    over_shards = False
    partial_loss = False
    num_examples: int | None = None
    tables: Sequence = ()
    weighs_examples = True
    example_weights: tf.Tensor | None = None
    fused = False

    def __call__(self, group: "LogitGroup", *args: object, **kwargs: object) -> tf.Tensor:
        """As ``call``; builds first: Keras 3.12 asks every field of a group for its shape."""
        if not self.built:
            self.build(group.logits.shape)
        return super().__call__(group, *args, **kwargs)

    def call(self, group: "LogitGroup", example_index: tf.Tensor | None = None) -> tf.Tensor:
        """Returns per-example loss of one group."""
        raise TypeError(f"{type(self).__name__} must define call(group, example_index)")

    def of_groups(
        self,
        groups: "tuple[LogitGroup, ...]",
        example_index: np.ndarray | tf.Tensor | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the losses of all groups of a batch added up, float32 (batch,).

        Args:
            groups: ``LogitGroup``s.
            example_index: int64 (batch,), or None.
            training: whether state per example may change; not all objectives have any.
        """
        parts = [self(group, example_index) for group in groups]
        losses = tf.add_n([tf.cast(part, tf.float32) for part in parts] + penalties_of(groups))
        if self.example_weights is None or example_index is None:
            return losses
        return losses * tf.gather(self.example_weights, example_index)

    def begin(self, chunks: "LogitChunks") -> Any:
        """Returns what the two methods below need of all columns, a nest of tensors.

        Args:
            chunks: ``LogitChunks`` of a batch; asking for their logits costs a pass.
        """
        raise TypeError(f"{type(self).__name__} must define begin(chunks)")

    def loss_of_logits(self, logits: tf.Tensor, positives: tf.Tensor, state: Any) -> tf.Tensor:
        """Returns a chunk's share of the losses, float32 (batch,); those of all chunks add up to
        ``call``.

        Args:
            logits: float32 (batch, columns of the chunk).
            positives: int64 (batch, max_positives), its true columns, padded with -1.
            state: what ``begin`` returned.
        """
        raise TypeError(f"{type(self).__name__} must define loss_of_logits(logits, ...)")

    def gradient_of_logits(self, logits: tf.Tensor, positives: tf.Tensor, state: Any) -> tf.Tensor:
        """Returns the gradient of the sum of the losses with respect to a chunk's logits, float32,
        their shape.

        Args:
            logits, positives, state: as in ``loss_of_logits``.
        """
        raise TypeError(f"{type(self).__name__} must define gradient_of_logits(logits, ...)")

    def logged_metrics(self) -> dict[str, float]:
        """Returns what a log line should hold in addition to the loss: {name: number}."""
        return {}

    def final_message(self) -> str:
        """Returns a sentence for the end of the log, or nothing."""
        return ""

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """Called before each epoch (from 1) of ``epochs``; schedules change their state here."""


def penalties_of(groups: "tuple[LogitGroup, ...]") -> list[tf.Tensor]:
    """Returns the ``penalties`` of those groups that have any, float32 (batch,) each."""
    return [group.penalties for group in groups if group.penalties is not None]


def masked_logits(group: "LogitGroup") -> tf.Tensor:
    """Returns float32 logits with -inf where ``group.valid`` is False."""
    logits = tf.cast(group.logits, tf.float32)
    if group.valid is None:
        return logits
    return tf.where(group.valid, logits, tf.constant(float("-inf")))
