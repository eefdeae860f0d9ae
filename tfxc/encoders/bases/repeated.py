"""One encoder per repetition of a head, side by side in one model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import keras

from tfxc.core.declared import LayerArguments
from tfxc.encoders.base import Encoder

if TYPE_CHECKING:
    import tensorflow as tf


@keras.saving.register_keras_serializable("tfxc")
class Repeated(Encoder):
    """Stacks the outputs of several encoders.

    Args:
        encoders: list of encoders with outputs (batch, dim).

    Output: (batch, len(encoders), dim).
    """

    def __init__(self, encoders: Sequence[Encoder], **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(autocast=False, **kwargs)
        self.encoders = list(encoders)
        self.compilable = all(encoder.compilable for encoder in self.encoders)

    def build(self, input_shape: object = None) -> None:
        """Builds each encoder."""
        for encoder in self.encoders:
            if not encoder.built:
                encoder.build(input_shape)

    def call(
        self, features: "Mapping[str, tf.Tensor] | tf.Tensor", training: bool = False
    ) -> "tf.Tensor":
        """Encodes the batch with every encoder."""
        return keras.ops.stack([e(features, training=training) for e in self.encoders], axis=1)

    @property
    def tables(self) -> "list[tf.Tensor]":
        """Those of all encoders."""
        return [table for encoder in self.encoders for table in encoder.tables]

    @property
    def hash_seeds(self) -> list[int]:
        """Those of all encoders."""
        return [seed for encoder in self.encoders for seed in encoder.hash_seeds]

    @property
    def layers_above(self) -> dict[int, int]:
        """Those of all encoders."""
        counts: dict[int, int] = {}
        for encoder in self.encoders:
            counts |= encoder.layers_above
        return counts

    @property
    def architecture(self) -> dict[str, Any] | None:
        """That of each encoder."""
        return self.encoders[0].architecture

    @property
    def input_kind(self) -> str:  # type: ignore[override]  # of others it is the class's
        """What the encoders read."""
        return self.encoders[0].input_kind

    def compute_output_shape(
        self, input_shape: Sequence[int | None] | None
    ) -> tuple[None, int, int]:
        """Returns (batch, repetitions, dim)."""
        batch, *rest = self.encoders[0].compute_output_shape(input_shape)
        return (batch, len(self.encoders), *rest)

    def get_config(self) -> dict[str, Any]:
        """Returns the encoders, serialised."""
        encoders = [keras.saving.serialize_keras_object(encoder) for encoder in self.encoders]
        return {**super().get_config(), "encoders": encoders}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Repeated":
        """Makes the encoders again."""
        encoders = [keras.saving.deserialize_keras_object(e) for e in config.pop("encoders")]
        return cls(encoders, **config)
