import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.encoder import ImageEncoderContract, images
from tfxc.encoders import resnet
from tfxc.encoders.layers.image_blocks import LayerFactory, he_fan_out
from tfxc.encoders.resnet import ResNet, basic_block


class TestResNet(ImageEncoderContract):
    @pytest.fixture(autouse=True)
    def two_blocks(self, monkeypatch):
        """What the contract asks for shows with two blocks as well, and in less time."""
        monkeypatch.setitem(resnet.BLOCKS, 10, (1, 1))
        monkeypatch.setitem(resnet.BLOCKS, 50, (1, 1))

    def make(self, **arguments):
        return ResNet(self.image_shape, depth=10, width=4, **arguments)


class TestDeepResNet(TestResNet):
    """Bottlenecks, the large stem, grey images and a linear layer."""

    variant = True
    image_shape = (24, 16, 1)
    half_precision_error = 0.06

    def make(self, **arguments):
        return ResNet(
            self.image_shape, depth=50, width=2, stem="imagenet", embedding_dim=7, **arguments
        )


class TestFlattenedResNet(TestResNet):
    """All places of the last stage, and a normalised embedding."""

    variant = True

    def make(self, **arguments):
        own = {"pooling": "flatten", "embedding_dim": 6, "embedding": "hidden"}
        return ResNet(self.image_shape, depth=10, width=4, **own, **arguments)


@pytest.mark.parametrize("kind", ["linear", "normalised", "hidden"])
def test_places_in_a_row(kind):
    """The embedding is that of NumPy over the last map."""
    encoder = ResNet(
        (16, 8, 1), depth=10, width=2, pooling="flatten", embedding_dim=5, embedding=kind
    )
    batch = images((16, 8, 1), 6)
    encoder(batch)
    dense = next(x for x in encoder.network.layers if isinstance(x, keras.layers.Dense))
    until = keras.Model(encoder.network.inputs, dense.input)
    places = until(encoder.normalise(tf.cast(batch, tf.float32)), training=True).numpy()
    assert places.shape == (6, 2 * 1 * 16)
    kernel, bias = (weight.numpy() for weight in dense.weights)
    expected = places @ kernel + bias
    if kind != "linear":
        expected = (expected - expected.mean(0)) / np.sqrt(expected.var(0) + 1e-5)
    if kind == "hidden":
        expected = np.maximum(expected, 0)
    found = encoder(batch, training=True).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def trainable(encoder):
    """Number of trainable values; nothing is allocated."""
    with keras.StatelessScope():
        encoder.build(None)
    return sum(np.prod(weight.shape) for weight in encoder.trainable_weights)


# Depth 34 repeats the blocks of 18, and 101 and 152 those of 50, which is below.
@pytest.mark.parametrize(
    ("depth", "image_shape", "expected"),
    [
        (18, (224, 224, 3), 11_176_512),
        pytest.param(34, (224, 224, 3), 21_284_672, marks=pytest.mark.slow),
        pytest.param(50, (224, 224, 3), 23_508_032, marks=pytest.mark.slow),
        pytest.param(101, (224, 224, 3), 42_500_160, marks=pytest.mark.slow),
        pytest.param(152, (224, 224, 3), 58_143_808, marks=pytest.mark.slow),
        (18, (32, 32, 3), 11_168_832),
    ],
)
def test_published_sizes(depth, image_shape, expected):
    """torchvision's networks without their classifier; the stem of CIFAR is 7,680 smaller."""
    assert trainable(ResNet(image_shape, depth=depth)) == expected


def test_published_size_with_a_linear_layer():
    """torchvision's ResNet-50 with 1,000 outputs."""
    assert trainable(ResNet((224, 224, 3), depth=50, embedding_dim=1000)) == 25_557_032


@pytest.mark.parametrize(
    ("arguments", "sides", "expected"),
    [
        ({"stem": "cifar"}, (32, 24), [(32, 24), (16, 12), (8, 6), (4, 3)]),
        ({"stem": "imagenet"}, (66, 64), [(33, 32), (17, 16), (9, 8), (5, 4), (3, 2)]),
        ({}, (28, 28), [(28, 28), (14, 14), (7, 7), (4, 4)]),
        ({}, (64, 64), [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]),
    ],
)
def test_sizes_of_the_maps(arguments, sides, expected):
    encoder = ResNet((*sides, 3), depth=10, width=2, **arguments)
    encoder.build()
    layers = [layer for layer in encoder.network.layers if isinstance(layer, keras.layers.ReLU)]
    found = [tuple(layer.output.shape[1:3]) for layer in layers]
    assert list(dict.fromkeys(found)) == expected


