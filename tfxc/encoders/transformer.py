"""Self-attention over words, averaged."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, ShareBelowOne
from tfxc.core.errors import ConfigError
from tfxc.encoders.bases.layered import LayeredEncoder
from tfxc.encoders.bases.starts import Start
from tfxc.encoders.bases.tokens import mean_of_words
from tfxc.encoders.layers.gates import Gates, apply_gate
from tfxc.ops.randomness import dropout as drop


@keras.saving.register_keras_serializable("tfxc")
class Transformer(LayeredEncoder):
    """Sinusoidal positions, layers of self-attention with the norm after each part, mean.

    A layer is ``x = norm(x + attention(x))``, ``x = norm(x + W2 relu(W1 x))``. Padding is masked
    in the attention and left out of the mean; an empty text has the vector 0.

    Args:
        vocabulary_size: number of ids (from the data).
        num_layers: layers on top of each other.
        num_heads: heads of the attention.
        head_dim: width of a head; None means embedding_dim / num_heads.
        feed_forward_dim: width inside the second part of a layer; None means 4 · embedding_dim.
        embedding_dim, word_dropout, start, initial_std, seed: see ``TokenEncoder``; the width is
            even. Word vectors are multiplied by its square root before positions are added.
        dropout: share of units dropped in training, of the output, of the sum of words and
            positions, and of what each part of a layer adds.
        architecture: the sizes of a pruned network (from a run's assets), instead of
            ``num_heads`` (a list where the layers differ), ``head_dim`` and ``feed_forward_dim``.

    Raises:
        ValueError: an argument out of range.

    Input: int32 (batch, length) padded with 0. Output: float (batch, embedding_dim).

    Example:
        >>> encoder = Transformer(vocabulary_size=10, embedding_dim=8, num_heads=2)
        >>> encoder(tf.constant([[3, 5, 0]])).shape
        TensorShape([1, 8])

    Reference: Vaswani et al. 2017, arXiv 1706.03762.
    """

    def __init__(
        self,
        vocabulary_size: FromData[int],
        *,
        num_layers: Count = 2,
        num_heads: Count = 4,
        head_dim: Count | None = None,
        feed_forward_dim: Count | None = None,
        embedding_dim: Count = 256,
        dropout: ShareBelowOne = 0.0,
        word_dropout: ShareBelowOne = 0.0,
        start: Start = "xavier",
        initial_std: Positive = 0.1,
        seed: int = 0,
        architecture: FromData[Mapping[str, Any] | None] = None,
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
        if embedding_dim % 2:
            raise ConfigError(
                f"must be even, not {embedding_dim}", where="embedding_dim", fix="change it"
            )
        if head_dim is None and embedding_dim % num_heads:
            raise ConfigError(
                f"must divide embedding_dim, which is {embedding_dim}, without a rest, not "
                f"{num_heads}",
                where="num_heads",
                fix="change it, or give head_dim",
            )
        self.num_layers = num_layers
        sizes = architecture or {}
        heads = sizes.get("num_heads", num_heads)
        self._heads = tuple([heads] * num_layers if isinstance(heads, int) else heads)
        self.head_width = sizes.get("head_dim", head_dim or embedding_dim // num_heads)
        self._inner_width = sizes.get("feed_forward_dim", feed_forward_dim or 4 * embedding_dim)
        self._is_pruned = architecture is not None
        self.layers: list[dict[str, Any]] = []
        self.gates = Gates()

    def make(self) -> None:
        """Makes the layers."""
        width = self.embedding_dim
        for number, heads in enumerate(self._heads):
            inner = heads * self.head_width
            weights = {}
            shapes = {
                "attention_in": (width, 3 * inner),
                "attention_out": (inner, width),
                "feed_forward_in": (width, self._inner_width),
                "feed_forward_out": (self._inner_width, width),
            }
            for name, shape in shapes.items():
                weights[f"{name}_kernel"] = self.matrix(shape, f"{name}_kernel_{number}")
                weights[f"{name}_bias"] = self.matrix(shape[1:], f"{name}_bias_{number}", "zeros")
            for name in ("attention", "feed_forward"):
                for part, start in (("gamma", "ones"), ("beta", "zeros")):
                    weights[f"{name}_{part}"] = self.matrix(
                        (width,), f"{name}_{part}_{number}", start
                    )
            self.layers.append(weights)

    def pooled(self, states: Sequence[tf.Tensor], mask: tf.Tensor) -> tf.Tensor:
        """Returns the mean of the last layer's states."""
        return mean_of_words(states[-1], mask)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return self.num_layers

    def weights_of_layer(self, number: int) -> dict[str, tf.Tensor]:
        """Returns the weights of layer ``number`` from 1 by name."""
        return self.layers[number - 1]

    def hidden_states(
        self,
        x: tf.Tensor,
        mask: tf.Tensor,
        training: bool = False,
        scores: list[tf.Tensor] | None = None,
    ) -> list[tf.Tensor]:
        """Returns what enters the first layer, and what comes out of each.

        Args:
            x: float (batch, length, embedding_dim), word vectors.
            mask: bool (batch, length), False at padding.
            training: whether dropout is on.
            scores: see ``LayeredEncoder``.

        Returns:
            list of num_layers + 1 tensors (batch, length, embedding_dim).
        """
        width = self.embedding_dim
        positions = sinusoids(tf.shape(x)[1], width)
        x = x * tf.cast(width**0.5, x.dtype) + tf.cast(positions, x.dtype)
        states = [self._dropped(x, 0, training)]
        for number, weights in enumerate(self.layers):
            x = states[-1]
            gates = self.gates.of(number)
            added = self._attention(x, mask, weights, scores, gates[0])
            x = self._normed(x, added, weights, "attention", 2 * number + 1, training)
            added = tf.nn.relu(self._linear(x, weights, "feed_forward_in"))
            added = self._linear(apply_gate(added, gates[1]), weights, "feed_forward_out")
            states.append(self._normed(x, added, weights, "feed_forward", 2 * number + 2, training))
        return states

    def _attention(
        self,
        x: tf.Tensor,
        mask: tf.Tensor,
        weights: Mapping[str, tf.Tensor],
        seen: list[tf.Tensor] | None,
        gate: tf.Tensor | None,
    ) -> tf.Tensor:
        batch = tf.shape(x)[0]
        length = tf.shape(x)[1]
        size = self.head_width
        heads = weights["attention_out_kernel"].shape[0] // size
        parts = self._linear(x, weights, "attention_in")
        parts = tf.reshape(parts, tf.stack([batch, length, 3, heads, size]))
        query, key, value = tf.unstack(tf.transpose(parts, [2, 0, 3, 1, 4]))
        scores = tf.matmul(query * tf.cast(size**-0.5, x.dtype), key, transpose_b=True)
        # Finite, so that an empty text gives no NaN.
        hidden = tf.where(mask, 0.0, tf.float32.min / 2)[:, None, None, :]
        scores = tf.cast(scores, tf.float32) + hidden
        if seen is not None:
            seen.append(scores)
        shares = tf.cast(tf.nn.softmax(scores), x.dtype)
        mixed = tf.transpose(apply_gate(tf.matmul(shares, value), gate), [0, 2, 1, 3])
        mixed = tf.reshape(mixed, tf.stack([batch, length, heads * size]))
        return self._linear(mixed, weights, "attention_out")

    def _linear(self, x: tf.Tensor, weights: Mapping[str, tf.Tensor], name: str) -> tf.Tensor:
        kernel = self.cast(weights[f"{name}_kernel"])
        flat = tf.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel)
        flat = tf.nn.bias_add(flat, self.cast(weights[f"{name}_bias"]))
        return tf.reshape(flat, tf.stack([tf.shape(x)[0], tf.shape(x)[1], kernel.shape[1]]))

    def _normed(
        self,
        x: tf.Tensor,
        added: tf.Tensor,
        weights: Mapping[str, tf.Tensor],
        part: str,
        place: int,
        training: bool,
    ) -> tf.Tensor:
        x = tf.cast(x + self._dropped(added, place, training), tf.float32)
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        gamma = weights[f"{part}_gamma"].value
        beta = weights[f"{part}_beta"].value
        normed = (x - mean) * tf.math.rsqrt(variance + 1e-5) * gamma + beta
        return tf.cast(normed, self.compute_dtype)

    def _dropped(self, x: tf.Tensor, place: int, training: bool) -> tf.Tensor:
        return drop(x, self.dropout, self.next_mask(2 + place)) if training else x

    @property
    def output_dim(self) -> int:
        """Width of the output."""
        return self.embedding_dim

    @property
    def architecture(self) -> dict[str, Any] | None:
        """The sizes of a pruned network, what a run keeps of it; None if the config says all."""
        if not self._is_pruned:
            return None
        return {
            "num_heads": list(self._heads),
            "head_dim": self.head_width,
            "feed_forward_dim": self._inner_width,
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "architecture": self.architecture}


def sinusoids(length: tf.Tensor, width: int) -> tf.Tensor:
    """Sines and cosines of the positions by turns, float32 (length, width).

    Example:
        >>> sinusoids(2, 4).numpy().round(2).tolist()
        [[0.0, 1.0, 0.0, 1.0], [0.8399999737739563, 0.5400000214576721, 0.009999999776482582, 1.0]]
    """
    rates = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = tf.cast(tf.range(length), tf.float32)[:, None] * rates.astype(np.float32)
    return tf.reshape(tf.stack([tf.sin(angles), tf.cos(angles)], axis=2), tf.stack([length, width]))
