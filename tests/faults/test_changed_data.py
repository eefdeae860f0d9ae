"""A run is bound to its data: prepared again from changed files, they are refused, by name."""

import json
import shutil

import pytest

from tests import linear_runs, tiny
from tests.commands.calls import call
from tests.data.sources.examples import write_jsonl
from tests.small_runs import make_run
from tfxc.commands import evaluate, prepare, train
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import CheckpointError
from tfxc.data.reading.inspection.completion import load_config
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.preparation import ensure_prepared
from tfxc.data.store.preparation import prepare as prepare_data
from tfxc.recipes.base import Context
from tfxc.runs import folder as run_folder
from tfxc.runs import resuming
from tfxc.runs.folder import RunFolder
from tfxc.training.checkpoints import Checkpoints

FIX = "prepare --force"


class Stop(BaseException):
    """Stands for SIGKILL."""


def stop_at_the_first_checkpoint(monkeypatch, command):
    save = Checkpoints.save

    def dying(self, step, *progress):
        save(self, step, *progress)
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Checkpoints, "save", dying)
        train.main([str(argument) for argument in command])


def rename_a_label(path):
    """Another name that stands elsewhere in the alphabet, and as many bytes: all ids move."""
    path.write_text(path.read_text().replace('"label 1"', '"zabel 1"'))


def swap_two_examples(path):
    lines = path.read_text().splitlines()
    lines[3], lines[8] = lines[8], lines[3]
    path.write_text("\n".join(lines) + "\n")


def command_of(folder, section=None, **changes):
    """Command line of a training on texts; of recipe ``fit`` unless a section is given."""
    section = section or {"name": "fit"}
    parts = {"encoder": {"name": "bag_mlp", "hidden": [8]}, "objective": {"name": "sigmoid"}}
    parts |= {"head": {"name": "dense"}, "training": {"epochs": 2, "checkpoint_every": 3}}
    return linear_runs.command(folder, recipe=section, **{**parts, **changes})


