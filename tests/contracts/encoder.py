"""What every encoder must do; an encoder's test class inherits it and gives examples."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfxc
from tests.contracts import general
from tests.contracts.layers import (
    assert_close,
    assert_equal,
    copy_from_config,
    exported,
    open_batch,
    run_keras_layer_test,
)
from tfxc.heads.dense import Dense
from tfxc.model import XCModel
from tfxc.objectives.softmax import Softmax
from tfxc.ops.randomness import step_scope


class EncoderContract:
    """Inherit, and write ``make`` and ``features``.

    Attributes:
        has_weights: whether the encoder learns anything.
        dropping: constructor arguments that switch its dropout on.
        half_precision_error: share of the largest output that bfloat16 may be off.
    """

    has_weights = True
    half_precision_error = 0.03
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

    def shared(self):
        """An encoder that has its weights: one for all tests of a class that leave it as it is."""
        kind = type(self)
        if "_shared" not in vars(kind):
            kind._shared = self.built()
        return kind._shared

    def test_output(self):
        vectors = self.shared()(self.features())
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

    @general
    def test_built_without_an_example(self):
        """As ``tfxc info`` and the estimate of memory do it."""
        encoder = self.make()
        with keras.StatelessScope():
            encoder.build(None)
        shapes = [weight.shape for weight in encoder.weights]
        assert shapes == [weight.shape for weight in self.built().weights]
        announced = encoder.compute_output_shape((None, encoder.num_features))
        assert announced[-1] == encoder(self.features()).shape[-1]

    def test_config_round_trip(self):
        encoder, features = self.built(seed=3, **self.dropping), self.features()
        copy = copy_from_config(encoder, features)
        assert copy.get_config() == encoder.get_config()
        assert_equal(copy(features), encoder(features))

    @general
    def test_keras_file_of_a_whole_model(self, tmp_path):
        model = XCModel(self.make(), Dense(7), Softmax())
        expected = model(self.features())
        model.save(tmp_path / "model.keras")
        loaded = tfxc.load_model(tmp_path / "model.keras")
        assert_equal(loaded(self.features()), expected)

    @general
    def test_exported_equals_eager(self, tmp_path):
        """So does what is compiled, which the export is made of."""
        encoder, features = self.shared(), self.features()
        signature = open_batch(features)
        loaded = exported(lambda x: encoder(x, training=False), signature, tmp_path / "saved")
        assert_close(loaded.function(features), encoder(features))

    @general
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
        assert_close(
            tf.cast(found, tf.float32) / reach,
            expected / reach,
            tolerance=self.half_precision_error,
        )

    @general
    def test_passes_the_test_of_keras(self):
        run_keras_layer_test(self.make, self.features())

    @general
    def test_seed_decides_the_start(self):
        one, same, other = (self.built(seed=seed).get_weights() for seed in (3, 3, 4))
        assert bool(one) == self.has_weights
        assert_equal(one, same)
        if self.has_weights:
            assert any((a != b).any() for a, b in zip(one, other, strict=True))

    def test_gradients_reach_every_weight(self):
        encoder = self.built()
        # Outside a step, dropout is random: it may leave a branch with no example at all.
        with tf.GradientTape() as tape, step_scope(1, 0):
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
            with pytest.raises(ValueError, match=rf"{name}: must be .* at least 0 and below 1"):
                self.make(**{name: share})


class ImageEncoderContract(EncoderContract):
    """For encoders of images; ``make`` takes ``image_shape`` among its arguments.

    Attributes:
        image_shape: (height, width, channels) of the images tried.
    """

    image_shape = (16, 16, 3)

    def features(self):
        return images(self.image_shape)

    def test_takes_images(self):
        assert self.make().input_kind == "image"
        assert "image_shape" in self.make().data_dependent_arguments

    def test_bytes_equal_floats(self):
        encoder = self.shared()
        assert_equal(encoder(self.features()), encoder(tf.cast(self.features(), tf.float32)))

    def test_statistics_move_in_training_only(self):
        encoder = self.built()
        before = encoder.get_weights()
        encoder(self.features())
        assert_equal(encoder.get_weights(), before)
        encoder(self.features(), training=True)
        moved = [weight for weight in encoder.non_trainable_weights if "moving" in weight.path]
        changed = [
            weight.path
            for weight, old in zip(encoder.weights, before, strict=True)
            if (weight.numpy() != old).any()
        ]
        assert moved
        assert changed == [weight.path for weight in encoder.weights if "moving" in weight.path]

    def test_other_features_are_refused(self):
        encoder = self.make()
        bag = {"ids": tf.constant([1]), "weights": tf.ones(1), "row_splits": tf.constant([0, 1])}
        with pytest.raises(ValueError, match=r"must be images \(batch, .*not a sparse bag"):
            encoder.call(bag)
        with pytest.raises(ValueError, match=r"must be images \(batch, .*not \(2, 5, 7, 3\)"):
            encoder.call(tf.zeros((2, 5, 7, 3)))


def images(shape, count=5, seed=0):
    """Random images, uint8 (count, *shape)."""
    values = np.random.default_rng(seed).integers(0, 256, (count, *shape))
    return tf.constant(values, tf.uint8)