def convolved(image, kernel, strides):
    """Convolution with zeros around, one place after the other, (height, width, in) -> out."""
    size, padding = kernel.shape[0], kernel.shape[0] // 2
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    places = [range(0, side, strides) for side in image.shape[:2]]
    return np.array(
        [
            [
                np.einsum("ijc,ijcd->d", padded[row : row + size, column : column + size], kernel)
                for column in places[1]
            ]
            for row in places[0]
        ]
    )


@pytest.mark.parametrize(("strides", "filters"), [(1, 3), (2, 4)])
def test_a_block_equals_numpy(strides, filters):
    layers = LayerFactory(keras.config.dtype_policy(), 0, False, he_fan_out)
    inputs = layers.input((6, 8, 3))
    block = keras.Model(inputs, basic_block(layers, inputs, filters, strides))
    rng = np.random.default_rng(0)
    for weight in block.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    weights = {weight.path: weight.numpy().astype(np.float64) for weight in block.weights}
    kernels = [value for path, value in weights.items() if path.endswith("kernel")]
    norms = [
        [value for path, value in weights.items() if path.endswith(name)]
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    ]
    if strides == 2:  # both ways end in one sum: tell them apart by the size
        kernels.sort(key=lambda kernel: (kernel.shape[0] == 1, kernel.shape[2] == filters))

    def normalised(x, number):
        gamma, beta, mean, variance = (values[number] for values in norms)
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    image = rng.normal(size=(6, 8, 3))
    order = [layer for layer in block.layers if type(layer).__name__ == "BatchNorm"]
    assert len(order) == len(kernels)
    y = np.maximum(normalised(convolved(image, kernels[0], strides), 0), 0)
    y = normalised(convolved(y, kernels[1], 1), 1)
    x = normalised(convolved(image, kernels[2], strides), 2) if strides == 2 else image
    found = block(tf.constant(image[None], tf.float32), training=False)[0]
    np.testing.assert_allclose(found, np.maximum(y + x, 0), rtol=1e-4, atol=1e-4)


def test_mean_and_std():
    """Per channel: what they do, done to the images beforehand."""
    plain, own = (
        ResNet((8, 8, 2), depth=10, width=2, **more)
        for more in ({}, {"mean": [0.5, 0.25], "std": [0.5, 0.125]})
    )
    pixels = tf.cast(images((8, 8, 2)), tf.float32)
    plain(pixels)
    own(pixels)
    own.set_weights(plain.get_weights())
    # (x/255 - 0.25) / 0.125 = (x'/255 - 0.5) / 0.5 for x' = 4 x - 0.5 * 255
    changed = tf.stack([pixels[..., 0], 4 * pixels[..., 1] - 127.5], axis=-1)
    np.testing.assert_allclose(own(pixels), plain(changed), rtol=1e-4, atol=1e-5)
    assert own.normalise(tf.constant([[[[127.5, 63.75]]]])).numpy().tolist() == [[[[0, 0]]]]


def test_start_of_the_weights():
    """He's rule over the outputs; the linear layer as PyTorch starts it."""
    encoder = ResNet((16, 16, 3), depth=10, width=16, embedding_dim=50)
    encoder.build()
    convolutions = [w for w in encoder.weights if w.path.endswith("kernel") and len(w.shape) == 4]
    for kernel in convolutions:
        height, width, _, filters = kernel.shape
        expected = (2 / (height * width * filters)) ** 0.5
        assert kernel.numpy().std() == pytest.approx(expected, rel=0.15)
    linear = next(w for w in encoder.weights if len(w.shape) == 2).numpy()
    assert 0.9 * 128**-0.5 < np.abs(linear).max() <= 128**-0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 20}, "depth: must be one of 10, 18, 34, 50, 101, 152, not 20"),
        ({"stem": "large"}, "stem: must be one of auto, cifar, imagenet, not 'large'"),
        ({"width": 0}, "width: must be an integer of at least 1, not 0"),
        (
            {"embedding_dim": 0},
            "embedding_dim: must be an integer of at least 1, not 0",
        ),
        ({"pooling": "max"}, "pooling: must be one of average, flatten, not 'max'"),
        ({"pooling": "flatten"}, "pooling 'flatten' with embedding 'linear' needs embedding_dim"),
        ({"embedding": "hidden"}, "'average' with embedding 'hidden' needs embedding_dim"),
        (
            {"embedding": "deep", "embedding_dim": 4},
            "embedding: must be one of linear, normalised, hidden",
        ),
        ({"mean": [0.5, 0.5]}, "mean: has 2 values, but the images have 3 channels"),
        ({"std": 0}, "std: must be .*positive number, not 0"),
        ({"image_shape": (8, 8)}, "image_shape: must be height, width and channels"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**{"image_shape": (8, 8, 3), **arguments})
