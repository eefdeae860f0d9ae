"""Multi-head sampling: a full classifier whose classes are trained block by block."""

from collections.abc import Callable, Sequence
from typing import Literal, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive
from tfxc.core.errors import ConfigError
from tfxc.heads.base import rare_label_bias
from tfxc.heads.bases.digits import DigitHead, LabelOrder
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.losses import distinct_positives
from tfxc.ops.randomness import random_bits
from tfxc.ops.search.candidates import find, sample_with_true
from tfxc.ops.search.similarity import cosines_to_row
from tfxc.ops.search.top_k import read_once, rows_between
from tfxc.ops.tables.row_start import RowStart


@keras.saving.register_keras_serializable("tfxc")
class MHS(DigitHead):
    """One weight vector per label, in blocks; a training step sees K blocks per example.

    The digits but the last choose the block ("head" in the paper), the last one the column in it.
    Only the blocks that a batch saw get gradients. There is no correction for the sampling: with
    all blocks, the loss is that of the ``dense`` head.

    Args:
        num_labels: number of labels N (from the data).
        heads: number of values C_h of each digit, the most significant first; their product is at
            least N.
        num_sampled_heads: blocks K an example is compared with.
        sampling: ``"per_example"``, as published: each example's true blocks first, then others,
            uniform without replacement, K in all (more only for an example with more than K true
            blocks). ``"per_batch"``: K blocks drawn once for the whole batch, and each example's
            true blocks in addition; a true block that was also drawn counts once. One matrix
            product over K blocks replaces the gathering of K blocks per example.
        bias: whether each label has a bias.
        label_order: which label gets which code: ``"given"``, ``"random"`` (from ``seed``),
            ``"clusters"`` (similar labels share blocks) or ``"product"`` (so do later digits).
        label_codes: the code of each label for the last two (from the data).
        initial_std: standard deviation of the truncated normal initialisation of the table; None
            means 1 / sqrt(dim), the authors took 0.01.
        seed: seed of the initial table and of the sampling.

    Input: float (batch, dim). Output of ``call``: logits of all codes (batch, N).

    Raises:
        ValueError: too few codes, with sizes that suffice; more sampled blocks than there are.

    Example:
        >>> head = MHS(num_labels=1000, heads=[40, 25], num_sampled_heads=10)
        >>> head.training_groups(tf.ones((2, 8)), tf.constant([[3], [999]]))[0].logits.shape
        TensorShape([2, 250])

    Reference: Liang et al., "Multi-Head Encoding for Extreme Label Classification", TPAMI 2024
    (arXiv 2412.10182).
    """

    full_softmax = True

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        heads: Sequence[Count],
        num_sampled_heads: Count,
        sampling: Literal["per_example", "per_batch"] = "per_example",
        bias: bool = False,
        label_order: LabelOrder = "given",
        label_codes: FromData[Sequence[int] | np.ndarray | None] = None,
        initial_std: Positive | None = None,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(
            num_labels,
            heads,
            label_order=label_order,
            label_codes=label_codes,
            initial_std=initial_std,
            seed=seed,
            autocast=False,
            **kwargs,
        )
        self.block_size = self.heads[-1]
        self.num_blocks = -(-num_labels // self.block_size)
        if num_sampled_heads > self.num_blocks:
            raise ConfigError(
                f"must be at most {self.num_blocks}, as many as there are blocks of labels, not "
                f"{num_sampled_heads}",
                where="num_sampled_heads",
            )
        self.num_sampled_heads = num_sampled_heads
        self.sampling = sampling
        self.use_bias = bias

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the table (blocks, block size, dim) and, if requested, the bias."""
        self.build_order()
        std = self.initial_std or input_shape[-1] ** -0.5
        start = RowStart("truncated_normal", std, self.seed)
        shape = (self.num_blocks, self.block_size, input_shape[-1])
        self.table = self.add_weight(shape, start, name="table")
        self.bias = None
        if self.use_bias:
            start = keras.initializers.Constant(rare_label_bias(self.num_labels))
            self.bias = self.add_weight(shape[:2], start, name="bias")

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the logits of all codes."""
        features = tf.cast(features, self.compute_dtype)
        bias = None if self.bias is None else self.bias.value
        logits = _shared_logits(features, self.table.value, bias)[:, : self.num_labels]
        return self.as_logits(logits)

    @property
    def training_columns(self) -> int:
        """The columns of the sampled blocks."""
        return self.num_sampled_heads * self.heads[-1]

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """Returns one group over the columns of each example's blocks."""
        if not self.built:
            self.build(features.shape)
        codes = self.codes_of(labels)
        features = tf.cast(features, self.compute_dtype)
        sample = self._per_example if self.sampling == "per_example" else self._per_batch
        return (sample(features, codes),)

    def _per_example(self, features, codes):
        """Returns the logits of blocks of each example's own, the true ones first."""
        true = distinct_positives(codes // self.block_size)
        rows = tf.range(tf.shape(codes)[0])[:, None]
        columns = tf.range(self.num_blocks)[None]
        bits = random_bits(rows, columns, self.seed)
        blocks, counts = sample_with_true(bits, true, self.num_sampled_heads)
        return LogitGroup(
            self._own_logits(features, blocks),
            self._positives(codes, blocks),
            self._valid(blocks, counts),
        )

    def _per_batch(self, features, codes):
        """Returns the true blocks of each example, then the blocks drawn for all."""
        true = distinct_positives(codes // self.block_size)
        bits = random_bits(0, tf.range(self.num_blocks)[None], self.seed, shared=True)
        none = tf.zeros((1, 0), codes.dtype)
        drawn = sample_with_true(bits, none, self.num_sampled_heads)[0][0]
        counts = tf.reduce_sum(tf.cast(true >= 0, true.dtype), axis=1)
        most = tf.maximum(tf.reduce_max(counts), 1)
        own = tf.sort(true, axis=1, direction="DESCENDING")[:, :most]
        # Examples without labels borrow a drawn block: no other block gets a gradient of zeros.
        own_logits = self._own_logits(features, tf.where(own >= 0, own, drawn[0]))
        bias = None if self.bias is None else tf.gather(self.bias.value, drawn)
        logits = _shared_logits(features, tf.gather(self.table.value, drawn), bias)
        new = ~tf.reduce_any(own[:, :, None] == drawn, axis=1)
        exists = self._columns(drawn) < self.num_labels
        valid = tf.reshape(new[:, :, None] & exists, tf.shape(logits))
        return LogitGroup(
            tf.concat([own_logits, logits], axis=1),
            self._positives(codes, own),
            tf.concat([self._valid(own, counts), valid], axis=1),
        )

    def _own_logits(self, features, blocks):
        """Returns logits (batch, count * block size) of each example's own blocks."""
        vectors = tf.cast(tf.gather(self.table.value, blocks), features.dtype)
        logits = tf.einsum("bkcd,bd->bkc", vectors, features)
        if self.bias is not None:
            logits += tf.cast(tf.gather(self.bias.value, blocks), features.dtype)
        return tf.reshape(logits, [-1, self._width(blocks)])

    def _positives(self, codes, blocks):
        """Returns the columns of the true codes."""
        place, is_found = find(codes // self.block_size, blocks, codes >= 0)
        return tf.where(is_found, place * self.block_size + codes % self.block_size, -1)

    def _valid(self, blocks, counts):
        """Returns which columns of own blocks count: a row's first ``counts`` blocks, existing
        labels.
        """
        used = tf.range(tf.shape(blocks, counts.dtype)[1]) < counts[:, None]
        valid = used[:, :, None] & (self._columns(blocks) < self.num_labels)
        return tf.reshape(valid, [-1, self._width(blocks)])

    def _columns(self, blocks):
        """Returns the codes of the blocks' columns, one axis more."""
        return blocks[..., None] * self.block_size + tf.range(self.block_size, dtype=blocks.dtype)

    def _width(self, blocks):
        count = blocks.shape[1]
        return (tf.shape(blocks)[1] if count is None else count) * self.block_size

    def tile_scores(self, features: tf.Tensor) -> Callable[..., tf.Tensor]:
        """Returns a function that returns the logits of a range of labels."""
        features = tf.cast(features, tf.float32)
        size = self.block_size
        table = read_once(self.table.value)
        bias = None if self.bias is None else read_once(self.bias.value)
        if self._code_of_label is not None:
            rows = self._rows(table)
            codes = read_once(self._code_of_label.value)
            biases = None if bias is None else tf.reshape(bias, [-1])

            def score_codes(begin, end):
                places = codes[begin:end]
                logits = tf.matmul(features, tf.gather(rows, places), transpose_b=True)
                return logits if biases is None else logits + tf.gather(biases, places)

            return score_codes

        def score(begin, end):
            first = begin // size
            last = (end + size - 1) // size
            blocks = rows_between(table, first, last)
            logits = _shared_logits(features, blocks, None if bias is None else bias[first:last])
            return logits[:, begin % size : begin % size + end - begin]

        return score

    def _rows(self, table):
        """Returns the table with a row per code, (codes, dim)."""
        return tf.reshape(table, [-1, table.shape[2]])

    def label_similarities(self, label: int) -> np.ndarray:
        """Returns the cosines of the labels' rows of the table."""
        rows = self._rows(read_once(self.table.value))
        return cosines_to_row(
            lambda b, e: tf.gather(rows, self.codes_of(tf.range(b, e))), label, self.num_labels
        )


def _shared_logits(features, blocks, bias):
    """Returns logits (batch, columns) of blocks (count, block size, dim) that all examples see."""
    vectors = tf.reshape(tf.cast(blocks, features.dtype), [-1, blocks.shape[2]])
    logits = tf.matmul(features, vectors, transpose_b=True)
    return logits if bias is None else logits + tf.cast(tf.reshape(bias, [1, -1]), features.dtype)
