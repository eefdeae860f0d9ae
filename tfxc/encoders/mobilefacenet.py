"""A small network for faces."""

from collections.abc import Sequence
from typing import Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import Count, LayerArguments, Positive, ShareBelowOne
from tfxc.core.errors import ConfigError
from tfxc.encoders.bases.image import ImageEncoder, ImageShape
from tfxc.encoders.layers.image_blocks import LayerFactory

# (channels out, expanded channels, stride, blocks)
STAGES = (
    (64, 128, 2, 1),
    (64, 128, 1, 4),
    (128, 256, 2, 1),
    (128, 256, 1, 6),
    (128, 512, 2, 1),
    (128, 256, 1, 2),
)
LAST_CHANNELS = 512


@keras.saving.register_keras_serializable("tfxc")
class MobileFaceNet(ImageEncoder):
    """MobileFaceNet: inverted bottlenecks, then one weight per position and channel.

    The last map is weighed by a depthwise convolution as large as itself (7 x 7 for faces of
    112 x 112) instead of pooling; all nonlinearities are PReLUs, one slope per channel.

    Args:
        image_shape: (height, width, channels) (from the data).
        embedding_dim: length of the vectors; the paper has 128, insightface 512.
        scale: multiple of the channels between blocks. The expanded channels inside a block and
            the last 512 stay, so that 2 gives the widths of insightface's ``mbf``.
        mean, std: pixels are scaled to 0..1, then ``(x - mean) / std``; one value, or one per
            channel. The default scales to -1..1, as in the paper.
        dropout: share of the last 512 features dropped in training.
        synchronized_batch_norm: whether batch normalisation looks at the whole batch over all
            replicas; else each replica normalises its own part.
        seed: seed of the initial weights and the dropout masks.

    Input: uint8 or float (batch, height, width, channels), values 0..255.
    Output: float (batch, embedding_dim), not of unit length.

    Example:
        >>> encoder = MobileFaceNet((112, 112, 3), embedding_dim=128, scale=1.0)
        >>> encoder(tf.zeros((2, 112, 112, 3), tf.uint8)).shape
        TensorShape([2, 128])

    Reference: Chen et al., CCBR 2018, arXiv 1804.07573.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        embedding_dim: Count = 512,
        scale: Positive = 2.0,
        mean: float | Sequence[float] = 0.5,
        std: Positive | Sequence[Positive] = 0.5,
        dropout: ShareBelowOne = 0.0,
        synchronized_batch_norm: bool = False,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(
            image_shape,
            mean=mean,
            std=std,
            dropout=dropout,
            synchronized_batch_norm=synchronized_batch_norm,
            seed=seed,
            **kwargs,
        )
        if round(64 * scale) < 1:
            raise ConfigError(
                f"is {scale}, which leaves none of 64 channels", where="scale", fix="raise it"
            )
        self.embedding_dim = embedding_dim
        self.scale = scale

    @property
    def dim(self) -> int:
        """Length of an output vector."""
        return self.embedding_dim

    def make_network(self) -> keras.Model:
        """Builds stem, bottlenecks, the weighing of all places, and the embedding."""
        layers = self.layer_factory()
        inputs = layers.input(self.image_shape)
        x = _active(layers, layers.convolution(inputs, self._scaled(64), strides=2))
        x = _active(layers, layers.depthwise(x))
        for channels, expanded, strides, blocks in STAGES:
            for _ in range(blocks):
                # Widens, looks around in each channel, narrows.
                width = self._scaled(channels)
                y = _active(layers, layers.convolution(x, expanded, size=1))
                y = _active(layers, layers.depthwise(y, strides=strides))
                y = layers.norm(layers.convolution(y, width, size=1))
                x = y if strides == 2 else layers.add(x, y)
        x = _active(layers, layers.convolution(x, LAST_CHANNELS, size=1))
        x = layers.flatten(layers.norm(layers.depthwise(x, x.shape[1:3], padded=False)))
        x = layers.dense(layers.dropout(x, self.dropout), self.embedding_dim, use_bias=False)
        return keras.Model(inputs, layers.norm(x))

    def _scaled(self, channels: int) -> int:
        return round(channels * self.scale)


def _active(layers: LayerFactory, x: tf.Tensor) -> tf.Tensor:
    return layers.prelu(layers.norm(x))
