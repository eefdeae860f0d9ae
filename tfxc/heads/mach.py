"""Merged-average classifiers via hashing: R small classifiers over hashed label buckets."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Natural, Positive
from tfxc.core.errors import ConfigError
from tfxc.heads.base import Head, rare_label_bias, seen_labels
from tfxc.heads.bases.digits import Link, log_probabilities
from tfxc.labels.hashing import bucket_lookups, check_buckets
from tfxc.ops.gpu import has_gpu
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.losses import distinct_positives
from tfxc.ops.search.bucket_search import gather
from tfxc.ops.search.bucket_search.inverse_lookups import InverseLookups, invert_lookups
from tfxc.ops.search.gather_graph import sum_of, top_k_of_buckets
from tfxc.ops.search.similarity import cosines_to_row
from tfxc.ops.search.top_k import read_once, rows_between

#: How the scores of a label in all repetitions become one.
Aggregate = Literal["logits", "probabilities", "log_probabilities", "min", "median"]


@keras.saving.register_keras_serializable("tfxc")
class MACH(Head):
    """Hashes the labels into B buckets, R times over, and learns R classifiers of B buckets.

    A label's score joins the scores of its R buckets. Memory of the head is D·R·B instead of
    D·N for N labels.

    Args:
        num_labels: number of labels N (from the data).
        num_buckets: buckets B of each repetition.
        num_repetitions: repetitions R. Repetition r hashes with seed ``first_repetition + r``.
        trunk: ``"shared"``: one encoder for all repetitions; ``"separate"``: one each (features
            come as (batch, R, dim)), as published.
        aggregate: how bucket scores become a label's score: the sum of ``"logits"`` (reference
            code), the mean of ``"probabilities"`` (the paper's estimator, up to a monotone map),
            the sum of ``"log_probabilities"``, or ``"min"`` / ``"median"`` of the probabilities
            (count-min and count-median).
        link: how logits become probabilities, ``"sigmoid"``, ``"softmax"`` or, for margins,
            ``"hinge"`` (``exp(-max(0, 1 - margin)^3)``); None means the objective's.
        first_repetition: number of the first repetition (one process per repetition).
        direct: whether the vectors are the logits of the buckets themselves, without a kernel: with
            encoder ``bag_mlp``, ``hidden`` [B] and activation ``"linear"``, each repetition is a
            logistic regression, as published for ODP and ImageNet. Each needs a trunk of its own.
        initial_std: standard deviation of the truncated normal initialisation of the kernels; None
            means 1 / sqrt(dim).
        search_buckets: number of best buckets per repetition that the approximate search considers.
        search_min_count: number of these buckets that must contain a label for it to be considered;
            lowered until k labels are left.
        seed: seed of the initial kernels; repetition r starts from ``(seed, r)``.

    Attributes:
        counted: places of the repetitions that labels are scored by, see ``count_only``.

    Input: float (batch, dim) or (batch, R, dim). Output of ``call``: logits (batch, R, B).

    Raises:
        ConfigError: B > N, or an argument out of range; ``direct`` with a shared trunk, with
            ``initial_std``, or with vectors of another length than B.

    Example:
        >>> head = MACH(num_labels=1000, num_buckets=50, num_repetitions=4)
        >>> ids, scores = head.top_k(tf.ones((2, 8)), k=5)
        >>> ids.shape
        TensorShape([2, 5])

    Reference: Medini et al., NeurIPS 2019 (arXiv 1910.13830).
    """

    search_methods = ("auto", "brute", "threshold", "approximate")

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        num_buckets: Count,
        num_repetitions: Count = 16,
        trunk: Literal["shared", "separate"] = "shared",
        aggregate: Aggregate = "logits",
        link: Link = None,
        first_repetition: Natural = 0,
        direct: bool = False,
        initial_std: Positive | None = None,
        search_buckets: Count = 50,
        search_min_count: Count = 2,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        check_buckets(num_labels, num_buckets, num_repetitions)
        self.num_labels = num_labels
        self.num_buckets = num_buckets
        self.num_repetitions = num_repetitions
        self.trunk = trunk
        self.aggregate = aggregate
        self.link = link
        self.first_repetition = first_repetition
        self.direct = direct
        if direct and trunk == "shared" and num_repetitions > 1:
            raise ConfigError(
                "with trunk 'shared' all repetitions would have the same logits",
                where="direct",
                fix="add head.trunk='separate', or use recipe 'repetitions'",
            )
        if direct and initial_std is not None:
            raise ConfigError(
                f"{initial_std} has no effect with direct, which has no kernels",
                where="initial_std",
                fix="leave it out",
            )
        self.initial_std = initial_std
        self.search_buckets = search_buckets
        self.search_min_count = search_min_count
        self.seed = seed
        seeds = range(first_repetition, first_repetition + num_repetitions)
        self.lookups = bucket_lookups(num_labels, num_buckets, seeds)
        self.count_only(range(num_repetitions))

    def count_only(self, repetitions: Iterable[int]) -> None:
        """Scores labels by some of the repetitions from now on, by default by all.

        Args:
            repetitions: their places among those of the head, from 0.
        """
        self.counted = list(repetitions)
        self._counted_lookups = self.lookups
        if len(self.counted) < self.num_repetitions:
            self._counted_lookups = self.lookups[self.counted]
        self._inverse: InverseLookups | None = None

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel (R, dim, B), bias (R, B), unless ``direct``, and the lookup table."""
        shape = (self.num_repetitions, input_shape[-1], self.num_buckets)
        if self.direct:
            width = input_shape[-1]
            if width != self.num_buckets:
                raise ConfigError(
                    f"the encoder makes vectors of {width} numbers, but there are "
                    f"{self.num_buckets} buckets",
                    where="head.direct",
                    fix=f"set encoder.hidden=[{self.num_buckets}] and encoder.activation='linear'",
                )
        else:
            self.kernel = self.add_weight(shape, self._start, name="kernel")
            start = keras.initializers.Constant(rare_label_bias(self.num_buckets))
            self.bias = self.add_weight(shape[::2], start, name="bias")
        # A GPU has no kernel that gathers 32-bit integers.
        table = np.ascontiguousarray(self.lookups.T.astype(np.int64 if has_gpu() else np.int32))
        self._lookup_table = tf.Variable(table, trainable=False, name="lookups")

    def _start(self, shape, dtype=None):
        std = self.initial_std or shape[1] ** -0.5
        repetitions = range(self.first_repetition, self.first_repetition + self.num_repetitions)
        starts = (
            keras.initializers.TruncatedNormal(stddev=std, seed=self.seed * 1000 + r)
            for r in repetitions
        )
        return keras.ops.stack([start(shape[1:], dtype=dtype) for start in starts])

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Returns bucket logits (batch, R, B)."""
        if len(features.shape) == 2:
            features = features[:, None, :]
        if self.direct:
            return self.as_logits(features)
        by_repetition = keras.ops.transpose(features, (1, 0, 2))
        logits = keras.ops.matmul(by_repetition, self.kernel) + self.bias[:, None, :]
        return self.as_logits(keras.ops.transpose(logits, (1, 0, 2)))

    @property
    def hash_seeds(self) -> list[int]:
        """Of the labels in each repetition."""
        return list(range(self.first_repetition, self.first_repetition + self.num_repetitions))

    @property
    def num_groups(self) -> int:
        """One per repetition."""
        return self.num_repetitions

    @property
    def training_columns(self) -> int:
        """All buckets."""
        return self.num_repetitions * self.num_buckets

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """Returns one group over B buckets per repetition; labels that share a bucket count
        once.
        """
        labels = seen_labels(labels, self.num_labels)
        logits = self(features)
        buckets = tf.cast(tf.gather(self._lookup_table, tf.maximum(labels, 0)), tf.int64)
        buckets = tf.where(labels[..., None] >= 0, buckets, -1)
        # The gradient of a slice would be as large as all logits, once for each repetition.
        by_repetition = tf.unstack(logits, self.num_repetitions, axis=1)
        return tuple(
            LogitGroup(of_buckets, distinct_positives(buckets[..., r]))
            for r, of_buckets in enumerate(by_repetition)
        )

    def search_scores(self, features: tf.Tensor) -> tf.Tensor:
        """Returns float32 (batch, R, B) bucket scores in the form that is summed up per label."""
        logits = tf.cast(self(features), tf.float32)
        if self.aggregate == "logits":
            return logits
        if self.aggregate == "log_probabilities":
            return log_probabilities(logits, self.link or "sigmoid")
        if self.link == "hinge":
            return tf.exp(log_probabilities(logits, self.link))
        return tf.nn.softmax(logits) if self.link == "softmax" else tf.sigmoid(logits)

    @property
    def _combine(self):
        return self.aggregate if self.aggregate in ("min", "median") else "sum"

    def search_top_k(
        self, scores: np.ndarray, k: int, method: str = "auto", most: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns native search of the best k labels from ``search_scores`` as a NumPy array.

        Args:
            scores: float32 (batch, R, B), or of the repetitions that count only.
            k: number of labels.
            most: how many of the repetitions that count are used, the first ones; None for all.
            method: ``"auto"``, ``"brute"`` and ``"threshold"`` are exact
                (``ops.search.bucket_search.gather.top_k``); ``"approximate"`` scores the labels
                that it finds in the best ``search_buckets`` buckets of at least
                ``search_min_count`` repetitions only, and may find fewer than k labels (id -1); see
                ``ops.search.bucket_search.gather.approximate_top_k``.
        """
        self.check_k(k)
        if self._inverse is None:
            self._inverse = invert_lookups(self._counted_lookups, self.num_buckets)
        lookups = self._counted_lookups[:most]
        numbers = self.counted[:most]
        inverse = InverseLookups(*(array[:most] for array in self._inverse))
        places = numbers if scores.shape[1] == self.num_repetitions else range(len(numbers))
        if len(places) < scores.shape[1]:
            scores = np.ascontiguousarray(scores[:, places])
        if method == "approximate":
            candidates = gather.ApproximateSettings(self.search_buckets, self.search_min_count)
            options = {"aggregate": self._combine, "candidates": candidates}
            given = scores, lookups, inverse, k
            ids, totals = gather.approximate_top_k(*given, **options)
        else:
            exact = {"aggregate": self._combine, "method": method, "inverse": inverse}
            ids, totals = gather.top_k(scores, lookups, k, **exact)
        return ids, self._finish(totals, len(numbers))

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the best k labels, exact, in the graph."""
        self.check_k(k)
        if not self.built:
            self.build(features.shape)
        scores = self.search_scores(features)
        lookups = read_once(self._lookup_table)

        def buckets_between(begin, end):
            columns = rows_between(lookups, begin, end)
            return [columns[:, r] for r in self.counted]

        tables = [scores[:, r] for r in self.counted]
        combine = _COMBINERS[self._combine]
        ids, totals = top_k_of_buckets(tables, buckets_between, self.num_labels, k, combine)
        return ids, self._finish(totals, len(self.counted))

    def _finish(self, totals, count):
        return totals / count if self.aggregate == "probabilities" else totals

    def label_similarities(self, label: int) -> np.ndarray | None:
        """Returns means over the repetitions of the cosines of buckets; None if ``direct``."""
        if self.direct:
            return None
        total = np.zeros(self.num_labels, np.float32)
        kernel = read_once(self.kernel.value)

        def buckets_between(repetition, begin, end):
            return tf.transpose(kernel[repetition, :, begin:end])

        for repetition, lookup in zip(self.counted, self._counted_lookups, strict=True):
            buckets = partial(buckets_between, repetition)
            total += cosines_to_row(buckets, lookup[label], self.num_buckets)[lookup]
        return total / len(self.counted)


def _median(parts):
    ordered = tf.sort(tf.stack(parts), axis=0)
    count = len(parts)
    if count % 2:
        return ordered[count // 2]
    return (ordered[count // 2 - 1] + ordered[count // 2]) / 2


_COMBINERS = {
    "sum": sum_of,
    "min": lambda parts: tf.reduce_min(tf.stack(parts), axis=0),
    "median": _median,
}
