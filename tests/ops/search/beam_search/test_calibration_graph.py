"""Probabilities in the graph, against ``Calibration.apply`` in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.search.beam_search.calibration_graph import calibrated
from tfxc.ranker.calibration import Calibration


def fitted(method):
    random = np.random.default_rng(0)
    scores = random.normal(size=500).astype(np.float32)
    return Calibration.fit(scores, random.random(500) < 1 / (1 + np.exp(-3 * scores)), method)


@pytest.mark.parametrize(
    "calibration",
    [
        fitted("isotonic"),
        fitted("logistic"),
        Calibration("isotonic", scores=[0.25], values=[0.5]),
        Calibration("logistic", slope=900, intercept=-3),
    ],
    ids=["isotonic", "logistic", "one score", "steep"],
)
def test_equals_numpy(calibration):
    scores = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32) * 2
    scores[0] = [-np.inf, np.inf, 1e30, -1e30, 0, -0.0]
    scores[1:4] = np.resize(calibration.scores if len(calibration.scores) else 0.0, (3, 6))
    function = tf.function(
        lambda x: calibrated(x, calibration),
        input_signature=[tf.TensorSpec([None, None], tf.float32)],
        autograph=False,
    )
    expected = calibration.apply(scores)
    np.testing.assert_allclose(function(scores), expected, rtol=1e-6, atol=1e-30)
    assert np.isneginf(expected).sum() == 1 and function(scores).dtype == tf.float32
    assert function(scores[:0]).shape == (0, 6)
