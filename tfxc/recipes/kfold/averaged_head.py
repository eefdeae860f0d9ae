"""The mean of several heads' scores."""

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import LayerArguments
from tfxc.heads.base import Head


@keras.saving.register_keras_serializable("tfxc")
class Averaged(Head):
    """Averages the scores (logits) of heads of one kind, each over its own encoder.

    For prediction: it has no training groups.

    Args:
        heads: list of heads that have a ``full_softmax``, all over the same labels.

    Input: float (batch, len(heads), dim). Output of ``call``: (batch, num_labels).
    """

    full_softmax = True

    def __init__(self, heads: Sequence[Head], **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(autocast=False, **kwargs)
        self.heads = list(heads)

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return self.heads[0].num_labels

    @property
    def tile(self) -> int | None:  # type: ignore[override]
        """That of the heads."""
        return self.heads[0].tile

    def build(self, input_shape: Sequence[int]) -> None:
        """Builds each head."""
        for head in self.heads:
            if not head.built:
                head.build((input_shape[0], input_shape[2]))

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Averages the heads' scores."""
        return self.all_scores(features)

    def tile_scores(self, features: tf.Tensor) -> Callable[..., tf.Tensor]:
        """Returns a function that returns the mean scores of a range of labels."""
        tiles = [head.tile_scores(features[:, n]) for n, head in enumerate(self.heads)]
        return lambda begin, end: tf.add_n([tile(begin, end) for tile in tiles]) / len(tiles)

    def get_config(self) -> dict[str, Any]:
        """Serialises the heads."""
        parts = [keras.saving.serialize_keras_object(head) for head in self.heads]
        return {**super().get_config(), "heads": parts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Averaged":
        """Makes the heads again."""
        parts = [keras.saving.deserialize_keras_object(head) for head in config.pop("heads")]
        return cls(parts, **config)
