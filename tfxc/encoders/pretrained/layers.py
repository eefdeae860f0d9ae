"""The layers of pretrained networks: BERT's, and what DeBERTa and XLNet do otherwise."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.encoders.layers.gates import GatePair, Gates, apply_gate

if TYPE_CHECKING:
    from tfxc.pretrained.architecture import Architecture


ACTIVATIONS = {
    "gelu": lambda x: keras.activations.gelu(x, approximate=False),
    "gelu_python": lambda x: keras.activations.gelu(x, approximate=False),
    "gelu_new": lambda x: keras.activations.gelu(x, approximate=True),
    "gelu_fast": lambda x: keras.activations.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: keras.activations.gelu(x, approximate=True),
    "relu": tf.nn.relu,
    "silu": tf.nn.silu,
    "swish": tf.nn.silu,
    "tanh": tf.tanh,
}


def network_of(architecture: "Architecture") -> "type[Network]":
    """Returns the class of a network's layers.

    Raises:
        ConfigError: the activation is unknown.
    """
    if architecture.activation not in ACTIVATIONS:
        raise ConfigError(
            f"the activation must be one of {', '.join(ACTIVATIONS)}, not "
            f"{architecture.activation!r}",
            where="config.json",
            fix="take another model",
        )
    return {"deberta-v2": Disentangled, "xlnet": Relative}.get(architecture.family, Network)


class Network:
    """One pass through the layers of BERT, DistilBERT, RoBERTa, ALBERT or ELECTRA.

    Args:
        architecture: ``Architecture``.
        stem: dict of the weights in front of the layers.
        layers: list of dicts of the layers' weights; with shared layers fewer than there are
            layers.
        cast: function of a weight -> tensor of the computation's type.
        drop: function of (values, share, place) that drops in training.
        seen: None, or a list that gets the scores of each layer's attention before the softmax,
            float32 (batch, heads, length, length), very low at padding.
        gates: ``Gates`` of the layers.

    Reference: Devlin et al. 2019, arXiv 1810.04805; Sanh et al. 2019, arXiv 1910.01108; Liu et al.
    2019, arXiv 1907.11692; Lan et al. 2020, arXiv 1909.11942; Clark et al. 2020, arXiv 2003.10555;
    Conneau et al. 2020, arXiv 1911.02116.
    """

    def __init__(
        self,
        architecture: "Architecture",
        stem: Mapping[str, keras.Variable],
        layers: Sequence[Mapping[str, keras.Variable]],
        cast: Callable[..., Any],
        drop: Callable[..., Any],
        seen: list[tf.Tensor] | None = None,
        gates: Gates | None = None,
    ) -> None:
        self.architecture = architecture
        self.stem = stem
        self.layers = layers
        self.cast = cast
        self.drop = drop
        self.seen = seen
        self.gates = gates or Gates()

    def states(self, x: tf.Tensor, mask: tf.Tensor, num_layers: int) -> list[tf.Tensor]:
        """Returns what enters the first layer, and what comes out of each.

        Args:
            x: (batch, length, embedding_dim), word vectors.
            mask: bool (batch, length), False at padding.
            num_layers: layers to pass.

        Returns:
            list of num_layers + 1 tensors (batch, length, hidden_dim).
        """
        states = [self.embed(x)]
        # Finite, so that an empty text gives no NaN.
        hidden = tf.where(mask, 0.0, tf.float32.min / 2)[:, None, None, :]
        a = self.architecture
        for number in range(num_layers):
            place = number * a.shared_layers // a.num_layers if a.shared_layers else number
            gates = self.gates.of(place)
            states.append(self.layer(states[-1], hidden, self.layers[place], 3 * number, gates))
        return states

    def embed(self, x: tf.Tensor) -> tf.Tensor:
        """Returns what enters the first layer."""
        positions = self.cast(self.stem["positions"])[: tf.shape(x)[1]]
        # A batch is padded to a multiple of 8, and may so be longer than any text can be.
        x += tf.pad(positions, [[0, tf.shape(x)[1] - tf.shape(positions)[0]], [0, 0]])
        return self.projected(self.norm(x, self.stem, "embedding_norm"))

    def projected(self, x: tf.Tensor) -> tf.Tensor:
        """Returns word vectors as wide as the layers."""
        x = self.drop(x, self.architecture.dropout, 0)
        return self.linear(x, self.stem, "projection") if "projection_kernel" in self.stem else x

    def layer(
        self,
        x: tf.Tensor,
        hidden: tf.Tensor,
        weights: Mapping[str, keras.Variable],
        place: int,
        gates: GatePair,
    ) -> tf.Tensor:
        """Returns one layer."""
        a = self.architecture
        added = self.attention(x, hidden, weights, place, gates[0])
        x = self.norm(x + self.drop(added, a.dropout, place + 2), weights, "attention_norm")
        inner = ACTIVATIONS[a.activation](self.linear(x, weights, "feed_forward_in"))
        added = self.linear(apply_gate(inner, gates[1]), weights, "feed_forward_out")
        return self.norm(x + self.drop(added, a.dropout, place + 3), weights, "feed_forward_norm")

    def attention(
        self,
        x: tf.Tensor,
        hidden: tf.Tensor,
        weights: Mapping[str, keras.Variable],
        place: int,
        gate: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns what the words gather from each other."""
        a = self.architecture
        query, key, value = tf.split(self.linear(x, weights, "attention_in"), 3, axis=-1)
        query, key, value = (self.heads(part) for part in (query, key, value))
        scores = tf.cast(self.scores(query, key, weights), tf.float32) + hidden
        if self.seen is not None:
            self.seen.append(scores)
        shares = self.drop(tf.nn.softmax(scores), a.attention_dropout, place + 1)
        mixed = apply_gate(tf.matmul(tf.cast(shares, x.dtype), value), gate)
        mixed = tf.transpose(mixed, [0, 2, 1, 3])
        wide = mixed.shape[2] * mixed.shape[3]
        mixed = tf.reshape(mixed, tf.stack([tf.shape(x)[0], tf.shape(x)[1], wide]))
        return self.linear(mixed, weights, "attention_out")

    def scores(
        self, query: tf.Tensor, key: tf.Tensor, weights: Mapping[str, keras.Variable]
    ) -> tf.Tensor:
        """Returns the scores of the words for each other, (batch, heads, length, length)."""
        return tf.matmul(query * query.shape[-1] ** -0.5, key, transpose_b=True)

    def heads(self, x: tf.Tensor) -> tf.Tensor:
        """Returns (batch, heads, length, head) of (batch, length, width of all heads)."""
        head = self.architecture.head_width
        sizes = [tf.shape(x)[0], tf.shape(x)[1], x.shape[-1] // head, head]
        return tf.transpose(tf.reshape(x, tf.stack(sizes)), [0, 2, 1, 3])

    def linear(self, x: tf.Tensor, weights: Mapping[str, keras.Variable], name: str) -> tf.Tensor:
        """Returns a linear map of the last axis."""
        kernel = self.cast(weights[f"{name}_kernel"])
        flat = tf.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel)
        if f"{name}_bias" in weights:
            flat = tf.nn.bias_add(flat, self.cast(weights[f"{name}_bias"]))
        return tf.reshape(flat, tf.concat([tf.shape(x)[:-1], [kernel.shape[1]]], 0))

    def norm(self, x: tf.Tensor, weights: Mapping[str, keras.Variable], name: str) -> tf.Tensor:
        """Returns the vectors, each of mean 0 and variance 1, then scaled and moved; in float32."""
        wide = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(wide, axes=[-1], keepdims=True)
        gamma = weights[f"{name}_gamma"].value
        beta = weights[f"{name}_beta"].value
        scale = tf.math.rsqrt(variance + self.architecture.norm_epsilon)
        return tf.cast((wide - mean) * scale * gamma + beta, x.dtype)


