"""What a head is worth, by finite differences; what is left of a model, by its masked whole."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.model import build_model
from tfxc.recipes.prune.importance import Importance, most_important_overall, shrink
from tfxc.recipes.prune.layer_slices import layer_sizes
from tfxc.recipes.prune.smaller_model import check_targets, choose_kept, smaller_model

VOCABULARY, LABELS = 12, 4
BERT = {
    "family": "bert", "vocabulary_size": VOCABULARY, "embedding_dim": 8, "hidden_dim": 8,
    "num_layers": 3, "num_heads": 4, "feed_forward_dim": 10, "max_positions": 10,
    "initial_std": 0.3,
}  # fmt: skip
ARCHITECTURES = {
    "bert": BERT,
    "albert": BERT | {"family": "albert", "shared_layers": 1, "embedding_dim": 4},
    "deberta": BERT | {"family": "deberta-v2", "num_buckets": 4, "max_distance": 10},
    "xlnet": BERT | {"family": "xlnet", "max_positions": 0},
    "transformer": None,
}
CONFIG = {
    "run": "unused",
    "data": {"name": "unused", "train": "unused"},
    "head": {"name": "dense"},
    "objective": {"name": "softmax"},
}
SMALL = {
    "name": "transformer", "num_layers": 3, "num_heads": 4, "embedding_dim": 8,
    "feed_forward_dim": 10,
}  # fmt: skip


def made(kind, **changes):
    """A model of random weights, its config, and what the data would decide."""
    pretrained = {"name": "pretrained", "pooling": "mean"}
    encoder = SMALL if kind == "transformer" else pretrained
    config = parse_config(CONFIG | {"encoder": encoder | changes})
    sizes = {"feature_kind": "tokens", "num_features": VOCABULARY, "num_labels": LABELS}
    if ARCHITECTURES[kind]:
        sizes["architecture"] = ARCHITECTURES[kind]
    model, random = build_model(config, **sizes), np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign(weight.numpy() + random.normal(0, 0.4, weight.shape))
    return model, config, sizes


def batch_of(count=5, seed=0):
    random = np.random.default_rng(seed)
    ids = random.integers(1, VOCABULARY, (count, 8))
    for row, length in zip(ids, random.integers(2, 9, count), strict=True):
        row[length:] = 0
    return {
        "features": ids.astype(np.int32),
        "labels": random.integers(0, LABELS, (count, 1)).astype(np.int32),
        "example_index": np.arange(count),
    }


def all_there(model):
    return [tuple(np.ones(n, bool) for n in pair) for pair in layer_sizes(model.encoder)]


def losses(model, batch, gates):
    gates = [[np.tile(gate.astype(np.float32), (len(batch["labels"]), 1)) for gate in pair]
             for pair in gates]  # fmt: skip
    return gated_losses(model)(batch, gates).numpy().astype(np.float64)


@functools.cache
def gated_losses(model):
    @tf.function(autograph=False)
    def found(batch, gates):
        with model.encoder.gates.set(gates):
            return model.losses_of(batch, training=False)

    return lambda *values: found(*tf.nest.map_structure(tf.constant, values))


# Shared layers: test_the_smaller_model_is_the_masked_one.
@pytest.mark.parametrize("kind", [pytest.param("albert", marks=pytest.mark.slow), "transformer"])
def test_importance_by_finite_differences(kind):
    model, _, _ = made(kind)
    batches = [batch_of(5, 0), batch_of(5, 1)]
    masks = all_there(model)
    masks[0][0][1] = masks[0][1][3] = False
    found, step = Importance(model, batches)(masks), 0.02
    for layer, pair in enumerate(masks):
        for part, mask in enumerate(pair):
            for place in range(layer % 2, len(mask), 3):
                if not mask[place]:
                    assert found[layer][part][place] == -1
                    continue
                total = 0.0
                for batch in batches:
                    both = []
                    for change in (step, -step):
                        gates = [[np.array(m, float) for m in p] for p in masks]
                        gates[layer][part][place] += change
                        both.append(losses(model, batch, gates))
                    total += np.abs(both[0] - both[1]).sum() / (2 * step)
                assert found[layer][part][place] == pytest.approx(total, rel=0.03, abs=3e-3)


@pytest.mark.parametrize(
    ("kind", "uneven"),
    [
        # Every architecture once, every other one with unlike layers.
        pytest.param(kind, uneven, marks=() if uneven == number % 2 else pytest.mark.slow)
        for number, kind in enumerate(ARCHITECTURES)
        for uneven in (False, True)
    ],
)
def test_the_smaller_model_is_the_masked_one(kind, uneven):
    model, config, sizes = made(kind)
    random, kept = np.random.default_rng(3), []
    for layer, (heads, units) in enumerate(layer_sizes(model.encoder)):
        left = 1 + layer if uneven else 2
        kept.append(
            tuple(np.sort(random.permutation(n)[:c]) for n, c in ((heads, left), (units, 6)))
        )
    smaller = smaller_model(model, config, sizes, kept)
    masks = [
        tuple(np.isin(np.arange(n), stay) for n, stay in zip(pair, parts, strict=True))
        for pair, parts in zip(layer_sizes(model.encoder), kept, strict=True)
    ]
    batch = batch_of()
    expected = losses(model, batch, masks)
    np.testing.assert_allclose(smaller.losses_of(batch, training=False), expected, atol=1e-5)
    assert np.abs(losses(model, batch, all_there(model)) - expected).max() > 1e-2
    assert smaller.count_params() < model.count_params()
    assert [pair[0] for pair in layer_sizes(smaller.encoder)] == [len(k[0]) for k in kept]
    again = build_model(config, **sizes | {"architecture": smaller.encoder.architecture})
    again.set_weights(smaller.get_weights())
    np.testing.assert_array_equal(again(batch["features"]), smaller(batch["features"]))


def test_steps_of_the_pruning():
    model, _, _ = made("transformer")
    reported = []
    kept = choose_kept(model, [batch_of()], 1, 4, 3, False, reported.append)
    assert [tuple(map(len, pair)) for pair in kept] == [(1, 4)] * 3
    assert "step 1 of 3: 9 of 12 heads, 8 of 10 inner units" in reported[0]
    assert "step 3 of 3: 3 of 12 heads, 4 of 10 inner units" in reported[2]
    heads_only = choose_kept(model, [batch_of()], 2, None, 2, True, reported.append)
    assert sum(len(heads) for heads, _ in heads_only) == 6
    assert all(len(heads) and len(units) == 10 for heads, units in heads_only)
    units_only = choose_kept(model, [batch_of()], None, 3, 1, False, reported.append)
    assert [tuple(map(len, pair)) for pair in units_only] == [(4, 3)] * 3


def test_one_step_takes_the_least_important():
    importance = [(np.array([3.0, 1.0, 2.0, 4.0]), np.array([5.0, -1.0, 4.0, 6.0]))]
    masks = [(np.ones(4, bool), np.array([True, False, True, True]))]
    ((heads, units),) = shrink(masks, importance, 0.5, (2, 0), False)
    assert heads.tolist() == [True, False, True, True], "half of two heads has gone"
    assert units.tolist() == [True, False, False, True], "half of four units has gone"


def test_every_layer_keeps_a_head():
    importance = [np.zeros(3), np.array([9.0, 8.0, 7.0]), np.array([-1.0, 1e-9, -1.0])]
    masks = most_important_overall(importance, 4)
    assert [mask.tolist() for mask in masks] == [
        [True, False, False], [True, True, False], [False, True, False],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("targets", "uneven", "message"),
    [
        ((5, None), False, "recipe.num_heads: must be at most 4, .* not 5"),
        ((5, None), True, "recipe.num_heads: must be at most 4, .* not 5"),
        ((2, 11), False, "recipe.feed_forward_dim: must be at most 10, .* not 11"),
    ],
)
def test_more_than_there_is(targets, uneven, message):
    model, _, _ = made("bert")
    with pytest.raises(ConfigError, match=message):
        check_targets(model.encoder, *targets, uneven, "runs/a")


def test_layers_that_have_fewer_already():
    model, config, sizes = made("transformer")
    kept = [(np.arange(n), np.arange(10)) for n in (3, 1, 4)]
    smaller = smaller_model(model, config, sizes, kept)
    with pytest.raises(ConfigError, match=r"must be at most 1, .* not 2"):
        check_targets(smaller.encoder, 2, None, False, "runs/a")
    check_targets(smaller.encoder, 2, None, True, "runs/a")
    narrower = choose_kept(smaller, [batch_of()], 2, None, 2, True, str)
    assert sum(len(heads) for heads, _ in narrower) == 6
