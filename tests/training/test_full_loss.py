"""The loss over all labels while a model is trained, and what goes by it."""

import json
import types

import numpy as np
import pytest

from tests import tiny
from tests.commands.calls import call
from tests.training.test_resume import Killed, dies_after
from tfxc.commands import evaluate
from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.core.settings import EvaluationSettings
from tfxc.data.examples.rows import Rows
from tfxc.data.sources.base import ArraySource
from tfxc.inference.decision import measures_full_loss
from tfxc.runs.loaded import load_run
from tfxc.training.evaluation import slice_batches
from tfxc.training.watch import BestMetric

SCENT = {"head": {"name": "sampled", "initial_std": 0.1}, "objective": {"name": "scent"}}
# So fast that it overshoots: some evaluations are no improvement.
FAST = {"optimizer": {"name": "sgd", "learning_rate": 30.0}, "epochs": 3, "evaluate_every": 5}


def train(folder, run, fault=None, **changes):
    """A dual training with a test split that is told from the others by its size."""
    folder.mkdir(exist_ok=True)
    tiny.write_split(folder / "test.txt", 40, seed=2)
    data = {"test": str(folder / "test.txt")}
    return tiny.train(folder, run, fault, **{"data": data, **SCENT, "training": FAST, **changes})


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def values_of(lines, name):
    """{step: value} of the lines that hold a name."""
    return {line["step"]: line[name] for line in lines if name in line}


