"""The layers that the image networks are made of."""

from collections.abc import Callable, Sequence
from typing import Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import Declared, LayerArguments, ShareBelowOne
from tfxc.encoders.layers.batch_norm import BatchNorm
from tfxc.ops.randomness import dropout


class LayerFactory:
    """Makes the layers of one network: all of one dtype, each with its own seed.

    Each method applies a new layer to a Keras tensor and returns the result. Padding is that of
    PyTorch, the same on all sides, also where the stride is 2; so weights trained there fit.

    Args:
        policy: Keras dtype policy.
        seed: seed of the network.
        synchronized: see ``BatchNorm``.
        start: function of a seed -> initializer of the convolutions.

    Attributes:
        weighted: the layers with weights, in the order in which they were made.
    """

    def __init__(
        self,
        policy: keras.DTypePolicy,
        seed: int,
        synchronized: bool,
        start: Callable[[int], keras.Initializer],
    ) -> None:
        self.policy = policy
        self._synchronized = synchronized
        self._start = start
        self._last_seed = seed * 1000
        self.weighted: list[keras.layers.Layer] = []

    def input(self, shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the network's input."""
        return keras.Input(shape, dtype=self.policy.compute_dtype)

    def convolution(self, x: tf.Tensor, filters: int, size: int = 3, strides: int = 1) -> tf.Tensor:
        """Applies a convolution without bias, zeros around the image."""
        if size == 1 and strides > 1:
            # oneDNN's gradient of a 1 x 1 convolution with a stride writes beyond its memory where
            # there are fewer than 16 channels (TensorFlow 2.21, CPU).
            x = x[:, ::strides, ::strides]
            strides = 1
        start = self._start(self.next_seed())
        layer = keras.layers.Conv2D(
            filters,
            size,
            strides,
            "same" if strides == 1 else "valid",
            use_bias=False,
            kernel_initializer=start,
            dtype=self.policy,
        )
        return self._applied(layer, self._padded(x, size, strides))

    def depthwise(
        self, x: tf.Tensor, size: int | tuple[int, int] = 3, strides: int = 1, padded: bool = True
    ) -> tf.Tensor:
        """Applies a convolution to each channel by itself; unpadded it shrinks the image."""
        # Its kernel is (height, width, channels, 1): what goes out of a channel stays in it.
        fan = size * size if isinstance(size, int) else size[0] * size[1]
        layer = keras.layers.DepthwiseConv2D(
            size,
            strides,
            "same" if padded and strides == 1 else "valid",
            use_bias=False,
            depthwise_initializer=keras.initializers.RandomNormal(
                stddev=(2 / fan) ** 0.5, seed=self.next_seed()
            ),
            dtype=self.policy,
        )
        if padded and strides > 1:
            assert isinstance(size, int), "only squares are padded"
            x = self._padded(x, size, strides)
        return self._applied(layer, x)

    def _applied(self, layer: keras.Layer, x: tf.Tensor) -> tf.Tensor:
        self.weighted.append(layer)
        return layer(x)

    def _padded(self, x: tf.Tensor, size: int, strides: int) -> tf.Tensor:
        if strides == 1 or size == 1:
            return x
        return keras.layers.ZeroPadding2D(size // 2, dtype=self.policy)(x)

    def norm(self, x: tf.Tensor, scale: bool = True) -> tf.Tensor:
        """Applies batch normalisation."""
        layer = BatchNorm(scale=scale, synchronized=self._synchronized, dtype=self.policy)
        return self._applied(layer, x)

    def relu(self, x: tf.Tensor) -> tf.Tensor:
        """Applies a rectifier."""
        return keras.layers.ReLU(dtype=self.policy)(x)

    def prelu(self, x: tf.Tensor) -> tf.Tensor:
        """Applies a rectifier whose slope below zero each channel learns, from 0.25 on."""
        start = keras.initializers.Constant(0.25)
        layer = keras.layers.PReLU(start, shared_axes=[1, 2], dtype=self.policy)
        return self._applied(layer, x)

    def add(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Adds two branches."""
        return keras.layers.Add(dtype=self.policy)([x, y])

    def max_pool(self, x: tf.Tensor) -> tf.Tensor:
        """Takes the largest value of 3 x 3 at each second place; ``x`` must not be negative."""
        return keras.layers.MaxPooling2D(3, 2, dtype=self.policy)(self._padded(x, 3, 2))

    def average(self, x: tf.Tensor) -> tf.Tensor:
        """Takes the mean over all places."""
        return keras.layers.GlobalAveragePooling2D(dtype=self.policy)(x)

    def flatten(self, x: tf.Tensor) -> tf.Tensor:
        """Puts places and channels into one row."""
        return keras.layers.Flatten(dtype=self.policy)(x)

    def dropout(self, x: tf.Tensor, rate: float) -> tf.Tensor:
        """Applies dropout, if there is any."""
        return MaskedDropout(rate, self.next_seed(), dtype=self.policy)(x) if rate else x

    def dense(self, x: tf.Tensor, units: int, use_bias: bool = True) -> tf.Tensor:
        """Applies a linear layer; it starts uniform within 1/sqrt(inputs), as in PyTorch."""
        start = keras.initializers.VarianceScaling(
            1 / 3, "fan_in", "uniform", seed=self.next_seed()
        )
        limit = x.shape[-1] ** -0.5
        bias = keras.initializers.RandomUniform(-limit, limit, seed=self.next_seed())
        layer = keras.layers.Dense(
            units,
            use_bias=use_bias,
            kernel_initializer=start,
            bias_initializer=bias,
            dtype=self.policy,
        )
        return self._applied(layer, x)

    def next_seed(self) -> int:
        """Returns another seed at each call."""
        self._last_seed += 1
        return self._last_seed


@keras.saving.register_keras_serializable("tfxc")
class MaskedDropout(Declared, keras.layers.Layer):
    """Dropout whose masks follow the training step, see ``ops.randomness``.

    Args:
        rate: share of values dropped in training.
        seed: seed of the masks.
        whole_examples: whether an example keeps or loses all its values together.

    Input and output: float (batch, ...).
    """

    def __init__(
        self,
        rate: ShareBelowOne,
        seed: int,
        whole_examples: bool = False,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = seed
        self.whole_examples = whole_examples

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drops values in training."""
        if not training:
            return inputs
        if not self.whole_examples:
            return dropout(inputs, self.rate, self.seed)
        shape = [tf.shape(inputs)[0], *[1] * (len(inputs.shape) - 1)]
        return inputs * dropout(tf.ones(shape, inputs.dtype), self.rate, self.seed)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        """Returns the input's shape."""
        return input_shape


def he_fan_out(seed: int) -> keras.Initializer:
    """Returns He's normal initialisation by the number of outputs, torchvision's choice for its
    ResNets.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", seed=seed)
