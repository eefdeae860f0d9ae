"""Mean of word vectors -> one hidden layer."""

from typing import Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, ShareBelowOne
from tfxc.encoders.base import FeedForward
from tfxc.encoders.bases.starts import Start
from tfxc.encoders.bases.tokens import TokenEncoder, mean_of_words


@keras.saving.register_keras_serializable("tfxc")
class FastText(TokenEncoder):
    """Mean of the words' vectors, a dense layer, ReLU.

    Args:
        vocabulary_size: number of ids (from the data).
        hidden_dim: width of the output.
        embedding_dim, dropout, word_dropout, start, initial_std, seed: see ``TokenEncoder``.

    Input: int32 (batch, length) padded with 0. Output: float (batch, hidden_dim).

    Example:
        >>> FastText(vocabulary_size=10, hidden_dim=4)(tf.constant([[3, 5, 0]])).shape
        TensorShape([1, 4])

    N-grams of words and characters come with text features ``fasttext``: more rows of the table.

    Reference: Joulin et al. 2017, arXiv 1607.01759.
    """

    def __init__(
        self,
        vocabulary_size: FromData[int],
        *,
        hidden_dim: Count = 256,
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

    def make(self) -> None:
        """Makes the dense layer."""
        self.kernel = self.matrix((self.embedding_dim, self.hidden_dim), "kernel")
        self.bias = self.matrix((self.hidden_dim,), "bias", "zeros")

    def pool(self, x: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the ReLU of a linear map of the mean."""
        mean = mean_of_words(x, mask)
        return tf.nn.relu(tf.matmul(mean, self.cast(self.kernel)) + self.cast(self.bias))

    @property
    def output_dim(self) -> int:
        """Width of the output."""
        return self.hidden_dim

    def feed_forward(self) -> FeedForward:
        """See ``Encoder``."""
        return FeedForward(
            self.table.numpy(),
            None,
            [self.kernel.numpy()],
            [np.zeros(self.embedding_dim, np.float32), self.bias.numpy()],
            ["linear", "relu"],
        )
