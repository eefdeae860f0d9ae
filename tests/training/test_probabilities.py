"""Probabilities in place of scores, against the definition over all labels."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.inference.searcher import Searcher
from tfxc.model import build_model

NUM_LABELS, DIM = 11, 6


def model_of(head, objective):
    tree = {
        "run": "-",
        "data": {"name": "made", "train": "-"},
        "encoder": {"name": "precomputed"},
        "head": head,
        "objective": {"name": objective},
    }
    counts = np.ones(NUM_LABELS, np.int64)
    return build_model(
        parse_config(tree), feature_kind="dense", num_features=DIM, num_labels=NUM_LABELS,
        label_counts=counts,
    )  # fmt: skip


def found_by(model, k, probabilities):
    features = np.random.default_rng(0).normal(size=(5, DIM)).astype(np.float32)
    return Searcher(model, k, probabilities=probabilities)({"features": tf.constant(features)})


@pytest.mark.parametrize("objective", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    "head",
    [
        {"name": "dense", "initial_std": 1.0},
        {"name": "mhs", "heads": [4, 3], "num_sampled_heads": 2, "initial_std": 1.0},
        {"name": "margin", "scale": 8.0},
        {"name": "sampled", "initial_std": 1.0},
    ],
    ids=lambda head: head["name"],
)
def test_heads_with_a_score_per_label(head, objective):
    model = model_of(head, objective)
    ids, scores = found_by(model, NUM_LABELS, False)
    whole = scipy.special.softmax if objective == "softmax" else scipy.special.expit
    expected = whole(scores, axis=1) if objective == "softmax" else whole(scores)
    for k in (1, 4):
        best, shares = found_by(model, k, True)
        np.testing.assert_array_equal(best, ids[:, :k])
        np.testing.assert_allclose(shares, expected[:, :k], rtol=1e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("objective", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", ["mhp", "mhc"])
def test_heads_over_digits_have_logarithms(name, objective):
    model = model_of({"name": name, "heads": [4, 3], "initial_std": 1.0}, objective)
    _, scores = found_by(model, 3, False)
    _, shares = found_by(model, 3, True)
    np.testing.assert_allclose(shares, np.exp(scores), rtol=1e-6)
    assert ((shares > 0) & (shares < 1)).all()


def test_mach_has_none():
    model = model_of({"name": "mach", "num_buckets": 4, "num_repetitions": 2}, "sigmoid")
    assert not model.has_probabilities
    with pytest.raises(ConfigError, match="head MACH has no probabilities"):
        Searcher(model, 1, probabilities=True)


@pytest.mark.parametrize("head", ["dense", "tree"])
def test_margins_are_none(head):
    assert not model_of({"name": head}, "squared_hinge").has_probabilities
    assert model_of({"name": head}, "sigmoid").has_probabilities
