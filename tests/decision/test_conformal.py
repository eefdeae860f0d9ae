"""Sets that hold the true labels: beside brute force, MAPIE and crepes, and on new examples."""

import json

import numpy as np
import pytest
import scipy.stats

from tfxc.core.errors import ConfigError, DataError
from tfxc.decision.abstaining import least_confidence
from tfxc.decision.decision import just_below
from tfxc.decision.held_out import HeldOut
from tfxc.decision.labels.conformal import Conformal


def ranked(chances, hits, k=None):
    """The best labels of examples whose probabilities of all labels are known."""
    order = np.argsort(-chances, axis=1)[:, :k]
    scores, found = (np.take_along_axis(values, order, 1) for values in (chances, hits))
    counts = np.maximum(hits.sum(axis=0), 1)
    return HeldOut(order.astype(np.int32), scores, counts, found, hits.sum(axis=1))


def one_each(seed, count=500, labels=20, k=None):
    """Examples of one label, drawn by a softmax whose probabilities are given."""
    random = np.random.default_rng(seed)
    odds = np.exp(random.normal(0, 2, (count, labels)))
    chances = odds / odds.sum(axis=1, keepdims=True)
    true = (chances.cumsum(axis=1) < random.random((count, 1))).sum(axis=1)
    return ranked(chances, true[:, None] == np.arange(labels), k)


def several(seed, count=700, labels=12, k=None):
    """Examples of one or more labels."""
    random = np.random.default_rng(seed)
    odds = random.normal(-2, 2, (count, labels)) - np.arange(labels) / 4
    chances = 1 / (1 + np.exp(-odds))
    hits = random.random((count, labels)) < chances
    kept = hits.any(axis=1)
    return ranked(chances[kept], hits[kept], k)


def missed(rule, examples):
    """Mean share of an example's true labels that are not in its set."""
    found = (rule.predicted(examples.ids, examples.scores) & examples.hits).sum(axis=1)
    known = examples.num_true > 0
    return 1 - np.mean(found[known] / examples.num_true[known])


# Labels in the sets of 400 examples, and true ones among them, of MAPIE 1.6.0
# (SplitConformalClassifier, "lac") and crepes 0.9.1 (ConformalClassifier over ``hinge``, not
# smoothed), which agree.
@pytest.mark.parametrize(("alpha", "sizes", "true"), [(0.1, 2383, 353), (0.25, 1183, 292)])
def test_smallest_sets_equal_mapie_and_crepes(alpha, sizes, true):
    rule = Conformal(alpha, "threshold").fit(one_each(0), True)
    examples = one_each(1, 400)
    chosen = rule.predicted(examples.ids, examples.scores)
    assert chosen.sum() == sizes and (chosen & examples.hits).sum() == true


# Of MAPIE 1.6.0 (MultiLabelClassificationController, "crc"), in steps of 0.0001.
@pytest.mark.parametrize(
    ("alpha", "threshold", "sizes", "true"), [(0.1, 0.0664, 1461, 492), (0.25, 0.1778, 845, 404)]
)
def test_risk_control_equals_mapie(alpha, threshold, sizes, true):
    rule = Conformal(alpha).fit(several(2), True)
    assert rule.threshold == pytest.approx(threshold, abs=1e-4)
    examples = several(3, 400)
    chosen = rule.predicted(examples.ids, examples.scores)
    assert abs(chosen.sum() - sizes) <= 1 and abs((chosen & examples.hits).sum() - true) <= 1


