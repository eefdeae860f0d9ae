"""Multi-head product: one small classifier per digit of the label's codes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive
from tfxc.heads.base import rare_label_bias, seen_labels
from tfxc.heads.bases.digits import DigitHead, LabelOrder, Link, log_probabilities
from tfxc.labels.label_order import random_order
from tfxc.labels.mixed_radix import encode, suggest_digit_sizes
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.losses import distinct_positives
from tfxc.ops.search.bucket_search import gather
from tfxc.ops.search.bucket_search.inverse_lookups import InverseLookups, invert_lookups
from tfxc.ops.search.gather_graph import top_k_of_buckets
from tfxc.ops.search.k_best import k_best_codes
from tfxc.ops.search.similarity import cosines_to_row
from tfxc.ops.search.top_k import read_once, rows_between


@keras.saving.register_keras_serializable("tfxc")
class MHP(DigitHead):
    """Writes a label as H digits and classifies every digit on its own.

    One dense layer has ``sum(C_h)`` columns instead of N: 10 million labels take 6,326 with two
    digits. A label's score is the sum of its digits' log-probabilities.

    With one code per label, as published, a single wrong digit is a wrong label. With ``repeats``
    R > 1 a label has R independent codes, each with H digits of its own, in one dense layer of
    ``R sum(C_h)`` columns, and its score is the sum over all R·H digits: labels that share a digit
    of one code differ in the others. The best sums are no longer found digit by digit; the search
    is that of MACH (``ops.search.bucket_search.gather``) over R·H tables of digits, exact as well,
    and its scores are no probabilities.

    Args:
        num_labels: number of labels N (from the data).
        heads: number of values C_h of each digit, the most significant first; their product is at
            least N.
        num_heads: number of digits H instead of ``heads``: takes the sizes with the smallest sum.
        repeats: codes R of each label. ``label_order`` is that of the first code, those of the
            others are random (from ``seed``).
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

    Input: float (batch, dim). Output of ``call``: logits (batch, R sum(C_h)), code by code.

    At the end of ``top_k``, ties are resolved in favour of the lower code with one code per label,
    else in favour of the lower label.

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

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        heads: Sequence[Count] | None = None,
        num_heads: Count | None = None,
        repeats: Count = 1,
        grouping: Literal["per_head", "joint"] = "per_head",
        link: Link = None,
        label_order: LabelOrder = "given",
        label_codes: FromData[Sequence[int] | np.ndarray | None] = None,
        initial_std: Positive | None = None,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        if (heads is None) == (num_heads is None):
            raise ValueError(
                "give heads, such as [40, 25], or num_heads, but not "
                + ("neither" if heads is None else "both")
            )
        if num_heads is not None:
            heads = suggest_digit_sizes(num_labels, num_heads)
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
        self.repeats = repeats
        self.grouping = grouping
        self.link = link
        if repeats > 1:
            self.search_methods = gather.METHODS
            self.log_scores = False
        self._other_codes: Any = None
        self._cached: tuple[np.ndarray, InverseLookups] | None = None

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel (dim, R sum(C_h)), bias and the further codes of the labels."""
        self.build_order()
        std = self.initial_std or input_shape[-1] ** -0.5
        start = keras.initializers.TruncatedNormal(stddev=std, seed=self.seed)
        columns = self.training_columns
        self.kernel = self.add_weight((input_shape[-1], columns), start, name="kernel")
        self.bias = self.add_weight((columns,), self._bias_start, name="bias")
        if self.repeats > 1:
            shape = (self.num_labels, self.repeats - 1)
            self._other_codes = self.add_weight(
                shape, self._random_codes, dtype="int32", trainable=False, name="other_codes"
            )

    def _bias_start(self, _shape, dtype=None):
        starts = [tf.fill([c], tf.cast(rare_label_bias(c), dtype)) for c in self._sizes]
        return tf.concat(starts, axis=0)

    def _random_codes(self, shape, dtype=None):
        seeds = ((self.seed, repeat) for repeat in range(1, self.repeats))
        codes = np.stack([random_order(self.num_labels, seed) for seed in seeds], axis=1)
        return tf.reshape(tf.constant(codes), shape)

    @property
    def _sizes(self):
        """Number of values of every digit, code by code."""
        return self.heads * self.repeats

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the logits of all digits."""
        return self.as_logits(keras.ops.matmul(features, self.kernel) + self.bias)

    @property
    def num_groups(self) -> int:
        """One per digit, or one per code."""
        return self.repeats * (len(self.heads) if self.grouping == "per_head" else 1)

    @property
    def training_columns(self) -> int:
        """The columns of all digits."""
        return sum(self._sizes)

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """Returns one group per digit, or one over all digits' columns of a code."""
        logits = tf.split(self(features), self.repeats, axis=1)
        return tuple(
            group
            for of_code, codes in zip(logits, self._codes(labels), strict=True)
            for group in self._groups_of_code(of_code, encode(codes, self.heads))
        )

    def _codes(self, labels):
        """Returns the R codes of label ids, each int64 of the same shape; -1 for padding and
        unseen.
        """
        if self.repeats == 1:
            return [self.codes_of(labels)]
        known = seen_labels(labels, self.num_labels)
        others = tf.gather(self._other_codes.value, tf.maximum(known, 0))
        others = tf.where(known[..., None] >= 0, tf.cast(others, known.dtype), -1)
        return [self.codes_of(labels), *tf.unstack(others, axis=-1)]

    def _groups_of_code(self, logits, digits):
        if self.grouping == "per_head":
            parts = tf.split(logits, self.heads, axis=1)
            return [
                LogitGroup(part, distinct_positives(digit))
                for part, digit in zip(parts, digits, strict=True)
            ]
        offsets = itertools.accumulate(self.heads, initial=0)
        columns = [
            tf.where(digit >= 0, digit + offset, -1)
            for digit, offset in zip(digits, offsets, strict=False)
        ]
        return [LogitGroup(logits, distinct_positives(tf.concat(columns, axis=1)))]

    def _digit_scores(self, features):
        """Returns float32 (batch, C_h) log-probabilities of every digit, code by code."""
        logits = tf.matmul(tf.cast(features, tf.float32), self.kernel.value) + self.bias.value
        parts = tf.split(logits, self._sizes, axis=1)
        return [log_probabilities(part, self.link) for part in parts]

    def label_similarities(self, label: int) -> np.ndarray:
        """Returns means over the digits of the cosines of their columns."""
        columns = tf.split(tf.transpose(self.kernel.value), self._sizes)
        digits = [
            digit
            for codes in self._codes(tf.range(self.num_labels))
            for digit in encode(codes.numpy(), self.heads)
        ]
        total = np.zeros(self.num_labels, np.float32)
        for rows, digit in zip(columns, digits, strict=True):
            cosines = cosines_to_row(partial(rows_between, rows), digit[label], len(rows))
            total += cosines[digit]
        return total / len(digits)

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the best k labels, exact; with one code per label without the scores of all
        labels.
        """
        self.check_k(k)
        if not self.built:
            self.build(features.shape)
        scores = self._digit_scores(features)
        if self.repeats == 1:
            return self.labels_of(*k_best_codes(scores, self.num_labels, k))
        first = self.codes_of(tf.range(self.num_labels))
        others = read_once(self._other_codes.value)

        def digits_between(begin, end):
            codes = [first[begin:end], *tf.unstack(rows_between(others, begin, end), axis=1)]
            return [digit for code in codes for digit in encode(code, self.heads)]

        return top_k_of_buckets(scores, digits_between, self.num_labels, k)

    def search_scores(self, features: tf.Tensor) -> tf.Tensor:
        """Returns float32 (batch, R·H, max(C_h)) log-probabilities of the digits, -inf after the
        last.
        """
        width = max(self.heads)
        padded = (
            tf.pad(part, [[0, 0], [0, width - part.shape[1]]], constant_values=-math.inf)
            for part in self._digit_scores(features)
        )
        return tf.stack(list(padded), axis=1)

    def search_top_k(
        self, scores: np.ndarray, k: int, method: str = "auto"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns native search of the best k labels, see ``ops.search.bucket_search.gather``."""
        self.check_k(k)
        lookups, inverse = self._tables()
        return gather.top_k(scores, lookups, k, method=method, inverse=inverse)

    def _tables(self):
        """Returns lookups (R·H, N) of every digit, and their inverse; kept until weights are
        loaded.
        """
        if self._cached is None:
            codes = [np.asarray(codes) for codes in self._codes(tf.range(self.num_labels))]
            digits = [digit for code in codes for digit in encode(code, self.heads)]
            lookups = np.stack(digits).astype(np.int32)
            self._cached = lookups, invert_lookups(lookups, max(self.heads))
        return self._cached

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Reads the weights, and so the codes."""
        self._cached = None
        super().load_own_variables(store)

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Assigns the weights, and so the codes."""
        self._cached = None
        super().set_weights(weights)
