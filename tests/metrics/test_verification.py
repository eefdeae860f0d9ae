"""Verification against loops over thresholds, folds and images, written from the definitions."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tfxc.core.errors import ConfigError, DataError
from tfxc.metrics.roc import Roc
from tfxc.metrics.verification import (
    add_halves,
    pair_distances,
    pair_scores,
    pool_templates,
    verify_pairs,
    verify_scores,
)


def random_pairs(count=203, seed=0):
    """Overlapping distances in [0, 4] and their flags, 203 pairs: folds of two sizes."""
    random = np.random.default_rng(seed)
    same = random.random(count) < 0.5
    return np.clip(random.normal(np.where(same, 1.2, 1.9), 0.5), 0, 4), same


def folds_of(count, folds):
    """(training rows, test rows) of each fold, the first ones longer by one."""
    rows, start = np.arange(count), 0
    for fold in range(folds):
        size = count // folds + (fold < count % folds)
        test = rows[start : start + size]
        start += size
        yield np.setdiff1d(rows, test), test


def accuracy_of(distances, same, folds):
    """Accuracy and threshold of each fold, one threshold at a time."""
    for train, test in folds_of(len(same), folds):
        best, chosen = -1.0, None
        for threshold in np.arange(0, 4, 0.01):
            found = np.mean((distances[train] < threshold) == same[train])
            if found > best:
                best, chosen = found, threshold
        yield np.mean((distances[test] < chosen) == same[test]), chosen


def val_of(distances, same, folds, far):
    """VAL and false accept rate of each fold."""
    thresholds = np.arange(0, 4, 0.001)
    for train, test in folds_of(len(same), folds):
        others = distances[train][~same[train]]
        rates = [np.mean(others < threshold) for threshold in thresholds]
        right = next(i for i, rate in enumerate(rates) if rate >= far)
        share = (far - rates[right - 1]) / (rates[right] - rates[right - 1])
        accepted = distances[test] < thresholds[right - 1] + 0.001 * share
        yield accepted[same[test]].mean(), accepted[~same[test]].mean()


@pytest.mark.parametrize("folds", [2, 10])
def test_folds_against_loops(folds):
    distances, same = random_pairs()
    result = verify_pairs(distances, same, folds=folds, far=0.05)
    accuracies, thresholds = np.array(list(accuracy_of(distances, same, folds))).T
    np.testing.assert_allclose(result.thresholds, thresholds, atol=1e-9)
    assert 0.6 < result.accuracy < 0.95
    assert result.accuracy == pytest.approx(accuracies.mean())
    assert result.accuracy_std == pytest.approx(accuracies.std())
    vals, fars = np.array(list(val_of(distances, same, folds, 0.05))).T
    assert (result.val, result.val_std) == pytest.approx((vals.mean(), vals.std()))
    assert result.val_far == pytest.approx(fars.mean())
    assert len(result.correct) == len(same)
    parts = [result.correct[test].mean() for _, test in folds_of(len(same), folds)]
    np.testing.assert_allclose(parts, accuracies)


def test_separable_pairs():
    same = np.tile([True] * 30 + [False] * 30, 10)
    distances = np.where(same, 0.4, np.random.default_rng(0).uniform(1.6, 3.4, len(same)))
    result = verify_pairs(distances, same)
    assert (result.accuracy, result.accuracy_std, result.val) == (1.0, 0.0, 1.0)
    # Strictly below: 0.4 itself would reject every same pair.
    np.testing.assert_allclose(result.thresholds, 0.41)
    assert (result.auc, result.eer) == (1.0, 0.0)
    assert result.val_far < 0.01
    assert all(tar == (1.0, 0.0) for tar in result.tar.values())


def test_val_where_the_rate_is_never_reached():
    """Different pairs at distance 4 lie below no threshold."""
    same = np.tile([True, False], 20)
    result = verify_pairs(np.where(same, 0.5, 4.0), same)
    assert (result.val, result.val_far, result.accuracy) == (0.0, 0.0, 1.0)


def test_folds_of_one_kind_are_left_out_of_the_mean():
    same = np.array([True] * 4 + [False] * 4)
    distances = np.array([0.5] * 4 + [1.5, 1.7, 1.9, 2.1])
    result = verify_pairs(distances, same, folds=4)
    assert result.val == 1.0
    # Folds 3 and 4 have different pairs; the threshold lies above 1.9 in one, 1.5 in the other.
    assert result.val_far == 0.5


def test_tar_is_that_of_the_nearest_rate():
    """Every point of the curve by counting; rates between two points take the nearer one."""
    scores, same = random_pairs(seed=3)
    points = {(0.0, 0.0)}
    for threshold in scores:
        accepted = scores >= threshold
        points.add((accepted[~same].mean(), accepted[same].mean()))
    result = verify_scores(scores, same, fars=(1e-6, 0.013, 0.1, 0.5))
    corners = set(zip(result.roc.far.tolist(), result.roc.tar.tolist(), strict=True))
    assert corners <= points
    for far, (tar, reached) in result.tar.items():
        nearest = min(abs(point - far) for point, _ in corners)
        candidates = [point for point in corners if abs(point[0] - far) <= nearest + 1e-15]
        assert (reached, tar) == max(candidates, key=lambda point: point[1])


def test_the_nearest_rule_by_hand():
    curve = Roc(np.array([0, 0, 0.25, 0.25, 0.5, 1]), np.array([0, 0.3, 0.3, 0.5, 0.8, 1]))
    assert curve.tar_at(0.0) == (0.3, 0.0)
    assert curve.tar_at(0.09) == (0.3, 0.0)
    assert curve.tar_at(0.13) == (0.5, 0.25)  # above the rate asked for: nearest, not "at most"
    assert curve.tar_at(0.375) == (0.8, 0.5)  # equally near
    assert Roc.of([3, 2, 1, 0], [True, False, True, False]).equal_error_rate() == 0.5


def test_area_and_equal_error_rate():
    scores, same = random_pairs(seed=5)
    result = verify_scores(-scores, same)
    assert result.auc == pytest.approx(roc_auc_score(same, -scores))
    wrong = [abs(np.mean(scores[~same] < t) - np.mean(scores[same] >= t)) for t in np.sort(scores)]
    threshold = np.sort(scores)[np.argmin(wrong)]
    assert result.eer == pytest.approx(np.mean(scores[~same] < threshold), abs=0.01)


@pytest.mark.parametrize("block", [3, 1000])
def test_distances_of_scaled_embeddings(monkeypatch, block):
    monkeypatch.setattr("tfxc.metrics.pair_scores._BLOCK", block)
    monkeypatch.setattr("tfxc.metrics.pair_scores._PAIRS", block)
    random = np.random.default_rng(1)
    embeddings = random.normal(size=(20, 7)).astype(np.float32)
    embeddings[4] = 0
    pairs = random.integers(0, 20, (50, 2))
    expected, dots = [], []
    for left, right in pairs:
        a, b = embeddings[left].astype(float), embeddings[right].astype(float)
        dots.append(a @ b)
        a, b = (v / max(np.linalg.norm(v), 1e-300) for v in (a, b))
        expected.append(((a - b) ** 2).sum())
    np.testing.assert_allclose(pair_distances(embeddings, pairs), expected, atol=1e-12)
    np.testing.assert_allclose(pair_scores(embeddings, pairs), dots, atol=1e-5)


def test_mirrored_halves_are_summed_before_scaling():
    """Scaling each half first would give distance 0.8 instead of 0."""
    halves = np.array([[3.0, 0.0, 0.0, 4.0], [6.0, 8.0, 0.0, 0.0]])
    assert add_halves(halves).tolist() == [[3.0, 4.0], [6.0, 8.0]]
    assert pair_distances(add_halves(halves), [[0, 1]])[0] == pytest.approx(0)
    with pytest.raises(DataError, match="the embeddings, 3, is odd"):
        add_halves(np.ones((1, 3)))


@pytest.mark.parametrize("block", [4, 1000])
def test_templates_by_loops(monkeypatch, block):
    """Media of 1, 2 and 5 frames; media ids that several templates share."""
    monkeypatch.setattr("tfxc.metrics.pair_scores._BLOCK", block)
    random = np.random.default_rng(2)
    templates = np.array([9, 9, 9, 9, 9, 9, 9, 9, 4, 4, 4, 5])
    media = np.array([1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 1, 1])
    order = random.permutation(len(templates))
    templates, media = templates[order], media[order]
    vectors = random.normal(size=(len(order), 6)).astype(np.float32)
    weights = random.random(len(order))
    ids, pooled = pool_templates(vectors, templates, media, weights)
    assert ids.tolist() == [4, 5, 9]
    for template, found in zip(ids, pooled, strict=True):
        total = np.zeros(6)
        for one in np.unique(media[templates == template]):
            frames = (templates == template) & (media == one)
            total += np.mean(vectors[frames] * weights[frames, None], axis=0)
        np.testing.assert_allclose(found, total / np.linalg.norm(total), rtol=1e-5)


def test_refusals():
    with pytest.raises(DataError, match="no same pairs among 3"):
        verify_scores([1, 2, 3], [False] * 3)
    with pytest.raises(DataError, match="no different pairs"):
        verify_pairs([1, 2, 3], [True] * 3)
    with pytest.raises(DataError, match="the value of pair 2 is NaN"):
        verify_scores([1, np.nan, 3], [True, False, True])
    with pytest.raises(DataError, match=r"flags, \(2,\) and \(3,\)"):
        verify_scores([1, 2], [True, False, True])
    with pytest.raises(ConfigError, match="10 folds are impossible for 3 pairs"):
        verify_pairs([1, 2, 3], [True, False, True])
    with pytest.raises(DataError, match=r"row numbers from 0 to 2, .* rows 0 to 1"):
        pair_scores(np.ones((2, 2)), [[0, 2]])
    with pytest.raises(DataError, match=r"the pairs have the shape \(2,\), not \(n, 2\)"):
        pair_scores(np.ones((2, 2)), [0, 1])
    with pytest.raises(DataError, match="2 embeddings, but 2 template ids, 1 medium ids"):
        pool_templates(np.ones((2, 2)), [1, 2], [1])


def test_table_and_record():
    result = verify_pairs(*random_pairs(), fars=(0.01,))
    record = result.to_dict()
    assert record["tar_at_far"]["1e-02"]["tar"] == result.tar[0.01][0]
    assert len(record["thresholds"]) == 10 and record["num_pairs"] == 203
    words = [line.split()[0] for line in result.table().splitlines()]
    assert words == ["accuracy", "VAL@1e-03", "AUC", "EER", "TAR@1e-02"]
    assert f"{100 * result.accuracy:.2f} +-" in result.table()
