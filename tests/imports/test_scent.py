"""``tfxc import scent``: checkpoints of SCENT as finished runs, and as trainings that go on."""

import importlib
import json

import numpy as np
import pytest

from tests import torch_files
from tests.commands.calls import call
from tests.objectives.dual_by_numpy import Method, Toy
from tfxc.commands import export, predict, train
from tfxc.data.reading.parsing.feature_set import FeatureSet
from tfxc.data.sources.feature_sets import FeatureSource
from tfxc.data.store.feature_sets.split import import_arrays
from tfxc.imports.scent import read_checkpoint
from tfxc.runs.loaded import load_run

import_model = importlib.import_module("tfxc.commands.import")
EPOCHS, BATCH = 4, Toy.batch


def write_checkpoint(path, weights, nu=None, epoch=2, **more):
    """``epoch_<e>.pt`` as SCENT writes it."""
    content = {"model_state": {"fc.weight": weights.astype("f4")}, "epoch": epoch, **more}
    content["optimizer_state"] = {"state": {}, "param_groups": [{"lr": 0.5, "params": [0]}]}
    if nu is not None:
        content["criterion_nu"] = np.where(np.isnan(nu), 0, nu).astype("f4").reshape(-1, 1)
    torch_files.save(path, content)
    return path


@pytest.fixture
def toy(tmp_path):
    """A toy whose order is that of tfxc's batches, and the feature set of its examples."""
    toy = Toy.random()
    import_arrays(toy.features, toy.labels, tmp_path / "train", num_labels=40)
    source = FeatureSource(FeatureSet(tmp_path / "train"), 1 << 20)
    steps = [source.batch(7, step, BATCH)["example_index"] for step in range(4 * EPOCHS)]
    return toy._replace(order=np.reshape(steps, (EPOCHS, -1)))


def config_of(folder, objective, **training):
    tree = {
        "run": str(folder / "elsewhere"),
        "seed": 7,
        "data": {"name": "toy", "train": str(folder / "train")},
        "encoder": {"name": "precomputed"},
        "head": {"name": "sampled"},
        "objective": objective,
        "training": {
            "batch_size": BATCH,
            "epochs": EPOCHS,
            "optimizer": {"name": "sgd", "learning_rate": 0.5},
            "schedule": {"name": "cosine", "per_epoch": True},
            **training,
        },
    }
    path = folder / "config.json"
    path.write_text(json.dumps(tree))
    return path


def test_logits_are_features_times_the_weights(tmp_path, capsys):
    toy, run = Toy.random(), tmp_path / "run"
    (tmp_path / "names.txt").write_text("".join(f"name {n}\n" for n in range(40)))
    for epoch in (2, 10):
        write_checkpoint(tmp_path / f"epoch_{epoch}.pt", toy.weights * epoch, epoch=epoch)
    command = (capsys, import_model, "scent", tmp_path, "--run", run)
    outcome = call(*command, "--labels", tmp_path / "names.txt")
    assert outcome.out == f"{run}: 40 labels after 10 epochs\n"
    logits = toy.features @ (10 * toy.weights).T
    ids, scores = load_run(run).model.find_top_k(toy.features, 5)
    np.testing.assert_allclose(scores, -np.sort(-logits, axis=1)[:, :5], rtol=1e-5)
    np.save(tmp_path / "x.npy", toy.features)
    asked = ("--run", run, tmp_path / "x.npy", "--k", 1, "--probabilities", "--format", "jsonl")
    first = json.loads(call(capsys, predict, *asked).out.splitlines()[0])
    assert first["labels"] == [f"name {ids[0, 0]}"]
    shares = np.exp(logits[0] - logits[0].max())
    assert first["scores"] == pytest.approx([shares.max() / shares.sum()], rel=1e-4)
    assert call(*command, "--epoch", 2).code == 0
    np.testing.assert_array_equal(load_run(run).model.head.kernel.numpy(), 2 * toy.weights)
    assert call(capsys, export, "--run", run, "--k", 4).code == 0


