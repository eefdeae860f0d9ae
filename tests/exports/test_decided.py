"""Probabilities in the graph, against ``Calibration`` in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.decision.calibration import Calibration, Curve
from tfxc.exports.decided import calibrated

CURVE = Curve(np.array([-1.0, 0.0, 2.0]), np.array([0.0, 0.3, 1.0]))
ODDS = Curve(np.array([-3.0, -1.0, 4.0]), np.array([0.01, 0.2, 0.98]))


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(CURVE),
        Calibration(Curve(np.array([0.25]), np.array([0.5]))),
        Calibration(weights=np.array([-3.0, 900.0, 0.0, 0.0])),
        Calibration(CURVE, np.array([0.4, 0.9, -0.4, -0.2]), ODDS),
        Calibration(CURVE, np.array([0.4, 0.9, -0.4, -0.2])),
    ],
    ids=["curve", "one knot", "steep line", "rows", "rows without the last"],
)
def test_equals_numpy(calibration):
    scores = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32) * 2
    scores = -np.sort(-scores, axis=1)
    scores[0] = [1e30, 1, 0, -0.0, -1e30, -np.inf]
    scores[1] = -np.inf
    scores[2] = np.resize(CURVE.knots[::-1], 6)
    function = tf.function(
        lambda x: calibrated(x, calibration),
        input_signature=[tf.TensorSpec([None, None], tf.float32)],
        autograph=False,
    )
    expected = calibration(scores)
    np.testing.assert_allclose(function(scores), expected, rtol=1e-4, atol=1e-6)
    assert np.isneginf(expected).sum() == 7 and function(scores).dtype == tf.float32
    assert function(scores[:0]).shape == (0, 6)
