"""Rules that return as many labels for every example, beside block coordinate ascent."""

import dataclasses

import numpy as np
import pytest

from tests.decision.test_labels import held_out
from tfxc.core.errors import ConfigError
from tfxc.decision.labels.coverage_at_k import CoverageAtK
from tfxc.decision.labels.macro_f1_at_k import MacroF1AtK
from tfxc.decision.labels.top_k import TopK

COUNT = 3
METHODS = {"macro": MacroF1AtK, "coverage": CoverageAtK}
# What xcolumns 0.0.2 reaches on the matrices of the seeds 0 to 3, 60 examples each, without a
# random order: predict_optimizing_..._using_bc(matrix, 3, init_y_pred="top", shuffle_order=False).
XCOLUMNS = {
    "macro": [0.4474635160, 0.4164302013, 0.4525963769, 0.4522208893],
    "coverage": [0.9224047044, 0.9540792233, 0.9134115074, 0.9755697753],
}


def matrix(examples):
    """The probabilities, (examples, labels)."""
    found = np.empty(examples.ids.shape)
    np.put_along_axis(found, examples.ids, examples.scores, 1)
    return found


def utility(name, chances, chosen, precision=0.0):
    """The expected value of what a rule maximises, of all examples together."""
    if name == "macro":
        found = (chances * chosen).sum(axis=0)
        value = (2 * found / (chosen.sum(axis=0) + chances.sum(axis=0))).mean()
    else:
        value = 1 - np.prod(1 - chances * chosen, axis=0).mean()
    return (1 - precision) * value + precision * (chances * chosen).sum() / chosen.sum()


def ascent(name, chances, precision=0.0):
    """Block coordinate ascent: example by example, the labels that are best beside all others.

    Schultheis et al., NeurIPS 2023.
    """
    chosen = np.zeros(chances.shape, bool)
    np.put_along_axis(chosen, np.argsort(-chances, axis=1)[:, :COUNT], True, 1)
    of_precision = precision * chances.shape[1] / (len(chances) * COUNT)
    for _ in range(10):
        for row, likely in enumerate(chances):
            chosen[row] = False
            if name == "macro":
                found = (chances * chosen).sum(axis=0)
                sizes = chosen.sum(axis=0) + chances.sum(axis=0)
                gains = 2 * (found + likely) / (sizes + 1) - 2 * found / sizes
            else:
                gains = likely * np.prod(1 - chances * chosen, axis=0)
            gains = (1 - precision) * gains + of_precision * likely
            chosen[row, np.argsort(-gains)[:COUNT]] = True
    return chosen


def predicted(rule, examples):
    found = np.zeros(examples.ids.shape, bool)
    np.put_along_axis(found, examples.ids, rule.predicted(examples.ids, examples.scores), 1)
    return found


def gained(name, rule, examples, precision):
    """What a rule gains over the likeliest labels, as a share of what the ascent gains."""
    chances = matrix(examples)
    likeliest, own, most = (
        utility(name, chances, chosen, precision)
        for chosen in (
            predicted(TopK(COUNT).fit(examples, True), examples),
            predicted(rule, examples),
            ascent(name, chances, precision),
        )
    )
    assert likeliest < most
    return (own - likeliest) / (most - likeliest)


@pytest.mark.parametrize("precision", [0.0, 0.4])
@pytest.mark.parametrize("name", METHODS)
def test_a_rule_is_as_good_as_what_sees_all_examples(name, precision):
    examples = held_out(0, 60 if name == "coverage" else 200)  # of more, all labels are found
    rule = METHODS[name](COUNT, precision).fit(examples, True)
    assert gained(name, rule, examples, precision) > 0.9
    assert (predicted(rule, examples).sum(axis=1) == COUNT).all()


@pytest.mark.parametrize("name", METHODS)
def test_ascent_and_rules_are_as_good_as_those_of_xcolumns(name):
    for seed, reached in enumerate(XCOLUMNS[name]):
        examples = held_out(seed, 60)
        chances = matrix(examples)
        assert utility(name, chances, ascent(name, chances)) > reached - 1e-6
        rule = METHODS[name](COUNT, 0.0).fit(examples, True)
        assert utility(name, chances, predicted(rule, examples)) > reached - 0.008


def test_a_rule_holds_on_other_examples():
    """Those that the ascent has seen, and the rule has not."""
    for precision in (0.0, 0.4):
        rule = MacroF1AtK(COUNT, precision).fit(held_out(0, 200), True)
        assert gained("macro", rule, held_out(1, 200), precision) > 0.6


def test_precision_is_what_is_asked_for():
    learned = held_out(2, 2000)
    other = held_out(3, 2000)
    chances = matrix(other)
    likeliest = predicted(TopK(COUNT).fit(learned, True), other)
    for method in METHODS.values():
        found = [
            utility("macro", chances, predicted(method(COUNT, share).fit(learned, True), other), 1)
            for share in (0, 0.5, 1)
        ]
        assert found[0] < found[1] <= found[2]
        assert found[2] == pytest.approx(utility("macro", chances, likeliest, 1))


def test_weights_of_labels_without_evidence_are_finite():
    examples = held_out(4, 100)
    counts = np.append(examples.label_counts, [0, 5])
    for method in METHODS.values():
        rule = method(COUNT).fit(dataclasses.replace(examples, label_counts=counts), True)
        assert rule.gains.shape == rule.of_labels.shape == counts.shape
        assert np.isfinite(rule.gains).all() and (rule.gains > 0).all()
        assert np.isfinite(rule.of_labels).all() and rule.gains.dtype == np.float32


@pytest.mark.parametrize("method", METHODS.values())
def test_scores_are_refused(method):
    with pytest.raises(ConfigError, match="needs probabilities, and the model has none"):
        method(COUNT).fit(held_out(0), False)


def test_lists_shorter_than_the_count():
    examples = held_out(5, 100)
    rule = MacroF1AtK(40).fit(examples, True)
    assert rule.predicted(examples.ids, examples.scores).all()
    assert str(rule) == "labels of highest weighted probability, 12 of the best 12"
    short = rule.predicted(examples.ids[:, :2], examples.scores[:, :2])
    assert short.all() and rule.may_go_on(examples.ids[:, :2], examples.scores[:, :2]).all()
