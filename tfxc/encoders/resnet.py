"""Residual networks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from tfxc.core.arguments import COUNT, OneOf, checked
from tfxc.encoders.bases.image import ImageEncoder

if TYPE_CHECKING:
    import tensorflow as tf

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
STEMS = ("auto", "cifar", "imagenet")
POOLINGS = ("average", "flatten")
EMBEDDINGS = ("linear", "normalised", "hidden")


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
        >>> import tensorflow as tf
        >>> encoder = ResNet((28, 28, 1), depth=10, width=8)
        >>> encoder(tf.zeros((2, 28, 28, 1), tf.uint8)).shape
        TensorShape([2, 64])

    Reference: He et al., CVPR 2016, arXiv 1512.03385.
    """

    @checked(
        depth=OneOf(*BLOCKS),
        stem=OneOf(*STEMS),
        width=COUNT,
        pooling=OneOf(*POOLINGS),
        embedding_dim=COUNT | None,
        embedding=OneOf(*EMBEDDINGS),
    )
    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        depth: int = 18,
        stem: str = "auto",
        width: int = 64,
        pooling: str = "average",
        embedding_dim: int | None = None,
        embedding: str = "linear",
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        dropout: float = 0.0,
        synchronized_batch_norm: bool = False,
        seed: int = 0,
        **kwargs: Any,
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
            raise ValueError(
                f"pooling {pooling!r} with embedding {embedding!r} needs embedding_dim, which is "
                "not given"
            )
        self.depth, self.stem, self.width = depth, stem, width
        self.pooling, self.embedding_dim, self.embedding = pooling, embedding_dim, embedding

    @property
    def dim(self) -> int:
        """Length of an output vector."""
        last = self.width * 2 ** (len(BLOCKS[self.depth]) - 1)
        return self.embedding_dim or last * (4 if self.depth in BOTTLENECKS else 1)

    def make_network(self) -> keras.Model:
        """Stem, four stages, pooling, and the linear layer if there is one."""
        layers = self.layer_factory()
        inputs = layers.input(self.image_shape)
        x = self._stem(layers, inputs)
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

    def _stem(self, layers, x):
        small = min(self.image_shape[:2]) < 64
        if self.stem == "cifar" or (self.stem == "auto" and small):
            return layers.relu(layers.norm(layers.convolution(x, self.width)))
        x = layers.convolution(x, self.width, size=7, strides=2)
        return layers.max_pool(layers.relu(layers.norm(x)))

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("depth", "stem", "width", "pooling", "embedding_dim", "embedding")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def basic_block(layers: "LayerFactory", x: "tf.Tensor", filters: int, strides: int) -> "tf.Tensor":
    """Two 3 x 3 convolutions with a shortcut."""
    y = layers.relu(layers.norm(layers.convolution(x, filters, strides=strides)))
    y = layers.norm(layers.convolution(y, filters))
    return layers.relu(layers.add(y, _shortcut(layers, x, filters, strides)))


def bottleneck(layers: "LayerFactory", x: "tf.Tensor", filters: int, strides: int) -> "tf.Tensor":
    """1 x 1, 3 x 3 and 1 x 1 convolutions with a shortcut; four times ``filters`` come out."""
    y = layers.relu(layers.norm(layers.convolution(x, filters, size=1)))
    y = layers.relu(layers.norm(layers.convolution(y, filters, strides=strides)))
    y = layers.norm(layers.convolution(y, 4 * filters, size=1))
    return layers.relu(layers.add(y, _shortcut(layers, x, 4 * filters, strides)))


def _shortcut(layers, x, filters, strides):
    if strides == 1 and x.shape[-1] == filters:
        return x
    return layers.norm(layers.convolution(x, filters, size=1, strides=strides))
