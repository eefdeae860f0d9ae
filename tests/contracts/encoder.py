"""What every encoder must do; an encoder's test class inherits it and gives examples."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfxc
from tests.contracts.layers import (
    assert_close,
    assert_equal,
    copy_from_config,
    exported,
    open_batch,
)
from tfxc.heads.dense import Dense
from tfxc.model import XCModel
from tfxc.objectives.softmax import Softmax


class EncoderContract:
    """Inherit, and write ``make`` and ``features``.

    Attributes:
        has_weights: whether the encoder learns anything.
        dropping: constructor arguments that switch its dropout on.
    """

    has_weights = True
    dropping = {"dropout": 0.5}  # noqa: RUF012 (read only)

    def make(self, **arguments):
        """A new encoder."""
        raise NotImplementedError

    def features(self):
        """A batch of at least 4 examples, as the data pipeline yields it."""
        raise NotImplementedError

    def built(self, **arguments):
        """A new encoder that has its weights."""
        encoder = self.make(**arguments)
        encoder(self.features())
        return encoder

    def test_output(self):
        vectors = self.make()(self.features())
        assert vectors.dtype == tf.float32
        assert len(vectors.shape) in (2, 3)
        assert np.isfinite(vectors).all()

    def test_announced_shape(self):
        features = self.features()
        encoder = self.make()
        announced = encoder.compute_output_shape(tf.nest.map_structure(lambda x: x.shape, features))
        found = encoder(features).shape
        assert len(announced) == len(found)
        assert all(a in (None, f) for a, f in zip(announced, found, strict=True))
        assert announced[-1] == found[-1]

    def test_config_round_trip(self):
        encoder, features = self.built(seed=3, **self.dropping), self.features()
        copy = copy_from_config(encoder, features)
        assert copy.get_config() == encoder.get_config()
        assert_equal(copy(features), encoder(features))

    def test_keras_file_of_a_whole_model(self, tmp_path):
        model = XCModel(self.make(), Dense(7), Softmax())
        expected = model(self.features())
        model.save(tmp_path / "model.keras")
        loaded = tfxc.load_model(tmp_path / "model.keras")
        assert_equal(loaded(self.features()), expected)

    def test_compiled_equals_eager(self):
        encoder = self.built()
        compiled = tf.function(
            lambda features: encoder(features), input_signature=[open_batch(self.features())]
        )
        assert_close(compiled(self.features()), encoder(self.features()))

    def test_exported_equals_eager(self, tmp_path):
        encoder, features = self.built(), self.features()
        signature = open_batch(features)
        loaded = exported(lambda x: encoder(x, training=False), signature, tmp_path / "saved")
        assert_close(loaded.function(features), encoder(features))

    def test_mixed_precision(self):
        plain = self.built(seed=1)
        expected = plain(self.features())
        keras.config.set_dtype_policy("mixed_bfloat16")
        encoder = self.built(seed=1)
        encoder.set_weights(plain.get_weights())
        found = encoder(self.features())
        assert found.dtype == tf.bfloat16
        assert all(weight.dtype == "float32" for weight in encoder.trainable_weights)
        reach = float(tf.reduce_max(tf.abs(expected)))
        assert_close(tf.cast(found, tf.float32) / reach, expected / reach, tolerance=0.03)

    def test_seed_decides_the_start(self):
        one, same, other = (self.built(seed=seed).get_weights() for seed in (3, 3, 4))
        assert bool(one) == self.has_weights
        assert_equal(one, same)
        if self.has_weights:
            assert any((a != b).any() for a, b in zip(one, other, strict=True))

    def test_gradients_reach_every_weight(self):
        encoder = self.built()
        with tf.GradientTape() as tape:
            vectors = encoder(self.features(), training=True)
            loss = tf.reduce_sum(vectors * tf.random.stateless_normal(vectors.shape, (1, 2)))
        gradients = tape.gradient(loss, [w.value for w in encoder.trainable_weights])
        for weight, gradient in zip(encoder.trainable_weights, gradients, strict=True):
            assert gradient is not None, f"no gradient for {weight.path}"
            dense = np.asarray(tf.convert_to_tensor(gradient))
            assert np.isfinite(dense).all()
            assert dense.any(), f"only zeros for {weight.path}"

    def test_dropout_in_training_only(self):
        encoder = self.built(**self.dropping)
        assert_equal(encoder(self.features()), encoder(self.features()))
        assert_equal(encoder(self.features(), training=False), encoder(self.features()))
        dropped = encoder(self.features(), training=True).numpy()
        assert (dropped != encoder(self.features()).numpy()).any()

    @pytest.mark.parametrize("share", [-0.1, 1.0])
    def test_impossible_dropout_is_refused(self, share):
        for name in self.dropping:
            with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\)"):
                self.make(**{name: share})
