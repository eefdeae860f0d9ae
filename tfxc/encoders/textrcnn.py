"""Word vectors concatenated with the states of an LSTM, the largest value of each unit."""

from typing import Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, ShareBelowOne
from tfxc.encoders.bases.starts import Start
from tfxc.encoders.bases.tokens import TokenEncoder, largest_of_words, lstm_layers
from tfxc.encoders.layers.recurrent import BidirectionalLSTM


@keras.saving.register_keras_serializable("tfxc")
class TextRCNN(TokenEncoder):
    """Each word's vector concatenated with its LSTM states of both directions; maximum over words.

    An empty text has the vector 0.

    Args:
        vocabulary_size: number of ids (from the data).
        hidden_dim: units of each direction.
        num_layers: layers of LSTMs on top of each other.
        embedding_dim, dropout, word_dropout, start, initial_std, seed: see ``TokenEncoder``.

    Raises:
        ValueError: an argument out of range.

    Input: int32 (batch, length) padded with 0.
    Output: float (batch, embedding_dim + 2 · hidden_dim).

    Example:
        >>> encoder = TextRCNN(vocabulary_size=10, embedding_dim=3, hidden_dim=4)
        >>> encoder(tf.constant([[3, 5, 0]])).shape
        TensorShape([1, 11])

    Reference: Lai et al., AAAI 2015, with LSTMs and without its layer before the maximum.
    """

    def __init__(
        self,
        vocabulary_size: FromData[int],
        *,
        hidden_dim: Count = 128,
        num_layers: Count = 1,
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
        self.layers: list[BidirectionalLSTM] = []

    def make(self) -> None:
        """Makes the LSTMs."""
        self.layers = lstm_layers(self, self.embedding_dim)

    def pool(self, x: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the largest values."""
        lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        states = x
        for layer in self.layers:
            states = layer(states, lengths)
        return largest_of_words(tf.concat([x, states], axis=2), mask)

    @property
    def output_dim(self) -> int:
        """Width of the output."""
        return self.embedding_dim + 2 * self.hidden_dim
