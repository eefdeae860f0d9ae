"""Sparse bag of features -> hidden layers."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Unpack

import keras
import numpy as np
import tensorflow as tf
from annotated_types import MinLen

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, ShareBelowOne
from tfxc.encoders.base import Encoder, FeedForward
from tfxc.labels.hashing import bucket_lookup
from tfxc.ops.randomness import dropout, keep_mask
from tfxc.ops.sparse import bag_matmul, row_ids


@keras.saving.register_keras_serializable("tfxc")
class BagMLP(Encoder):
    """Multi-layer perceptron over a weighted sparse bag: the network of MACH and of fastText.

    The first layer is a table with one row per feature; only the rows a batch holds are read,
    differentiated and updated.

    Args:
        num_features: feature ids are 0 .. num_features - 1 (from the data).
        hidden: widths of the hidden layers.
        activation: Keras name of the activation after every hidden layer.
        residual: width of a residual layer behind the hidden ones, ``x + W2 relu(W1 x)`` with
            ``W2 = 0`` at the start; None for none. With head ``label_text`` it lets an example's
            vector differ from that of the label whose text is a part of its own.
        dropout: share of hidden units dropped in training, after each hidden layer.
        input_dropout: share of the bag's features dropped in training.
        num_hashed_features: size F' of a hashed first layer, or None for one row per feature.
            Features that collide add up.
        hash_seed: seed of the feature hash; every repetition of MACH has its own.
        initial_std: standard deviation of the truncated normal initialisation of all kernels; None
            means 0.1 for the table (found best for rows of unit length) and He's rule for the
            others.
        seed: seed of the initial weights and the dropout masks.

    Input: dict of ids int32 (nnz,), weights float32 (nnz,), row_splits int64 (batch + 1,).
    Output: float (batch, hidden[-1]).

    Example:
        >>> encoder = BagMLP(num_features=100, hidden=[8])
        >>> bag = {"ids": np.int32([3, 7, 7]), "weights": np.float32([1, 1, 0.5])}
        >>> bag["row_splits"] = np.int64([0, 2, 3])
        >>> encoder(bag).shape
        TensorShape([2, 8])

    Reference: Medini et al., NeurIPS 2019 (arXiv 1910.13830).
    """

    num_features: int

    def __init__(
        self,
        num_features: FromData[int],
        *,
        hidden: Annotated[Sequence[Count], MinLen(1)] = (512,),
        activation: str = "relu",
        residual: Count | None = None,
        dropout: ShareBelowOne = 0.0,
        input_dropout: ShareBelowOne = 0.0,
        num_hashed_features: Count | None = None,
        hash_seed: int = 0,
        initial_std: Positive | None = None,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.num_features = num_features
        self.hidden = tuple(hidden)
        self.activation = keras.activations.get(activation)
        self.residual = residual
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.num_hashed_features = num_hashed_features
        self.hash_seed = hash_seed
        self.initial_std = initial_std
        self.seed = seed
        self.residual_weights: tuple[keras.Variable, ...] = ()
        self.kernels: list[keras.Variable] = []
        self.biases: list[keras.Variable] = []
        self._lookup: tf.Variable | None = None

    def build(self, _input_shape: object = None) -> None:
        """Makes the table, the dense kernels and the feature lookup."""
        widths = [self.num_hashed_features or self.num_features, *self.hidden]
        for level, (rows, columns) in enumerate(itertools.pairwise(widths)):
            std = self.initial_std or (0.1 if level == 0 else (2 / rows) ** 0.5)
            start = keras.initializers.TruncatedNormal(stddev=std, seed=self.seed * 1000 + level)
            name = "table" if level == 0 else f"kernel_{level}"
            # Cast by hand in call: the table's product has float32 kernels only.
            self.kernels.append(self.add_weight((rows, columns), start, name=name, autocast=False))
            self.biases.append(
                self.add_weight((columns,), "zeros", name=f"bias_{level}", autocast=False)
            )
        if self.residual:
            dim = self.hidden[-1]
            he = keras.initializers.TruncatedNormal(
                stddev=(2 / dim) ** 0.5, seed=self.seed * 1000 + len(self.hidden)
            )
            self.residual_weights = tuple(
                self.add_weight(shape, start, name=name, autocast=False)
                for name, shape, start in (
                    ("residual_kernel", (dim, self.residual), he),
                    ("residual_bias", (self.residual,), "zeros"),
                    ("residual_output", (self.residual, dim), "zeros"),
                )
            )
        if self.num_hashed_features:
            self._lookup = tf.Variable(self._hashed_ids(), trainable=False, name="lookup")

    def _hashed_ids(self) -> np.ndarray:
        assert self.num_hashed_features, "features are hashed"
        lookup = bucket_lookup(self.num_features, self.num_hashed_features, self.hash_seed)
        return lookup.astype(np.int32)

    def call(self, features: Mapping[str, Any], training: bool = False) -> tf.Tensor:
        """Encodes a batch of bags."""
        ids = tf.convert_to_tensor(features["ids"], tf.int32)
        weights = features["weights"]
        splits = tf.convert_to_tensor(features["row_splits"], tf.int64)
        if training and self.input_dropout:
            seed = self.seed * 1000 + 999
            keep = keep_mask(row_ids(splits, ids), ids, self.input_dropout, seed)
            scaled = weights / (1 - self.input_dropout)
            weights = tf.where(keep, scaled, tf.zeros_like(weights))
        if self._lookup is not None:
            ids = tf.gather(self._lookup, ids)
        # The table itself, not the Keras variable: gathering from that copies the whole table.
        x = bag_matmul(ids, weights, splits, self.kernels[0].value) + self.biases[0].value
        x = tf.cast(x, self.compute_dtype)
        for level in range(len(self.hidden)):
            if level:
                kernel = tf.cast(self.kernels[level].value, x.dtype)
                x = tf.matmul(x, kernel) + tf.cast(self.biases[level].value, x.dtype)
            x = self.activation(x)
            if training and self.dropout:
                x = dropout(x, self.dropout, seed=self.seed * 1000 + level)
        if self.residual_weights:
            kernel, bias, output = (
                tf.cast(weight.value, x.dtype) for weight in self.residual_weights
            )
            x += tf.matmul(tf.nn.relu(tf.matmul(x, kernel) + bias), output)
        return x

    def feed_forward(self) -> FeedForward | None:
        """See ``Encoder``."""
        if self.residual:
            return None
        table, *kernels = (kernel.numpy() for kernel in self.kernels)
        return FeedForward(
            table,
            None if self._lookup is None else self._lookup.numpy(),
            kernels,
            [bias.numpy() for bias in self.biases],
            [keras.activations.serialize(self.activation)] * len(self.hidden),
        )

    @property
    def hash_seeds(self) -> list[int]:
        """Of the features, where they are hashed."""
        return [self.hash_seed] if self.num_hashed_features else []

    def hash_with(self, seeds: list[int]) -> None:
        """See ``Encoder``."""
        if seeds != self.hash_seeds:
            (self.hash_seed,) = seeds
            assert self._lookup is not None, "features are hashed, and it is built"
            self._lookup.assign(self._hashed_ids())

    @property
    def tables(self) -> list[tf.Tensor]:
        """The first kernel."""
        return self.kernels[:1]

    def compute_output_shape(self, _input_shape: object) -> tuple[None, int]:
        """Returns (batch, hidden[-1])."""
        return (None, self.hidden[-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments, with the seed of the last ``hash_with``."""
        return {**super().get_config(), "hash_seed": self.hash_seed}
