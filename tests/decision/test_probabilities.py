"""Probabilities of scores, on sets whose probabilities are known, and beside scikit-learn."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from tfxc.core import registry
from tfxc.core.errors import ConfigError, DataError
from tfxc.decision.calibration import Calibration, Curve
from tfxc.decision.held_out import HeldOut
from tfxc.decision.probabilities.isotonic import Isotonic
from tfxc.decision.probabilities.logistic import Logistic
from tfxc.decision.probabilities.rows import Rows

METHODS = registry.names("probabilities")
WIDTH = 8


def held_out(scores, hits):
    """Examples of one list each, without any further true label."""
    ids = np.where(np.isneginf(scores), -1, np.arange(scores.shape[1]))
    return HeldOut(ids, scores, np.ones(scores.shape[1], int), hits, hits.sum(axis=1))


def known_lists(seed, count=3000, by_place=0.0):
    """Ranked scores, whether true, and the probability of that."""
    random = np.random.default_rng(seed)
    scores = -np.sort(-random.normal(-1, 2, (count, WIDTH)), axis=1)
    odds = 1.5 * scores - 0.5 - by_place * np.arange(WIDTH)
    chances = 1 / (1 + np.exp(-odds))
    return scores, random.random(scores.shape) < chances, chances


@pytest.mark.parametrize("name", METHODS)
def test_what_is_learned_is_near_the_truth_and_keeps_the_order(name):
    calibration = registry.create("probabilities", {"name": name}).fit(
        held_out(*known_lists(0)[:2])
    )
    scores, hits, chances = known_lists(1)
    found = calibration(scores)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    uncalibrated = 1 / (1 + np.exp(-scores))
    assert np.abs(found - chances).mean() < np.abs(uncalibrated - chances).mean() / 3
    assert np.mean((found - hits) ** 2) < np.mean((uncalibrated - hits) ** 2) - 0.004
    assert (np.diff(found, axis=1) <= 1e-7).all()
    again = Calibration.of(calibration.content())
    np.testing.assert_array_equal(again(scores), found)
    short = calibration(np.array([[0.5, -np.inf]]))
    assert np.isneginf(short[0, 1]) and short[0, 0] == calibration(np.array([[0.5]]))[0, 0]
    assert calibration(np.zeros((0, 3))).shape == (0, 3)
    empty = calibration(np.full((1, 2), -np.inf))
    assert np.isneginf(empty).all()


@pytest.mark.parametrize("name", METHODS)
def test_labels_anywhere_have_the_probability_of_their_place(name):
    scores, hits, _ = known_lists(2)
    calibration = registry.create("probabilities", {"name": name}).fit(held_out(scores, hits))
    lists = calibration(scores)
    for place in range(WIDTH):
        np.testing.assert_array_equal(
            calibration.at(scores[:, place], np.full(len(scores), place), scores[:, 0]),
            lists[:, place],
        )


def test_rows_see_the_place():
    """Where true labels are rarer down the list, the score alone says too little."""
    learned = known_lists(3, 4000, by_place=0.8)
    scores, _, chances = known_lists(4, 4000, by_place=0.8)
    errors = {
        method: np.abs(method().fit(held_out(*learned[:2]))(scores) - chances).mean()
        for method in (Rows, Isotonic)
    }
    assert errors[Rows] < 0.4 * errors[Isotonic]


def test_rows_do_not_rise_down_the_list():
    learned = known_lists(5, 4000, by_place=-0.6)
    calibration = Rows().fit(held_out(*learned[:2]))
    assert calibration.weights[2] == 0
    assert (np.diff(calibration(learned[0]), axis=1) <= 1e-7).all()


@pytest.mark.parametrize("seed", range(8))
def test_isotonic_equals_scikit_learn(seed):
    random = np.random.default_rng(seed)
    scores = np.round(random.normal(size=400), int(random.integers(1, 4)))  # with ties
    hits = random.random(400) < 1 / (1 + np.exp(-3 * scores))
    curve = Curve.fit(scores, hits)
    expected = IsotonicRegression(out_of_bounds="clip").fit(scores, hits)
    known = np.unique(scores)
    gap = np.diff(known).min()
    for moved in (0, -0.24 * gap, 0.24 * gap):  # rounding of a score changes nothing
        np.testing.assert_allclose(curve(known + moved), expected.predict(known), atol=1e-12)
    asked = curve(np.linspace(-5, 5, 99_999))
    assert (np.diff(asked) >= 0).all() and len(np.unique(asked)) > len(np.unique(curve.values))


@pytest.mark.parametrize("seed", range(8))
def test_logistic_equals_scikit_learn(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(20, 2_000))
    scores = random.normal(random.normal() * 9, 10.0 ** random.integers(-3, 4), count)
    units = (scores - scores.mean()) / scores.std()
    hits = random.random(count) < 1 / (1 + np.exp(-2 * units))
    calibration = Logistic().fit(held_out(scores[:, None], hits[:, None]))
    solver = LogisticRegression(C=1e6, solver="newton-cholesky", tol=1e-12)
    solver.fit(units[:, None], hits)
    # In float32, as a calibration answers.
    np.testing.assert_allclose(
        calibration(scores[:, None])[:, 0], solver.predict_proba(units[:, None])[:, 1], atol=1e-6
    )


@pytest.mark.parametrize("score", [0.1, 0.3, -7.7, 0.0])
@pytest.mark.parametrize("name", METHODS)
def test_equal_scores_have_the_share_of_the_true(name, score):
    hits = (np.arange(1000) % 4 == 0)[:, None]
    examples = held_out(np.full((1000, 1), score), hits)
    calibration = registry.create("probabilities", {"name": name}).fit(examples)
    assert calibration(np.array([[score]])) == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize(
    ("scores", "hits", "message"),
    [
        ([], [], "none of the 0 labels found is true"),
        ([[0.0, 1.0]], [[1, 1]], "all 2 labels found are true"),
        ([[0.0, np.nan]], [[0, 1]], "a score is NaN or infinite"),
    ],
)
def test_examples_that_are_refused(scores, hits, message):
    with pytest.raises(DataError, match=message):
        held_out(np.array(scores).reshape(-1, 2), np.array(hits, bool).reshape(-1, 2))


def test_logistic_refuses_scores_of_the_wrong_direction():
    examples = held_out(np.array([[2.0, 1.0, 0.0]]), np.array([[0, 1, 1]], bool))
    with pytest.raises(DataError, match="falls where the scores rise"):
        Logistic().fit(examples)


def test_unknown_names():
    with pytest.raises(ConfigError, match="unknown probabilities 'platt'"):
        registry.create("probabilities", {"name": "platt"})
