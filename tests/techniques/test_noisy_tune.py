import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.technique import TechniqueContract
from tests.techniques.one_step import bag_model, started
from tfxc.core.errors import ConfigError
from tfxc.data.examples.kinds import SPARSE
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.heads.dense import Dense
from tfxc.model import XCModel, example_features
from tfxc.objectives.softmax import Softmax
from tfxc.techniques.noisy_tune import NoisyTune


class TestNoisyTune(TechniqueContract):
    name = "noisy_tune"


def large_model():
    model = XCModel(BagMLP(500, hidden=[40, 30]), Dense(9), Softmax())
    return started(model, {"features": example_features(SPARSE, {"num_features": 500})})


def noise_of(model, **arguments):
    """What is added to each weight of the encoder, and to the head's."""
    before = [variable.numpy() for variable in model.trainable_variables]
    NoisyTune(**arguments).build(model, tf.distribute.get_strategy())
    after = [variable.numpy() for variable in model.trainable_variables]
    return before, [new - old for old, new in zip(before, after, strict=True)]


def test_noise_of_the_matrices():
    model = large_model()
    weights, noise = noise_of(model, intensity=0.3)
    inside = len(model.encoder.trainable_variables)
    for number, (weight, added) in enumerate(zip(weights, noise, strict=True)):
        if weight.ndim < 2 or number >= inside:
            assert not added.any()
            continue
        shares = added / weight.std()
        assert np.abs(shares).max() == pytest.approx(0.15, rel=0.02)
        assert shares.std() == pytest.approx(0.3 / np.sqrt(12), rel=0.06)
        assert abs(shares.mean()) < 0.02
        assert abs(np.corrcoef(weight.ravel(), added.ravel())[0, 1]) < 0.15


def test_seed():
    one, again, other = (noise_of(bag_model(), seed=seed)[1][0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_bad_intensity():
    with pytest.raises(ConfigError, match="intensity: must be a positive number, not 0"):
        NoisyTune(intensity=0)
