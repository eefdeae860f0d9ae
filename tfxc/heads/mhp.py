"""Multi-head product: one small classifier per digit of the label."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.arguments import COUNT, OneOf, checked
from tfxc.heads.base import rare_start
from tfxc.heads.bases.digits import LINKS, DigitHead, log_probabilities
from tfxc.labels.mixed_radix import encode, suggest_heads
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.losses import distinct_positives
from tfxc.ops.search.k_best import k_best_codes


@keras.saving.register_keras_serializable("tfxc")
class MHP(DigitHead):
    """Writes a label as H digits and classifies every digit on its own.

    One dense layer has ``sum(C_h)`` columns instead of N: 10 million labels take 6,326 with two
    digits. A label's score is the sum of its digits' log-probabilities.

    Args:
        num_labels: number of labels N (from the data).
        heads: number of values C_h of each digit, the most significant first; their product is at
            least N.
        num_heads: number of digits H instead of ``heads``: takes the sizes with the smallest sum.
        grouping: ``"per_head"``: one logit group per digit, the paper's loss; ``"joint"``: one
            group over all columns, the authors' code. There, objective ``softmax`` with
            ``reduction="sum"`` is what they ran on ImageNet and ``sigmoid`` with
            ``reduction="mean"`` what they ran on CIFAR. Digits that labels of an example share
            count once.
        link: how logits become probabilities, ``"softmax"`` over each digit's columns or
            ``"sigmoid"``, or ``"hinge"`` for margins; None means the objective's.
        label_order: which label gets which code: ``"given"``, ``"random"`` (from ``seed``),
            ``"clusters"`` (similar labels share leading digits) or ``"product"`` (any digits).
        label_codes: the code of each label for the last two (from the data).
        initial_std: standard deviation of the truncated normal initialisation of the kernel; None
            means 1 / sqrt(dim).
        seed: seed of the initial kernel.

    Input: float (batch, dim). Output of ``call``: logits (batch, sum(C_h)).

    At the end of ``top_k``, ties are resolved in favour of the lower code.

    Raises:
        ValueError: too few codes; the message names sizes that suffice.

    Example:
        >>> head = MHP(num_labels=1000, heads=[40, 25])
        >>> ids, scores = head.top_k(tf.ones((2, 8)), k=5)
        >>> ids.shape
        TensorShape([2, 5])

    Reference: Liang et al., "Multi-Head Encoding for Extreme Label Classification", TPAMI 2024
    (arXiv 2412.10182).
    """

    log_scores = True

    @checked(num_heads=COUNT | None, grouping=OneOf("per_head", "joint"), link=OneOf(None, *LINKS))
    def __init__(
        self,
        num_labels: int,
        *,
        heads: Sequence[int] | None = None,
        num_heads: int | None = None,
        grouping: str = "per_head",
        link: str | None = None,
        label_order: str = "given",
        label_codes: Sequence[int] | np.ndarray | None = None,
        initial_std: float | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if (heads is None) == (num_heads is None):
            raise ValueError(
                "heads, such as [40, 25], or num_heads expected, found "
                + ("neither" if heads is None else "both")
            )
        if num_heads is not None:
            heads = suggest_heads(num_labels, num_heads)
        assert heads is not None
        super().__init__(
            num_labels,
            heads,
            label_order=label_order,
            label_codes=label_codes,
            initial_std=initial_std,
            seed=seed,
            **kwargs,
        )
        self.grouping = grouping
        self.link = link

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel (dim, sum(C_h)) and bias."""
        self.build_order()
        std = self.initial_std or input_shape[-1] ** -0.5
        start = keras.initializers.TruncatedNormal(stddev=std, seed=self.seed)
        columns = sum(self.heads)
        self.kernel = self.add_weight((input_shape[-1], columns), start, name="kernel")
        self.bias = self.add_weight((columns,), self._bias_start, name="bias")

    def _bias_start(self, _shape, dtype=None):
        return tf.concat([tf.fill([c], tf.cast(rare_start(c), dtype)) for c in self.heads], axis=0)

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Logits of all digits."""
        return self.as_logits(keras.ops.matmul(features, self.kernel) + self.bias)

    @property
    def num_groups(self) -> int:
        """One per digit, or one."""
        return len(self.heads) if self.grouping == "per_head" else 1

    @property
    def training_columns(self) -> int:
        """The columns of all digits."""
        return sum(self.heads)

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """One group per digit, or one over all digits' columns."""
        digits = encode(self.codes_of(labels), self.heads)
        logits = self(features)
        if self.grouping == "per_head":
            parts = tf.split(logits, self.heads, axis=1)
            return tuple(
                LogitGroup(part, distinct_positives(digit))
                for part, digit in zip(parts, digits, strict=True)
            )
        offsets = itertools.accumulate(self.heads, initial=0)
        columns = [
            tf.where(digit >= 0, digit + offset, -1)
            for digit, offset in zip(digits, offsets, strict=False)
        ]
        return (LogitGroup(logits, distinct_positives(tf.concat(columns, axis=1))),)

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Best k labels, exact, without the scores of all labels."""
        self.check_k(k)
        if not self.built:
            self.build(features.shape)
        logits = tf.matmul(tf.cast(features, tf.float32), self.kernel.value) + self.bias.value
        parts = tf.split(logits, self.heads, axis=1)
        scores = [log_probabilities(part, self.link) for part in parts]
        return self.labels_of(*k_best_codes(scores, self.num_labels, k))

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "grouping": self.grouping, "link": self.link}
