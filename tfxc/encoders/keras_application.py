"""The networks that come with Keras."""

import contextlib
import inspect
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfxc.core.arguments import OneOf, checked
from tfxc.encoders.bases.image import ImageEncoder
from tfxc.encoders.layers.batch_norm import BatchNorm
from tfxc.encoders.layers.image_blocks import MaskedDropout

MODELS = tuple(name for name in sorted(vars(keras.applications)) if name[0].isupper())
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

    @checked(model=OneOf(*MODELS), pooling=OneOf("avg", "max"))
    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        model: str,
        weights: str | None = None,
        pooling: str = "avg",
        dropout: float = 0.0,
        synchronized_batch_norm: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            image_shape,
            dropout=dropout,
            synchronized_batch_norm=synchronized_batch_norm,
            seed=seed,
            **kwargs,
        )
        if weights not in (None, "imagenet") and not Path(weights).is_file():
            raise ValueError(f"weights: null, imagenet or a file expected, found no file {weights}")
        *sides, channels = self.image_shape
        if channels not in (1, 3):
            raise ValueError(f"images of 1 or 3 channels expected by {model}, found {channels}")
        least = MIN_SIDE.get(model, 32)
        if min(sides) < least:
            raise ValueError(
                f"images of at least {least} x {least} expected by {model}, found {sides[0]} x "
                f"{sides[1]}"
            )
        self.model, self.pooling = model, pooling
        self._pretrained, self.pretrained = weights, weights is not None

    @property
    def dim(self) -> int:
        """Length of an output vector; makes the network to find out."""
        if self.network is None:
            self.build()
        return self.network.output_shape[-1]

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Three channels, prepared as the network expects them."""
        if images.shape[-1] == 1:
            images = tf.repeat(images, 3, axis=-1)
        return tf.cast(_preprocess(self.model)(images), self.compute_dtype)

    def make_network(self) -> keras.Model:
        """The network of Keras with tfxc's layers in it."""
        with _seeded(self.seed), _policy(self.dtype_policy):
            original = getattr(keras.applications, self.model)(
                include_top=False,
                weights=self._pretrained,
                input_shape=(*self.image_shape[:2], 3),
                pooling=self.pooling,
            )
            network = self._with_our_layers(original)
        if self._pretrained:
            for ours, theirs in zip(network.layers, original.layers, strict=True):
                ours.set_weights(theirs.get_weights())
        if not self.dropout:
            return network
        return keras.Model(
            network.inputs, self.layer_factory().dropout(network.outputs[0], self.dropout)
        )

    def _with_our_layers(self, network):
        seeds = itertools.count(self.seed * 1000 + 500)

        def ours(layer):
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
                whole = layer.noise_shape is not None
                common = {"name": layer.name, "dtype": layer.dtype_policy}
                return MaskedDropout(layer.rate, next(seeds), whole, **common)
            return layer.__class__.from_config(layer.get_config())

        return keras.models.clone_model(network, clone_function=ours, call_function=_without_mask)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments; the weights are the model's own from now on."""
        config = super().get_config()
        del config["mean"], config["std"]
        return {**config, "model": self.model, "weights": None, "pooling": self.pooling}


def _without_mask(layer, *inputs, mask=None, **options):
    """Calls a cloned layer; Keras' own batch normalisation has taken a mask, always None here."""
    assert mask is None
    return layer(*inputs, **options)


def _preprocess(model):
    """``preprocess_input`` of the module that a network comes from."""
    return inspect.getmodule(getattr(keras.applications, model)).preprocess_input


@contextlib.contextmanager
def _seeded(seed):
    """Keras draws the seeds of its initializers from ``random``, whose state is restored here."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextlib.contextmanager
def _policy(policy):
    """``keras.applications`` takes the global policy only."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
