"""Probabilities from scores, on a set whose probabilities are known."""

import json

import numpy as np
import pytest
import scipy.sparse
from sklearn.linear_model import LogisticRegression

from tfxc.core.errors import ConfigError, DataError
from tfxc.ranker.calibration import METHODS, Calibration, at_least, pairs_of


def known_pairs(seed, count=4000):
    """Scores, whether true, and the probability of that."""
    random = np.random.default_rng(seed)
    scores = random.normal(-1, 2, count)
    chances = 1 / (1 + np.exp(-1.5 * scores + 0.5))
    return scores, random.random(count) < chances, chances


def brier(values, hits):
    return np.mean((values - hits) ** 2)


@pytest.mark.parametrize("method", METHODS)
def test_calibration_improves_and_keeps_the_order(method, tmp_path):
    calibration = Calibration.fit(*known_pairs(0)[:2], method)
    scores, hits, chances = known_pairs(1)
    found = calibration.apply(scores)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    uncalibrated = 1 / (1 + np.exp(-scores))
    assert brier(found, hits) < brier(uncalibrated, hits) - 0.005
    assert np.abs(found - chances).mean() < np.abs(uncalibrated - chances).mean() / 3
    rising = calibration.apply(np.linspace(-20, 20, 999))
    assert (np.diff(rising) >= 0).all() and rising[-1] > rising[0]
    calibration.save(tmp_path / "calibration.json")
    again = Calibration.load(tmp_path / "calibration.json")
    np.testing.assert_array_equal(again.apply(scores), found)
    assert calibration.apply([[0.0, -np.inf]])[0, 1] == -np.inf


def test_logistic_finds_the_line():
    calibration = Calibration.fit(*known_pairs(2, 40000)[:2], "logistic")
    assert calibration.slope == pytest.approx(1.5, rel=0.05)
    assert calibration.intercept == pytest.approx(-0.5, rel=0.1)


@pytest.mark.parametrize("seed", range(8))
def test_logistic_equals_scikit_learn(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(20, 2_000))
    scores = random.normal(random.normal() * 9, 10.0 ** random.integers(-3, 4), count)
    hits = random.random(count) < 1 / (1 + np.exp(-2 * (scores - scores.mean()) / scores.std()))
    calibration = Calibration.fit(scores, hits, "logistic")
    units = ((scores - scores.mean()) / scores.std())[:, None]
    solver = LogisticRegression(C=1e6, solver="newton-cholesky", tol=1e-12).fit(units, hits)
    # In float32, as a calibration answers.
    np.testing.assert_allclose(
        calibration.apply(scores), solver.predict_proba(units)[:, 1], atol=1e-6
    )


@pytest.mark.parametrize("score", [0.1, 0.3, -7.7, 0.0])
def test_equal_scores_have_the_share_of_the_true(score):
    hits = np.arange(1000) % 4 == 0
    calibration = Calibration.fit(np.full(1000, score), hits, "logistic")
    assert calibration.apply([score]) == pytest.approx(0.25, abs=1e-6)


def test_pairs_and_least_score():
    ids = np.array([[3, 1, -1], [0, 2, 3]], np.int32)
    scores = np.array([[0.5, 0.25, -np.inf], [0.75, 0.5, 0.125]], np.float32)
    padded = np.array([[1, 3], [2, -1]])
    dense = np.zeros((2, 4))
    dense[[0, 0, 1], [1, 3, 2]] = 1
    for labels in (padded, scipy.sparse.csr_matrix(dense)):
        found, hits = pairs_of(ids, scores, labels)
        assert found.tolist() == [0.5, 0.25, 0.75, 0.5, 0.125]
        assert hits.tolist() == [True, True, False, True, False]
    kept, best = at_least(ids, scores, 0.5)
    assert kept.tolist() == [[3, -1, -1], [0, 2, -1]] and kept.dtype == np.int32
    assert best.tolist() == [[0.5, -np.inf, -np.inf], [0.75, 0.5, -np.inf]]


@pytest.mark.parametrize(
    ("pairs", "method", "error", "message"),
    [
        (([0.0, 1.0], [0, 1]), "platt", ConfigError, "one of isotonic, logistic"),
        (([], []), "isotonic", DataError, "0 of 0 labels are true"),
        (([0.0, 1.0], [1, 1]), "isotonic", DataError, "2 of 2 labels are true"),
        (([0.0, np.nan], [0, 1]), "logistic", DataError, "finite scores"),
        (([0.0, 1.0, 2.0], [1, 1, 0]), "logistic", DataError, "falls where the scores rise"),
    ],
)
def test_pairs_that_are_refused(pairs, method, error, message):
    with pytest.raises(error, match=message):
        Calibration.fit(*pairs, method)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"calibration\.json: damaged"),
        ("[]", "not a JSON object"),
        (json.dumps({"format": 2, "method": "isotonic"}), "its format is not 1"),
        (json.dumps({"format": 1, "method": "isotonic", "scores": [1]}), "1 scores has 0 values"),
        (json.dumps({"format": 1, "method": "isotonic", "sores": [1]}), "sores"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        Calibration.load(path)
    with pytest.raises(DataError, match="no such file"):
        Calibration.load(tmp_path / "absent.json")
    path.write_text('{"format": 1, "method": "platt"}')
    with pytest.raises(ConfigError, match=r"must be one of isotonic, logistic, not 'platt'"):
        Calibration.load(path)
