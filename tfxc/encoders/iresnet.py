"""Residual network for faces."""

from collections.abc import Sequence
from typing import Literal, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import Count, LayerArguments, Positive, ShareBelowOne
from tfxc.core.errors import ConfigError
from tfxc.encoders.bases.image import ImageEncoder, ImageShape
from tfxc.encoders.layers.image_blocks import LayerFactory

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}


@keras.saving.register_keras_serializable("tfxc")
class IResNet(ImageEncoder):
    """Improved residual network, the backbone of ArcFace and of insightface.

    A block is normalisation, 3 x 3 convolution, normalisation, PReLU, 3 x 3 convolution with the
    stride, normalisation, with a shortcut, with no activation after the sum. All positions of the
    last stage go into one linear layer, whose outputs are normalised without a factor (the
    reference holds a factor frozen at 1). Convolutions start normal with deviation 0.1.

    Args:
        image_shape: (height, width, channels) (from the data); both sides multiples of 16.
        depth: 18, 34, 50, 100 or 200.
        embedding_dim: length of the vectors.
        width: channels of the first stage; each next stage has twice as many.
        mean, std: pixels are scaled to 0..1, then ``(x - mean) / std``; one value, or one per
            channel. The default scales to -1..1, as in the reference.
        dropout: share of the last stage's values dropped in training.
        synchronized_batch_norm: whether batch normalisation looks at the whole batch over all
            replicas; else each replica normalises its own part.
        seed: seed of the initial weights and the dropout masks.

    Input: uint8 or float (batch, height, width, channels), values 0..255.
    Output: float (batch, embedding_dim), not of unit length.

    Example:
        >>> encoder = IResNet((112, 112, 3), depth=18, width=4, embedding_dim=32)
        >>> encoder(tf.zeros((2, 112, 112, 3), tf.uint8)).shape
        TensorShape([2, 32])

    Reference: Duta et al., ICPR 2020, arXiv 2004.04989; Deng et al., CVPR 2019, arXiv 1801.07698.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        depth: Literal[18, 34, 50, 100, 200] = 50,
        embedding_dim: Count = 512,
        width: Count = 64,
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
        height, image_width, _ = self.image_shape
        if height % 16 or image_width % 16:
            raise ConfigError(
                f"encoder 'iresnet' needs images whose sides are multiples of 16, not {height} x "
                f"{image_width}",
                fix="set data.images.height and data.images.width, or take another encoder",
            )
        self.depth = depth
        self.embedding_dim = embedding_dim
        self.width = width

    @property
    def dim(self) -> int:
        """Length of an output vector."""
        return self.embedding_dim

    def make_network(self) -> keras.Model:
        """Builds stem, four stages and the embedding."""
        layers = self.layer_factory(
            lambda seed: keras.initializers.RandomNormal(stddev=0.1, seed=seed)
        )
        inputs = layers.input(self.image_shape)
        x = layers.prelu(layers.norm(layers.convolution(inputs, self.width)))
        for stage, blocks in enumerate(BLOCKS[self.depth]):
            for number in range(blocks):
                x = _block(layers, x, self.width * 2**stage, strides=1 if number else 2)
        x = layers.flatten(layers.norm(x))
        x = layers.dense(layers.dropout(x, self.dropout), self.embedding_dim)
        return keras.Model(inputs, layers.norm(x, scale=False))


def _block(layers: LayerFactory, x: tf.Tensor, filters: int, strides: int) -> tf.Tensor:
    """Applies two convolutions with a shortcut."""
    y = layers.convolution(layers.norm(x), filters)
    y = layers.convolution(layers.prelu(layers.norm(y)), filters, strides=strides)
    if strides != 1 or x.shape[-1] != filters:
        x = layers.norm(layers.convolution(x, filters, size=1, strides=strides))
    return layers.add(layers.norm(y), x)