@pytest.mark.parametrize("make", [one_each, several])
@pytest.mark.parametrize("sets", [{}, {"tails": 0.7}, {"at_least": 1}, {"penalty": 0.0}])
def test_the_threshold_is_the_highest_that_misses_little_enough(make, sets):
    examples = make(4, 150, k=8)
    method = Conformal(0.2, **sets)
    rule = method.fit(examples, True)
    n = np.count_nonzero(examples.num_true)
    assert (n * missed(rule, examples) + 1) / (n + 1) <= 0.2 + 1e-12
    # With any true label less, of those whose value is the smallest in a set, it is too much.
    values = rule.held_against(examples.scores)
    if rule.of_labels is not None:
        values = values / rule.of_labels[examples.ids]
    chosen = rule.predicted(examples.ids, examples.scores) & examples.hits
    if rule.at_least:
        chosen[:, : rule.at_least] = False
    lost = chosen & (values == values[chosen].min())
    more = (lost.sum(axis=1) / np.maximum(examples.num_true, 1)).sum()
    assert (n * missed(rule, examples) + more + 1) / (n + 1) > 0.2


def test_adaptive_sets_are_those_of_their_definition():
    examples = one_each(5, 300)
    rule = Conformal(0.1, penalty=0.05, free=2).fit(examples, True)
    chosen = rule.predicted(examples.ids, examples.scores)
    for row, probabilities in enumerate(examples.scores):
        for place in range(probabilities.size):
            mass = sum(probabilities[:place]) + 0.05 * max(0, place + 1 - 2)
            if abs(mass - (1 - rule.threshold)) > 1e-9:
                assert chosen[row, place] == (mass < 1 - rule.threshold)
    assert chosen[:, 0].all()
    # The penalty makes long sets shorter.
    plain = Conformal(0.1, penalty=0.0).fit(examples, True)
    sizes = [r.predicted(examples.ids, examples.scores).sum(axis=1) for r in (rule, plain)]
    assert sizes[0].max() < sizes[1].max()


@pytest.mark.parametrize("make", [one_each, several])
@pytest.mark.parametrize("sets", [{}, {"sets": "threshold"}, {"tails": 1.0}])
def test_what_is_learned_on_one_half_holds_on_the_other(make, sets):
    """Over many draws the mean miss is at most alpha, and not much less; each within its noise."""
    misses = []
    for seed in range(60):
        examples = make(100 + seed, 800)
        half = np.arange(len(examples.ids)) % 2 == 0
        rule = Conformal(0.1, **sets).fit(examples.rows(half), True)
        misses.append(missed(rule, examples.rows(~half)))
    error = np.std(misses, ddof=1) / np.sqrt(len(misses))
    assert 0.1 - 1 / 250 - 3 * error < np.mean(misses) < 0.1 + 3 * error


def test_one_half_within_the_binomial_interval():
    """The coverage of a threshold of n examples has a beta distribution, that of m new ones a
    beta-binomial: nine in ten draws lie between its ends.
    """
    n = m = 400
    rank = int(np.ceil(0.9 * (n + 1)))
    low, high = scipy.stats.betabinom(m, rank, n + 1 - rank).ppf([0.05, 0.95])
    inside = 0
    for seed in range(40):
        examples = one_each(300 + seed, n + m)
        rule = Conformal(0.1, "threshold").fit(examples.rows(np.arange(n)), True)
        inside += low <= m * (1 - missed(rule, examples.rows(np.arange(n, n + m)))) <= high
    assert inside >= scipy.stats.binom(40, 0.9).ppf(0.001)


@pytest.mark.parametrize("tails", [0.0, 1.0])
def test_where_the_best_label_alone_is_enough(tails):
    examples = several(13)
    rule = Conformal(0.8, at_least=1, tails=tails).fit(examples, True)
    chosen = rule.predicted(examples.ids, examples.scores)
    assert chosen[:, 0].all() and not chosen[:, 1:].any()
    json.dumps(rule.content(), allow_nan=False)


def test_tails_help_rare_labels():
    random = np.random.default_rng(6)
    prior = 2.0 ** -np.arange(10)
    odds = np.exp(random.normal(0, 1.5, (6000, 10))) * prior
    chances = odds / odds.sum(axis=1, keepdims=True)
    true = (chances.cumsum(axis=1) < random.random((6000, 1))).sum(axis=1)
    examples = ranked(chances, true[:, None] == np.arange(10))
    found = {}
    for tails in (0.0, 1.0):
        rule = Conformal(0.1, "threshold", tails=tails).fit(examples, True)
        chosen = rule.predicted(examples.ids, examples.scores) & examples.hits
        rare = (examples.ids >= 5) & examples.hits
        found[tails] = chosen[rare].mean()
        assert missed(rule, examples) == pytest.approx(0.1, abs=0.001)
    assert found[1.0] > found[0.0] + 0.3


