"""One weight vector per label; a step sees the classes of its batch only."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments, Natural, NotNegative, Positive
from tfxc.core.errors import ConfigError
from tfxc.heads.base import TILE, Head, rare_label_bias, seen_labels
from tfxc.heads.bases.class_centres.checks import Angle
from tfxc.heads.sampled.sampling import drawn_classes
from tfxc.ops.distributed.cross_replica import labels_everywhere
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.margins import angular_margin, at_positives, unit_rows
from tfxc.ops.randomness import random_bits
from tfxc.ops.search.candidates import distinct_or_zero, ranks_in
from tfxc.ops.search.nearest import InnerProducts, of_linear_scores
from tfxc.ops.search.similarity import cosines_to_row
from tfxc.ops.search.top_k import read_once, rows_between
from tfxc.ops.tables.row_start import RowStart

_CLASSES_OF_A_BATCH = 1024  # assumed where memory is estimated


@keras.saving.register_keras_serializable("tfxc")
class Sampled(Head):
    """A classifier whose training step scores the labels that occur in the batch.

    The head of the dual objectives (the family of ``scent``); any other objective works as well.
    ``classes`` says which labels are the columns of a batch:

    * ``"batch"``: the distinct labels of the batch, over all replicas; of each micro-batch where
      gradients are accumulated. With ``num_extra``, that many others in addition, drawn without
      replacement once for the batch: ``extra="uniform"``, or ``"frequency"``, by their number of
      training examples (at least 1). A drawn column then counts for as many classes as it stands
      for (``LogitGroup.log_weights``): sums over the columns have the sums over all labels as
      their expectation, and means divide by the number of labels. The formulas are in
      ``heads/sampled/sampling.py``. Without ``num_extra``, means are over the classes of the batch.
    * ``"all"``: all labels.

    Scores are dot products, or with ``score="cosine"`` ``scale`` times the cosine, in float32;
    ``m2`` and ``m3`` then make the true class harder in training (``ops.margins``). Rows of labels
    that are not a column get no gradient.

    Args:
        num_labels: number of labels N (from the data).
        classes: ``"batch"`` or ``"all"``.
        num_extra: number of drawn labels, below N.
        extra: how they are drawn.
        score: ``"linear"`` or ``"cosine"``.
        scale: factor of the cosines, e.g. 64.
        m2, m3: margin of the angle in radians, in [0, pi), and of the cosine, at least 0.
        bias: whether each label has a bias, for linear scores.
        initial_std: standard deviation of the normal initialisation of the weight vectors.
        seed: seed of the initial weights and of the draws.
        label_counts: (N,) training examples of each label, for ``"frequency"`` (from the data);
            None if they come with the weights.

    Input: float (batch, dim). Output of ``call``: scores of all labels (batch, N).

    Raises:
        ValueError: an argument out of range, missing, or without effect.

    Example:
        >>> head = Sampled(num_labels=1000)
        >>> (group,) = head.training_groups(tf.ones((3, 8)), tf.constant([[7], [99], [7]]))
        >>> group.logits.shape, group.positives.numpy().ravel().tolist()
        (TensorShape([3, 2]), [0, 1, 0])

    Reference: Wei et al. 2026, arXiv 2602.02877.
    """

    data_statistics = ("frequencies",)
    full_softmax = True
    has_inner_products = True

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        classes: Literal["batch", "all"] = "batch",
        num_extra: Natural = 0,
        extra: Literal["uniform", "frequency"] | None = None,
        score: Literal["linear", "cosine"] = "linear",
        scale: Positive | None = None,
        m2: Angle = 0.0,
        m3: NotNegative = 0.0,
        bias: bool = False,
        initial_std: Positive = 0.01,
        seed: int = 0,
        label_counts: FromData[Sequence[int] | np.ndarray | None] = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.num_labels = num_labels
        self.classes = classes
        self.num_extra = num_extra
        self.extra = extra
        self.score = score
        self.scale = scale
        self.m2 = m2
        self.m3 = m3
        self.use_bias = bias
        self.initial_std = initial_std
        self.seed = seed
        self._label_counts = label_counts
        if num_extra >= num_labels:
            raise ConfigError(
                f"must be below {num_labels}, the number of labels, not {num_extra}",
                where="num_extra",
            )
        if (num_extra > 0) != (extra is not None):
            raise ValueError(
                f"num_extra and extra go together: give both or neither, not {num_extra} and "
                f"{extra!r}"
            )
        if num_extra and classes == "all":
            raise ValueError("classes 'all' does not use num_extra")
        if score == "cosine" and scale is None:
            raise ValueError("score 'cosine' needs a scale, e.g. 64")
        of_cosines = {"scale": scale is not None, "m2": m2, "m3": m3}
        useless = {"bias": bias} if score == "cosine" else of_cosines
        for name, is_set in useless.items():
            if is_set:
                raise ValueError(f"score {score!r} does not use {name}")

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel (num_labels, dim), and bias and frequencies where there are any."""
        start = RowStart("normal", self.initial_std, self.seed)
        shape = (self.num_labels, input_shape[-1])
        self.kernel = self.add_weight(shape, start, autocast=False, name="kernel")
        self.bias = self.frequencies = None
        if self.use_bias:
            start = keras.initializers.Constant(rare_label_bias(self.num_labels))
            self.bias = self.add_weight(shape[:1], start, autocast=False, name="bias")
        if self.extra == "frequency":
            kind = {"trainable": False, "autocast": False, "name": "frequencies"}
            self.frequencies = self.add_weight(shape[:1], self._counts, "float32", **kind)

    def _counts(self, shape, dtype=None):
        if self._label_counts is None:  # the weights are loaded
            return tf.ones(shape, dtype)
        return tf.maximum(tf.cast(tf.reshape(self._label_counts, shape), dtype or tf.float32), 1)

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the scores of all labels."""
        if self.score == "cosine" and self.num_labels > TILE:
            return self.all_scores(features)  # unit rows of the table need as much memory again
        return self._of_all(features)

    def _of_all(self, features):
        bias = None if self.bias is None else self.bias.value
        return self.as_logits(self._scores(features, self.kernel.value, bias))

    @property
    def columns_are_labels(self) -> bool:
        """With all classes."""
        return self.classes == "all"

    @property
    def training_columns(self) -> int:
        """Estimate: the classes of a batch count as 1,024."""
        if self.classes == "all":
            return self.num_labels
        return min(self.num_labels, _CLASSES_OF_A_BATCH + self.num_extra)

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """Returns one group over the batch's labels and the drawn ones, or over all."""
        if not self.built:
            self.build(features.shape)
        labels = seen_labels(labels, self.num_labels)
        if self.classes == "all":
            return (LogitGroup(self._with_margin(self._of_all(features), labels), labels),)
        own = distinct_or_zero(labels_everywhere(labels))
        positives = tf.where(labels >= 0, ranks_in(own, labels), -1)
        if not self.num_extra:
            return (LogitGroup(self._of_classes(features, own, positives), positives),)
        bits = random_bits(0, tf.range(self.num_labels), self.seed, shared=True)
        frequencies = None if self.frequencies is None else self.frequencies.value
        ids, log_weights, valid = drawn_classes(own, bits, self.num_extra, frequencies)
        # Slots without a class borrow one of the batch: no other row gets a gradient of zeros.
        ids = tf.concat([own, tf.where(valid, tf.cast(ids, own.dtype), own[0])], axis=0)
        logits = self._of_classes(features, ids, positives)
        first = tf.fill([tf.size(own)], True)
        valid = tf.broadcast_to(tf.concat([first, valid], axis=0), tf.shape(logits))
        log_weights = tf.concat([tf.zeros([tf.size(own)]), log_weights], axis=0)
        return (LogitGroup(logits, positives, valid, log_weights=log_weights),)

    def _of_classes(self, features, ids, positives):
        """Returns training logits of some classes; gradients are rows of the tables."""
        bias = None if self.bias is None else tf.gather(self.bias.value, ids)
        scores = self._scores(features, tf.gather(self.kernel.value, ids), bias)
        return self._with_margin(scores, positives)

    def _scores(self, features, rows, bias):
        if self.score == "cosine":
            return self.scale * tf.matmul(unit_rows(features), unit_rows(rows), transpose_b=True)
        dtype = self.compute_dtype
        scores = tf.matmul(tf.cast(features, dtype), tf.cast(rows, dtype), transpose_b=True)
        return scores if bias is None else scores + tf.cast(bias, dtype)

    def _with_margin(self, scores, positives):
        if not (self.m2 or self.m3):
            return scores

        def margin(true):
            return self.scale * angular_margin(true / self.scale, 1.0, self.m2, self.m3)

        return at_positives(scores, positives, margin)

    def tile_scores(self, features: tf.Tensor) -> Callable[..., tf.Tensor]:
        """Returns a function that scores a range of labels, without a margin."""
        features = tf.cast(features, tf.float32)
        kernel = read_once(self.kernel.value)
        bias = None if self.bias is None else read_once(self.bias.value)

        def score(begin, end):
            rows = rows_between(kernel, begin, end)
            if self.score == "cosine":
                return self._scores(features, rows, None)
            scores = tf.matmul(features, rows, transpose_b=True)
            return scores if bias is None else scores + bias[begin:end]

        return score

    def inner_products(self) -> InnerProducts:
        """Returns inner products with the rows of the kernel; of cosines, of length 1."""
        kernel = read_once(self.kernel.value)
        width = kernel.shape[1]
        rows = partial(rows_between, kernel)
        if self.score == "linear":
            return of_linear_scores(rows, None if self.bias is None else self.bias.value, width)
        return InnerProducts(
            lambda begin, end: unit_rows(rows(begin, end)),
            lambda features: self.scale * unit_rows(features),
            width,
        )

    def label_similarities(self, label: int) -> np.ndarray:
        """Returns the cosines of the rows of the kernel."""
        rows = partial(rows_between, read_once(self.kernel.value))
        return cosines_to_row(rows, label, self.num_labels)
