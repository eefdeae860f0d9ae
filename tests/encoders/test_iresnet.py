import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.encoder import ImageEncoderContract, images
from tfxc.encoders import iresnet
from tfxc.encoders.iresnet import IResNet


class TestIResNet(ImageEncoderContract):
    variant = True  # of ``ImageEncoder``: TestResNet has the general tests
    image_shape = (16, 16, 3)
    half_precision_error = 0.06

    @pytest.fixture(autouse=True)
    def two_blocks(self, monkeypatch):
        """What the contract asks for shows with two blocks as well, and in less time."""
        monkeypatch.setitem(iresnet.BLOCKS, 18, (1, 1))

    def make(self, **arguments):
        return IResNet(self.image_shape, depth=18, width=4, embedding_dim=6, **arguments)

    def test_mixed_precision(self):
        super().test_mixed_precision()


def size_by_hand(blocks, width=64, dim=512, places=49):
    """Number of weights, counted from the description in the docstring."""
    total = 3 * width * 9 + 2 * width + width
    inputs = width
    for stage, count in enumerate(blocks):
        filters = width * 2**stage
        for block in range(count):
            norms = 2 * inputs + 2 * filters + 2 * filters
            total += norms + 9 * inputs * filters + filters + 9 * filters * filters
            total += 0 if block else inputs * filters + 2 * filters
            inputs = filters
    return total + 2 * inputs + inputs * places * dim + dim + 2 * dim


# Deeper networks repeat the blocks of the first.
@pytest.mark.parametrize(
    ("depth", "blocks", "millions"),
    [
        (18, (2, 2, 2, 2), 24.03),
        pytest.param(34, (3, 4, 6, 3), 34.14, marks=pytest.mark.slow),
        pytest.param(50, (3, 4, 14, 3), 43.59, marks=pytest.mark.slow),
        pytest.param(100, (3, 13, 30, 3), 65.16, marks=pytest.mark.slow),
        pytest.param(200, (6, 26, 60, 6), 118.83, marks=pytest.mark.slow),
    ],
)
def test_published_sizes(depth, blocks, millions):
    """insightface's figures; its 512 factors that are frozen at 1 do not exist here."""
    encoder = IResNet((112, 112, 3), depth=depth)
    with keras.StatelessScope():
        encoder.build(None)
    found = sum(np.prod(weight.shape) for weight in encoder.trainable_weights)
    assert found + 512 == size_by_hand(blocks)
    assert round((found + 512) / 1e6, 2) == millions


def test_outputs_are_normalised_in_training():
    encoder = IResNet((16, 16, 3), depth=18, width=4, embedding_dim=6)
    vectors = encoder(images((16, 16, 3), 40), training=True).numpy()
    np.testing.assert_allclose(vectors.mean(0), np.zeros(6), atol=1e-4)
    np.testing.assert_allclose(vectors.std(0), np.ones(6), rtol=0.01)


def test_each_stage_halves_the_image():
    encoder = IResNet((48, 32, 3), depth=18, width=2, embedding_dim=4)
    encoder.build()
    sums = [layer for layer in encoder.network.layers if isinstance(layer, keras.layers.Add)]
    found = list(dict.fromkeys(tuple(layer.output.shape[1:]) for layer in sums))
    assert found == [(24, 16, 2), (12, 8, 4), (6, 4, 8), (3, 2, 16)]
    assert encoder(tf.zeros((2, 48, 32, 3))).shape == (2, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 101}, "depth: must be one of 18, 34, 50, 100, 200, not 101"),
        ({"image_shape": (112, 110, 3)}, "multiples of 16, not 112 x 110"),
        ({"embedding_dim": 0}, "embedding_dim: must be an integer of at least 1, not 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        IResNet(**{"image_shape": (112, 112, 3), **arguments})
