"""The best labels of a run in TensorFlow's graph, with the probabilities that it has learned."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfxc.decision.calibration import LEAST, TIES

if TYPE_CHECKING:
    from tfxc.decision.calibration import Calibration, Curve
    from tfxc.inference.protocol import RunModel


def top_k(
    model: "RunModel", features: Mapping[str, tf.Tensor] | tf.Tensor, k: int, probabilities: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns ids and scores (batch, k) of the best labels, as ``Searcher`` outside the graph.

    Args:
        model: ``RunModel``.
        features: tensors of a batch.
        k: number of labels.
        probabilities: whether to return probabilities instead of scores.
    """
    calibration = model.decision.calibration if probabilities else None
    ids, scores = model.top_k(features, k, probabilities and calibration is None)
    return ids, scores if calibration is None else calibrated(scores, calibration)


def calibrated(scores: tf.Tensor, calibration: "Calibration") -> tf.Tensor:
    """Does what a ``Calibration`` does, in the graph.

    Args:
        scores: float32 (batch, k), lists from the best label on.
        calibration: what was learned.

    Returns:
        Probabilities float32 of the same shape; minus infinity (no label) stays.

    Example:
        >>> from tfxc.decision.calibration import Calibration, Curve
        >>> curve = Curve(np.array([0.0, 1.0]), np.array([0.2, 0.6]))
        >>> calibrated(tf.constant([[0.5, -np.inf]]), Calibration(curve)).numpy().round(6).tolist()
        [[0.4000000059604645, -inf]]
    """
    none = tf.math.is_inf(scores) & (scores < 0)
    answer = tf.cast(tf.where(none, 0.0, scores), tf.float64)
    if calibration.shares is not None:
        answer = _along(calibration.shares, answer)
    if calibration.weights is not None:
        if calibration.shares is not None:
            shares = tf.clip_by_value(answer, LEAST, 1 - LEAST)
            answer = tf.math.log(shares) - tf.math.log1p(-shares)
        intercept, own, of_place, of_best = calibration.weights
        places = tf.math.log1p(tf.cast(tf.range(tf.shape(answer)[1]), tf.float64))
        odds = intercept + own * answer + of_place * places + of_best * answer[:, :1]
        answer = tf.sigmoid(odds)
        if calibration.last is not None:
            answer = (1 - TIES) * _along(calibration.last, odds) + TIES * answer
    return tf.where(none, -np.inf, tf.cast(answer, tf.float32))


def _along(curve: "Curve", inputs: tf.Tensor) -> tf.Tensor:
    """Does as ``numpy.interp`` for ascending knots."""
    points = tf.clip_by_value(inputs, curve.knots[0], curve.knots[-1])
    slopes = np.append(np.diff(curve.values) / np.diff(curve.knots), 0.0)
    places = tf.searchsorted(tf.constant(curve.knots), tf.reshape(points, [-1]), side="right") - 1
    places = tf.reshape(places, tf.shape(points))
    parts = (curve.knots, curve.values, slopes)
    first, height, slope = (tf.gather(part, places) for part in parts)
    return height + slope * (points - first)
