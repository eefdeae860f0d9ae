"""Probabilities of scores as TensorFlow operations, for exported models."""

from typing import Any

import numpy as np
import tensorflow as tf


def calibrated(scores: tf.Tensor, calibration: Any) -> tf.Tensor:
    """Does what ``Calibration.apply`` does, in the graph.

    Args:
        scores: float32 tensor of any shape.
        calibration: ``tfxc.ranker.calibration.Calibration``.

    Returns:
        Probabilities float32 of the same shape; minus infinity (no label) stays.

    Example:
        >>> from tfxc.ranker.calibration import Calibration
        >>> calibration = Calibration("isotonic", scores=[0.0, 1.0], values=[0.2, 0.6])
        >>> calibrated(tf.constant([-np.inf, 0.5, 7.0]), calibration).numpy().round(6).tolist()
        [-inf, 0.4000000059604645, 0.6000000238418579]
    """
    none = tf.math.is_inf(scores) & (scores < 0)
    exact = tf.cast(tf.where(none, 0.0, scores), tf.float64)
    if calibration.method == "isotonic":
        # ``numpy.interp`` for ascending scores.
        known = calibration.scores
        values = calibration.values
        points = tf.clip_by_value(exact, known[0], known[-1])
        slopes = np.append(np.diff(values) / np.diff(known), 0.0)
        places = tf.searchsorted(tf.constant(known), tf.reshape(points, [-1]), side="right") - 1
        places = tf.reshape(places, tf.shape(points))
        first, height, slope = (tf.gather(part, places) for part in (known, values, slopes))
        probabilities = height + slope * (points - first)
    else:
        probabilities = tf.sigmoid(calibration.slope * exact + calibration.intercept)
    return tf.where(none, -np.inf, tf.cast(probabilities, tf.float32))
