"""Convolutions over words, the largest value of each filter."""

import keras
import tensorflow as tf

from tfxc.encoders._tokens import TokenEncoder, check_size


@keras.saving.register_keras_serializable("tfxc")
class TextCNN(TokenEncoder):
    """For each width a layer of filters over windows of words, ReLU, maximum over the windows.

    A window counts if all its places hold words. A text shorter than the window has one window,
    which begins at its first word and goes on with zeros; an empty text has zeros only. So padding
    never changes a vector.

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
        vocabulary_size,
        *,
        widths=(2, 3, 4),
        num_filters=64,
        embedding_dim=300,
        dropout=0.0,
        word_dropout=0.0,
        start="uniform",
        initial_std=0.1,
        seed=0,
        **kwargs,
    ):
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
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must list at least one positive width, found {widths}")
        self.widths = tuple(widths)
        self.num_filters = check_size("num_filters", num_filters)
        self.kernels = []

    def make(self):
        """Makes the filters."""
        for width in self.widths:
            shape = (width, self.embedding_dim, self.num_filters)
            self.kernels.append(self.matrix(shape, f"kernel_{len(self.kernels)}"))
        self.bias = self.matrix((self.output_dim,), "bias", "zeros")

    def pool(self, x, mask, training):
        """The largest responses of all filters."""
        missing = tf.maximum(max(self.widths) - tf.shape(x)[1], 0)
        x = tf.pad(x, [[0, 0], [0, missing], [0, 0]])
        lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        best = _largest_responses(x, lengths, *map(self.cast, self.kernels))
        # The maximum first: a bias and ReLU keep the order.
        return tf.nn.relu(best + self.cast(self.bias))

    @property
    def output_dim(self):
        """Width of the output."""
        return len(self.widths) * self.num_filters

    def get_config(self):
        """Constructor arguments."""
        own = {"widths": list(self.widths), "num_filters": self.num_filters}
        return {**super().get_config(), **own}


@tf.custom_gradient
def _largest_responses(x, lengths, *kernels):
    """Largest response of each filter over the windows that count.

    One window of a text decides about the response of a filter. The gradient visits only those
    windows, by products with a sparse matrix, where that of a convolution visits all.

    Args:
        x: float (batch, length, dim), zero at padding; no shorter than the widest kernel.
        lengths: int32 (batch,), numbers of words.
        kernels: float (width, dim, filters) each.

    Returns:
        float (batch, sum of filters).
    """
    responses = [_responses(x, lengths, kernel) for kernel in kernels]

    def gradient(upstream):
        best = tf.concat([tf.argmax(r, axis=1, output_type=tf.int32) for r in responses], axis=1)
        of_x, of_kernels = _sparse_gradients(x, kernels, best, upstream)
        return of_x, None, *of_kernels

    return tf.concat([tf.reduce_max(r, axis=1) for r in responses], axis=1), gradient


def _responses(x, lengths, kernel):
    """Responses to all windows, (batch, length - width + 1, filters), -inf where one counts not."""
    width = kernel.shape[0]
    responses = tf.nn.conv1d(x, kernel, stride=1, padding="VALID")
    last = tf.maximum(lengths - width, 0)
    counts = tf.range(tf.shape(responses)[1]) <= last[:, None]
    return tf.where(counts[:, :, None], responses, float("-inf"))


def _sparse_gradients(x, kernels, best, upstream):
    """Gradients of ``x`` and the kernels, where filter f of example b looked at ``best[b, f]``."""
    batch, length, dim = tf.shape(x)[0], tf.shape(x)[1], x.shape[2]
    rows, columns, values, first_filter, first_column = [], [], [], 0, 0
    for kernel in kernels:
        width, _, filters = kernel.shape
        own = slice(first_filter, first_filter + filters)
        places = tf.range(batch)[:, None] * length + best[:, own]
        shape = tf.stack([batch, filters])
        for offset in range(width):
            rows.append(places + offset)
            columns.append(tf.broadcast_to(first_column + tf.range(filters), shape))
            values.append(upstream[:, own])
            first_column += filters
        first_filter += filters
    row, column = (tf.reshape(tf.concat(part, axis=1), [-1]) for part in (rows, columns))
    looked = tf.SparseTensor(
        tf.cast(tf.stack([row, column], axis=1), tf.int64),
        tf.cast(tf.reshape(tf.concat(values, axis=1), [-1]), tf.float32),
        tf.cast(tf.stack([batch * length, first_column]), tf.int64),
    )
    # One row per word of a window and filter.
    filters = [tf.reshape(tf.transpose(k, [0, 2, 1]), [-1, dim]) for k in kernels]
    table = tf.cast(tf.concat(filters, axis=0), tf.float32)
    words = tf.cast(tf.reshape(x, [-1, dim]), tf.float32)
    of_x = tf.sparse.sparse_dense_matmul(looked, table)
    of_table = tf.sparse.sparse_dense_matmul(looked, words, adjoint_a=True)
    parts = tf.split(of_table, [k.shape[0] * k.shape[2] for k in kernels])
    shapes = [(k.shape[0], k.shape[2], dim) for k in kernels]
    of_kernels = [
        tf.transpose(tf.reshape(part, shape), [0, 2, 1])
        for part, shape in zip(parts, shapes, strict=True)
    ]
    of_x = tf.reshape(of_x, tf.shape(x))
    return tf.cast(of_x, x.dtype), [tf.cast(g, x.dtype) for g in of_kernels]
