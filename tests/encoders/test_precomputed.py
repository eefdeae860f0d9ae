import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.encoder import EncoderContract
from tfxc.encoders.precomputed import Precomputed
from tfxc.ops.randomness import step_scope


class TestPrecomputed(EncoderContract):
    has_weights = False

    def make(self, **arguments):
        return Precomputed(5, **arguments)

    def features(self):
        return tf.random.stateless_normal((4, 5), (1, 2))


class TestPrecomputedOfUnitNorm(TestPrecomputed):
    variant = True

    def make(self, **arguments):
        return Precomputed(5, unit_norm=True, **arguments)

    def test_unit_norm(self):
        vectors = self.make()(self.features()).numpy()
        features = self.features().numpy()
        lengths = np.sqrt((features.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(vectors, features / lengths, rtol=1e-5)

    def test_zero_vectors_stay_zero(self):
        assert not self.make()(tf.zeros((2, 5))).numpy().any()


def test_passes_vectors_on():
    features = tf.random.stateless_normal((3, 5), (1, 2))
    np.testing.assert_array_equal(Precomputed(5)(features), features)


def test_dropout_follows_seed_and_step():
    features = tf.ones((50, 40))

    def dropped(seed, step):
        with step_scope(step, 0):
            return Precomputed(40, dropout=0.25, seed=seed)(features, training=True).numpy()

    np.testing.assert_array_equal(dropped(1, 5), dropped(1, 5))
    assert (dropped(1, 5) != dropped(2, 5)).any()
    assert (dropped(1, 5) != dropped(1, 6)).any()
    values = dropped(1, 5)
    np.testing.assert_allclose(np.unique(values), [0, 1 / 0.75], rtol=1e-6)
    # 2,000 draws: five standard deviations are 0.05
    assert (values == 0).mean() == pytest.approx(0.25, abs=0.05)


def test_sparse_bags_are_refused():
    bag = {
        "ids": tf.constant([1]),
        "weights": tf.constant([1.0]),
        "row_splits": tf.constant([0, 1]),
    }
    with pytest.raises(ValueError, match=r"needs dense vectors .*use encoder 'bag_mlp'"):
        Precomputed(5)(bag)