def by_numpy(model, batch):
    """Losses of a batch over all labels: their definition, in float64."""
    scores = np.asarray(model(batch["features"]), np.float64)
    log_sums = np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1)) + scores.max(1)
    labels = [[label for label in row if 0 <= label < tiny.NUM_LABELS] for row in batch["labels"]]
    return np.array([s - z[row].mean() for s, z, row in zip(log_sums, scores, labels, strict=True)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder and trainer of a run that watched the loss over all labels and tested."""
    folder = tmp_path_factory.mktemp("full_loss")
    settings = {"test_on_improvement": True, "train_slice": 100, "batch_size": 32}
    training = {**FAST, "watch": "full_loss", "keep": "best"}
    return folder, train(folder, "run", evaluation=settings, training=training)


def test_losses_are_those_of_the_definition(trained):
    folder, trainer = trained
    evaluation, last = trainer.evaluation, lines_of(folder / "run")[-1]
    for split, source in (("dev", evaluation._dev), ("test", evaluation._test)):
        batches = list(source.sequential(7))
        expected = np.concatenate([by_numpy(trainer.model, batch) for batch in batches])
        found = evaluation.of_dev() if split == "dev" else evaluation.of_test()
        assert found["full_loss"] == pytest.approx(expected.mean(), rel=1e-5)
    assert last["dev full_loss"] == pytest.approx(evaluation.of_dev()["full_loss"], rel=1e-6)
    # 100 of the training examples, in whole batches of 32.
    batches = slice_batches(trainer.source, 100, 32)
    assert [len(batch["labels"]) for batch in batches] == [32] * 3
    expected = np.concatenate([by_numpy(trainer.model, batch) for batch in batches])
    assert last["train full_loss"] == pytest.approx(expected.mean(), rel=1e-5)
    of_training = values_of(lines_of(folder / "run"), "train full_loss")
    best = of_training[trainer.summary["best_step"]]  # of the weights that are kept
    assert trainer.summary["train"] == {"full_loss": best} != {"full_loss": last["train full_loss"]}
    assert "full_loss" in (folder / "run/log.txt").read_text()


def test_the_test_split_is_measured_when_the_watched_loss_falls(trained):
    folder, trainer = trained
    lines = lines_of(folder / "run")
    dev, test = values_of(lines, "dev full_loss"), values_of(lines, "test full_loss")
    best, improvements = np.inf, []
    for step, value in dev.items():
        if value < best:
            best = value
            improvements.append(step)
    assert list(test) == improvements
    assert 0 < len(improvements) < len(dev), "both cases occur"
    summary = trainer.summary
    assert (summary["best_metric"], summary["best_step"]) == ("full_loss", improvements[-1])
    assert summary["best"] == best
    assert summary["test"]["full_loss"] == test[improvements[-1]]
    assert {"P@1", "nDCG@5"} <= set(summary["test"])
    assert summary == json.loads((folder / "run/summary.json").read_text())


def test_the_command_measures_the_best_weights(trained, tmp_path, capsys):
    folder, trainer = trained
    command = ["--run", folder / "run", "--prepared", folder / "prepared", "--output", tmp_path]
    outcome = call(capsys, evaluate, *command)
    record = json.loads((tmp_path / "evaluation-test.json").read_text())
    expected = trainer.summary["test"]["full_loss"]
    assert record["metrics"]["full_loss"] == pytest.approx(expected, rel=1e-6)
    assert f"\nfull_loss: {expected:.4f}\n" in outcome.out
    with np.load(tmp_path / "evaluation-test.npz") as stored:
        assert stored["full_loss"].mean() == pytest.approx(expected, rel=1e-6)
    outcome = call(capsys, evaluate, *command, "--compare", folder / "run")
    assert "  full_loss          +0.0000  [+0.0000, +0.0000]" in outcome.out


def test_a_killed_run_keeps_the_test_result_of_its_best_step(trained, tmp_path):
    settings = {"test_on_improvement": True, "train_slice": 100, "batch_size": 32}
    training = {**FAST, "watch": "full_loss", "keep": "best"}
    changes = {"evaluation": settings, "training": training}
    with pytest.raises(Killed):
        train(tmp_path, "run", dies_after(36), **changes)
    whole = trained[1].summary
    assert whole["best_step"] <= 35
    found = train(tmp_path, "run", **changes).summary
    for key in ("dev", "train", "test", "best", "best_step"):
        assert found[key] == whole[key]


@pytest.mark.parametrize(
    ("objective", "head", "setting", "measured"),
    [
        ("scent", "sampled", None, True),
        ("bsgd", "dense", None, True),
        ("scent", "mhp", None, False),
        ("scent", "sampled", False, False),
        ("softmax", "dense", None, False),
        ("softmax", "dense", True, True),
    ],
)
def test_what_is_measured_without_a_word(objective, head, setting, measured):
    """The loss over all labels, where the objective sees a part of them and the head has one."""
    partial_loss = registry.get("objective", objective).partial_loss
    full_softmax = registry.get("head", head).full_softmax
    model = types.SimpleNamespace(partial_loss=partial_loss, full_softmax=full_softmax)
    assert measures_full_loss(EvaluationSettings(full_loss=setting), model) is measured


def test_settings_of_a_dual_training(tmp_path):
    short = {"epochs": 0.3}
    summary = train(tmp_path, "run", training=short, evaluation={"train_slice": 0}).summary
    assert "full_loss" in summary["dev"] and summary["best_metric"] == "P@1"
    assert "train" not in summary and "test" not in summary
    mhp = {"head": {"name": "mhp", "heads": [6, 5]}, "evaluation": {"full_loss": True}}
    with pytest.raises(ConfigError, match=r"evaluation.full_loss: the head MHP has no softmax"):
        train(tmp_path, "no", **mhp)


def test_without_a_dev_split_the_training_loss_is_estimated(tmp_path):
    trainer = train(tmp_path, "run", data={"dev": None}, training={"epochs": 1, "keep": "best"})
    assert list(trainer.summary["train"]) == ["full_loss"]
    assert trainer.summary["dev"] == {} and "best" not in trainer.summary
    load_run(tmp_path / "run").model  # noqa: B018 (has its weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"watch": "P@2"}}, r"training.watch: unknown metric 'P@2'.*full_loss"),
        ({"training": {"watch": "P@1", "early_stopping": {}}}, r"training.watch: .*set twice"),
        ({"training": {"watch": "P@1"}, "data": {"dev": None}}, r"watch: it needs a dev split"),
        (
            {"evaluation": {"test_on_improvement": True}, "data": {"test": None}},
            r"it needs a test split",
        ),
    ],
)
def test_settings_that_cannot_be(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, "run", **changes)


def test_early_stopping_waits_for_the_loss_to_fall(tmp_path):
    training = {
        "epochs": 50,
        "optimizer": {"name": "sgd", "learning_rate": 1e-12},
        "evaluate_every": 4,
        "early_stopping": {"metric": "full_loss", "patience": 2, "min_delta": 0.01},
    }
    summary = train(tmp_path, "run", training=training).summary
    assert (summary["steps"], summary["best_step"]) == (12, 4)


def test_less_is_better_by_at_least_the_least_difference():
    from tfxc.core.config import TrainingSettings
    from tfxc.metrics.suite import build_metrics

    stopping = {"metric": "full_loss", "patience": 2, "min_delta": 0.5}
    settings = TrainingSettings(early_stopping=stopping)
    watch = BestMetric(settings, build_metrics((1,), full_loss=True))
    steps = [3.0, 2.6, 2.4, 2.2, 1.0]
    found = [watch.improved({"full_loss": v}, step) for step, v in enumerate(steps)]
    assert found == [True, False, True, False, True]
    assert watch.summary() == {"best": 1.0, "best_step": 4, "best_metric": "full_loss"}
    assert not watch.patience_is_over


def test_the_slice_is_the_same_whatever_the_seed_and_has_no_example_twice():
    rows = Rows.from_dense(np.eye(50, dtype=np.float32), [[n] for n in range(50)])
    one, other = (slice_batches(ArraySource(rows), 40, 8) for _ in range(2))
    numbers = np.concatenate([batch["example_index"] for batch in one])
    assert len(set(numbers.tolist())) == 40
    np.testing.assert_array_equal(
        numbers, np.concatenate([batch["example_index"] for batch in other])
    )
    assert [len(b["labels"]) for b in slice_batches(ArraySource(rows), 4096, 64)] == [50]
