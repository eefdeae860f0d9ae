"""What the encoders of stacked self-attention share: a look at what they compute on the way."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfxc.encoders._tokens import TokenEncoder


class Watched(NamedTuple):
    """One pass through a ``LayeredEncoder``.

    Attributes:
        vectors: what ``call`` returns, float (batch, output_dim).
        mask: bool (batch, length), False at padding.
        states: what enters the first layer, and what comes out of each; list of float
            (batch, length, dim).
        scores: list of float32 (batch, heads, length, length), one of each layer: the attention
            before the softmax, very low at padding. Empty where it was not asked for.
    """

    vectors: Any
    mask: Any
    states: list
    scores: list


class LayeredEncoder(TokenEncoder):
    """Base of the encoders with layers of self-attention.

    A subclass writes ``hidden_states(x, mask, training, scores)`` (``scores``: None, or a list that
    gets the scores of each layer), ``pooled(states, mask)`` and ``weights_of_layer(number)``.
    """

    def pool(self, x, mask, training):
        """The pooled vector of the states."""
        return self.pooled(self.hidden_states(x, mask, training), mask)

    def watched(self, features, training=False, attention=False):
        """Encodes a batch and keeps what is computed on the way.

        Args:
            features: as for ``call``.
            training: whether dropout is on.
            attention: whether to keep the scores of the attention.

        Returns:
            ``Watched``.
        """
        ids, scores = tf.cast(features, tf.int32), []
        mask = ids != 0
        x = self.entering(self.embed(ids), mask, training)
        states = self.hidden_states(x, mask, training, scores if attention else None)
        vectors = self.leaving(self.pooled(states, mask), training)
        return Watched(vectors, mask, states, scores)

    def pooled(self, states, mask):
        """Vectors (batch, output_dim) of the states."""
        raise TypeError(f"{type(self).__name__} must define pooled(states, mask)")

    def hidden_states(self, x, mask, training=False, scores=None):
        """What enters the first layer, and what comes out of each, a list."""
        raise TypeError(f"{type(self).__name__} must define hidden_states")

    def weights_of_layer(self, number):
        """The weights of layer ``number`` from 1, by names that are the same in each layer."""
        raise TypeError(f"{type(self).__name__} must define weights_of_layer(number)")
