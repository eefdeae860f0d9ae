"""Probabilities and rules in the graph and in the standalone script, against those in NumPy."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfxc.decision.calibration import Calibration, Curve
from tfxc.decision.decision import NEVER, Decision
from tfxc.decision.held_out import HeldOut
from tfxc.decision.probabilities.rows import Rows
from tfxc.exports.decided import calibrated, predicted
from tfxc.exports.standalone import predict

CURVE = Curve(np.array([-1.0, 0.0, 2.0]), np.array([0.0, 0.3, 1.0]))
ODDS = Curve(np.array([-3.0, -1.0, 4.0]), np.array([0.01, 0.2, 0.98]))

OF_LABELS = np.linspace(0.1, 0.4, 9).astype(np.float32)
GAINS = np.linspace(2.0, 0.5, 9).astype(np.float32)


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


def test_knots_that_are_one_in_single_precision():
    calibration = Calibration(Curve(np.array([1.0, 1.0 + 1e-9]), np.array([0.2, 0.8])))
    scores = np.float32([[2.0, 1.0, 0.0]])
    np.testing.assert_allclose(calibrated(scores, calibration), [[0.8, 0.2, 0.2]], atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_rounding_of_what_was_learned_from_changes_nothing(seed):
    """Scores that come again, as those of a dev split do, are not where a curve is steep."""
    random = np.random.default_rng(seed)
    scores = -np.sort(-np.round(random.normal(-1, 2, (3000, 5)), 2).astype(np.float32), axis=1)
    hits = random.random(scores.shape) < 1 / (1 + np.exp(-1.5 * scores))
    ids = np.broadcast_to(np.arange(5), scores.shape)
    calibration = Rows().fit(HeldOut(ids, scores, np.ones(5, int), hits, hits.sum(axis=1)))
    expected = calibration(scores)
    moved = np.nextafter(scores, np.float32(np.inf))
    np.testing.assert_allclose(calibrated(moved, calibration), expected, atol=1e-7)
    np.testing.assert_allclose(calibration(moved), expected, atol=1e-7)


@pytest.mark.parametrize(
    "rule",
    [
        Decision(0.2, True, at_most=4),
        Decision(None, True, OF_LABELS, at_least=1, at_most=5),
        Decision(NEVER, True, at_least=2, at_most=2),
        Decision(0.25, True, at_most=5, penalty=0.0),
        Decision(0.1, True, at_most=6, penalty=0.03, free=2),
        Decision(0.25, True, at_least=2, at_most=5, penalty=0.01, abstain=0.3),
        Decision(0.2, True, at_least=1, abstain=0.35),
        Decision(None, True, OF_LABELS, at_most=5, gains=GAINS, count=2),
        Decision(None, True, OF_LABELS, at_most=5, gains=GAINS, count=3, abstain=0.3),
    ],
    ids=str,
)
def test_rules_equal_numpy(rule):
    random = np.random.default_rng(2)
    odds = np.exp(random.normal(0, 1.5, (1000, 9)))
    chances = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    ids = np.argsort(-chances, axis=1)[:, :6].astype(np.int32)
    scores = np.take_along_axis(chances, ids, 1)
    ids[:40, 3:], scores[:40, 3:] = -1, -np.inf
    ids[0], scores[0] = -1, -np.inf
    expected = rule.predicted(ids, scores)
    assert 0.1 < expected[:, :4].mean() < 0.9
    np.testing.assert_array_equal(predicted(rule, ids, scores), expected)
    content = json.loads(json.dumps(rule.content()))
    np.testing.assert_array_equal(predict._opened_decision(content)(ids, scores), expected)
    again = Decision.of(content, 9)
    assert again == rule
    np.testing.assert_array_equal(again.predicted(ids, scores), expected)
    # That a longer list may add something is known.
    for length in range(max(1, rule.at_least), 6):
        more = expected[:, length:].any(axis=1)
        asked = rule.may_go_on(ids[:, :length], scores[:, :length])
        assert not (more & ~asked).any()
