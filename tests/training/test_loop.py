"""The loop: learning, early stopping, errors, what it writes."""

import json

import numpy as np
import pytest

from tests import tiny
from tests.contracts.technique import NUM_FEATURES, NUM_LABELS, TinyTraining
from tfxc.core.errors import CheckpointError, ConfigError, NonFiniteLossError
from tfxc.core.settings import TrainingSettings
from tfxc.data.examples.kinds import DENSE
from tfxc.encoders.precomputed import Precomputed
from tfxc.heads.dense import Dense
from tfxc.model import XCModel, example_features
from tfxc.objectives.softmax import Softmax


def test_learns_the_tiny_rule(tmp_path):
    trainer = tiny.train(tmp_path, training={"epochs": 25, "evaluate_every": 100})
    assert trainer.summary["dev"]["P@1"] > 0.8
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] / 2
    assert any("dev P@1" in line for line in lines)
    assert list((tmp_path / "run/tensorboard").glob("events*"))
    assert (tmp_path / "run/model.weights.h5").exists()
    assert "finished" in (tmp_path / "run/log.txt").read_text()


def test_accumulation_gives_the_same_weights(tmp_path):
    whole = tiny.weights(tiny.train(tmp_path, "whole", training={"epochs": 1}))
    parts = tiny.weights(tiny.train(tmp_path, "parts", training={"epochs": 1, "accumulate": 4}))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_clipping_limits_the_update(tmp_path):
    sgd = {"name": "sgd", "learning_rate": 1.0}
    common = {"epochs": 0.07, "optimizer": sgd, "schedule": {"name": "constant"}}

    def moved(run, **more):
        starts = []
        trainer = tiny.train(
            tmp_path,
            run,
            lambda t: starts.extend(v.numpy() for v in t.step_function.variables),
            training={**common, **more},
        )
        assert trainer.total_steps == 1
        ends = [v.numpy() for v in trainer.step_function.variables]
        return [a - b for a, b in zip(starts, ends, strict=True)]

    def norm(changes):
        return np.sqrt(sum(np.square(change).sum() for change in changes))

    free = moved("free")
    *of_encoder, kernel, bias = free
    assert len(of_encoder) == 2 and norm(of_encoder) > 0.02
    assert norm(moved("clipped", clip_norm=0.01)) == pytest.approx(0.01, rel=1e-4)
    *of_encoder, same_kernel, same_bias = moved("part", clip_norm=0.01, clip_part="encoder")
    assert norm(of_encoder) == pytest.approx(0.01, rel=1e-4)
    np.testing.assert_allclose(same_kernel, kernel, atol=1e-6)
    np.testing.assert_allclose(same_bias, bias, atol=1e-6)
    for one, other in zip(moved("high", clip_norm=50, clip_part="encoder"), free, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_part_to_clip_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match=r"clip_part needs clip_norm"):
        tiny.train(tmp_path, training={"clip_part": "encoder"})
    model = XCModel(Precomputed(NUM_FEATURES), Dense(NUM_LABELS), Softmax())
    model(example_features(DENSE, {"num_features": NUM_FEATURES}))
    with pytest.raises(ConfigError, match=r"clip_part: .* the encoder has no trainable weights"):
        TinyTraining(model=model, clip_norm=1.0, clip_part="encoder")


def test_early_stopping_keeps_the_best(tmp_path):
    # A rate of zero would never improve after the first evaluation.
    trainer = tiny.train(
        tmp_path,
        training={
            "epochs": 50,
            "optimizer": {"name": "sgd", "learning_rate": 1e-12},
            "evaluate_every": 4,
            "early_stopping": {"metric": "nDCG@3", "patience": 2},
        },
    )
    assert trainer.summary["steps"] == 12
    assert trainer.summary["best_step"] == 4
    assert (tmp_path / "run/model.weights.h5").exists()


def test_after_an_early_stop_the_run_holds_the_best_weights(tmp_path):
    """Without a word about ``keep``: what the run finds is what was measured at its best."""
    training = {
        "epochs": 8,
        "optimizer": {"name": "sgd", "learning_rate": 30.0},  # overshoots
        "evaluate_every": 3,
        "early_stopping": {"metric": "R@3", "patience": 3},
    }
    trainer = tiny.train(tmp_path, training=training)
    summary, log = trainer.summary, (tmp_path / "run/log.txt").read_text()
    assert summary["best_step"] < summary["steps"] and summary["best_metric"] == "R@3"
    trainer.evaluation._searcher.model.load_weights(tmp_path / "run/model.weights.h5")
    found = trainer.evaluation.of_dev()
    assert found["R@3"] == pytest.approx(summary["best"]) and found == summary["dev"]
    (best,) = (
        line for line in log.splitlines() if line.startswith(f"step {summary['best_step']},")
    )
    assert f"R@3 {100 * summary['best']:.2f}" in best and best.endswith("*")
    lines = [line for line in log.splitlines() if "dev" in line]
    assert len(lines) > 3 and all("R@3 " in line for line in lines)