class Disentangled(Network):
    """DeBERTa-V3: scores of words and of distances apart, with no vectors of positions.

    Reference: He et al. 2021, arXiv 2006.03654; He et al. 2023, arXiv 2111.09543.
    """

    def embed(self, x: tf.Tensor) -> tf.Tensor:
        """Returns what enters the first layer."""
        if "projection_kernel" in self.stem:
            x = self.linear(x, self.stem, "projection")
        x = self.norm(x, self.stem, "embedding_norm")
        return self.drop(x, self.architecture.dropout, 0)

    def scores(
        self, query: tf.Tensor, key: tf.Tensor, weights: Mapping[str, keras.Variable]
    ) -> tf.Tensor:
        """Returns words for words, words for distances, distances for words."""
        a = self.architecture
        table = tf.cast(self.stem["distances"].value, tf.float32)
        table = tf.cast(self.norm(table, self.stem, "distance_norm"), query.dtype)
        of_queries, of_keys, _ = tf.split(self.linear(table, weights, "attention_in"), 3, axis=-1)
        apart = self.buckets(tf.shape(query)[2])
        last = 2 * a.num_buckets - 1
        forth = tf.gather(of_keys, tf.clip_by_value(a.num_buckets + apart, 0, last))
        back = tf.gather(of_queries, tf.clip_by_value(a.num_buckets - apart, 0, last))
        forth, back = (self.heads(part[None]) for part in (forth, back))
        scores = tf.matmul(query, key, transpose_b=True)
        scores += by_distance(for_distances(query, forth))
        scores += tf.transpose(by_distance(for_distances(key, back)), [0, 1, 3, 2])
        return scores * tf.cast((3 * query.shape[-1]) ** -0.5, scores.dtype)

    def buckets(self, length: tf.Tensor) -> tf.Tensor:
        """Returns the buckets of the distances length .. 1 - length: exact near by, logarithmic
        farther off.
        """
        a = self.architecture
        apart = tf.range(length, -length, -1)
        middle = a.num_buckets // 2
        far = tf.cast(tf.maximum(tf.abs(apart), middle), tf.float32)
        scale = (middle - 1) / np.log((a.max_distance - 1) / middle)
        far = middle + tf.cast(tf.math.ceil(tf.math.log(far / middle) * scale), tf.int32)
        return tf.where(tf.abs(apart) <= middle, apart, far * tf.sign(apart))


