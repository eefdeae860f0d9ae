"""LSTM in both directions, pooled by attention."""

from typing import Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, ShareBelowOne
from tfxc.encoders.bases.starts import Start
from tfxc.encoders.bases.tokens import TokenEncoder, lstm_layers, mean_of_words, weighted_sum
from tfxc.encoders.layers.recurrent import BidirectionalLSTM


@keras.saving.register_keras_serializable("tfxc")
class TextRNN(TokenEncoder):
    """Layers of LSTMs in both directions, their states weighted by attention and added up.

    The weights of the words are ``softmax(tanh(H W) u)`` over the states H of a text; an empty
    text has the vector 0.

    Args:
        vocabulary_size: number of ids (from the data).
        hidden_dim: units of each direction.
        num_layers: layers on top of each other.
        attention: whether the words are weighted; else their states are averaged.
        embedding_dim, dropout, word_dropout, start, initial_std, seed: see ``TokenEncoder``.

    Raises:
        ValueError: an argument out of range.

    Input: int32 (batch, length) padded with 0. Output: float (batch, 2 · hidden_dim).

    Example:
        >>> TextRNN(vocabulary_size=10, hidden_dim=4)(tf.constant([[3, 5, 0]])).shape
        TensorShape([1, 8])

    Reference: Zhou et al., ACL 2016 (attention over a bidirectional LSTM).
    """

    def __init__(
        self,
        vocabulary_size: FromData[int],
        *,
        hidden_dim: Count = 128,
        num_layers: Count = 1,
        attention: bool = True,
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
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.attention = attention
        self.layers: list[BidirectionalLSTM] = []

    def make(self) -> None:
        """Makes the LSTMs and the attention."""
        self.layers = lstm_layers(self, self.embedding_dim)
        width = self.output_dim
        if self.attention:
            self.attention_kernel = self.matrix((width, width), "attention_kernel")
            self.attention_vector = self.matrix((width, 1), "attention_vector")

    def pool(self, x: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns weighted sum of the states."""
        lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        for layer in self.layers:
            x = layer(x, lengths)
        if not self.attention:
            return mean_of_words(x, mask)
        return weighted_sum(x, self.weights_of(x, mask))

    def weights_of(self, states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Returns the weights of the words, float32 (batch, length); 0 at padding."""
        flat = tf.reshape(states, [-1, self.output_dim])
        scores = tf.tanh(tf.matmul(flat, self.cast(self.attention_kernel)))
        scores = tf.matmul(scores, self.cast(self.attention_vector))
        scores = tf.cast(tf.reshape(scores, tf.shape(mask)), tf.float32)
        # Finite, so that the weights of an empty text are no NaN.
        weights = tf.nn.softmax(tf.where(mask, scores, tf.float32.min), axis=1)
        return tf.where(mask, weights, 0.0)

    @property
    def output_dim(self) -> int:
        """Width of the output."""
        return 2 * self.hidden_dim
