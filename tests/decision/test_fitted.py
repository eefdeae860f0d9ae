"""The files of a decision."""

import json

import numpy as np
import pytest

from tfxc.core.errors import DataError
from tfxc.decision.calibration import Calibration, Curve
from tfxc.decision.decision import NEVER, Decision
from tfxc.decision.fitted import DECISION, FittedDecision

CURVE = Curve(np.array([0.1, 0.5]), np.array([0.2, 0.9]))
THRESHOLDS = np.array([0.3, 0.4], np.float32)
RULE = Decision(None, True, THRESHOLDS, at_least=1, at_most=5)
WEIGHTED = Decision(None, True, THRESHOLDS, at_most=9, gains=THRESHOLDS * 2, count=2)


@pytest.mark.parametrize("calibration", [None, Calibration(CURVE, np.arange(4.0), CURVE)])
@pytest.mark.parametrize(
    "rule",
    [
        None,
        RULE,
        WEIGHTED,
        Decision(0.5, at_most=3),
        Decision(NEVER, at_least=2, at_most=2, abstain=0.5),
    ],
)
def test_saved_and_loaded(tmp_path, calibration, rule):
    fitted = FittedDecision(calibration, rule)
    fitted.save(tmp_path)
    assert (tmp_path / DECISION).exists() == (fitted.calibration is not None or rule is not None)
    again = FittedDecision.load(tmp_path, 2)
    assert again.rule == rule
    if rule in (RULE, WEIGHTED):
        np.testing.assert_array_equal(again.rule.of_labels, THRESHOLDS)
        more = again.with_labels(4).rule
        np.testing.assert_allclose(more.of_labels, [0.3, 0.4, 0.35, 0.35])
    if rule is WEIGHTED:
        np.testing.assert_array_equal(again.rule.gains, WEIGHTED.gains)
        np.testing.assert_allclose(more.gains, [0.6, 0.8, 0.7, 0.7])
    if calibration is None:
        assert again.calibration is None
    else:
        scores = np.array([[0.4, 0.2]])
        np.testing.assert_array_equal(again.calibration(scores), calibration(scores))


def content(**changes):
    curve = CURVE.content()
    calibration = {"shares": curve, "weights": None, "last": None}
    return json.dumps({"format": 1, "calibration": calibration, "rule": None} | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"decision\.json: damaged"),
        ("[]", "not a JSON object"),
        (content(format=2), "its format is not 1"),
        (content(calibration={}), "'weights'"),
        (content(calibration={"shares": [[1], []], "weights": None, "last": None}), "0 values"),
        (content(calibration={"shares": None, "weights": None, "last": None}), "no part"),
        (content(calibration={"shares": None, "weights": [1], "last": None}), "1 weights, not 4"),
        (content(rule={"of_labels": None, "gains": None, "treshold": 1}), "treshold"),
        (content(rule={"of_labels": "!"}), "base64"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    (tmp_path / DECISION).write_text(text)
    with pytest.raises(DataError, match=message):
        FittedDecision.load(tmp_path, 2)


def test_thresholds_of_other_labels(tmp_path):
    FittedDecision(None, RULE).save(tmp_path)
    with pytest.raises(DataError, match="thresholds of 2 labels, not 3"):
        FittedDecision.load(tmp_path, 3)
