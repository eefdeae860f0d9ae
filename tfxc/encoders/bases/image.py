"""What the image encoders share: checks and normalisation."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, ShareBelowOne
from tfxc.core.errors import ConfigError
from tfxc.encoders.base import Encoder
from tfxc.encoders.layers.image_blocks import LayerFactory, he_fan_out

if TYPE_CHECKING:
    import keras


#: Height, width and channels of the images.
ImageShape = FromData[Sequence[Count]]


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

    input_kind = "image"

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        mean: float | Sequence[float] = 0.5,
        std: Positive | Sequence[Positive] = 0.5,
        dropout: ShareBelowOne = 0.0,
        synchronized_batch_norm: bool = False,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.image_shape = tuple(int(length) for length in image_shape)
        if len(self.image_shape) != 3:
            raise ConfigError(
                f"must be height, width and channels, not {list(image_shape)}",
                where="image_shape",
                fix="change it",
            )
        channels = self.image_shape[-1]
        for name, value in (("mean", mean), ("std", std)):
            if np.size(value) not in (1, channels):
                raise ConfigError(
                    f"has {np.size(value)} values, but the images have {channels} channels",
                    where=name,
                    fix=f"give one value, or {channels}",
                )
        self.mean = mean
        self.std = std
        # They map 0..255 to normalised pixels: scalars, or one per channel.
        deviation = np.asarray(std, np.float64)
        self._factor = (1 / (255 * deviation)).astype(np.float32)
        self._shift = (-np.asarray(mean, np.float64) / deviation).astype(np.float32)
        self.dropout = dropout
        self.synchronized_batch_norm = synchronized_batch_norm
        self.seed = seed
        self.network: Any = None  # a keras.Model, made by build
        self._layer_factory: LayerFactory | None = None

    def make_network(self) -> "keras.Model":
        """Returns the ``keras.Model`` from normalised images to vectors."""
        raise TypeError(f"{type(self).__name__} must define make_network")

    @property
    def dim(self) -> int:
        """Length of an output vector."""
        raise TypeError(f"{type(self).__name__} must define dim")

    def build(self, _input_shape: object = None) -> None:
        """Makes the network."""
        self.network = self.make_network()

    def call(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Encodes a batch of images."""
        if isinstance(features, dict) or tuple(features.shape[1:]) != self.image_shape:
            shown = "a sparse bag" if isinstance(features, dict) else tuple(features.shape)
            raise ValueError(
                f"the features must be images (batch, *{self.image_shape}), not {shown}"
            )
        images = tf.cast(features, tf.float32)
        return self.network(self.normalise(images), training=training)

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 pixels 0..255 as the network expects them."""
        return tf.cast(images * self._factor + self._shift, self.compute_dtype)

    def layer_factory(self, start: Callable[[int], Any] = he_fan_out) -> LayerFactory:
        """Returns the maker of this encoder's layers; ``start`` is that of its convolutions."""
        self._layer_factory = LayerFactory(
            self.dtype_policy, self.seed, self.synchronized_batch_norm, start
        )
        return self._layer_factory

    @property
    def weighted_layers(self) -> "list[keras.layers.Layer]":
        """The network's layers with weights in the order in which ``make_network`` makes them."""
        return [] if self._layer_factory is None else self._layer_factory.weighted

    def compute_output_shape(self, _input_shape: object) -> tuple[None, int]:
        """Returns (batch, dim)."""
        return (None, self.dim)