class Relative(Network):
    """XLNet without memory: distances as sines, each layer with its own kernel for them.

    Reference: Yang et al. 2019, arXiv 1906.08237.
    """

    def embed(self, x: tf.Tensor) -> tf.Tensor:
        """Returns what enters the first layer."""
        return self.drop(x, self.architecture.dropout, 0)

    def scores(
        self, query: tf.Tensor, key: tf.Tensor, weights: Mapping[str, keras.Variable]
    ) -> tf.Tensor:
        """Returns words for words, and words for distances."""
        a = self.architecture
        length = tf.shape(query)[2]
        apart = tf.range(length, -length, -1)
        if a.clamp:
            apart = tf.clip_by_value(apart, -a.clamp, a.clamp)
        rates = 10_000.0 ** (-np.arange(0, a.hidden_dim, 2) / a.hidden_dim)
        angles = tf.cast(apart, tf.float32)[:, None] * rates.astype(np.float32)
        sines = tf.cast(tf.concat([tf.sin(angles), tf.cos(angles)], axis=1), query.dtype)
        distances = self.heads(self.linear(sines, weights, "distance")[None])
        content, place = (
            tf.reshape(self.cast(weights[f"{name}_bias"]), [-1, 1, a.head_width])
            for name in ("content", "distance")
        )
        scores = tf.matmul(query + content, key, transpose_b=True)
        scores += by_distance(for_distances(query + place, distances))
        return scores * tf.cast(query.shape[-1] ** -0.5, scores.dtype)


def for_distances(words: tf.Tensor, distances: tf.Tensor) -> tf.Tensor:
    """Products of (batch, heads, length, head) and (1, heads, wide, head)."""
    if words.shape[1] > 1:
        return tf.matmul(words, distances, transpose_b=True)
    # TensorFlow 2.21 writes past the result where it has to repeat a single head.
    flat = tf.matmul(tf.reshape(words, [-1, words.shape[3]]), distances[0, 0], transpose_b=True)
    wide = tf.shape(flat)[1]
    return tf.reshape(flat, tf.stack([tf.shape(words)[0], 1, tf.shape(words)[2], wide]))


def by_distance(scores: tf.Tensor) -> tf.Tensor:
    """Returns scores (…, length, length) of pairs from those of distances length .. 1 - length.

    Example:
        >>> by_distance(tf.constant([[[[2, 1, 0, -1], [2, 1, 0, -1]]]])).numpy().tolist()
        [[[[0, -1], [1, 0]]]]
    """
    batch, heads, length, wide = tf.unstack(tf.shape(scores))
    scores = tf.reshape(scores, tf.stack([batch, heads, wide, length]))[:, :, 1:]
    return tf.reshape(scores, tf.stack([batch, heads, length, wide - 1]))[..., :length]
