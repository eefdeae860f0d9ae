"""The networks that come with Keras."""

import contextlib
import itertools
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import LayerArguments, ShareBelowOne
from tfxc.core.errors import ConfigError
from tfxc.encoders.bases.image import ImageEncoder, ImageShape
from tfxc.encoders.layers.batch_norm import BatchNorm
from tfxc.encoders.layers.image_blocks import MaskedDropout

MODELS = tuple(name for name in sorted(vars(keras.applications)) if name[0].isupper())
Model = Literal[MODELS]  # type: ignore[valid-type]  # Keras says which there are
MIN_SIDE = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}  # all others: 32


@keras.saving.register_keras_serializable("tfxc")
class KerasApplication(ImageEncoder):
    """Any network of ``keras.applications``, without its classifier.

    Its batch normalisation and dropout are replaced by tfxc's, so that training over replicas and
    resuming are correct; weights, shapes and outputs stay those of Keras. Pixels are
    prepared as the network's own ``preprocess_input`` does.

    Args:
        image_shape: (height, width, channels) (from the data); grey images are repeated to three
            channels.
        model: its name in ``keras.applications``, e.g. ``EfficientNetV2B0``.
        weights: None starts at random; ``"imagenet"`` downloads Keras' own weights at the first
            use; else the path of a weights file (``.weights.h5``) of the network without its
            classifier. A saved model holds its weights and needs neither again.
        pooling: ``avg`` or ``max`` over all positions of the last map.
        dropout: share of pooled features dropped in training.
        synchronized_batch_norm: whether batch normalisation looks at the whole batch over all
            replicas; else each replica normalises its own part.
        seed: seed of the initial weights and the dropout masks.

    Input: uint8 or float (batch, height, width, channels), values 0..255.
    Output: float (batch, dim); dim is the network's.

    Example:
        >>> encoder = KerasApplication((32, 32, 3), model="MobileNetV3Small")
        >>> encoder(tf.zeros((2, 32, 32, 3), tf.uint8)).shape
        TensorShape([2, 576])

    Reference: https://keras.io/api/applications/ names the paper of each network.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        model: Model,
        weights: str | None = None,
        pooling: Literal["avg", "max"] = "avg",
        dropout: ShareBelowOne = 0.0,
        synchronized_batch_norm: bool = False,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(
            image_shape,
            dropout=dropout,
            synchronized_batch_norm=synchronized_batch_norm,
            seed=seed,
            **kwargs,
        )
        if weights not in (None, "imagenet") and not Path(weights).is_file():
            raise ConfigError(
                f"there is no file {weights}",
                where="weights",
                fix="give the path of a weights file, 'imagenet', or leave it out",
            )
        *sides, channels = self.image_shape
        if channels not in (1, 3):
            raise ConfigError(
                f"{model} needs images of 1 or 3 channels, not {channels}",
                fix="choose another encoder",
            )
        least = MIN_SIDE.get(model, 32)
        if min(sides) < least:
            raise ConfigError(
                f"{model} needs images of at least {least} x {least}, not {sides[0]} x {sides[1]}",
                fix="raise data.images.height and data.images.width, or take another model",
            )
        self.model = model
        self.pooling = pooling
        self.pretrained = weights is not None
        self._first_weights = weights

    @property
    def dim(self) -> int:
        """Length of an output vector; makes the network to find out."""
        if self.network is None:
            self.build()
        return self.network.output_shape[-1]

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Returns three channels, prepared as the network expects them."""
        if images.shape[-1] == 1:
            images = tf.repeat(images, 3, axis=-1)
        module = sys.modules[getattr(keras.applications, self.model).__module__]
        return tf.cast(module.preprocess_input(images), self.compute_dtype)

    def make_network(self) -> keras.Model:
        """Returns the network of Keras with tfxc's layers in it."""
        with _globals_of_keras(self.seed, self.dtype_policy):
            original = getattr(keras.applications, self.model)(
                include_top=False,
                weights=self._first_weights,
                input_shape=(*self.image_shape[:2], 3),
                pooling=self.pooling,
            )
            seeds = itertools.count(self.seed * 1000 + 500)

            def our_layer(layer: keras.Layer) -> keras.Layer:
                if isinstance(layer, keras.layers.BatchNormalization):
                    return BatchNorm(
                        momentum=layer.momentum,
                        epsilon=layer.epsilon,
                        scale=layer.scale,
                        synchronized=self.synchronized_batch_norm,
                        name=layer.name,
                        dtype=layer.dtype_policy,
                    )
                if isinstance(layer, keras.layers.Dropout):
                    return MaskedDropout(
                        layer.rate,
                        next(seeds),
                        whole_examples=layer.noise_shape is not None,
                        name=layer.name,
                        dtype=layer.dtype_policy,
                    )
                return layer.__class__.from_config(layer.get_config())

            def call(
                layer: keras.Layer, *inputs: tf.Tensor, mask: None = None, **options: object
            ) -> tf.Tensor:
                assert mask is None, "only Keras' own batch normalisation could take one"
                return layer(*inputs, **options)

            network = keras.models.clone_model(
                original, clone_function=our_layer, call_function=call
            )
        if self._first_weights:
            for ours, theirs in zip(network.layers, original.layers, strict=True):
                ours.set_weights(theirs.get_weights())
        if not self.dropout:
            return network
        return keras.Model(
            network.inputs, self.layer_factory().dropout(network.outputs[0], self.dropout)
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments; the weights are the model's own from now on."""
        return {**super().get_config(), "weights": None}


@contextlib.contextmanager
def _globals_of_keras(seed: int, policy: keras.DTypePolicy) -> Iterator[None]:
    """Inside, a network of Keras starts from the seed and has the policy.

    Keras draws the seeds of its initializers from ``random``, and ``keras.applications`` takes the
    global policy only. Both are restored.
    """
    state = random.getstate()
    global_policy = keras.config.dtype_policy()
    random.seed(seed)
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        random.setstate(state)
        keras.config.set_dtype_policy(global_policy)
