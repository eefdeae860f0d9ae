"""Which labels are returned: beside brute force, and as what maximises the expected F-measure."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.optimize
from sklearn.metrics import f1_score, precision_recall_curve

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.decision.decision import Decision, at_least
from tfxc.decision.held_out import HeldOut
from tfxc.decision.labels.f_measure import FMeasure, label_offsets
from tfxc.decision.labels.threshold import Threshold, common_threshold
from tfxc.decision.labels.thresholds import Thresholds
from tfxc.decision.labels.top_k import TopK

LABELS = 12
SECTIONS = [
    {"name": "f_measure"},
    {"name": "threshold"},
    {"name": "thresholds"},
    {"name": "top_k", "count": 2},
    {"name": "conformal"},
    {"name": "macro_f1_at_k", "count": 2},
    {"name": "coverage_at_k", "count": 2},
]


def held_out(seed, count=2000, own=0.0):
    """All labels of each example, with the probabilities by which they are drawn.

    Args:
        own: by how much the log-odds of label 0 are higher than the probabilities say.
    """
    random = np.random.default_rng(seed)
    odds = random.normal(-2, 2, (count, LABELS)) - np.arange(LABELS) / 4
    chances = 1 / (1 + np.exp(-odds))
    true = 1 / (1 + np.exp(-odds - own * (np.arange(LABELS) == 0)))
    hits = random.random((count, LABELS)) < true
    order = np.argsort(-chances, axis=1)
    lists = (np.take_along_axis(values, order, 1) for values in (chances, hits))
    scores, found = lists
    return HeldOut(order.astype(np.int32), scores, hits.sum(axis=0), found, hits.sum(axis=1))


def matrices(examples, decision):
    """(true, predicted), bool (examples, labels)."""
    true = np.zeros(examples.ids.shape, bool)
    predicted = true.copy()
    np.put_along_axis(true, examples.ids, examples.hits, 1)
    chosen = decision.predicted(examples.ids, examples.scores)
    np.put_along_axis(predicted, examples.ids, chosen, 1)
    return true, predicted


def measured(examples, decision, average):
    return f1_score(*matrices(examples, decision), average=average, zero_division=0)


def f_measure(true, predicted):
    """Of all pairs at once; scikit-learn's takes milliseconds, and thousands are asked for."""
    return 2 * (true & predicted).sum() / (true.sum() + predicted.sum())


