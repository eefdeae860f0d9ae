"""Pretrained language models: the BERT family, from a folder as the model hubs lay it out."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import Count, FromData, ShareBelowOne
from tfxc.core.errors import ConfigError
from tfxc.core.messages import NOTES
from tfxc.core.storage.reading import read_errors
from tfxc.encoders.bases.layered import LayeredEncoder
from tfxc.encoders.bases.tokens import mean_of_words
from tfxc.encoders.layers.gates import Gates
from tfxc.encoders.pretrained.layers import network_of
from tfxc.encoders.pretrained.source import FolderSource, open_source
from tfxc.ops.randomness import dropout as drop
from tfxc.ops.randomness import keep_lists
from tfxc.pretrained.architecture import Architecture
from tfxc.pretrained.weights import Weight, layer_weights, pooler_weights, read_table, stem_weights

_MAX_POSITIONS = 4096  # fixed, so that dropout does not depend on how far a batch is padded


@keras.saving.register_keras_serializable("tfxc")
class Pretrained(LayeredEncoder):
    """A pretrained network of self-attention over subwords.

    BERT (and MiniLM, which is one), DistilBERT, RoBERTa, XLM-RoBERTa, ALBERT, ELECTRA, DeBERTa-V3
    and XLNet. The texts must be cut by the model's own tokeniser: text features
    ``"pretrained"``. All token types are 0, and padding is masked in the attention.

    The weights are read from the folder when training begins. From then on they belong to the
    run: its weights file holds them, its assets hold the network's shape, and neither evaluation
    nor export needs the folder.

    Args:
        vocabulary_size: number of ids (from the data).
        folder: the model's folder: config.json and ``*.safetensors`` or ``pytorch_model.bin``;
            ``~`` and ``${VAR}`` are expanded. ``"keras_hub:NAME"`` takes a preset of keras-hub.
        pooling: ``"first"`` takes the vector of the token the model was made to classify by (the
            first, with XLNet the last), ``"mean"`` that of all tokens, special ones included,
            ``"last_layers"`` joins the first tokens' vectors of the last layers, ``"pooler"``
            applies the model's own dense layer with tanh to the first token's vector (BERT,
            RoBERTa, XLM-RoBERTa, ALBERT); where the folder lacks the layer, it starts at random.
        pooled_layers: how many layers ``"last_layers"`` joins.
        num_layers: layers to keep, from below; None keeps all.
        dropout: share of the units of the pooled vector dropped in training.
        body_dropout: the same within the network, of its parts and of its attention; None means
            the shares it was trained with.
        word_dropout: share of the words dropped in training, each as a whole.
        trainable: whether the network learns; if not, only the head does.
        seed: seed of the dropout masks, and of the weights of a network without a folder.
        text_features: settings of the text features (from the data).
        architecture: the network's shape (from a run's assets); its weights then start at random.

    Raises:
        ValueError: an argument out of range.
        ConfigError: the folder does not hold what is needed, or does not fit the text features.

    Input: int32 (batch, length) padded with 0. Output: float (batch, output_dim).

    Example:
        >>> tiny = {"family": "bert", "vocabulary_size": 10, "embedding_dim": 8, "hidden_dim": 8,
        ...         "num_layers": 1, "num_heads": 2, "feed_forward_dim": 16}
        >>> Pretrained(10, architecture=tiny)(tf.constant([[2, 5, 3, 0]])).shape
        TensorShape([1, 8])

    Reference: Devlin et al. 2019, arXiv 1810.04805, and those that ``layers.py`` names.
    """

    pretrained = True

    def __init__(
        self,
        vocabulary_size: FromData[int],
        folder: str | Path | None = None,
        *,
        pooling: Literal["first", "mean", "last_layers", "pooler"] = "first",
        pooled_layers: Count = 4,
        num_layers: Count | None = None,
        dropout: ShareBelowOne = 0.1,
        body_dropout: ShareBelowOne | None = None,
        word_dropout: ShareBelowOne = 0.0,
        trainable: bool = True,
        seed: int = 0,
        text_features: FromData[Mapping[str, Any] | None] = None,
        architecture: FromData[Mapping[str, Any] | None] = None,
        **kwargs: Any,
    ) -> None:
        self._source: FolderSource | None = None
        if architecture:
            shape = Architecture(**architecture)
        else:
            self._source = open_source(folder)
            shape = self._source.architecture
        super().__init__(
            vocabulary_size,
            embedding_dim=shape.embedding_dim,
            dropout=dropout,
            word_dropout=word_dropout,
            start="uniform",
            initial_std=shape.initial_std,
            seed=seed,
            trainable=trainable,
            **kwargs,
        )
        self.pooling = pooling
        self._num_layers = shape.num_layers if num_layers is None else num_layers
        self.body_dropout = body_dropout
        self.pooled_layers = pooled_layers
        self._shape = shape
        self._network = network_of(shape)
        self._check(text_features)
        self.longest = shape.max_positions
        self.stem: dict[str, keras.Variable] = {}
        self.layers: list[dict[str, keras.Variable]] = []
        self.pooler: dict[str, keras.Variable] = {}
        self.gates = Gates()

    def _check(self, text_features: Mapping[str, Any] | None) -> None:
        """Refuses what cannot be: too many layers, another vocabulary, texts that are too long."""
        shape = self._shape
        if self._num_layers > shape.num_layers:
            raise ConfigError(
                f"is {self._num_layers}, but the model has only {shape.num_layers} layers",
                where="num_layers",
                fix="lower it, or leave it out",
            )
        if self.pooling == "pooler":
            pooler_weights(shape)
        if self.pooling == "last_layers" and self.pooled_layers > self._num_layers:
            raise ConfigError(
                f"is {self.pooled_layers}, but there are only {self._num_layers} layers",
                where="pooled_layers",
                fix="lower it",
            )
        if self.vocabulary_size > shape.vocabulary_size:
            raise ConfigError(
                f"the texts have {self.vocabulary_size:,} ids, but the model only "
                f"{shape.vocabulary_size:,}",
                where="encoder",
                fix="give data.text_features the folder of this model",
            )
        if text_features is not None and self._source is not None:
            self._source.check(text_features)
        length = (text_features or {}).get("max_length")
        if length and shape.max_positions and length > shape.max_positions:
            raise ConfigError(
                f"is {length}, but the model has only {shape.max_positions} positions",
                where="data.text_features.max_length",
                fix="lower it",
            )

    def build(self, _input_shape: object = None) -> None:
        """Makes the weights, with the values of the folder."""
        table = Weight(
            "table",
            (self.vocabulary_size, self.embedding_dim),
            lambda tensors: read_table(tensors, self._shape, self.vocabulary_size),
        )
        self.table = self._add(table, "table")
        for weight in stem_weights(self._shape):
            self.stem[weight.name] = self._add(weight, weight.name)
        for number in range(self._shape.shared_layers or self._num_layers):
            weights = layer_weights(self._shape, number)
            self.layers.append({w.name: self._add(w, f"{w.name}_{number}") for w in weights})
        if self.pooling == "pooler":
            self.pooler = {w.name: self._add(w, w.name) for w in pooler_weights(self._shape)}
        self._source = None  # the arrays are not needed twice

    def _add(self, weight: Weight, name: str) -> keras.Variable:
        """Makes a weight with the source's values, or with those of an untrained network."""
        source = self._source
        seed = self.next_seed()

        def start(shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
            if source is None:
                return _untrained(shape, weight.name, self.initial_std, seed)
            fix = "check that config.json and the weights are of one model"
            with read_errors(source.folder, fix=fix, error=ConfigError):
                array = weight.read(source.tensors)
            if array is None:
                if weight.name == "pooler_kernel":
                    NOTES.warning(f"{source.folder} has no pooler: its layer starts at random")
                return _untrained(shape, weight.name, self.initial_std, seed)
            values = np.ascontiguousarray(array, np.float32)
            if values.shape != tuple(weight.shape):
                raise ConfigError(
                    f"weight {weight.name} has shape {values.shape} instead of "
                    f"{tuple(weight.shape)}",
                    where="encoder",
                    fix=fix,
                )
            return tf.constant(values)

        return self.add_weight(weight.shape, start, name=name, autocast=False)

    def pooled(self, states: Sequence[tf.Tensor], mask: tf.Tensor) -> tf.Tensor:
        """Returns the pooled vector; 0 for an empty text."""
        if self.pooling == "mean":
            return mean_of_words(states[-1], mask)
        count = self.pooled_layers if self.pooling == "last_layers" else 1
        if self._shape.family == "xlnet":
            last = tf.maximum(tf.reduce_sum(tf.cast(mask, tf.int32), axis=1) - 1, 0)
            tokens = [tf.gather(state, last, batch_dims=1) for state in states[-count:]]
        else:
            tokens = [state[:, 0] for state in states[-count:]]
        vectors = tf.concat(tokens, axis=1)
        if self.pooling == "pooler":
            kernel = self.cast(self.pooler["pooler_kernel"])
            vectors = tf.tanh(vectors @ kernel + self.cast(self.pooler["pooler_bias"]))
        return tf.where(tf.reduce_any(mask, axis=1, keepdims=True), vectors, 0)

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
            list of num_layers + 1 tensors (batch, length, hidden_dim).
        """
        network = self._network(
            self._shape,
            self.stem,
            self.layers,
            cast=self.cast,
            drop=self._dropped if training else lambda values, share, place: values,
            seen=scores,
            gates=self.gates,
        )
        return network.states(x, mask, self._num_layers)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return self._num_layers

    @property
    def embedding_weights(self) -> dict[str, tf.Tensor]:
        """The weights in front of the layers by name."""
        return {"table": self.table, **self.stem}

    @property
    def final_weights(self) -> dict[str, Any]:
        """The weights after the layers by name."""
        return self.pooler

    def weights_of_layer(self, number: int) -> dict[str, tf.Tensor]:
        """Returns the weights of layer ``number`` from 1 by name, shared ones where layers share
        them.
        """
        shared = self._shape.shared_layers
        if shared:
            return self.layers[(number - 1) * shared // self._shape.num_layers]
        return self.layers[number - 1]

    def _dropped(self, values: tf.Tensor, share: float, place: int) -> tf.Tensor:
        """Returns values within the network with dropout; those of attention do not depend on
        padding.
        """
        if self.body_dropout is not None:
            share = self.body_dropout
        seed = self.next_mask(2 + place)
        if not share or values.shape.rank < 4:
            return drop(values, share, seed)
        batch, heads, length, _ = tf.unstack(tf.shape(values))
        rows = tf.range(batch)[:, None, None]
        columns = tf.range(heads)[:, None] * _MAX_POSITIONS + tf.range(length)
        keep = keep_lists(rows, columns * _MAX_POSITIONS, length, share, seed)
        return tf.where(keep, values / (1 - share), 0)

    @property
    def architecture(self) -> dict[str, Any]:
        """The network's shape as a dict: what a run keeps to build it again."""
        return dataclasses.asdict(self._shape)

    @property
    def head_width(self) -> int:
        """Values of a head."""
        return self._shape.head_width

    @property
    def output_dim(self) -> int:
        """Width of the output."""
        joined = self.pooled_layers if self.pooling == "last_layers" else 1
        return joined * self._shape.hidden_dim

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments; with the shape instead of what the folder says."""
        config = {**super().get_config(), "architecture": self.architecture}
        config.pop("text_features", None)
        return config


def _untrained(shape: tuple[int, ...], name: str, std: float, seed: int) -> tf.Tensor:
    """Returns the values of an untrained network: normal, biases 0, scales of norms 1; row 0 of a
    table 0.
    """
    if name.endswith(("beta", "bias")):
        return tf.zeros(shape)
    if name.endswith("gamma"):
        return tf.ones(shape)
    values = keras.initializers.RandomNormal(stddev=std, seed=seed)(shape)
    return values * np.minimum(np.arange(shape[0]), 1)[:, None] if name == "table" else values
