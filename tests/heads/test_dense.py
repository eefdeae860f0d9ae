import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tfxc.heads.dense import Dense


class TestDense(HeadContract):
    def make(self, num_labels=NUM_LABELS, **arguments):
        return Dense(num_labels, **arguments)

    def label_scores(self, head, features):
        kernel, bias = (weight.astype(np.float64) for weight in head.get_weights())
        return features @ kernel + bias

    def positive_columns(self, head, labels):
        return [set(labels)]

    @pytest.mark.parametrize("tile", [1, 5, 11])
    def test_tiles_give_the_same(self, monkeypatch, tile):
        head, features = self.built(), self.features()
        expected = self.brute_force(head, features, 7)
        monkeypatch.setattr("tfxc.heads.base._TILE", tile)
        ids, scores = tf.function(lambda x: head.top_k(x, 7), autograph=False)(features)
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_allclose(scores, expected[1], rtol=1e-4, atol=1e-5)

    def test_top_k_before_call(self):
        ids, _ = self.make().top_k(self.features(), 2)
        assert ids.shape == (6, 2)


def test_start():
    head = Dense(200, seed=1)
    head(tf.zeros((1, 400)))
    kernel, bias = head.get_weights()
    # A truncated normal of standard deviation s has 0.88 s left after the cut at 2 s.
    assert np.std(kernel) == pytest.approx(0.88 / 20, rel=0.03)
    np.testing.assert_allclose(bias, -np.log(199), rtol=1e-6)
    # every column is true for about one example in 200
    assert 1 / (1 + np.exp(-bias[0])) == pytest.approx(1 / 200)
    wide = Dense(200, initial_std=0.5)
    wide(tf.zeros((1, 400)))
    assert np.abs(wide.get_weights()[0]).max() > 0.9


def test_one_label():
    head = Dense(1)
    ids, _ = head.top_k(tf.ones((2, 3)), 1)
    assert ids.numpy().tolist() == [[0], [0]]
    assert head.get_weights()[1].tolist() == [0.0]
