"""The command train."""

import json
import os
import re
import shlex
import signal
from pathlib import Path

import pytest

from tests import tiny
from tests.commands.calls import call, listing
from tfxc.commands import completion, train
from tfxc.data.reading.inspection.completion import load_config
from tfxc.training.step import TrainStep

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MACH = {"name": "mach", "num_buckets": 8, "num_repetitions": 3}
SEPARATE = {"head": MACH, "recipe": {"name": "repetitions"}}


def arguments(folder, **changes):
    """Command line of a training of the tiny config."""
    config = tiny.write_config(folder, **{"training": {"epochs": 1}, **changes})
    return ["--config", config, "--prepared", folder / "prepared"]


def weights(folder):
    return (folder / "run/model.weights.h5").read_bytes()


def test_trains_once(tmp_path, capsys):
    command = arguments(tmp_path)
    outcome = call(capsys, train, *command, "--json")
    assert outcome.code == 0 and "finished at step 13" in outcome.err
    summary = json.loads(outcome.out)
    assert summary["steps"] == 13  # 203 examples, 16 per step
    assert summary == json.loads((tmp_path / "run/summary.json").read_text())
    assert load_config(tmp_path / "run/config.json") == load_config(command[1])

    before, first = listing(tmp_path / "run"), weights(tmp_path)
    again = call(capsys, train, *command)
    assert again.code == 0
    text = f"{tmp_path / 'run'}: already finished at step 13; use --fresh to start over\n"
    assert again.out.startswith(text)
    shown = f"; dev P@1 {100 * summary['dev']['P@1']:.2f}"
    assert shown in again.out and f"\nrun: {tmp_path / 'run'}\nnext:\n" in again.out
    following = again.out.split("\nnext:\n")[1].splitlines()
    for line in following:
        program, command_name, *words = shlex.split(line)
        assert program == "tfxc" and completion.command_parser(command_name).parse_args(words)
    assert following[-1] == f"  tfxc export {tmp_path / 'run'}"
    assert listing(tmp_path / "run") == before and weights(tmp_path) == first

    other = call(capsys, train, *command, "--set", "training.batch_size=8").problem()
    assert "training.batch_size (16 -> 8)" in other and "--fresh" in other
    assert call(capsys, train, *command, "--set", "seed=5", "--fresh").code == 0
    assert weights(tmp_path) != first
    assert len(list((tmp_path / "run/tensorboard").iterdir())) == 1, "nothing of the old run stays"


def test_fresh_removes_run_folders_only(tmp_path, capsys):
    command = arguments(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("mine")
    problem = call(capsys, train, *command, "--fresh").problem()
    assert "contains other files; nothing was removed" in problem
    assert (tmp_path / "run/thesis.tex").read_text() == "mine"


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path, capsys, monkeypatch):
    command = arguments(tmp_path)
    run = TrainStep.run

    def interrupted(self, iterator):
        if int(self.step.numpy()) == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return run(self, iterator)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "run", interrupted)
        outcome = call(capsys, train, *command)
    assert outcome.code == 128 + signal.SIGTERM
    ending = "stopped by SIGTERM, saved at step 9; run the same command again to resume\n"
    assert outcome.out.endswith(ending)
    assert not (tmp_path / "run/summary.json").exists()
    outcome = call(capsys, train, *command, "--json")
    assert outcome.code == 0 and "resumed at step 9 of 13" in outcome.err
    assert json.loads(outcome.out)["steps"] == 13


def test_dry_run_of_the_whole_model(tmp_path, capsys):
    command = arguments(tmp_path, training={"epochs": 3})
    before = {*listing(tmp_path)}
    outcome = call(capsys, train, *command, "--dry-run")
    assert outcome.code == 0
    parameters = 60 * 32 + 32 + 32 * 30 + 30
    assert f"{parameters:,} parameters; estimated memory of training:\n" in outcome.out
    parts = re.findall(r"^  (\w+) +([\d,]+) MB", outcome.out, re.MULTILINE)
    names = [name for name, _ in parts]
    assert names[0] == "weights"
    assert names[-4:] == ["total", "preparation", "evaluation", "export"]
    sizes = {name: int(size.replace(",", "")) for name, size in parts}
    assert abs(sum(list(sizes.values())[:-4]) - sizes["total"]) <= len(parts)
    assert re.search(r"tried one batch: loss \d+\.\d+; training takes 39 steps", outcome.out)
    assert {path.split("/")[0] for path in {*listing(tmp_path)} - before} == {"prepared"}


