import keras
import numpy as np
import pytest

from tests.contracts.encoder import ImageEncoderContract
from tfxc.encoders import mobilefacenet
from tfxc.encoders.mobilefacenet import MobileFaceNet


class TestMobileFaceNet(ImageEncoderContract):
    variant = True  # of ``ImageEncoder``: TestResNet has the general tests
    image_shape = (16, 8, 3)
    half_precision_error = 0.06

    @pytest.fixture(autouse=True)
    def two_blocks(self, monkeypatch):
        """What the contract asks for shows with two blocks as well, and in less time."""
        monkeypatch.setattr(mobilefacenet, "STAGES", ((64, 128, 2, 1), (64, 128, 1, 1)))

    def make(self, **arguments):
        return MobileFaceNet(self.image_shape, scale=0.125, embedding_dim=6, **arguments)

    def test_exported_equals_eager(self, tmp_path):
        """With layers that ResNet does not have."""
        super().test_exported_equals_eager(tmp_path)

    def test_mixed_precision(self):
        super().test_mixed_precision()


def size_by_hand(scale, dim):
    """Number of trainable values, row by row of table 1 of the paper."""

    def active(channels):
        return 3 * channels  # factor and shift of the normalisation, slope of the PReLU

    first = 64 * scale
    total = 3 * 9 * first + active(first) + 9 * first + active(first)
    inputs = first
    for channels, expanded, count in ((64, 128, 5), (128, 256, 1), (128, 256, 6), (128, 512, 1),
                                      (128, 256, 2)):  # fmt: skip
        for _ in range(count):
            outputs = channels * scale
            total += inputs * expanded + active(expanded) + 9 * expanded + active(expanded)
            total += expanded * outputs + 2 * outputs
            inputs = outputs
    total += inputs * 512 + active(512) + 49 * 512 + 2 * 512
    return total + 512 * dim + 2 * dim


@pytest.mark.parametrize(
    ("scale", "dim", "millions"),
    [(1, 128, 1.0), pytest.param(2, 512, 2.06, marks=pytest.mark.slow)],
)
def test_size(scale, dim, millions):
    """The paper has 0.99 million for 112 x 112 and 128 dimensions."""
    encoder = MobileFaceNet((112, 112, 3), scale=scale, embedding_dim=dim)
    with keras.StatelessScope():
        encoder.build(None)
    found = sum(np.prod(weight.shape) for weight in encoder.trainable_weights)
    assert found == size_by_hand(scale, dim)
    assert round(found / 1e6, 2) == millions


def test_the_last_map_is_weighed_place_by_place(monkeypatch):
    one_each = tuple((*stage[:3], 1) for stage in mobilefacenet.STAGES)
    monkeypatch.setattr(mobilefacenet, "STAGES", one_each)
    encoder = MobileFaceNet((112, 96, 3), scale=0.125, embedding_dim=4)
    encoder.build()
    layers = encoder.network.layers
    last = [layer for layer in layers if isinstance(layer, keras.layers.DepthwiseConv2D)][-1]
    assert tuple(last.kernel.shape) == (7, 6, 512, 1)
    assert tuple(last.output.shape) == (None, 1, 1, 512)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0}, "scale: must be a positive number, not 0"),
        ({"scale": 0.007}, "scale: is 0.007, which leaves none of 64 channels"),
        ({"embedding_dim": 0}, "embedding_dim: must be .*integer of at least 1, not 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MobileFaceNet((112, 112, 3), **arguments)
