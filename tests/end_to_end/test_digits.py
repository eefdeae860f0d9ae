"""The heads over digits from the command line to the SavedModel."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.commands.calls import call
from tests.data.rows import rows_of_images
from tfxc.commands import train
from tfxc.core.config import parse_config
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.shards import ShardSource
from tfxc.estimator.classifier import XCClassifier
from tfxc.exports.savedmodel import export_savedmodel
from tfxc.inference.searcher import Searcher
from tfxc.runs.loaded import load_run
from tfxc.training.data_dependent import data_dependent_arguments

HEADS = [
    pytest.param(  # with several codes as well
        {"name": "mhp", "num_heads": 2, "label_order": "clusters"},
        "sigmoid",
        marks=pytest.mark.slow,
    ),
    ({"name": "mhp", "num_heads": 2, "repeats": 3, "label_order": "clusters"}, "softmax"),
    (
        {
            "name": "mhc",
            "heads": [8, 4],
            "projection_dim": 16,
            "num_candidate_groups": 3,
            "label_order": "clusters",
        },
        "sigmoid",
    ),
    pytest.param(  # learns: the contract
        {"name": "mhs", "heads": [5, 6], "num_sampled_heads": 3, "label_order": "random"},
        "softmax",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("head", "objective"), HEADS, ids=["mhp", "mhp_codes", "mhc", "mhs"])
def test_train_and_export(tmp_path, capsys, head, objective):
    training = {"epochs": 8, "checkpoint_every": None, "evaluate_every": 200}
    changes = {"head": head, "objective": {"name": objective}, "training": training}
    config = tiny.write_config(tmp_path, **changes)
    options = ("--prepared", tmp_path / "prepared", "--json")
    outcome = call(capsys, train, "--config", config, *options)
    assert outcome.code == 0
    summary = json.loads(outcome.out)
    assert summary["dev"]["P@1"] > 0.4

    run = load_run(tmp_path / "run")
    if head["label_order"] == "clusters":
        codes = run.model.head.codes_of(tf.range(tiny.NUM_LABELS)).numpy()
        assert sorted(codes) == list(range(tiny.NUM_LABELS))
        assert (codes != np.arange(tiny.NUM_LABELS)).any(), "the order came with the weights"
    (data,) = (tmp_path / "prepared").iterdir()
    source = ShardSource(data, "dev")
    searcher, hits = Searcher(run.model, 1), 0
    for batch in source.sequential(64):
        ids, _ = searcher({"features": tf.nest.map_structure(tf.constant, batch["features"])})
        hits += (ids == batch["labels"]).any(axis=1).sum()
    assert hits / source.num_examples == pytest.approx(summary["dev"]["P@1"])
    assert export_savedmodel(run, tmp_path / "served", k=5).score_difference < 1e-5


def test_clusters_in_the_estimator():
    features = np.eye(12, dtype=np.float32)[np.arange(96) % 12]
    head = {"name": "mhp", "heads": [4, 3], "label_order": "clusters"}
    model = XCClassifier({"name": "precomputed"}, head, epochs=40, learning_rate=0.1)
    labels = np.arange(96) % 12
    assert (model.fit(features, labels).predict(features) == labels).mean() > 0.9


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("order", ["clusters", "product"])
def test_orders_of_images(order):
    """Labels whose images look alike get neighbouring codes."""
    shapes = np.zeros((4, 24, 24, 1), np.uint8)
    for number in range(4):
        shapes[number, 12 * (number % 2) :][:12, 12 * (number // 2) :][:, :12] = 250
    shapes[2:, :3, :3] = 99
    look = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    rows = rows_of_images(shapes[look], [[label] for label in range(8)])
    config = parse_config({
        "run": "-",
        "data": {"name": "images", "train": "-"},
        "encoder": {"name": "resnet"},
        "head": {"name": "mhp", "heads": [2, 4], "label_order": order},
        "objective": {"name": "softmax"},
    })  # fmt: skip
    known = {"num_labels": 8, "image_shape": (24, 24, 1), "num_examples": 8}
    found = data_dependent_arguments(config, ArraySource(rows), feature_kind="image", **known)
    codes = found["label_codes"]
    assert sorted(codes) == list(range(8))
    assert len(set(codes[::2] // 4)) == 1, "the first digit tells the two looks apart"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"name": "mhp", "heads": [5, 5]}, "25 codes for 30 labels; the nearest that suffice"),
        (
            {"name": "mhs", "heads": [5, 6], "num_sampled_heads": 9},
            "num_sampled_heads: must be at most 5, as many as there are blocks",
        ),
        (
            {"name": "mhs", "heads": [5, 6], "num_sampled_heads": 2.5},
            "num_sampled_heads: must be an integer of at least 1, not 2.5",
        ),
        ({"name": "mhc", "heads": [5, 6], "label_codes": [1]}, "is read from the data"),
        (
            {"name": "mhc", "heads": [5, 6], "initial_std": -1},
            "head.initial_std: must be a positive number, not -1",
        ),
        (
            {"name": "mhp", "heads": [1, 5000], "label_order": "product"},
            "with heads [1, 5000], 5,000 labels have the same first digit",
        ),
        (
            {"name": "mhp", "heads": 30},
            "heads: must be a list, each item an integer of at least 1, not 30",
        ),
    ],
)
def test_what_cannot_be_trained(tmp_path, capsys, head, message):
    config = tiny.write_config(tmp_path, head={"label_order": "clusters", **head})
    command = ["--config", config, "--prepared", tmp_path / "prepared"]
    assert message in call(capsys, train, *command).problem()
    assert not (tmp_path / "run").exists()
