"""Weights of labels in chunks that a training step reads, uses and updates one after the other."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfxc.ops.distributed.cross_replica import CrossReplica
from tfxc.ops.fused.logit_chunks import ChunkUpdate, LogitChunks, plain_variable
from tfxc.ops.fused.stochastic_rounding import descend
from tfxc.ops.search.top_k import read_once, rows_between

CHUNK = 8192  # labels: a chunk's logits and gradient stay small, its products large
MOST_CHUNKS = 128  # each is a part of the graph


def chunk_size(num_labels: int) -> int:
    """Returns the labels of a chunk; the last one may have fewer.

    Example:
        >>> chunk_size(670_091), chunk_size(10_000_000)
        (8192, 78125)
    """
    return max(min(CHUNK, num_labels), -(-num_labels // MOST_CHUNKS))


class Piece(NamedTuple):
    """Labels whose weights are one variable: a chunk, or a replica's share of one.

    Attributes:
        kernel: Keras variable or ``tf.Variable`` (labels, dim), float32 or bfloat16. Rows beyond
            its labels are zero and stay so.
        begin, end: first label and the one after its last.
        place: where its labels begin in the vector of biases.
        seed: of the stochastic rounding of the chunk.
        first_row: number of the first label within the chunk.
    """

    kernel: Any
    begin: int
    end: int
    place: int
    seed: int = 0
    first_row: int = 0


class LabelChunks:
    """A table with a row per label, as a variable per chunk of labels, and one vector of biases.

    No gradient of the table's size is ever made: a step holds the logits and the gradient of one
    chunk, multiplies them, updates the chunk in place and goes on to the next. Each chunk waits
    for the update before it, as TensorFlow would otherwise run ahead and hold several.

    Args:
        pieces: the chunks, by ascending label.
        bias: Keras variable float32 (num_labels,), or ``tf.Variable`` (places, 1).
        num_labels: of all replicas; None for the end of the last chunk.
        cross_replica: of the chunks of one replica; None where they are those of all labels.

    Attributes:
        kernels: the variables of the chunks.
        ranges: first label of each chunk and the one after its last.
        variables: all of them.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        bias: keras.Variable | tf.Variable,
        num_labels: int | None = None,
        cross_replica: CrossReplica | None = None,
    ) -> None:
        self.pieces = list(pieces)
        self.bias = bias
        self.num_labels = num_labels
        self._cross_replica = cross_replica
        self.kernels = [piece.kernel for piece in pieces]
        self.ranges = [(piece.begin, piece.end) for piece in pieces]
        self.variables = [*self.kernels, bias]

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the logits of all labels, float32 (batch, num_labels)."""
        score = self.scores(features)
        return tf.concat([score(begin, end) for begin, end in self.ranges], axis=1)

    def scores(self, features: tf.Tensor) -> Callable[[int, int], tf.Tensor]:
        """Returns a function (begin, end) -> logits of these labels, which have to be a chunk.

        Products of bfloat16 weights are made in float32 here.
        """
        features = tf.cast(features, tf.float32)
        kernels = [read_once(plain_variable(kernel)) for kernel in self.kernels]
        bias = tf.reshape(read_once(plain_variable(self.bias)), [-1])
        numbers = {labels: number for number, labels in enumerate(self.ranges)}

        def score(begin, end):
            piece = self.pieces[numbers[begin, end]]
            count = end - begin
            kernel = rows_between(kernels[numbers[begin, end]], 0, count)
            products = tf.matmul(features, tf.cast(kernel, tf.float32), transpose_b=True)
            return products + bias[piece.place : piece.place + count]

        return score

    def rows(self, begin: int, end: int) -> tf.Tensor:
        """Returns the rows of the table, float32 (end - begin, dim)."""
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
        """Returns a step of gradient descent, see ``heads.base.Head.fused_step``."""
        objective, share, rates, with_loss = update
        features = tf.cast(features, tf.float32)
        bias = plain_variable(self.bias)
        of_labels = tf.reshape(bias.read_value(), [-1])
        whose = self.ranges, labels, self.num_labels, self._cross_replica
        chunks = LogitChunks(lambda n: _logits(features, *self._weights(n, of_labels)), *whose)
        state = objective.begin(chunks)
        weighted = features * share[:, None]
        losses = tf.zeros_like(share)
        of_features = tf.zeros_like(features)
        of_bias: list[tf.Tensor] = []
        done: list[Any] = tf.nest.flatten(state)

        # The graph calls one function for all chunks. Inlined, up to 128 copies of it would take
        # more memory than several chunks, and longer to trace.
        @tf.function(autograph=False, experimental_attributes={"_noinline": True})
        def gradients(kernel, bias_of_chunk, positives, losses, of_features):
            logits = _logits(features, kernel, bias_of_chunk)
            losses = _with_share(with_loss, losses, objective, logits, positives, state)
            with tf.control_dependencies([losses]):  # so that the gradient may use its memory
                gradient = objective.gradient_of_logits(logits, positives, state)
            of_bias = tf.linalg.matvec(gradient, share, transpose_a=True)
            of_features += tf.cast(_product(gradient, kernel), tf.float32)
            of_kernel = _product(gradient, weighted, kernel.dtype, transpose_a=True)
            return losses, of_features, of_bias, of_kernel

        for number, (_, positives) in enumerate(chunks.ranges()):
            with tf.control_dependencies(done):
                weights = self._weights(number, of_labels)
                losses, of_features, of_piece, of_kernel = gradients(
                    *weights, positives, losses, of_features
                )
                of_bias.append(of_piece)
                done = [_descend(self.pieces[number], of_kernel, rates)]
        with tf.control_dependencies(done):
            _subtract(bias, self._by_place(of_bias, bias.shape), rates(bias))
        return losses, of_features * share[:, None]

    def _by_place(self, of_pieces, shape):
        """Returns what the pieces have to say of their biases, where these are; 0 elsewhere."""
        ends = [*(piece.place for piece in self.pieces[1:]), shape[0]]
        padded = [
            tf.pad(values, [[0, end - piece.place - (piece.end - piece.begin)]])
            for piece, end, values in zip(self.pieces, ends, of_pieces, strict=True)
        ]
        return tf.reshape(tf.concat(padded, axis=0), shape)

    def _weights(self, number, bias):
        """Returns weights and biases of a chunk."""
        piece = self.pieces[number]
        count = piece.end - piece.begin
        kernel = rows_between(plain_variable(piece.kernel).read_value(), 0, count)
        return kernel, bias[piece.place : piece.place + count]


def _logits(features, kernel, bias):
    """Returns the logits of a chunk, float32 (batch, labels)."""
    return tf.nn.bias_add(tf.cast(_product(features, kernel, transpose_b=True), tf.float32), bias)


def _descend(piece, gradient, rates):
    """Updates a kernel in place; returns the operation."""
    variable = plain_variable(piece.kernel)
    missing = variable.shape[0] - (piece.end - piece.begin)
    if missing:
        gradient = tf.pad(gradient, [[0, missing], [0, 0]])
    rate = rates(variable)
    if variable.dtype == tf.bfloat16:
        return descend(variable, gradient, rate.rate, rate.kept, piece.seed, piece.first_row)
    return _subtract(variable, gradient, rate)


def _subtract(variable, gradient, rates):
    """Returns ``w = kept w - rate gradient`` in place, float32; returns the operation."""
    rate = rates.rate
    if not isinstance(rates.kept, float):
        gradient = gradient * rate + variable.read_value() * (1 - rates.kept)
        rate = tf.constant(1.0)
    return tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)


def _with_share(with_loss, losses, objective, *chunk):
    """Returns the losses with a chunk's share; as they are where they are not asked for."""
    if with_loss is True:
        return losses + objective.loss_of_logits(*chunk)
    return tf.cond(with_loss, lambda: losses + objective.loss_of_logits(*chunk), lambda: losses)


def _product(one, other, dtype=None, **transposed):
    """Returns a product of factors that are first rounded to ``dtype``, that of ``other``."""
    dtype = dtype or other.dtype
    return tf.matmul(tf.cast(one, dtype), tf.cast(other, dtype), **transposed)