def test_scores_that_are_no_probabilities():
    examples = one_each(7)
    rule = Conformal().fit(examples, False)
    assert rule.penalty is None and not rule.probabilities
    with pytest.raises(ConfigError, match=r"decision\.labels: adaptive sets need probabilities"):
        Conformal(sets="adaptive").fit(examples, False)
    with pytest.raises(ConfigError, match="tails give each label its own"):
        Conformal(sets="adaptive", tails=1).fit(examples, True)


def test_what_the_search_does_not_find_cannot_be_promised():
    examples = one_each(8, k=3)
    found = examples.hits.any(axis=1).mean()
    assert found < 0.9
    message = rf"alpha 0\.1 needs 90\.2% of .* 3 best ones of 500 examples have {found:.1%}"
    with pytest.raises(DataError, match=message) as refused:
        Conformal().fit(examples, True)
    assert refused.value.fix == "raise decision.k or alpha"
    rule = Conformal(1 - found + 0.01).fit(examples, True)
    assert missed(rule, examples) <= 1 - found + 0.01
    # Nor can nine examples promise more than nine in ten.
    with pytest.raises(DataError, match=r"alpha 0\.05 needs 19 examples, and there are 10\. Raise"):
        Conformal(0.05).fit(one_each(9, 10), True)
    Conformal(0.05).fit(one_each(9, 19), True)


def test_examples_without_a_label_have_nothing_to_miss():
    examples = several(10)
    rule = Conformal().fit(examples, True)
    random = np.random.default_rng(0)
    ids = np.concatenate([examples.ids, random.permuted(examples.ids[:50], axis=1)])
    scores = np.concatenate([examples.scores, examples.scores[:50]])
    hits = np.concatenate([examples.hits, np.zeros((50, ids.shape[1]), bool)])
    more = HeldOut(ids, scores, examples.label_counts, hits, hits.sum(axis=1))
    assert Conformal().fit(more, True) == rule


@pytest.mark.parametrize("risk", [0.1, 0.2, 0.4])
def test_abstaining_answers_as_many_as_it_may(risk):
    examples = one_each(11, 3000)
    least = least_confidence(examples, risk)
    best = examples.scores[:, 0]
    wrong = ~examples.hits[:, 0]

    def share(value):
        return (wrong[best >= value].sum() + 1) / ((best >= value).sum() + 1)

    assert share(least) <= risk
    assert all(share(value) > risk for value in best[best < least][:200])
    # On new examples, about as many answers are wrong.
    other = one_each(12, 20_000)
    answered = other.scores[:, 0] >= least
    errors = int((~other.hits[answered, 0]).sum())
    answers = int((best >= least).sum())
    noise = np.sqrt(risk * (1 - risk) * (1 / answers + 1 / answered.sum()))
    assert abs(errors / answered.sum() - risk) < 3 * noise


def test_abstaining_of_equal_scores_and_of_none():
    ids = np.array([[0], [0], [0], [-1]])
    scores = np.array([[0.9], [0.5], [0.5], [-np.inf]])
    hits = np.array([[1], [1], [0], [0]], bool)
    examples = HeldOut(ids, scores, np.ones(1, int), hits, np.ones(4, int))
    assert least_confidence(examples, 0.5) == just_below(0.5)
    # Of the first two alone a third would be wrong, but the third has the second's score.
    hits[2] = True
    hits[1:2] = False
    assert least_confidence(examples, 0.51) == just_below(0.5)
    with pytest.raises(DataError, match="however few of the 3 examples"):
        least_confidence(examples, 0.1)