RECIPES = {
    "fit": command_of,
    "kfold": lambda folder: command_of(folder, {"name": "kfold", "folds": 2}),
    "repetitions": lambda folder: (
        *command_of(
            folder,
            {"name": "repetitions"},
            head={"name": "mach", "num_buckets": 5, "num_repetitions": 2},
        ),
        "--repetition",
        1,
    ),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_stopped_training(tmp_path, capsys, monkeypatch, recipe):
    command = RECIPES[recipe](tmp_path)
    stop_at_the_first_checkpoint(monkeypatch, command)
    rename_a_label(tmp_path / "train.jsonl")
    problem = call(capsys, train, *command).problem()
    assert "train.jsonl has changed since it was prepared: the same size, other content" in problem
    again = command[:4]
    assert call(capsys, prepare, *again, "--force").code == 0
    problem = call(capsys, train, *command).problem()
    assert problem.startswith(f"{tmp_path / 'run'}: contains a run of other data than")
    assert "changed: labels, records of dev, records of train" in problem and FIX in problem
    linear_runs.write_texts(tmp_path / "train.jsonl", 300, 0)
    assert call(capsys, prepare, *again, "--force").code == 0
    assert call(capsys, train, *command).code == 0
    if recipe == "fit":  # a finished one is not taken for one of other data either
        swap_two_examples(tmp_path / "train.jsonl")
        assert call(capsys, prepare, *again, "--force").code == 0
        assert "records of train" in call(capsys, train, *command).problem()
        assert call(capsys, train, *command, "--fresh").code == 0


def test_a_stopped_ranker(tmp_path, capsys):
    command = linear_runs.command(tmp_path)
    assert call(capsys, train, *command).code == 0
    (tmp_path / "run" / "summary.json").unlink()
    swap_two_examples(tmp_path / "train.jsonl")
    assert call(capsys, prepare, *command, "--force").code == 0
    problem = call(capsys, train, *command).problem()
    assert problem.startswith(f"{tmp_path / 'run'}: contains a run of other data")
    assert "changed: records of train." in problem


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ({"name": "fit"}, {}),
        ({"name": "kfold", "folds": 2}, {}),
        ({"name": "repetitions"}, {"head": {"name": "mach", "num_buckets": 5}}),
        ({"name": "distill"}, {}),
        ({"name": "prune", "feed_forward_dim": 4}, {}),
        ({"name": "xr_transformer"}, {"head": {"name": "tree", "max_leaf_size": 4}}),
        ({"name": "xr_linear"}, {"encoder": None, "head": None, "objective": None}),
    ],
)
def test_every_recipe(tmp_path, recipe, more):
    """A run started with some data is not gone on with on others, whatever trains it."""
    names = [f"label{number}" for number in range(9)]
    texts = [(f"word{number % 9} x{number}", [names[number % 9]]) for number in range(45)]
    data = {"name": "x", "train": write_jsonl(tmp_path / "train.jsonl", texts)}
    data["text_features"] = {"name": "tfidf"}
    parts = {"encoder": {"name": "bag_mlp"}, "head": {"name": "dense"}}
    parts = {**parts, "objective": {"name": "sigmoid"}, **more}
    key = {"distill": "teachers", "prune": "source"}.get(recipe["name"])
    if key:  # another run of the same labels
        other = make_run(tmp_path / "other", text_features=data["text_features"], names=names)
        RunFolder(other).write_summary({})
        recipe = {**recipe, key: str(other)}
        parts["encoder"] = {"name": "bag_mlp", "hidden": [6]}
    config = parse_config({"run": str(tmp_path / "run"), "data": data, "recipe": recipe, **parts})
    folder = ensure_prepared(config.data, tmp_path / "prepared")
    run = RunFolder(tmp_path / "run")
    resuming.start(run, config, folder)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "ckpt-1.index").touch()  # there is something to lose
    before = (run / "checksums.json").read_bytes()
    write_jsonl(tmp_path / "train.jsonl", [*texts[1:], texts[0]])
    prepare_data(config.data, folder)
    context = Context(config, folder, run.path)
    with pytest.raises(CheckpointError, match=r"run: contains a run of other .* records of train"):
        registry.create("recipe", recipe).run(context)
    assert (run / "checksums.json").read_bytes() == before
    resuming.start(run, config, folder, fresh=True)
    run.check_data(folder)


def test_a_run_without_a_step_takes_other_data(tmp_path, capsys):
    """Nothing is lost: it begins anew."""
    command = command_of(tmp_path)
    assert call(capsys, prepare, *command).code == 0
    (folder,) = (tmp_path / "prepared").glob("words-*")
    run = RunFolder(tmp_path / "run")
    resuming.start(run, load_config(command[1]), folder)
    rename_a_label(tmp_path / "train.jsonl")
    assert call(capsys, prepare, *command, "--force").code == 0
    assert call(capsys, train, *command).code == 0
    assert "zabel 1" in (run / "assets/labels.txt").read_text()


def test_evaluation(tmp_path, capsys):
    command = command_of(tmp_path)
    prepared = command[2:4]
    assert call(capsys, train, *command).code == 0
    arguments = ("--run", tmp_path / "run", *prepared)
    assert call(capsys, evaluate, *arguments, "--split", "dev").code == 0
    # Other training examples with the same labels and vocabulary: dev is what it was.
    swap_two_examples(tmp_path / "train.jsonl")
    assert call(capsys, prepare, *command, "--force").code == 0
    assert call(capsys, evaluate, *arguments, "--split", "dev").code == 0
    problem = call(capsys, evaluate, *arguments, "--split", "train").problem()
    assert "changed: records of train" in problem
    rename_a_label(tmp_path / "train.jsonl")
    assert call(capsys, prepare, *command, "--force").code == 0
    problem = call(capsys, evaluate, *arguments, "--split", "dev").problem()
    assert problem.startswith(f"{tmp_path / 'run'}: contains a run of other data")
    assert "changed: labels, records of dev" in problem
    outcome = call(capsys, evaluate, *arguments, "--data", tmp_path / "dev.jsonl")
    assert outcome.code == 0  # labels of a file go by their names


