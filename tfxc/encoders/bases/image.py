"""What the image encoders share: checks and normalisation."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.core.arguments import POSITIVE, SHARE_BELOW_ONE, checked
from tfxc.encoders.base import Encoder
from tfxc.encoders.layers.image_blocks import LayerFactory, he_fan_out

if TYPE_CHECKING:
    import keras


class ImageEncoder(Encoder):
    """A network of Keras layers over images.

    A derived class writes ``make_network``.

    Args:
        image_shape: (height, width, channels) (from the data).
        mean, std: pixels are scaled to 0..1, then ``(x - mean) / std``; one value, or one per
            channel. The default scales to -1..1.
        dropout: share of features dropped in training; the derived class decides where.
        synchronized_batch_norm: whether batch normalisation looks at the whole batch over all
            replicas; else each replica normalises its own part.
        seed: seed of the initial weights and the dropout masks.

    Input: uint8 or float (batch, height, width, channels), values 0..255.
    Output: float (batch, dim).
    """

    data_dependent_arguments = ("image_shape",)
    input_kind = "image"

    @checked(dropout=SHARE_BELOW_ONE)
    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        dropout: float = 0.0,
        synchronized_batch_norm: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.image_shape = tuple(int(length) for length in image_shape)
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(
                f"image_shape: (height, width, channels) expected, found {list(image_shape)}"
            )
        self.mean, self.std = mean, std
        self._factor, self._shift = _scaling(mean, std, self.image_shape[-1])
        self.dropout = dropout
        self.synchronized_batch_norm = synchronized_batch_norm
        self.seed = seed
        self.network: Any = None  # a keras.Model, made by build
        self._parts: LayerFactory | None = None

    def make_network(self) -> "keras.Model":
        """The ``keras.Model`` from normalised images to vectors."""
        raise TypeError(f"{type(self).__name__} must define make_network")

    @property
    def dim(self) -> int:
        """Length of an output vector."""
        raise TypeError(f"{type(self).__name__} must define dim")

    def build(self, _input_shape: Any = None) -> None:
        """Makes the network."""
        self.network = self.make_network()

    def call(self, features: Any, training: bool = False) -> tf.Tensor:
        """Encodes a batch of images."""
        if isinstance(features, dict) or tuple(features.shape[1:]) != self.image_shape:
            found = "a sparse bag" if isinstance(features, dict) else tuple(features.shape)
            raise ValueError(f"images (batch, *{self.image_shape}) expected, found {found}")
        images = tf.cast(features, tf.float32)
        return self.network(self.normalise(images), training=training)

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Float32 pixels 0..255 as the network expects them."""
        return tf.cast(images * self._factor + self._shift, self.compute_dtype)

    def layer_factory(self, start: Callable[[int], Any] = he_fan_out) -> LayerFactory:
        """The maker of this encoder's layers; ``start`` is that of its convolutions."""
        policy, seed = self.dtype_policy, self.seed
        self._parts = LayerFactory(policy, seed, self.synchronized_batch_norm, start)
        return self._parts

    @property
    def weighted_layers(self) -> "list[keras.layers.Layer]":
        """The network's layers with weights in the order in which ``make_network`` makes them."""
        return [] if self._parts is None else self._parts.weighted

    def compute_output_shape(self, _input_shape: Any) -> tuple[None, int]:
        """(batch, dim)."""
        return (None, self.dim)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("mean", "std", "dropout", "synchronized_batch_norm", "seed")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, "image_shape": list(self.image_shape)}


def _scaling(mean, std, channels):
    """Factor and shift, float32 scalar or (channels,), that map 0..255 to normalised pixels."""
    for name, value in (("mean", mean), ("std", std)):
        if np.size(value) not in (1, channels) or np.ndim(value) > 1:
            raise ValueError(f"{name}: one value or {channels} expected, found {value}")
    POSITIVE.check("std", np.min(std).item())
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
