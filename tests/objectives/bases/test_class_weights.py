import numpy as np
import pytest

from tests.contracts.technique import NUM_FEATURES, NUM_LABELS, tiny_source
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.model import build_model
from tfxc.objectives.bases.class_weights import balanced_weights
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.objectives.softmax import Softmax
from tfxc.training.data_dependent import data_dependent_arguments

SIZES = {"num_features": NUM_FEATURES, "num_labels": NUM_LABELS, "num_examples": 24}


def config(objective, head=None):
    tree = {
        "run": "unused",
        "data": {"name": "unused", "train": "unused"},
        "encoder": {"name": "bag_mlp", "hidden": [4]},
        "head": head or {"name": "dense"},
        "objective": objective,
    }
    return parse_config(tree)


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 3], [7, 2, 11])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    found = balanced_weights(np.bincount(labels, minlength=5))
    np.testing.assert_allclose(found, [*expected[:2], 1, expected[2], 1], rtol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_counts_come_from_the_training_split_and_weights_with_the_model(name, tmp_path):
    settings = config({"name": name, "class_weight": "balanced"})
    source = tiny_source()
    found = data_dependent_arguments(settings, source, **SIZES)
    np.testing.assert_array_equal(found["label_counts"], source.label_counts())
    model = build_model(settings, **SIZES, **found)
    weights = model.objective.label_weights.numpy()
    np.testing.assert_allclose(weights, balanced_weights(source.label_counts()))
    assert len(set(weights.tolist())) > 1
    model.save_weights(tmp_path / "x.weights.h5")
    loaded = build_model(settings, **SIZES)
    loaded.load_weights(tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(loaded.objective.label_weights.numpy(), weights)
    assert "label_counts" not in data_dependent_arguments(config({"name": name}), source, **SIZES)


@pytest.mark.parametrize("method", [Softmax, Sigmoid])
def test_wrong_weights(method):
    with pytest.raises(ValueError, match="there are 2 weights for 5 labels"):
        method(5, class_weight=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"class_weight: must be 'balanced' or a list"):
        method(2, class_weight=[1.0, -2.0])
    with pytest.raises(ValueError, match="not one with 3 groups"):
        method(2, 3, class_weight="balanced")


@pytest.mark.parametrize(
    "head",
    [
        {"name": "sampled"},
        # As many columns as labels, which are others, or in another order.
        {"name": "margin", "sampling": "batch_heads", "heads": [NUM_LABELS, 1]},
        {"name": "mhp", "heads": [NUM_LABELS], "label_order": "random"},
        {"name": "mach", "num_buckets": NUM_LABELS, "num_repetitions": 1},
    ],
    ids=lambda head: head["name"],
)
@pytest.mark.parametrize(
    "objective",
    [
        {"name": "softmax", "class_weight": [1.0] * NUM_LABELS},
        {"name": "focal", "alpha": [1.0] * NUM_LABELS},
    ],
    ids=lambda objective: objective["name"],
)
def test_heads_whose_columns_are_not_the_labels(head, objective):
    with pytest.raises(ConfigError, match="need a head whose columns are the labels"):
        build_model(config(objective, head), **SIZES)


def test_a_head_over_all_classes_has_columns_that_are_the_labels():
    weights = np.arange(1.0, NUM_LABELS + 1).tolist()
    objective = {"name": "softmax", "class_weight": weights}
    for head in ({"name": "margin"}, {"name": "sampled", "classes": "all"}):
        model = build_model(config(objective, head), **SIZES)
        assert model.losses_of(tiny_source().batch(seed=0, step=0, batch_size=8)).shape == (8,)


def test_values_that_are_refused():
    with pytest.raises(ConfigError, match="class_weight: must be 'balanced' or a list"):
        build_model(config({"name": "softmax", "class_weight": "even"}), **SIZES)
