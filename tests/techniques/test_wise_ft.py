import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.technique import AverageContract, TinyTraining
from tfxc.core.errors import ConfigError
from tfxc.techniques.wise_ft import WiseFT


class TestWiseFT(AverageContract):
    name = "wise_ft"
    arguments = {"share": 0.7}  # noqa: RUF012 (read only)


def encoder_weights(training):
    return [variable.numpy() for variable in training.model.encoder.trainable_variables]


@pytest.mark.parametrize("share", [0.1, 0.8])
def test_evaluated_are_weights_between_the_first_and_the_last(share):
    technique = WiseFT(share=share)
    training = TinyTraining(technique)
    starts = encoder_weights(training)
    training.run(7)
    lasts, head = encoder_weights(training), training.model.head.get_weights()
    with technique.evaluation_weights():
        for start, last, lent in zip(starts, lasts, encoder_weights(training), strict=True):
            np.testing.assert_allclose(lent, (1 - share) * start + share * last, atol=1e-6)
            assert np.abs(lent - last).max() > 1e-4
        for one, other in zip(head, training.model.head.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(lasts, encoder_weights(training), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_encoder_that_does_not_learn_is_refused():
    training = TinyTraining()
    training.model.encoder.trainable = False
    with pytest.raises(ConfigError, match=r"techniques\.wise_ft: an encoder with trainable"):
        WiseFT().build(training.model, tf.distribute.get_strategy())


def test_training_goes_on_with_the_raw_weights():
    plain, between = TinyTraining(), TinyTraining(WiseFT(share=0.3))
    plain.run(5)
    between.run(5)
    for one, other in zip(plain.weights, between.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ConfigError, match=r"share: .*a number in \(0, 1\) expected"):
        WiseFT(share=share)
