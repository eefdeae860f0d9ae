"""What the encoders of token ids share: the table, its padding, dropout and starts."""

from typing import Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, ShareBelowOne
from tfxc.encoders.base import Encoder
from tfxc.encoders.bases.starts import STARTS, Start
from tfxc.encoders.layers.recurrent import BidirectionalLSTM
from tfxc.ops.perturbations import read_rows
from tfxc.ops.randomness import dropout, keep_mask


class TokenEncoder(Encoder):
    """Base of the encoders that read token ids.

    Features are int32 (batch, length): ids of a vocabulary in order, padded at the end with 0.
    The length may differ from batch to batch; the vector of a text does not depend on it.

    ``call(ids)`` is ``encode(embed(ids), ids != 0)``. Between the two a technique may change what
    is read. A subclass writes ``make`` and ``pool``, and says ``output_dim``.

    Row 0 of the table belongs to the padding. It starts as zero, and what is read at padding is
    set to zero before anything else, so its gradient is exactly zero and no optimizer moves it.
    Should something else write to it, the vectors stay the same.

    Args:
        vocabulary_size: number of ids, those of padding (0) and unknown words included (from the
            data).
        embedding_dim: width of the table.
        dropout: share of the output's units dropped in training.
        word_dropout: share of the words dropped in training, each as a whole.
        start: initialisation of the kernels: ``"uniform"`` within 1/sqrt(inputs), ``"normal"`` of
            standard deviation 1/sqrt(inputs), ``"xavier"`` or ``"kaiming"`` (uniform).
        initial_std: standard deviation of the table's normal initialisation.
        seed: seed of the initial weights and the dropout masks.

    Raises:
        ValueError: an argument out of range.

    Input: int32 (batch, length), length at least 1. Output: float (batch, output_dim).
    """

    input_kind = "tokens"

    def __init__(
        self,
        vocabulary_size: FromData[int],
        *,
        embedding_dim: Count,
        dropout: ShareBelowOne,
        word_dropout: ShareBelowOne,
        start: Start,
        initial_std: Positive,
        seed: int,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.vocabulary_size = vocabulary_size
        self.embedding_dim = embedding_dim
        self.dropout = dropout
        self.word_dropout = word_dropout
        self.start = start
        self.initial_std = initial_std
        self.seed = seed
        self._num_seeds = 0

    def build(self, _input_shape: object = None) -> None:
        """Makes the table and the subclass's weights."""
        start = keras.initializers.RandomNormal(stddev=self.initial_std, seed=self.next_seed())

        def with_zero_row(shape: tuple[int, int], dtype: str | None = None) -> tf.Tensor:
            return start(shape, dtype) * tf.cast(tf.range(shape[0])[:, None] > 0, dtype)

        shape = (self.vocabulary_size, self.embedding_dim)
        self.table = self.add_weight(shape, with_zero_row, name="table", autocast=False)
        self.make()

    def call(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Encodes a batch of texts."""
        if isinstance(features, dict):
            raise ValueError("the features must be token ids (batch, length), not a sparse bag")
        # A GPU compares 64-bit integers itself; exported models keep to the type of their input.
        ids = tf.cast(features, tf.int64 if training else tf.int32)
        return self.encode(self.embed(ids), ids != 0, training)

    @property
    def embedding(self) -> tf.Tensor:
        """The table, a Keras variable (vocabulary_size, embedding_dim)."""
        return self.table

    @property
    def tables(self) -> list[tf.Tensor]:
        """The table."""
        return [self.table]

    def embed(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the rows of the table, float32 (batch, length, embedding_dim).

        The gradient of the table is an ``IndexedSlices``.
        """
        # The table itself, not the Keras variable: gathering from that copies the whole table.
        return read_rows(self.table.value, ids)

    def encode(self, embedded: tf.Tensor, mask: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the vectors of embedded texts.

        Args:
            embedded: float (batch, length, embedding_dim).
            mask: bool (batch, length), False at padding, which is at the end.
            training: whether dropout is on.

        Returns:
            float (batch, output_dim).
        """
        x = self.masked_inputs(embedded, mask, training)
        return self.dropped_outputs(self.pool(x, mask, training), training)

    def masked_inputs(self, embedded: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns what the subclass sees of the words: nothing of the padding, in training not
        all.
        """
        x = tf.where(mask[:, :, None], tf.cast(embedded, self.compute_dtype), 0)
        if not (training and self.word_dropout):
            return x
        rows = tf.range(tf.shape(x)[0])[:, None]
        columns = tf.range(tf.shape(x)[1])
        keep = keep_mask(rows, columns, self.word_dropout, self.next_mask(1))
        return tf.where(keep[:, :, None], x / (1 - self.word_dropout), 0)

    def dropped_outputs(self, vectors: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the vectors, in training with dropout."""
        return dropout(vectors, self.dropout, self.next_mask(0)) if training else vectors

    def make(self) -> None:
        """Makes the weights after the table."""
        raise TypeError(f"{type(self).__name__} must define make()")

    def pool(self, x: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns vectors (batch, output_dim) of masked ``x`` (batch, length, embedding_dim)."""
        raise TypeError(f"{type(self).__name__} must define pool(x, mask, training)")

    @property
    def output_dim(self) -> int:
        """Width of the output."""
        raise TypeError(f"{type(self).__name__} must define output_dim")

    def matrix(self, shape: tuple[int, ...], name: str, start: str | None = None) -> tf.Tensor:
        """Returns a new kernel that starts as ``start`` says (the argument, by default)."""
        start = start or STARTS[self.start](seed=self.next_seed())
        return self.add_weight(shape, start, name=name, autocast=False)

    def cast(self, weight: tf.Tensor) -> tf.Tensor:
        """Returns a weight as the computation needs it."""
        return tf.cast(weight.value, self.compute_dtype)

    def next_seed(self) -> int:
        """Returns another seed of a start at each call."""
        self._num_seeds += 1
        return self.seed * 1000 + self._num_seeds

    def next_mask(self, number: int) -> int:
        """Returns the seed of the dropout masks of place ``number``."""
        return self.seed * 1000 + 900 + number

    def compute_output_shape(self, _input_shape: object) -> tuple[None, int]:
        """Returns (batch, output_dim)."""
        return (None, self.output_dim)


def weighted_sum(x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns the sum of (batch, length, dim) over the length with weights (batch, length); (batch,
    dim).
    """
    return tf.matmul(tf.cast(weights, x.dtype)[:, None, :], x)[:, 0]


def mean_of_words(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean over the words, (batch, dim); 0 for a text without any."""
    counts = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1, keepdims=True)
    shares = tf.math.divide_no_nan(tf.cast(mask, tf.float32), counts)
    return tf.cast(weighted_sum(tf.cast(x, tf.float32), shares), x.dtype)


def largest_of_words(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the largest value of each unit over the words, (batch, dim); 0 for a text without
    any.
    """
    largest = tf.reduce_max(tf.where(mask[:, :, None], x, x.dtype.min), axis=1)
    return tf.where(tf.reduce_any(mask, axis=1, keepdims=True), largest, 0)


def lstm_layers(encoder: TokenEncoder, input_dim: int) -> list[BidirectionalLSTM]:
    """Returns the built layers of a ``TokenEncoder`` with ``num_layers`` and ``hidden_dim``."""
    layers = []
    for _ in range(encoder.num_layers):
        layers.append(
            BidirectionalLSTM(
                encoder.hidden_dim,
                STARTS[encoder.start],
                encoder.next_seed,
                dtype=encoder.dtype_policy,
            )
        )
        layers[-1].build((None, None, input_dim))
        input_dim = 2 * encoder.hidden_dim
    return layers
