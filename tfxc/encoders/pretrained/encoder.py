"""Pretrained language models: the BERT family, from a folder as the model hubs lay it out."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.arguments import COUNT, SHARE_BELOW_ONE, Integer, OneOf, checked
from tfxc.core.errors import ConfigError
from tfxc.core.messages import NOTES
from tfxc.core.storage.reading import read_errors
from tfxc.encoders.bases.layered import LayeredEncoder
from tfxc.encoders.bases.tokens import mean_of_words
from tfxc.encoders.layers.gates import Gates
from tfxc.encoders.pretrained.layers import network_of
from tfxc.encoders.pretrained.source import FolderSource, open_source
from tfxc.ops.randomness import dropout as drop
from tfxc.ops.randomness import keep_mask
from tfxc.pretrained.architecture import Architecture
from tfxc.pretrained.weights import layer_weights, pooler_weights, read_table, stem_weights

POOLINGS = ("first", "mean", "last_layers", "pooler")
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
    data_dependent_arguments = ("vocabulary_size", "text_features", "architecture")

    @checked(
        pooling=OneOf(*POOLINGS),
        pooled_layers=COUNT,
        num_layers=COUNT | None,
        body_dropout=SHARE_BELOW_ONE | None,
    )
    def __init__(
        self,
        vocabulary_size: int,
        folder: str | Path | None = None,
        *,
        pooling: str = "first",
        pooled_layers: int = 4,
        num_layers: int | None = None,
        dropout: float = 0.1,
        body_dropout: float | None = None,
        word_dropout: float = 0.0,
        trainable: bool = True,
        seed: int = 0,
        text_features: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
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
        self.folder, self.pooling = folder, pooling
        self.num_layers = num_layers
        self._num_layers = shape.num_layers if num_layers is None else num_layers
        self.body_dropout = body_dropout
        self.pooled_layers = pooled_layers
        self._shape, self._network = shape, network_of(shape)
        self._check(text_features)
        self.longest = shape.max_positions
        self.stem: dict[str, Any] = {}
        self.layers: list[dict[str, Any]] = []
        self.pooler: dict[str, Any] = {}
        self.gates = Gates()

    def _check(self, text_features):
        """Refuses what cannot be: too many layers, another vocabulary, texts that are too long."""
        shape = self._shape
        Integer(1, shape.num_layers, what="the layers").check("num_layers", self._num_layers)
        if self.pooling == "pooler":
            pooler_weights(shape)
        if self.pooling == "last_layers":
            Integer(1, self._num_layers, what="the layers").check(
                "pooled_layers", self.pooled_layers
            )
        if self.vocabulary_size > shape.vocabulary_size:
            raise ConfigError(
                f"at most {shape.vocabulary_size:,} ids (the model's) expected, the texts have "
                f"{self.vocabulary_size:,}",
                where="encoder",
                fix="give data.text_features the folder of this model",
            )
        if text_features is not None and self._source is not None:
            self._source.check(text_features)
        length = (text_features or {}).get("max_length")
        if length and shape.max_positions and length > shape.max_positions:
            raise ConfigError(
                f"at most {shape.max_positions} (the model's positions) expected, found {length}",
                where="data.text_features.max_length",
                fix="lower max_length",
            )

    def build(self, _input_shape: Any = None) -> None:
        """Makes the weights, with the values of the folder."""
        shape = (self.vocabulary_size, self.embedding_dim)
        self.table = self.add_weight(
            shape, self._first_values(shape, "table", self._table), name="table", autocast=False
        )
        for weight in stem_weights(self._shape):
            self.stem[weight.name] = self._made(weight, weight.name)
        for number in range(self._shape.shared_layers or self._num_layers):
            weights = layer_weights(self._shape, number)
            self.layers.append({w.name: self._made(w, f"{w.name}_{number}") for w in weights})
        if self.pooling == "pooler":
            self.pooler = {w.name: self._made(w, w.name) for w in pooler_weights(self._shape)}
        self._source = None  # the arrays are not needed twice

    def _made(self, weight, name):
        start = self._first_values(weight.shape, weight.name, weight.read)
        return self.add_weight(weight.shape, start, name=name, autocast=False)

    def _table(self, tensors):
        return read_table(tensors, self._shape, self.vocabulary_size)

    def _first_values(self, shape, name, read):
        """Initializer: the source's values, or those of an untrained network."""
        source, std, seed = self._source, self.initial_std, self.next_seed()

        def start(shape_, dtype=None):
            if source is None:
                return _untrained(shape_, name, std, seed)
            fix = "check that config.json and the weights are of one model"
            with read_errors(source.folder, fix=fix, error=ConfigError):
                written = read(source.tensors)
            if written is None:
                if name == "pooler_kernel":
                    NOTES.warning(f"{source.folder} has no pooler: its layer starts at random")
                return _untrained(shape_, name, std, seed)
            found = np.ascontiguousarray(written, np.float32)
            if found.shape != tuple(shape):
                raise ConfigError(
                    f"a weight {name} of shape {tuple(shape)} expected, found {found.shape}",
                    where="encoder",
                    fix=fix,
                )
            return tf.constant(found)

        return start

    def pooled(self, states: Sequence[tf.Tensor], mask: tf.Tensor) -> tf.Tensor:
        """The pooled vector; 0 for an empty text."""
        if self.pooling == "mean":
            return mean_of_words(states[-1], mask)
        count = self.pooled_layers if self.pooling == "last_layers" else 1
        found = tf.concat([self._classifying(state, mask) for state in states[-count:]], axis=1)
        if self.pooling == "pooler":
            kernel, bias = self.cast(self.pooler["pooler_kernel"]), self.pooler["pooler_bias"]
            found = tf.tanh(found @ kernel + self.cast(bias))
        return tf.where(tf.reduce_any(mask, axis=1, keepdims=True), found, 0)

    def _classifying(self, state, mask):
        if self._shape.family != "xlnet":
            return state[:, 0]
        last = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1) - 1
        return tf.gather(state, tf.maximum(last, 0), batch_dims=1)

    def hidden_states(
        self,
        x: tf.Tensor,
        mask: tf.Tensor,
        training: bool = False,
        scores: list[tf.Tensor] | None = None,
    ) -> list[tf.Tensor]:
        """What enters the first layer, and what comes out of each.

        Args:
            x: float (batch, length, embedding_dim), word vectors.
            mask: bool (batch, length), False at padding.
            training: whether dropout is on.
            scores: see ``LayeredEncoder``.

        Returns:
            list of num_layers + 1 tensors (batch, length, hidden_dim).
        """
        dropped = self._dropped if training else lambda values, share, place: values
        parts = (self.stem, self.layers, self.cast, dropped, scores, self.gates)
        network = self._network(self._shape, *parts)
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
        """The weights of layer ``number`` from 1 by name, shared ones where layers share them."""
        a = self._shape
        shared = a.shared_layers
        return self.layers[(number - 1) * shared // a.num_layers if shared else number - 1]

    def _dropped(self, values, share, place):
        share = share if self.body_dropout is None else self.body_dropout
        seed = self.next_mask(2 + place)
        if not share or values.shape.rank < 4:
            return drop(values, share, seed)
        batch, heads, length, _ = tf.unstack(tf.shape(values))
        places = tf.range(length)
        rows = tf.range(batch)[:, None, None, None]
        columns = tf.range(heads)[:, None, None] * _MAX_POSITIONS + places[:, None]
        keep = keep_mask(rows, columns * _MAX_POSITIONS + places, share, seed)
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
        """Constructor arguments; with the shape instead of what the folder says."""
        own = ("vocabulary_size", "folder", "pooling", "pooled_layers", "num_layers", "dropout",
               "body_dropout", "word_dropout", "seed", "architecture")  # fmt: skip
        config = super().get_config()
        for name in ("embedding_dim", "start", "initial_std"):
            del config[name]
        return {**config, **{name: getattr(self, name) for name in own}}


def _untrained(shape, name, std, seed):
    """Values of an untrained network: normal, biases 0, scales of norms 1; row 0 of a table 0."""
    if name.endswith(("beta", "bias")):
        return tf.zeros(shape)
    if name.endswith("gamma"):
        return tf.ones(shape)
    values = keras.initializers.RandomNormal(stddev=std, seed=seed)(shape)
    return values * np.minimum(np.arange(shape[0]), 1)[:, None] if name == "table" else values
