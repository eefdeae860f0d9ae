"""One score column per label."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.arguments import POSITIVE, checked
from tfxc.heads.base import Head, rare_label_bias, seen_labels
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.search.similarity import cosines_to_row
from tfxc.ops.search.top_k import read_once


@keras.saving.register_keras_serializable("tfxc")
class Dense(Head):
    """A linear classifier with one weight vector and bias per label.

    Args:
        num_labels: number of labels (from the data).
        initial_std: standard deviation of the truncated normal initialisation of the kernel; None
            means 1 / sqrt(dim).
        seed: seed of the initial kernel.

    Input: float (batch, dim). Output of ``call``: logits (batch, num_labels).

    Example:
        >>> head = Dense(num_labels=5)
        >>> ids, scores = head.top_k(tf.ones((2, 3)), k=2)
        >>> ids.shape
        TensorShape([2, 2])
    """

    full_softmax = True

    @checked(initial_std=POSITIVE | None)
    def __init__(
        self, num_labels: int, *, initial_std: float | None = None, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_labels = num_labels
        self.initial_std = initial_std
        self.seed = seed

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel (dim, num_labels) and bias."""
        std = self.initial_std or input_shape[-1] ** -0.5
        start = keras.initializers.TruncatedNormal(stddev=std, seed=self.seed)
        shape = (input_shape[-1], self.num_labels)
        self.kernel = self.add_weight(shape, start, name="kernel")
        start = keras.initializers.Constant(rare_label_bias(self.num_labels))
        self.bias = self.add_weight((self.num_labels,), start, name="bias")

    @property
    def columns_are_labels(self) -> bool:
        """True."""
        return True

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Logits of all labels."""
        return self.as_logits(keras.ops.matmul(features, self.kernel) + self.bias)

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """One group over all labels."""
        return (LogitGroup(self(features), seen_labels(labels, self.num_labels)),)

    def tile_scores(self, features: tf.Tensor) -> Callable[..., tf.Tensor]:
        """Function that returns the logits of a range of labels."""
        features = tf.cast(features, tf.float32)
        kernel, bias = read_once(self.kernel.value), read_once(self.bias.value)

        def score(begin, end):
            if not tf.is_tensor(begin) and end - begin == self.num_labels:
                return tf.matmul(features, kernel) + bias
            return tf.matmul(features, kernel[:, begin:end]) + bias[begin:end]

        return score

    def label_similarities(self, label: int) -> np.ndarray:
        """Cosines of the columns of the kernel."""
        kernel = read_once(self.kernel.value)
        return cosines_to_row(lambda b, e: tf.transpose(kernel[:, b:e]), label, self.num_labels)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("num_labels", "initial_std", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