@pytest.mark.parametrize(
    ("method", "objective"),
    [
        (Method("sox", 0.2), {"name": "sox", "last_share": 0.2}),
        pytest.param(
            *(Method("asgd", 0.5), {"name": "asgd", "dual_learning_rate": 0.5}),
            marks=pytest.mark.slow,
        ),
        pytest.param(Method("bsgd"), {"name": "bsgd"}, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_training_goes_on(toy, tmp_path, capsys, method, objective):
    weights, nu, _ = toy.by_numpy(method, stop=2)
    nu = None if method.name == "bsgd" else nu
    path, run = write_checkpoint(tmp_path / "epoch_2.pt", weights, nu), tmp_path / "run"
    config = config_of(tmp_path, objective)
    arguments = (path, "--run", run, "--config", config, "--prepared", tmp_path / "prepared")
    outcome = call(capsys, import_model, "scent", *arguments)
    assert outcome.out.splitlines()[-1].endswith(f"--config {run}/config.json resumes from there")
    asked = ("--config", run / "config.json", "--prepared", tmp_path / "prepared")
    outcome = call(capsys, train, *asked)
    assert outcome.code == 0 and "resumed at step 8 of 16" in outcome.out + outcome.err
    model = load_run(run).model
    weights, nu, _ = toy.by_numpy(method)
    np.testing.assert_allclose(model.head.kernel.numpy(), weights, rtol=1e-4, atol=1e-5)
    if model.objective.tables:
        np.testing.assert_allclose(model.objective.tables[0].numpy(), nu, rtol=1e-4, atol=1e-5)


def test_averages_start_with_the_weights(toy, tmp_path, capsys):
    """And what has dual variables alone is reported."""
    path, run = write_checkpoint(tmp_path / "epoch_2.pt", toy.weights), tmp_path / "run"
    config = config_of(tmp_path, {"name": "sox"}, optimizer={"name": "sgd", "learning_rate": 1e-12})
    tree = json.loads(config.read_text()) | {"techniques": [{"name": "ema"}]}
    config.write_text(json.dumps(tree))
    prepared = ("--prepared", tmp_path / "prepared")
    outcome = call(capsys, import_model, "scent", path, "--run", run, "--config", config, *prepared)
    assert "has no dual variables: those of objective SOX start as not visited" in outcome.err
    assert call(capsys, train, "--config", run / "config.json", *prepared).code == 0
    kernel = load_run(run).model.head.kernel.numpy()
    np.testing.assert_allclose(kernel, toy.weights, rtol=1e-5, atol=1e-7)
    nu = np.ones(len(toy.labels))
    write_checkpoint(path, toy.weights, nu)
    config_of(tmp_path, {"name": "bsgd"})
    outcome = call(capsys, import_model, "scent", path, "--run", run, "--config", config, *prepared)
    assert "its dual variables are left out: objective BSGD has none" in outcome.err


def test_zero_marks_an_example_that_was_not_visited(tmp_path):
    nu = np.array([0.5, math_nan := np.nan, -2.0])
    found = read_checkpoint(write_checkpoint(tmp_path / "epoch_1.pt", np.eye(3), nu, 1))
    np.testing.assert_array_equal(found.nu, np.float32([0.5, math_nan, -2.0]))
    assert found.epoch == 1


def test_configs_that_do_not_fit(toy, tmp_path, capsys):
    nu = np.ones(len(toy.labels))
    path, run = write_checkpoint(tmp_path / "epoch_2.pt", toy.weights, nu), tmp_path / "run"
    config = config_of(tmp_path, {"name": "sox"})
    arguments = (capsys, import_model, "scent", path, "--run", run, "--config", config)
    arguments += ("--prepared", tmp_path / "prepared")
    for change, message in {
        "training.epochs=1": "training.epochs: 1 epochs are fewer than the 2 of",
        "head.bias=true": "head: SCENT's classifier has score 'linear' and no bias",
        "head.name=dense": "head.name: a checkpoint of SCENT cannot continue with encoder 'preco",
        "training.optimizer.momentum=0.9": "'sgd' has a state (momentum), which the",
    }.items():
        assert message in call(*arguments, "--set", change).problem()
    write_checkpoint(path, toy.weights, nu[1:])
    assert "has 63 dual variables, one for each" in call(*arguments).problem()
    write_checkpoint(path, toy.weights[:, 1:], nu)
    assert "has 40 and 7. Import SCENT's" in call(*arguments).problem()
    assert not run.exists()


def test_records_do_not_keep_the_order(toy, tmp_path, capsys):
    np.savez(tmp_path / "train.npz", features=toy.features, labels=toy.labels)
    nu = np.ones(len(toy.labels))
    path, run = write_checkpoint(tmp_path / "epoch_2.pt", toy.weights, nu), tmp_path / "run"
    config = config_of(tmp_path, {"name": "sox"})
    change = ("--set", f"data.train={tmp_path / 'train.npz'}", "--prepared", tmp_path / "prepared")
    change += ("--set", "data.num_labels=40")
    problem = call(capsys, import_model, "scent", path, "--run", run, "--config", config, *change)
    assert "a feature set keeps the order of its rows" in problem.problem()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_state": {"w": np.ones((2, 2), "f4")}, "epoch": 1}, "fc.weight (labels, dim)"),
        ({"model_state": {"fc.weight": np.ones((2, 2), "f4")}}, "number of finished epochs"),
        (
            {
                "model_state": {"fc.weight": np.ones((2, 2), "f4")},
                "epoch": 1,
                "criterion_nu": np.ones((2, 2), "f4"),
            },
            "criterion_nu is (2, 2) instead of (examples, 1)",
        ),
    ],
)
def test_other_files(tmp_path, capsys, content, message):
    torch_files.save(tmp_path / "epoch_1.pt", content)
    arguments = (capsys, import_model, "scent", tmp_path / "epoch_1.pt", "--run", tmp_path / "run")
    assert message in call(*arguments).problem()
    arguments = (capsys, import_model, "scent", tmp_path, "--run", tmp_path / "run")
    assert "there is no epoch_7.pt, only epochs: 1" in call(*arguments, "--epoch", 7).problem()
