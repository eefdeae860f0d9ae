import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.encoder import ImageEncoderContract, images
from tfxc.encoders.keras_application import MIN_SIDE, MODELS, KerasApplication
from tfxc.encoders.layers.batch_norm import BatchNorm
from tfxc.encoders.layers.image_blocks import MaskedDropout
from tfxc.ops.randomness import step_scope


def small_network(include_top, weights, input_shape, pooling):
    """Stands for a network of Keras: all kinds of layers they have, in a moment."""
    layers = keras.layers
    assert (include_top, weights) == (False, None)
    inputs = keras.Input(input_shape)
    x = layers.Conv2D(6, 3, 2, use_bias=False)(inputs)
    x = layers.BatchNormalization(momentum=0.7, epsilon=1e-2)(x)
    y = layers.Conv2D(6, 3, padding="same", use_bias=False)(layers.Activation("relu")(x))
    y = layers.BatchNormalization(scale=False)(y)
    x = layers.Add()([x, layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))(y)])
    pool = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[pooling]
    return keras.Model(inputs, pool()(x))


def preprocess_input(x):
    return x / 128 - 1


class TestKerasApplication(ImageEncoderContract):
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(keras.applications, "VGG16", small_network)

    image_shape = (32, 32, 1)

    def make(self, **arguments):
        return KerasApplication(self.image_shape, model="VGG16", **arguments)

    def test_our_layers_keep_the_figures_of_theirs(self):
        encoder = self.built()
        norms = [layer for layer in encoder.network.layers if isinstance(layer, BatchNorm)]
        assert [(n.momentum, n.epsilon, n.scale) for n in norms] == [
            (0.7, 1e-2, True),
            (0.99, 1e-3, False),
        ]
        dropped = [layer for layer in encoder.network.layers if isinstance(layer, MaskedDropout)]
        assert [(layer.rate, layer.whole_examples) for layer in dropped] == [(0.5, True)]

    def test_dropout_follows_the_step(self):
        encoder = self.built()

        def trained(step):
            with step_scope(step, 0):
                return encoder(self.features(), training=True).numpy()

        np.testing.assert_array_equal(trained(3), trained(3))
        assert (trained(3) != trained(4)).any()

    def test_nobody_notices_the_seed(self):
        random.seed(5)
        expected = random.random()
        random.seed(5)
        self.built(seed=7)
        assert random.random() == expected


def test_equals_the_network_of_keras(tmp_path):
    """With weights from a file; MobileNet wants pixels in -1..1."""
    original = keras.applications.MobileNet(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="max"
    )
    original.save_weights(tmp_path / "own.weights.h5")
    path = str(tmp_path / "own.weights.h5")
    encoder = KerasApplication((32, 32, 3), model="MobileNet", weights=path, pooling="max")
    assert encoder.dim == 1024
    pixels = images((32, 32, 3))
    expected = original(tf.cast(pixels, tf.float32) / 127.5 - 1)
    reach = np.abs(expected).max()  # an untrained network ends in very small numbers
    assert np.std(expected / reach) > 0.1
    np.testing.assert_allclose(encoder(pixels) / reach, expected / reach, rtol=1e-3, atol=1e-4)
    assert encoder.get_config()["weights"] is None


def test_grey_images_are_equal_channels(monkeypatch):
    monkeypatch.setattr(keras.applications, "VGG16", small_network)
    color, grey = (KerasApplication((32, 32, n), model="VGG16", seed=1) for n in (3, 1))
    pixels = images((32, 32, 1))
    expected = color(tf.repeat(pixels, 3, axis=-1))
    np.testing.assert_allclose(grey(pixels), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_network_can_be_built(model):
    side = MIN_SIDE.get(model, 32)
    encoder = KerasApplication((side, side, 3), model=model)
    with keras.StatelessScope():
        encoder.build(None)
    kinds = {type(layer).__name__ for layer in encoder.network.layers}
    assert not kinds & {"BatchNormalization", "Dropout"}
    assert callable(encoder.normalise)
    assert encoder.normalise(tf.zeros((1, side, side, 3))).shape == (1, side, side, 3)


@pytest.mark.parametrize("model", MIN_SIDE)
def test_the_least_side_is_that_of_keras(model):
    side = MIN_SIDE[model] - 1
    with pytest.raises(ValueError, match=f"{side + 1}x{side + 1}"):
        getattr(keras.applications, model)(
            include_top=False, weights=None, input_shape=(side, side, 3)
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"model": "MobilNetV2"},
            "model: must be one of .*, not 'MobilNetV2', did you mean 'MobileNetV2'",
        ),
        ({"weights": "absent.weights.h5"}, "no file absent.weights.h5"),
        ({"pooling": "sum"}, "pooling: must be one of avg, max, not 'sum'"),
        ({"image_shape": (32, 32, 4)}, "images of 1 or 3 channels, not 4"),
        ({"image_shape": (28, 28, 1)}, "MobileNet needs images of at least 32 x 32, not 28 x 28"),
        (
            {"image_shape": (70, 99, 3), "model": "Xception"},
            "Xception needs images of at least 71 x 71, not 70 x 99",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        KerasApplication(**{"image_shape": (32, 32, 3), "model": "MobileNet", **arguments})
