"""Trees over the lists of several models, against scikit-learn on columns made one by one."""

import dataclasses

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from tests.ranker.test_ensemble import random_lists
from tfxc.core.errors import DataError
from tfxc.ranker.ensemble import combine
from tfxc.ranker.fusion import memory, trees
from tfxc.ranker.fusion.trees import ListTrees

LABELS = 9
COUNTS = np.arange(LABELS) ** 2


def rank(values, own):
    """1 / rank of a value, those of lower labels first where they are equal."""
    return 1 / (
        1 + sum(v > values[own] or (v == values[own] and i < own) for i, v in values.items())
    )


def columns_of(lists, row):
    """{label: what the trees are given} of one example."""
    models = [
        {int(i): float(s) for i, s in zip(ids[row], scores[row], strict=True) if i >= 0}
        for ids, scores in lists
    ]
    found = {label: [] for label in sorted(set().union(*models))}
    powers = dict.fromkeys(found, 0.0)
    ranks = dict.fromkeys(found, 0.0)
    for model in models:
        total = sum(np.exp(s - max(model.values())) for s in model.values())
        for label, columns in found.items():
            if label not in model:
                columns += [-1e30, -1e30, 0]
                continue
            below = model[label] - max(model.values())
            columns += [model[label], below, rank(model, label)]
            powers[label] += np.exp(below) / total
            ranks[label] += rank(model, label)
    for label, columns in found.items():
        listed = sum(label in model for model in models)
        best = max(powers.values())
        columns += [powers[label], powers[label] - best, ranks[label], listed]
        columns += [rank(powers, label), np.log1p(COUNTS[label])]
    return found


def truth_of(lists, seed):
    """True labels, more often those that are listed first; some are unknown."""
    random = np.random.default_rng(seed)
    true = np.full((len(lists[0][0]), 3), -1)
    for row in range(len(true)):
        true[row, 0] = lists[0][0][row, 0] if random.random() < 0.6 else random.integers(LABELS)
        if random.random() < 0.3:
            true[row, 1] = lists[1][0][row, random.integers(2)]
    true[::7, 2] = LABELS + 3
    return true


def table(lists):
    return [
        (row, label, columns)
        for row in range(len(lists[0][0]))
        for label, columns in columns_of(lists, row).items()
    ]


@pytest.mark.parametrize("native", [True, False])
def test_scores_are_those_of_scikit_learn(monkeypatch, native):
    if not native:
        monkeypatch.setattr(memory, "kernels", None)
    elif memory.kernels is None:
        pytest.skip("the kernels are not built")
    monkeypatch.setattr(trees, "_AT_ONCE", 7)
    learned = random_lists(0, examples=150)
    others = random_lists(1, examples=40)
    truth = truth_of(learned, 2)
    fitted = ListTrees.fit(learned, truth, COUNTS, seed=3)
    rows, labels, columns = zip(*table(learned), strict=True)
    model = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=24, learning_rate=0.1, l2_regularization=20.0,
        min_samples_leaf=100, early_stopping=False, random_state=3,
    ).fit(
        np.array(columns, np.float32),
        [label in truth[row] for row, label in zip(rows, labels, strict=True)],
    )  # fmt: skip
    expected = [{} for _ in range(40)]
    for row, label, of_label in table(others):
        expected[row][label] = model.predict_proba(np.array([of_label], np.float32))[0, 1]
    for k in (None, 4):
        ids, scores = combine(others, fitted, k)
        assert ids.dtype == np.int32 and scores.dtype == np.float32
        for row, own in enumerate(expected):
            listed = ids[row] >= 0
            assert listed.sum() == min(len(own), k or len(own))
            assert (np.diff(scores[row][listed]) <= 0).all()
            best = sorted(own.values(), reverse=True)[: listed.sum()]
            np.testing.assert_allclose(scores[row][listed], best, rtol=1e-5)
            of_ids = [own[label] for label in ids[row][listed].tolist()]
            np.testing.assert_allclose(scores[row][listed], of_ids, rtol=1e-5)
            assert np.isneginf(scores[row][~listed]).all()
    ids, scores = combine([(i[:0], s[:0]) for i, s in others], fitted, 4)
    assert ids.shape == scores.shape == (0, 4)


def test_they_know_which_model_to_believe():
    """One is right about frequent labels, the other about rare ones: no weights can say so."""
    random = np.random.default_rng(0)
    counts = np.where(np.arange(40) < 20, 100, 1)
    true = random.integers(0, 40, (4000, 1))
    lists = [
        (np.where(knows, true, random.integers(0, 40, (4000, 1))), np.ones((4000, 1)))
        for knows in (counts[true] > 1, counts[true] == 1)
    ]
    half = np.arange(4000) % 2 == 0
    fitted = ListTrees.fit([(i[half], s[half]) for i, s in lists], true[half], counts)
    others = [(i[~half], s[~half]) for i, s in lists]
    found, _ = fitted(others, 1)
    right = (found == true[~half]).mean()
    weighted = [
        (combine(others, "average", 1, [share, 1 - share])[0] == true[~half]).mean()
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert right > max(weighted) + 0.1, (right, weighted)


def test_a_large_split_is_not_used_up(monkeypatch):
    monkeypatch.setattr(trees, "_FITTED", 100)
    lists = random_lists(0, examples=150)
    truth = truth_of(lists, 2)
    chosen = np.sort(np.random.default_rng(5).choice(150, 100, replace=False))
    part = ListTrees.fit([(i[chosen], s[chosen]) for i, s in lists], truth[chosen], COUNTS, 5)
    whole = ListTrees.fit(lists, truth, COUNTS, 5)
    assert whole.content() == part.content()


def test_content():
    lists = random_lists(0, examples=150)
    fitted = ListTrees.fit(lists, truth_of(lists, 2), COUNTS)
    content = fitted.content()
    again = ListTrees.of(content, 3, LABELS)
    for one, other in zip(fitted(lists, 5), again(lists, 5), strict=True):
        np.testing.assert_array_equal(one, other)
    endless = np.zeros_like(fitted.arrays["children"])
    changes = ({"roots": np.array([10**6])}, {"children": endless}, {"baseline": np.zeros(2)})
    damaged = (dataclasses.replace(fitted, arrays={**fitted.arrays, **each}) for each in changes)
    for wrong in ({**content, "values": content["roots"]}, *(each.content() for each in damaged)):
        with pytest.raises(ValueError, match="its trees are"):
            ListTrees.of(wrong, 3, LABELS)
    with pytest.raises(ValueError, match="its trees are damaged"):
        ListTrees.of(content, 1, LABELS)  # those of three models look at more columns
    with pytest.raises(ValueError, match="its trees know 9 labels, not 8"):
        ListTrees.of(content, 3, LABELS - 1)
    with pytest.raises(KeyError):
        ListTrees.of({}, 3, LABELS)


def test_what_cannot_be_learned():
    lists = random_lists(0, examples=150)
    nothing = np.full((150, 1), -1)
    with pytest.raises(DataError, match="no candidate of the held-out"):
        ListTrees.fit(lists, nothing, COUNTS)
    few = [(ids[:9], scores[:9]) for ids, scores in lists]
    with pytest.raises(DataError, match="too few to fit trees"):
        ListTrees.fit(few, truth_of(few, 0), COUNTS)
