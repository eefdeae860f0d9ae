"""Weights of labels in chunks that a training step reads, uses and updates one after the other."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfxc.ops.fused.logit_chunks import ChunkUpdate, LogitChunks
from tfxc.ops.fused.stochastic_rounding import descend
from tfxc.ops.search.top_k import read_once

CHUNK = 8192  # labels: a chunk's logits and gradient stay small, its products large
MOST_CHUNKS = 128  # each is a part of the graph


def chunk_size(num_labels: int) -> int:
    """Labels of a chunk; the last one may have fewer.

    Example:
        >>> chunk_size(670_091), chunk_size(10_000_000)
        (8192, 78125)
    """
    return max(min(CHUNK, num_labels), -(-num_labels // MOST_CHUNKS))


class LabelChunks:
    """A table with a row per label, as a variable per chunk of labels, and one vector of biases.

    No gradient of the table's size is ever made: a step holds the logits and the gradient of one
    chunk, multiplies them, updates the chunk in place and goes on to the next. Each chunk waits
    for the update before it, as TensorFlow would otherwise run ahead and hold several.

    Args:
        kernels: Keras variables (labels of the chunk, dim), float32 or bfloat16.
        bias: Keras variable float32 (num_labels,).
        seed: of the stochastic rounding of bfloat16.

    Attributes:
        variables: all of them.
    """

    def __init__(
        self, kernels: Sequence[keras.Variable], bias: keras.Variable, seed: int = 0
    ) -> None:
        self.kernels, self.bias, self.seed = list(kernels), bias, seed
        self.variables = [*self.kernels, bias]
        self.ends = np.cumsum([kernel.shape[0] for kernel in kernels]).tolist()

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """First label of each chunk and the one after its last."""
        return list(zip([0, *self.ends], self.ends, strict=False))

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """Logits of all labels, float32 (batch, num_labels)."""
        score = self.scores(features)
        return tf.concat([score(begin, end) for begin, end in self.ranges], axis=1)

    def scores(self, features: tf.Tensor) -> Callable[[int, int], tf.Tensor]:
        """Function (begin, end) -> logits of these labels, which have to be a chunk.

        Products of bfloat16 weights are made in float32 here.
        """
        features = tf.cast(features, tf.float32)
        kernels = [read_once(kernel.value) for kernel in self.kernels]
        bias, numbers = read_once(self.bias.value), {r: n for n, r in enumerate(self.ranges)}

        def score(begin, end):
            kernel = tf.cast(kernels[numbers[begin, end]], tf.float32)
            return tf.matmul(features, kernel, transpose_b=True) + bias[begin:end]

        return score

    def rows(self, begin: int, end: int) -> tf.Tensor:
        """Rows of the table, float32 (end - begin, dim)."""
        parts = [
            kernel.value[max(begin - first, 0) : end - first]
            for kernel, (first, last) in zip(self.kernels, self.ranges, strict=True)
            if first < end and begin < last
        ]
        return tf.concat([tf.cast(part, tf.float32) for part in parts], axis=0)

    def step(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        update: ChunkUpdate,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """A step of gradient descent, see ``heads.base.Head.fused_step``."""
        objective, share, rates, with_loss = update
        features, bias = tf.cast(features, tf.float32), self.bias.value.read_value()
        chunks = LogitChunks(lambda n: self._logits(n, features, bias)[0], self.ends, labels)
        state = objective.begin(chunks)
        weighted = features * share[:, None]
        losses, of_features = tf.zeros_like(share), tf.zeros_like(features)
        of_bias: list[tf.Tensor] = []
        done: list[Any] = tf.nest.flatten(state)
        for number, (_, positives) in enumerate(chunks.ranges()):
            with tf.control_dependencies(done):
                logits, kernel = self._logits(number, features, bias)
                losses = _with_share(with_loss, losses, objective, logits, positives, state)
                with tf.control_dependencies([losses]):  # so that the gradient may use its memory
                    gradient = objective.gradient_of_logits(logits, positives, state)
                of_bias.append(tf.linalg.matvec(gradient, share, transpose_a=True))
                of_features += tf.cast(_product(gradient, kernel), tf.float32)
                of_kernel = _product(gradient, weighted, kernel.dtype, transpose_a=True)
                with tf.control_dependencies([of_features, of_bias[-1]]):
                    variable = self.kernels[number]
                    done = [self._descend(number, variable.value, of_kernel, rates(variable))]
        with tf.control_dependencies(done):
            self._descend(len(of_bias), self.bias.value, tf.concat(of_bias, 0), rates(self.bias))
        return losses, of_features * share[:, None]

    def _logits(self, number, features, bias):
        """Logits of a chunk, float32 (batch, labels), and its weights."""
        kernel, (begin, end) = self.kernels[number].value.read_value(), self.ranges[number]
        logits = tf.cast(_product(features, kernel, transpose_b=True), tf.float32)
        return tf.nn.bias_add(logits, bias[begin:end]), kernel

    def _descend(self, number, variable, gradient, rates):
        """``w = kept w - rate gradient`` in place; returns the operation."""
        if variable.dtype == tf.bfloat16:
            return descend(variable, gradient, rates.rate, rates.kept, self.seed + number)
        rate = rates.rate
        if not isinstance(rates.kept, float):
            gradient = gradient * rate + variable.read_value() * (1 - rates.kept)
            rate = tf.constant(1.0)
        return tf.raw_ops.ResourceApplyGradientDescent(
            var=variable.handle, alpha=rate, delta=gradient
        )


def _with_share(with_loss, losses, objective, *chunk):
    """The losses with a chunk's share; as they are where they are not asked for."""
    if with_loss is True:
        return losses + objective.loss_of_logits(*chunk)
    return tf.cond(with_loss, lambda: losses + objective.loss_of_logits(*chunk), lambda: losses)


def _product(one, other, dtype=None, **transposed):
    """A product of factors that are first rounded to ``dtype``, that of ``other``."""
    dtype = dtype or other.dtype
    return tf.matmul(tf.cast(one, dtype), tf.cast(other, dtype), **transposed)
