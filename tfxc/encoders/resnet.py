"""Residual networks."""

from collections.abc import Sequence
from typing import Literal, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import Count, LayerArguments, Positive, ShareBelowOne
from tfxc.core.errors import ConfigError
from tfxc.encoders.bases.image import ImageEncoder, ImageShape
from tfxc.encoders.layers.image_blocks import LayerFactory

BLOCKS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECKS = (50, 101, 152)  # depths whose blocks are bottlenecks


@keras.saving.register_keras_serializable("tfxc")
class ResNet(ImageEncoder):
    """Residual network.

    Depths from 18 on are those of torchvision: padding, moving statistics, the stride in the
    3 x 3 convolution of a bottleneck, and the initialisation (convolutions normal by He's rule over
    their outputs; the linear layer uniform within 1/sqrt(inputs)). Depth 10 has one block per
    stage, for small work.

    Args:
        image_shape: (height, width, channels) (from the data).
        depth: 10, 18, 34, 50, 101 or 152.
        stem: ``cifar``, one 3 x 3 convolution; ``imagenet``, 7 x 7 with stride 2 and max-pooling;
            ``auto`` takes ``cifar`` where a side has fewer than 64 pixels.
        width: channels of the first stage; each next stage has twice as many. Stages of depth 50
            and more end in four times as many.
        pooling: what happens to the positions of the last stage: ``average``, their mean, as in the
            paper; ``flatten``, one after the other, so that it matters where a stroke is (small
            images of one object in the middle); needs ``embedding_dim``, for the rows are long.
        embedding_dim: length of the vectors after a linear layer; None leaves it out.
        embedding: what follows the linear layer: ``linear``, nothing; ``normalised``, batch
            normalisation without a factor, as in ``iresnet``; ``hidden``, that and a rectifier, so
            that the vectors are a hidden layer, which heads with few columns of their own need.
        mean, std: pixels are scaled to 0..1, then ``(x - mean) / std``; one value, or one per
            channel. The default scales to -1..1.
        dropout: share of pooled features dropped in training.
        synchronized_batch_norm: whether batch normalisation looks at the whole batch over all
            replicas; else each replica normalises its own part.
        seed: seed of the initial weights and the dropout masks.

    Input: uint8 or float (batch, height, width, channels), values 0..255.
    Output: float (batch, embedding_dim), or (batch, 8 width), from depth 50 on (batch, 32 width).

    Example:
        >>> encoder = ResNet((28, 28, 1), depth=10, width=8)
        >>> encoder(tf.zeros((2, 28, 28, 1), tf.uint8)).shape
        TensorShape([2, 64])

    Reference: He et al., CVPR 2016, arXiv 1512.03385.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        depth: Literal[10, 18, 34, 50, 101, 152] = 18,
        stem: Literal["auto", "cifar", "imagenet"] = "auto",
        width: Count = 64,
        pooling: Literal["average", "flatten"] = "average",
        embedding_dim: Count | None = None,
        embedding: Literal["linear", "normalised", "hidden"] = "linear",
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
        if embedding_dim is None and (pooling != "average" or embedding != "linear"):
            raise ConfigError(
                f"pooling {pooling!r} with embedding {embedding!r} needs embedding_dim, which is "
                "not given",
                where="embedding_dim",
                fix="add it",
            )
        self.depth = depth
        self.stem = stem
        self.width = width
        self.pooling = pooling
        self.embedding_dim = embedding_dim
        self.embedding = embedding

    @property
    def dim(self) -> int:
        """Length of an output vector."""
        last = self.width * 2 ** (len(BLOCKS[self.depth]) - 1)
        return self.embedding_dim or last * (4 if self.depth in BOTTLENECKS else 1)

    def make_network(self) -> keras.Model:
        """Builds stem, four stages, pooling, and the linear layer if there is one."""
        layers = self.layer_factory()
        inputs = layers.input(self.image_shape)
        is_small = min(self.image_shape[:2]) < 64
        if self.stem == "cifar" or (self.stem == "auto" and is_small):
            x = layers.relu(layers.norm(layers.convolution(inputs, self.width)))
        else:
            x = layers.convolution(inputs, self.width, size=7, strides=2)
            x = layers.max_pool(layers.relu(layers.norm(x)))
        block = bottleneck if self.depth in BOTTLENECKS else basic_block
        for stage, blocks in enumerate(BLOCKS[self.depth]):
            for number in range(blocks):
                strides = 2 if stage and not number else 1
                x = block(layers, x, self.width * 2**stage, strides)
        x = layers.average(x) if self.pooling == "average" else layers.flatten(x)
        x = layers.dropout(x, self.dropout)
        if self.embedding_dim:
            x = layers.dense(x, self.embedding_dim)
        if self.embedding != "linear":
            x = layers.norm(x, scale=False)
        if self.embedding == "hidden":
            x = layers.relu(x)
        return keras.Model(inputs, x)


def basic_block(layers: LayerFactory, x: tf.Tensor, filters: int, strides: int) -> tf.Tensor:
    """Applies two 3 x 3 convolutions with a shortcut."""
    y = layers.relu(layers.norm(layers.convolution(x, filters, strides=strides)))
    y = layers.norm(layers.convolution(y, filters))
    return layers.relu(layers.add(y, _shortcut(layers, x, filters, strides)))


def bottleneck(layers: LayerFactory, x: tf.Tensor, filters: int, strides: int) -> tf.Tensor:
    """Applies 1 x 1, 3 x 3 and 1 x 1 convolutions with a shortcut; returns 4 · ``filters``."""
    y = layers.relu(layers.norm(layers.convolution(x, filters, size=1)))
    y = layers.relu(layers.norm(layers.convolution(y, filters, strides=strides)))
    y = layers.norm(layers.convolution(y, 4 * filters, size=1))
    return layers.relu(layers.add(y, _shortcut(layers, x, 4 * filters, strides)))


def _shortcut(layers: LayerFactory, x: tf.Tensor, filters: int, strides: int) -> tf.Tensor:
    if strides == 1 and x.shape[-1] == filters:
        return x
    return layers.norm(layers.convolution(x, filters, size=1, strides=strides))
