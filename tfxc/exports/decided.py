"""The best labels of a run in TensorFlow's graph, with the probabilities that it has learned."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfxc.decision.calibration import LEAST, TIES

if TYPE_CHECKING:
    from tfxc.decision.calibration import Calibration, Curve
    from tfxc.decision.decision import Decision
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
    answer = tf.where(none, 0.0, scores)
    if calibration.shares is not None:
        answer, rest = _along(calibration.shares, answer)
    if calibration.weights is not None:
        if calibration.shares is not None:
            bounded = (tf.clip_by_value(part, LEAST, 1 - LEAST) for part in (answer, rest))
            answer = tf.math.log(next(bounded)) - tf.math.log(next(bounded))
        intercept, own, of_place, of_best = calibration.weights.tolist()
        places = tf.math.log(tf.cast(1 + tf.range(tf.shape(answer)[1]), tf.float32))
        odds = intercept + own * answer + of_place * places + of_best * answer[:, :1]
        answer = tf.sigmoid(odds)
        if calibration.last is not None:
            answer = (1 - TIES) * _along(calibration.last, odds)[0] + TIES * answer
    return tf.where(none, -np.inf, answer)


def predicted(rule: "Decision", ids: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Does as ``Decision.predicted``, in the graph: bool (batch, k), which labels are returned."""
    places = tf.range(tf.shape(ids)[1])
    least = rule.threshold
    if rule.of_labels is not None:
        least = tf.gather(tf.constant(rule.of_labels), tf.maximum(ids, 0))
    values = scores
    if rule.penalty is not None:
        likely = tf.where(tf.math.is_inf(scores), 0.0, scores)
        behind = tf.cast(tf.maximum(places + 1 - rule.free, 0), tf.float32)
        values = 1 - (tf.cumsum(likely, axis=1) - likely) - rule.penalty * behind
    if rule.gains is None:
        reached = values >= least
    else:
        values = tf.gather(tf.constant(rule.gains), tf.maximum(ids, 0)) * scores - least
        values = tf.where((ids >= 0) & (places < rule.at_most), values, -np.inf)
        width = tf.shape(ids)[1]
        best = tf.math.top_k(values, tf.minimum(rule.count, width)).indices
        reached = tf.reduce_any(tf.one_hot(best, width, True, False, dtype=tf.bool), axis=1)
    if rule.at_most is not None:
        reached &= places < rule.at_most
    chosen = (reached | (places < rule.at_least)) & (ids >= 0)
    return chosen if rule.abstain is None else chosen & (scores[:, :1] >= rule.abstain)


def _along(curve: "Curve", inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the curve's values, and what is missing to 1, which is precise where it is small.

    In operations that every format has, not by a binary search, and in single precision.
    """
    knots, values = (part.astype(np.float32) for part in (curve.knots, curve.values))
    (rises,) = np.nonzero(np.diff(curve.values))
    steps = np.diff(curve.values)[rises].astype(np.float32)
    widths = np.diff(knots)[rises]
    widths = np.maximum(widths, np.finfo(np.float32).tiny)  # of two that are one now
    behind = tf.clip_by_value((inputs[..., None] - knots[rises]) / widths, 0.0, 1.0)
    rest = np.float32(1 - curve.values[-1])
    return (
        values[0] + tf.reduce_sum(behind * steps, axis=-1),
        rest + tf.reduce_sum((1 - behind) * steps, axis=-1),
    )