def test_preparing_again_from_the_same_files_changes_nothing(tmp_path, capsys):
    command = command_of(tmp_path)
    assert call(capsys, prepare, *command).code == 0
    (folder,) = (tmp_path / "prepared").glob("words-*")
    first = Manifest.load(folder).fingerprints
    assert sorted(first) == ["labels", "records of dev", "records of train", "text features"]
    shutil.rmtree(folder)
    assert call(capsys, prepare, *command, "--jobs", 1).code == 0
    assert Manifest.load(folder).fingerprints == first


def test_a_missing_line_of_labels(tmp_path, capsys):
    """Every later name would be that of its neighbour."""
    path = tiny.write_config(tmp_path, training={"epochs": 0.2})
    command = ("--config", path, "--prepared", tmp_path / "prepared")
    assert call(capsys, train, *command).code == 0
    (prepared,) = (tmp_path / "prepared").glob("tiny-*")
    for labels, check, arguments in (
        (tmp_path / "run/assets/labels.txt", evaluate, ("--run", tmp_path / "run", *command[2:])),
        (prepared / "labels.txt", train, (*command, "--fresh")),
    ):
        content = labels.read_text()
        labels.write_text(content.replace("7\n", "", 1))
        problem = call(capsys, check, *arguments).problem()
        assert problem.startswith(f"{labels}: ") and " bytes instead of " in problem
        labels.write_text(content)
        assert call(capsys, check, *arguments).code == 0


def test_runs_and_prepared_data_without_checksums(tmp_path, capsys):
    path = tiny.write_config(tmp_path, training={"epochs": 0.2})
    command = ("--config", path, "--prepared", tmp_path / "prepared")
    assert call(capsys, train, *command).code == 0
    (tmp_path / "run/checksums.json").unlink()
    problem = call(capsys, evaluate, "--run", tmp_path / "run", *command[2:]).problem()
    assert "run/checksums.json: no such file" in problem and "--fresh" in problem
    (record,) = (tmp_path / "prepared").glob("tiny-*/checksums.json")
    record.unlink()
    problem = call(capsys, train, *command, "--fresh").problem()
    assert problem.startswith(f"{record}: no such file") and "again with --force" in problem


def test_killed_while_the_run_was_finishing(tmp_path, capsys, monkeypatch):
    """Checksums are there, the summary that they name is not: the same command finishes."""
    path = tiny.write_config(tmp_path, training={"epochs": 0.2})
    command = ("--config", path, "--prepared", tmp_path / "prepared")
    record = run_folder.checksums.record

    def dying(folder, names=None, known=None):
        record(folder, names, known)
        if known:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        prepared = prepare.main([str(argument) for argument in command])
        assert prepared == 0
        patch.setattr(run_folder.checksums, "record", dying)
        train.main([str(argument) for argument in command])
    assert "summary.json" in json.loads((tmp_path / "run/checksums.json").read_text())["files"]
    assert not (tmp_path / "run/summary.json").exists()
    assert call(capsys, train, *command).code == 0
    assert call(capsys, evaluate, "--run", tmp_path / "run", *command[2:]).code == 0


def test_a_finished_stage_is_recorded_at_once(tmp_path, capsys, monkeypatch):
    """The tree of a stopped ranker is compared before the training goes on with it."""
    command = linear_runs.command(tmp_path)

    def dying(*arguments, **options):
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr("tfxc.recipes.xr_linear.training.train_ranker", dying)
        train.main([str(argument) for argument in command])
    tree = tmp_path / "run" / "tree.npz"
    content = tree.read_bytes()
    for _ in range(2):  # a start that is stopped again keeps the record
        tree.write_bytes(content[:324] + bytes([content[324] ^ 1]) + content[325:])
        problem = call(capsys, train, *command).problem()
        assert problem.startswith(f"{tree}: changed or damaged")
        tree.write_bytes(content)
        with monkeypatch.context() as patch, pytest.raises(Stop):
            patch.setattr("tfxc.recipes.xr_linear.training.train_ranker", dying)
            train.main([str(argument) for argument in command])
    assert call(capsys, train, *command).code == 0
    assert tree.read_bytes() == content