def test_dry_run_of_repetitions_measures_one_process(tmp_path, capsys, monkeypatch):
    command = arguments(tmp_path, **SEPARATE)
    one = 60 * 32 + 32 + 32 * 8 + 8
    outcome = call(capsys, train, *command, "--dry-run")
    assert f"{one:,} parameters; estimated memory of repetition 0 in its own" in outcome.out
    # The same is printed where it does not fit, and nothing is traced.
    monkeypatch.setattr("tfxc.training.memory.estimate.available_bytes", lambda: 10**6)
    outcome = call(capsys, train, *command, "--dry-run", "--repetition", 2)
    assert f"{one:,} parameters; estimated memory of repetition 2 in its own" in outcome.out
    outcome = call(capsys, train, *command, "--dry-run", "--set", "recipe.together=true")
    assert f"{3 * one:,} parameters; estimated memory of training" in outcome.out
    assert not (tmp_path / "run").exists()


def test_dry_run_of_what_does_not_fit(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tfxc.training.memory.estimate.available_bytes", lambda: 10**6)
    monkeypatch.setattr("tfxc.training.memory.estimate.TracedModel", None)  # nothing is traced
    outcome = call(capsys, train, *arguments(tmp_path), "--dry-run")
    assert outcome.code == 2 and "that does not fit: lower training.batch_size" in outcome.out


def test_print_config_needs_no_data(tmp_path, capsys):
    path = tmp_path / "config.json"
    tree = tiny.tiny_tree(tmp_path, data={"train": "nowhere.txt", "dev": None})
    path.write_text(json.dumps(tree))
    outcome = call(capsys, train, "--config", path, "--print-config", "--set", "seed=3")
    found = json.loads(outcome.out)
    assert found["seed"] == 3 and found["data"]["train"] == "nowhere.txt"
    assert found["evaluation"]["k"] == [1, 3, 5], "defaults are resolved"
    (tmp_path / "resolved.json").write_text(outcome.out)
    assert load_config(tmp_path / "resolved.json") == load_config(path, ["seed=3"])


def test_short_options_are_keys_of_the_config(capsys):
    short = ("--epochs", "0.5", "--batch-size", "8", "--seed", "3")
    long = ("training.epochs=0.5", "training.batch_size=8", "seed=3")
    command = ("--config", "quickstart", "--print-config")
    printed = call(capsys, train, *command, *short).out
    assert printed == call(capsys, train, *command, *(f"--set={text}" for text in long)).out
    assert '"epochs": 0.5' in printed
    outcome = call(capsys, train, *command, "--epochs", "0")
    assert outcome.code == 2 and "--epochs: must be a positive number, not 0" in outcome.err


def test_list(capsys):
    lines = call(capsys, train, "--list", "heads").out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(line.split()[0] for line in lines)
    assert {"dense", "mach"} <= {line.split()[0] for line in lines}
    assert all(len(line.split()) > 3 for line in lines), "each with a sentence"


def test_config_is_needed(capsys):
    outcome = call(capsys, train)
    assert outcome.code == 2 and "neither a data file nor --config is given" in outcome.err


def test_numbers_of_gpus(tmp_path, capsys):
    """``all``, as the original code of MACH writes it, is every GPU."""
    for number, code in ((-1, "--gpu: must be an integer"), ("all", "none.json: no such")):
        outcome = call(capsys, train, "--config", tmp_path / "none.json", "--gpu", number)
        assert outcome.code == 2 and code in outcome.err


@pytest.mark.parametrize("config", ["mach_amazon670k.json", "dense_wiki10.json"])
def test_a_set_that_is_not_here(tmp_path, capsys, monkeypatch, config):
    monkeypatch.setenv("TFXC_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    problem = call(capsys, train, "--config", CONFIGS / config).problem()
    name = config.removesuffix(".json").split("_")[1]
    for split in ("train", "test"):
        assert f"{tmp_path}/data/{name}/{split}.txt ({split})" in problem
    for part in ("Extreme Classification Repository", f"{name}/train.txt", "TFXC_DATA"):
        assert part in problem
    assert listing(tmp_path) == {}


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        (
            SEPARATE,
            ["--repetition", 3],
            "there is no repetition 3. Choose one from 0 to 2",
        ),
        (
            SEPARATE,
            ["--repetition", -1],
            "--repetition: there is no repetition -1",
        ),
        (
            {"head": MACH},
            ["--repetition", 0],
            "recipe 'fit' does not train several models",
        ),
        (
            {"head": MACH, "recipe": {"name": "repetitions", "together": True}},
            ["--repetition", 0],
            "--repetition: recipe.together is true, which trains all",
        ),
        ({"recipe": {"name": "repetitions"}}, [], "needs a head with repetitions"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_what_cannot_be_trained(tmp_path, capsys, changes, more, message, dry):
    command = arguments(tmp_path, **changes)
    dry_run = ["--dry-run"] if dry else []
    assert message in call(capsys, train, *command, *more, *dry_run).problem()
    assert not (tmp_path / "run").exists()
