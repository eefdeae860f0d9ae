"""Vectors that were computed beforehand."""

from collections.abc import Sequence
from typing import Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments, ShareBelowOne
from tfxc.encoders.base import Encoder
from tfxc.ops.randomness import dropout


@keras.saving.register_keras_serializable("tfxc")
class Precomputed(Encoder):
    """Passes dense feature vectors on, optionally scaled to unit length.

    Args:
        num_features: length of a vector (from the data).
        unit_norm: whether each vector is divided by its Euclidean length.
        dropout: share of components dropped in training.
        seed: seed of the dropout masks.

    Input: float (batch, num_features). Output: the same shape.

    Example:
        >>> Precomputed(num_features=2, unit_norm=True)(tf.constant([[3.0, 4.0]])).numpy().tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """

    input_kind = "dense"

    def __init__(
        self,
        num_features: FromData[int],
        *,
        unit_norm: bool = False,
        dropout: ShareBelowOne = 0.0,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.num_features = num_features
        self.unit_norm = unit_norm
        self.dropout = dropout
        self.seed = seed

    def call(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the vectors."""
        if isinstance(features, dict):
            raise ValueError(
                "encoder 'precomputed' needs dense vectors (batch, num_features), not a sparse "
                "bag; use encoder 'bag_mlp' for sparse features"
            )
        x = tf.math.l2_normalize(features, axis=-1) if self.unit_norm else features
        return dropout(x, self.dropout, self.seed) if training else x

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        """Returns the input's shape."""
        return input_shape