def test_every_method_is_tried():
    assert sorted(section["name"] for section in SECTIONS) == registry.names("labels")


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section["name"])
def test_what_every_rule_keeps(section):
    examples = held_out(0)
    decision = registry.create("labels", section).fit(examples, True)
    chosen = decision.predicted(examples.ids, examples.scores)
    assert decision.probabilities and not decision.best_alone and chosen.any()
    # Nothing behind the list can count, and a padding is no label.
    assert not decision.may_go_on(examples.ids, examples.scores).any()
    ids = np.where(np.arange(LABELS) < 1, examples.ids, -1)
    scores = np.where(ids < 0, -np.inf, examples.scores)
    assert not decision.predicted(ids, scores)[:, 1:].any()
    if "at_least" in vars(registry.create("labels", section)):
        one = registry.create("labels", section | {"at_least": 1}).fit(examples, True)
        filled = one.predicted(examples.ids, examples.scores)
        assert filled[:, 0].all() and (filled[:, 1:] == chosen[:, 1:]).all()
    assert "label" in str(decision)
    assert (
        Decision.of(json.loads(json.dumps(decision.content(), allow_nan=False)), LABELS) == decision
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_the_best_one(seed):
    examples = held_out(seed, 50)
    decision = Threshold().fit(examples, True)
    tried = (matrices(examples, Decision(value)) for value in np.unique(examples.scores))
    best = max(f_measure(*pair) for pair in tried)
    assert measured(examples, decision, "micro") == pytest.approx(best)


def test_equal_scores_are_on_one_side():
    scores = np.array([[0.5, 0.5], [0.5, 0.1]])
    hits = np.array([[1, 0], [0, 0]], bool)
    ids = np.array([[0, 1], [0, 1]])
    examples = HeldOut(ids, scores, np.ones(2, int), hits, hits.sum(axis=1))
    decision = Threshold().fit(examples, True)
    assert decision.threshold == 0.5
    assert Threshold(0.3).fit(examples, True).threshold == 0.3


def shortened(examples, width):
    """The first labels of each list, and all true ones; with equal scores."""
    labels = np.where(examples.hits, examples.ids, -1)
    return dataclasses.replace(
        examples,
        ids=examples.ids[:, :width],
        scores=examples.scores[:, :width].round(2),
        hits=examples.hits[:, :width],
        labels=labels,
    )


@pytest.mark.parametrize("seed", range(4))
def test_each_threshold_is_the_best_one(seed):
    """Beside scikit-learn, where the true labels that a list lacks have the lowest score."""
    examples = shortened(held_out(seed, 300), 4)
    found = Thresholds(prior=0).fit(examples, True).of_labels
    assert (examples.positives == examples.label_counts).all()
    own = 0
    for label in range(LABELS):
        there = examples.ids == label
        lacking = examples.positives[label] - examples.hits[there].sum()
        hits = np.append(examples.hits[there], np.ones(lacking, bool))
        scores = np.append(examples.scores[there], np.full(lacking, -1.0))
        if not hits.any() or not examples.hits[there].any():
            assert found[label] == np.float32(common_threshold(examples))
            continue
        own += 1
        precision, recall, values = precision_recall_curve(hits, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = f1[:-1][values > -1].max()
        assert f1_score(hits, scores.astype(np.float32) >= found[label]) == pytest.approx(best)
    assert own > LABELS / 2


def test_thresholds_shrink_and_are_guarded():
    examples = shortened(held_out(7, 300), 4)
    common = common_threshold(examples)
    own, shrunk, guarded = (
        Thresholds(**settings).fit(examples, True).of_labels
        for settings in ({"prior": 0}, {"prior": 10}, {"prior": 10, "fbr": 0.5})
    )
    count = examples.positives
    np.testing.assert_allclose(shrunk, (count * own + 10 * common) / (count + 10), rtol=1e-6)
    rare = guarded != shrunk
    assert 0 < rare.sum() < LABELS
    for label in range(LABELS):
        there = examples.ids == label
        chosen = examples.scores[there].astype(np.float32) >= own[label]
        right = (chosen & examples.hits[there]).sum()
        assert rare[label] == (2 * right / (chosen.sum() + count[label]) < 0.5)
        if rare[label]:
            assert guarded[label] == np.float32(examples.scores[there].max())


def test_thresholds_need_no_probabilities():
    examples = held_out(8, 300)
    odds = np.log(examples.scores / (1 - examples.scores)) * 5
    of_odds = Thresholds(prior=0).fit(dataclasses.replace(examples, scores=odds), False)
    of_chances = Thresholds(prior=0).fit(examples, True)
    assert not of_odds.probabilities
    expected = np.log(of_chances.of_labels / (1 - of_chances.of_labels)) * 5
    np.testing.assert_allclose(of_odds.of_labels, expected, rtol=1e-4)


def test_thresholds_are_half_of_the_f_measure():
    """Of a label whose probabilities are true, the best threshold is half of the best F-measure."""
    examples = held_out(1, 20_000)
    of_labels = FMeasure(balance=0).fit(examples, True).of_labels
    for label in range(LABELS):
        there = examples.ids == label
        scores = examples.scores[there]
        hits = examples.hits[there]
        grid = np.linspace(0.01, 0.9, 179)
        values = [f_measure(hits, scores >= value) for value in grid]
        assert of_labels[label] == pytest.approx(max(values) / 2, abs=0.06)
        reached = f_measure(hits, scores >= of_labels[label])
        assert reached > max(values) - 0.01


def test_balance():
    """Of micro and macro, each is best where it is what is maximised."""
    learned = held_out(2, 4000)
    other = held_out(3, 4000)
    rules = {balance: FMeasure(balance).fit(learned, True) for balance in (0.0, 1.0)}
    assert measured(other, rules[0.0], "macro") > measured(other, rules[1.0], "macro") + 0.002
    assert measured(other, rules[1.0], "micro") > measured(other, rules[0.0], "micro") + 0.002
    # All labels have one threshold for the common value, but for what they have of their own.
    spread = [np.ptp(rule.of_labels) for rule in rules.values()]
    assert spread[1] < spread[0] / 1.5


def test_offsets_are_what_the_prior_and_the_evidence_say():
    examples = held_out(4, 500, own=1.5)
    ids = examples.ids.ravel()
    chances = examples.scores.ravel()
    odds = np.log(chances / (1 - chances))
    hits = examples.hits.ravel()
    found = label_offsets(ids, odds, hits, LABELS + 1)
    assert found[0] > 1 and found[LABELS] == 0

    def loss(offsets):
        shifted = odds + offsets[ids]
        return np.logaddexp(0, np.where(hits, -shifted, shifted)).sum() + (offsets**2).sum() / 0.72

    best = scipy.optimize.minimize(loss, np.zeros(LABELS + 1), method="BFGS").x
    np.testing.assert_allclose(found, best, atol=1e-3)


def test_a_rule_of_one_half_holds_on_the_other():
    """The F-measure of a rule is the same where it was learned and elsewhere, within its noise."""
    values = []
    for seed in range(10):
        examples = held_out(seed, 3000)
        half = np.arange(3000) < 1500
        parts = [examples.rows(part) for part in (half, ~half)]
        rule = FMeasure().fit(parts[0], True)
        values.append([measured(part, rule, "micro") for part in parts])
    differences = np.subtract(*np.transpose(values))
    assert abs(differences.mean()) < 2.5 * differences.std(ddof=1) / np.sqrt(10) + 0.003


def test_labels_without_evidence():
    """A label that no held-out example has keeps a threshold of its frequency, not of nothing."""
    examples = held_out(5)
    counts = np.append(examples.label_counts, [0, 5])
    more = dataclasses.replace(examples, label_counts=counts)
    of_labels = FMeasure().fit(more, True).of_labels
    assert of_labels.shape == (LABELS + 2,) and (of_labels > 0.02).all() and (of_labels < 0.6).all()


def test_what_is_refused():
    with pytest.raises(ConfigError, match=r"decision\.labels: labels 'f_measure' needs probab"):
        FMeasure().fit(held_out(0), False)
    with pytest.raises(ConfigError, match="balance: must be a number from 0 to 1, not 2"):
        FMeasure(2)


def test_as_many_for_each():
    examples = held_out(0)
    rule = TopK(3).fit(examples, False)
    assert str(rule) == "best labels, at least 3, at most 3"
    chosen = rule.predicted(examples.ids, examples.scores)
    assert chosen[:, :3].all() and not chosen[:, 3:].any()


def test_lists_cut_at_a_least_score():
    ids = np.array([[3, 1, -1], [0, 2, 3]], np.int32)
    scores = np.array([[0.5, 0.25, -np.inf], [0.75, 0.5, 0.125]], np.float32)
    kept, best = at_least(ids, scores, 0.5)
    assert kept.tolist() == [[3, -1, -1], [0, 2, -1]] and kept.dtype == np.int32
    assert best.tolist() == [[0.5, -np.inf, -np.inf], [0.75, 0.5, -np.inf]]