def test_weights_are_the_last_ones_where_the_config_says_so():
    stopping = {"metric": "P@1", "patience": 2}
    assert TrainingSettings().keep == "last" == TrainingSettings(early_stopping=None).keep
    assert TrainingSettings(early_stopping=stopping).keep == "best"
    assert TrainingSettings(early_stopping=stopping, keep="last").keep == "last"
    again = TrainingSettings(early_stopping=stopping).model_dump(mode="json")
    assert TrainingSettings(**again).keep == "best"


def test_an_unknown_metric_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown metric 'P@7'.*P@1"):
        tiny.train(tmp_path, training={"early_stopping": {"metric": "P@7"}, "evaluate_every": 1})


def test_nan_loss_names_step_and_examples(tmp_path):
    def poison(trainer):
        table = trainer.step_function.variables[0]
        table.assign(table * np.nan)

    with pytest.raises(NonFiniteLossError, match=r"loss is nan at step 1; examples.*learning_rate"):
        tiny.train(tmp_path, fault=poison)
    assert not list((tmp_path / "run/checkpoints").glob("ckpt-*"))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize(
    "parts",
    [
        {"training": {"optimizer": {"name": "sgd", "learning_rate": 1e39}}},
        {"head": {"name": "dense", "update": "fused", "learning_rate": 1e39}},
    ],
    ids=["updated", "fused"],
)
def test_weights_that_are_not_finite_are_not_saved(tmp_path, parts):
    """The loss and the gradient of the only step are finite, its update is not."""
    parts = {**parts, "training": {**parts.get("training", {}), "epochs": 0.07}}
    with pytest.raises(NonFiniteLossError, match=r"after step 1 there are weights .*learning_rate"):
        tiny.train(tmp_path, **parts)
    assert not list((tmp_path / "run/checkpoints").glob("ckpt-*"))
    assert not (tmp_path / "run/model.weights.h5").exists()


@pytest.mark.parametrize(("objective", "warned"), [("softmax", True), ("sigmoid", False)])
def test_examples_without_labels_are_counted(tmp_path, capsys, objective, warned):
    tiny.tiny_tree(tmp_path)
    lines = (tmp_path / "train.txt").read_text().splitlines()
    lines[1:4] = [" " + line.partition(" ")[2] for line in lines[1:4]]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    tiny.train(tmp_path, objective={"name": objective}, training={"epochs": 0.1})
    shown = capsys.readouterr().err
    assert ("3 of 203 training examples have no label" in shown) == warned


def test_a_run_of_another_config_is_refused(tmp_path):
    tiny.train(tmp_path, training={"epochs": 0.1})
    with pytest.raises(CheckpointError, match=r"with other settings: encoder \(.*--fresh"):
        tiny.train(tmp_path, encoder={"hidden": [8]})


# bfloat16 without a loss scale: training/test_image_training.py.
@pytest.mark.parametrize(
    "precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"]
)
def test_mixed_precision_learns(tmp_path, precision):
    training = {"epochs": 25, "precision": precision, "evaluate_every": 1000}
    trainer = tiny.train(tmp_path, training=training)
    assert trainer.summary["dev"]["P@1"] > 0.8
    assert all(v.dtype == np.float32 for v in trainer.step_function.variables)


def test_float16_overflow_skips_the_update_and_halves_the_scale(tmp_path):
    seen = {}

    def overflow(trainer):
        step = trainer.step_function
        step.loss_scale.scale.assign(1e38)
        seen["before"] = [v.numpy() for v in step.variables]

    training = {"epochs": 0.07, "precision": "mixed_float16"}
    trainer = tiny.train(tmp_path, fault=overflow, training=training)
    step = trainer.step_function
    assert float(step.loss_scale.scale.numpy()) == pytest.approx(5e37)
    for before, after in zip(seen["before"], step.variables, strict=True):
        np.testing.assert_array_equal(before, after.numpy())
