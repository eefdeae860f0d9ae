"""What heads share that write a label as digits."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfxc.core.declared import FromData, Positive
from tfxc.heads.base import Head, seen_labels
from tfxc.labels.label_order import random_order
from tfxc.labels.mixed_radix import check_sizes, strides
from tfxc.ops.search.k_best import top_k_lowest_id

#: How logits become probabilities; None where the objective decides.
Link = Literal["sigmoid", "softmax", "hinge"] | None
#: Which labels are neighbours.
LabelOrder = Literal["given", "random", "clusters", "product"]


class DigitHead(Head):
    """Base of the heads over label codes with several digits.

    Args:
        num_labels: number of labels N.
        heads: number of values of each digit.
        label_order: which label gets which code, see ``labels.label_order``.
        label_codes: the codes where the order is ``"clusters"`` or ``"product"``, int32 (N,);
            None if they come with the weights.
        initial_std, seed: of the initial kernels.

    Attributes:
        strides: weight of each digit.
        nodes: for each digit, how many values of the digits up to it occur.
    """

    def __init__(
        self,
        num_labels: FromData[int],
        heads: Sequence[int],
        *,
        label_order: LabelOrder,
        label_codes: FromData[Sequence[int] | np.ndarray | None],
        initial_std: Positive | None,
        seed: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_labels = num_labels
        self.heads = check_sizes(num_labels, heads)
        self.strides = strides(self.heads)
        self.nodes = tuple(math.ceil(num_labels / stride) for stride in self.strides)
        self.label_order = label_order
        self.initial_std = initial_std
        self.seed = seed
        self._start_codes = label_codes
        self._code_of_label = self._label_of_code = None

    def build_order(self) -> None:
        """Makes the weights that hold the permutation, unless there is none."""
        if self.label_order == "given":
            return
        codes = self._start_codes
        if self.label_order == "random":
            codes = random_order(self.num_labels, self.seed)
        if codes is None:  # the weights are loaded
            codes = np.arange(self.num_labels, dtype=np.int32)
        tables = {"code_of_label": codes, "label_of_code": np.argsort(codes).astype(np.int32)}
        self._code_of_label, self._label_of_code = (
            self.add_weight(
                (self.num_labels,),
                lambda shape, dtype=None, table=table: tf.reshape(tf.constant(table), shape),
                dtype="int32",
                trainable=False,
                name=name,
            )
            for name, table in tables.items()
        )

    def codes_of(self, labels: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Returns the codes of label ids, int64 of the same shape; -1 for padding and unseen
        labels.
        """
        labels = seen_labels(labels, self.num_labels)
        if self._code_of_label is None:
            return labels
        codes = tf.gather(self._code_of_label.value, tf.maximum(labels, 0))
        return tf.where(labels >= 0, tf.cast(codes, labels.dtype), -1)

    def labels_of(self, codes: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns label ids and scores of the best codes (batch, k), ranked; ties by ascending
        id.
        """
        if self._label_of_code is not None:
            codes = tf.gather(self._label_of_code.value, codes)
        return top_k_lowest_id(scores, codes, codes.shape[1])


def log_probabilities(logits: tf.Tensor, link: str | None) -> tf.Tensor:
    """Returns float32 log-softmax over the last axis, or log-sigmoid; -inf logits stay -inf.

    Margins, link ``"hinge"``, count as probability ``exp(-max(0, 1 - margin)^3)``, as in PECOS.
    """
    logits = tf.cast(logits, tf.float32)
    if link == "hinge":
        return -(tf.nn.relu(1 - logits) ** 3)
    return tf.math.log_sigmoid(logits) if link == "sigmoid" else tf.nn.log_softmax(logits)
