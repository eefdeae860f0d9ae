"""Convolutions over words, the largest value of each filter."""

from collections.abc import Callable, Sequence
from typing import Annotated, Unpack

import keras
import numpy as np
import tensorflow as tf
from annotated_types import MinLen

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, ShareBelowOne
from tfxc.encoders.bases.starts import Start
from tfxc.encoders.bases.tokens import TokenEncoder
from tfxc.ops.gradients import custom_gradient
from tfxc.ops.sparse import transposed_product


@keras.saving.register_keras_serializable("tfxc")
class TextCNN(TokenEncoder):
    """For each width a layer of filters over windows of words, ReLU, maximum over the windows.

    A window counts if all its places hold words. A text shorter than the window has one window,
    which begins at its first word and continues with zeros; an empty text has zeros only. So
    padding never changes a vector.

    Args:
        vocabulary_size: number of ids (from the data).
        widths: numbers of words in a window.
        num_filters: filters of each width.
        embedding_dim, dropout, word_dropout, start, initial_std, seed: see ``TokenEncoder``.

    Raises:
        ValueError: an argument out of range.

    Input: int32 (batch, length) padded with 0. Output: float (batch, len(widths) · num_filters).

    Example:
        >>> TextCNN(vocabulary_size=10, num_filters=4)(tf.constant([[3, 5, 0]])).shape
        TensorShape([1, 12])

    Reference: Kim, EMNLP 2014 (arXiv 1408.5882).
    """

    def __init__(
        self,
        vocabulary_size: FromData[int],
        *,
        widths: Annotated[Sequence[Count], MinLen(1)] = (2, 3, 4),
        num_filters: Count = 64,
        embedding_dim: Count = 300,
        dropout: ShareBelowOne = 0.0,
        word_dropout: ShareBelowOne = 0.0,
        start: Start = "uniform",
        initial_std: Positive = 0.1,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(
            vocabulary_size,
            embedding_dim=embedding_dim,
            dropout=dropout,
            word_dropout=word_dropout,
            start=start,
            initial_std=initial_std,
            seed=seed,
            **kwargs,
        )
        self.widths = tuple(widths)
        self.num_filters = num_filters
        self.kernels: list[keras.Variable] = []

    def make(self) -> None:
        """Makes the filters."""
        for width in self.widths:
            shape = (width, self.embedding_dim, self.num_filters)
            self.kernels.append(self.matrix(shape, f"kernel_{len(self.kernels)}"))
        self.bias = self.matrix((self.output_dim,), "bias", "zeros")

    def pool(self, x: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the largest responses of all filters."""
        missing = tf.maximum(max(self.widths) - tf.shape(x)[1], 0)
        # No tf.pad: after it LiteRT does not know how wide the words are.
        zeros = tf.zeros(tf.stack([tf.shape(x)[0], missing, x.shape[2]]), x.dtype)
        x = tf.concat([x, zeros], axis=1)
        lengths = tf.reduce_sum(tf.cast(mask, tf.int64), axis=1)
        best = _largest_responses(x, lengths, *map(self.cast, self.kernels))
        # The maximum first: a bias and ReLU keep the order.
        return tf.nn.relu(best + self.cast(self.bias))

    @property
    def output_dim(self) -> int:
        """Width of the output."""
        return len(self.widths) * self.num_filters


@custom_gradient
def _largest_responses(
    x: tf.Tensor, lengths: tf.Tensor, *kernels: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor | None, ...]]]:
    """Returns the largest response of each filter over the windows that count.

    One window of a text decides about the response of a filter. The gradient visits only those
    windows, by products with a sparse matrix, where that of a convolution visits all.

    Args:
        x: float (batch, length, dim), zero at padding; no shorter than the widest kernel.
        lengths: int64 (batch,), numbers of words.
        kernels: float (width, dim, filters) each.

    Returns:
        float (batch, sum of filters).
    """
    responses = []
    for kernel in kernels:
        products = tf.nn.conv1d(x, kernel, stride=1, padding="VALID")
        last = tf.maximum(lengths - kernel.shape[0], 0)
        counts = tf.range(tf.shape(products, tf.int64)[1]) <= last[:, None]
        responses.append(tf.where(counts[:, :, None], products, float("-inf")))

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        best = tf.concat([tf.argmax(r, axis=1) for r in responses], axis=1)
        of_x, of_kernels = _sparse_gradients(x, kernels, best, upstream)
        return of_x, None, *of_kernels

    return tf.concat([tf.reduce_max(r, axis=1) for r in responses], axis=1), gradient


def _sparse_gradients(
    x: tf.Tensor, kernels: Sequence[tf.Tensor], best: tf.Tensor, upstream: tf.Tensor
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns the gradients of ``x`` and the kernels, where filter f of example b looked at
    ``best[b, f]``.
    """
    dim = x.shape[2]
    shapes = [(k.shape[0], k.shape[2]) for k in kernels]
    looked = _looked_at(tf.shape(x, tf.int64), shapes, best, upstream)
    # One row per place in a window and filter.
    filters = [tf.reshape(tf.transpose(k, [0, 2, 1]), [-1, dim]) for k in kernels]
    filters = tf.cast(tf.concat(filters, axis=0), tf.float32)
    words = tf.cast(tf.reshape(x, [-1, dim]), tf.float32)
    of_x = tf.raw_ops.SparseMatrixMatMul(a=looked, b=filters)
    of_filters = transposed_product(looked, words)
    parts = tf.split(of_filters, [width * count for width, count in shapes])
    of_kernels = [
        tf.transpose(tf.reshape(part, (*shape, dim)), [0, 2, 1])
        for part, shape in zip(parts, shapes, strict=True)
    ]
    of_x = tf.reshape(of_x, tf.shape(x))
    return tf.cast(of_x, x.dtype), [tf.cast(part, x.dtype) for part in of_kernels]


def _looked_at(
    shape: tf.Tensor, shapes: Sequence[tuple[int, int]], best: tf.Tensor, upstream: tf.Tensor
) -> tf.Tensor:
    """Returns sparse matrix of the gradient, (batch · length, rows of all filters), in CSR form.

    Args:
        shape: that of ``x``, int64 (3,).
        shapes: (width, number of filters) of each kernel.
        best, upstream: see ``_sparse_gradients``.
    """
    # Of each row of the filters: its filter, and its place in the window.
    firsts = np.cumsum([0, *(count for _, count in shapes[:-1])])
    grids = [np.indices(part).reshape(2, -1) for part in shapes]
    places = np.concatenate([place for place, _ in grids])
    filters = np.concatenate(
        [first + number for first, (_, number) in zip(firsts, grids, strict=True)]
    )
    rows = tf.range(shape[0])[:, None] * shape[1] + tf.gather(best, filters, axis=1) + places
    columns = tf.broadcast_to(tf.range(len(filters), dtype=tf.int64), tf.shape(rows))
    entries = tf.SparseTensor(
        tf.reshape(tf.stack([rows, columns], axis=2), [-1, 2]),
        tf.cast(tf.reshape(tf.gather(upstream, filters, axis=1), [-1]), tf.float32),
        tf.stack([shape[0] * shape[1], len(filters)]),
    )
    entries = tf.sparse.reorder(entries)
    # Products in this form take half the time of ``tf.sparse.sparse_dense_matmul``.
    return tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=entries.indices, values=entries.values, dense_shape=entries.dense_shape
    )
