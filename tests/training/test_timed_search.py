"""``tfxc train FILE --minutes N``: what is tried until when, and what becomes of the best."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the extra search is not installed")

from tests.commands.calls import call, default_signals
from tests.data.reading.inspection.test_contents import pairs, write
from tfxc.commands import evaluate, train
from tfxc.core.config import load_tree, parse_config
from tfxc.core.errors import MachineError
from tfxc.core.interrupts import Stopped
from tfxc.core.shared_options import FileChoices
from tfxc.data.reading.inspection.completion import presets_of
from tfxc.recipes.xr_linear.recipe import XRLinear
from tfxc.runs.folder import RunFolder
from tfxc.training import timed_search
from tfxc.training.timed_search import _Pace, choose

HELD_OUT = ["data.dev_share=0.2"]


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timed_search, "time", clock)
    return clock


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tfxc.data.reading.inspection.presets._FUSED_PAIRS", 0)
    write(tmp_path / "mine.csv", "text,label", pairs(94))
    return tmp_path


@pytest.fixture
def here(monkeypatch, clock):
    """Trainings in this process, of ten seconds each; returns the list of their configs."""
    configs = []

    def run(arguments, run, received, is_over, output, patience):
        configs.append(load_tree(arguments[1]))
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = train.main(arguments)
        clock.now += 10
        return code

    monkeypatch.setattr(timed_search.trainings, "train", run)
    return configs


@pytest.fixture
def trained(monkeypatch, clock):
    """Trainings of no work; returns the list of what each does, a function that is given the config
    and ``is_over``, and returns P@1 or an exit code. The last one stays.
    """
    acts = []

    def run(arguments, run, received, is_over, output, patience):
        tree = load_tree(arguments[1])
        act = acts.pop(0) if len(acts) > 1 else acts[0]
        result = act(tree, is_over)
        if isinstance(result, int):
            output.write("tfxc: no luck\n")
            return result
        folder = RunFolder(run)
        folder.mark()
        folder.write_config(parse_config(tree))
        folder.write_summary({"dev": {"P@1": result}})
        return 0

    monkeypatch.setattr(timed_search.trainings, "train", run)
    return acts


def chosen(seconds, *changes, **choices):
    presets = presets_of("mine.csv", FileChoices(**choices), [*HELD_OUT, *changes])
    return choose(presets, seconds, given={})


def tried(run="runs/mine-minutes"):
    return json.loads((Path(run) / "tried.json").read_text())["tried"]


def lasting(clock, seconds, result):
    """A training of so many seconds, unless it is ended before."""

    def act(tree, is_over):
        for _ in range(seconds):
            clock.now += 1
            if is_over():
                return 143
        return result

    return act


def test_the_best_is_trained_on_all(folder, here, capsys):
    command = ("mine.csv", "--minutes", "1", "--preset", "fast", "--set", *HELD_OUT)
    outcome = call(capsys, train, *command)
    assert outcome.code == 0, outcome.err
    assert len(here) == 6, "of ten seconds each"
    rows = tried()
    results = [row["result"] for row in rows]
    assert len(rows) == 6 and results == sorted(results, reverse=True)
    assert {} in [row["changes"] for row in rows], "the preset as it is"
    assert re.search(r"1 min 00 s left: fast\n  P@1 [\d.]+, the best so far\n", outcome.out)
    assert "tried 6 settings in 1 min 00 s:" in outcome.out
    assert f"dev P@1 {100 * results[0]:.2f}" in outcome.out
    assert [path.name for path in (folder / "runs").iterdir() if path.is_dir()] == ["mine-minutes"]

    run = RunFolder("runs/mine-minutes")
    for part in (run, *run.held_out_runs()):
        part.verify()
        assert part.config().run == str(part.path)
    tree = json.loads(run.config().to_json())
    for key, value in rows[0]["changes"].items():
        node = tree
        for name in key.split("."):
            node = node[name]
        assert node == value
    assert call(capsys, evaluate, "runs/mine-minutes").code == 0

    again = call(capsys, train, "--config", "runs/mine-minutes.json", "--set", "run=runs/again")
    assert again.code == 0
    summaries = [RunFolder(path).summary() for path in ("runs/mine-minutes", "runs/again")]
    assert summaries[0]["dev"] == summaries[1]["dev"]
    assert summaries[0]["dev"]["P@1"] == results[0]


def test_the_same_command_goes_on_with_the_training_on_all(folder, here, capsys, monkeypatch):
    command = ("mine.csv", "--minutes", "0.5", "--preset", "fast", "--set", *HELD_OUT)

    original = XRLinear.train

    def killed(recipe, context):
        if context.held_out:
            raise Stopped(None, signal.SIGTERM)
        return original(recipe, context)

    with monkeypatch.context() as patched:
        patched.setattr(XRLinear, "train", killed)
        assert call(capsys, train, *command).code == 143
    first = tried()
    outcome = call(capsys, train, *command)
    assert outcome.code == 0 and len(here) == 3
    assert "tried.json: the best was found before" in outcome.out and tried() == first
    outcome = call(capsys, train, *command)
    assert "runs/mine-minutes: already finished" in outcome.out and len(here) == 3
    # The same seeds try the same.
    assert call(capsys, train, *command, "--fresh").code == 0
    assert len(here) == 6 and tried() == first


def test_folds_and_a_training_alone(folder, here, capsys):
    """Few examples are measured in folds; without a refit, the best try is the run."""
    command = ("mine.csv", "--minutes", "0.1", "--preset", "fast")
    assert call(capsys, train, *command).code == 0
    assert len(here) == 5 and len(tried()) == 1
    assert len(RunFolder("runs/mine-minutes").held_out_runs()) == 5
    assert call(capsys, train, *command, "--no-refit", "--run", "runs/alone").code == 0
    run = RunFolder("runs/alone")
    run.verify()
    assert len(here) == 6 and not run.held_out_runs() and run.config().run == "runs/alone"
    assert "decision" in run.summary() and tried("runs/alone")[0]["changes"] == {}


def test_the_clock(folder, clock, trained, capsys):
    """The first training may take longer; a preset has half of what is left, a setting all."""
    began = clock.now
    trained += [lasting(clock, 20, 0.5), lasting(clock, 1000, 0.9), lasting(clock, 15, 0.4)]
    best = chosen(100)
    rows = tried()
    assert best.preset == "fast" and best.tree["recipe"]["name"] == "xr_linear"
    assert [row["ended"] for row in rows] == [None, None, None, "not in time"]
    late = rows[-1]
    assert (late["preset"], late["changes"], late["seconds"]) == ("balanced", {}, 40)
    assert "best" not in {row["preset"] for row in rows}, "slower than what was not in time"
    # Another would take 17 seconds on average, and 10 are left.
    assert clock.now - began == 20 + 40 + 15 + 15
    assert not list((folder / "runs").glob("*tried*")), "the scratch folder is removed"

    trained[:] = [lasting(clock, 300, 0.5)]
    assert chosen(100, run="runs/slow").tree["run"] == "runs/slow"
    assert [row["seconds"] for row in tried("runs/slow")] == [300]


def test_a_setting_is_ended_at_the_deadline(folder, clock, trained):
    trained += [lasting(clock, 10, 0.5), lasting(clock, 100, 0.9)]
    chosen(40, preset="fast")
    assert [(row["ended"], row["seconds"]) for row in tried()] == [(None, 10), ("not in time", 30)]


def test_what_is_changed_is_the_best_preset(folder, clock, trained):
    trained += [lasting(clock, 10, 0.5), lasting(clock, 10, 0.8), lasting(clock, 10, 0.6)]
    assert chosen(60).preset == "balanced"
    presets = [(row["preset"], bool(row["changes"])) for row in tried()]
    assert presets.count(("balanced", True)) == 3 and presets.count(("best", False)) == 1


@pytest.mark.parametrize(("number", "stops"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal(folder, clock, trained, number, stops):
    """After Ctrl-C the best so far is kept, after other signals nothing is."""

    def interrupted(tree, is_over):
        signal.raise_signal(number)
        assert is_over()
        return 130

    trained += [lasting(clock, 10, 0.5), lasting(clock, 10, 0.7), interrupted]
    if stops:
        with pytest.raises(Stopped, match="SIGTERM, nothing is saved"):
            chosen(100)
        assert not (folder / "runs/mine-minutes").exists()
    else:
        assert chosen(100).preset == "balanced"
        assert [row["ended"] for row in tried()] == [None, None, "stopped"]


def test_ctrl_c_before_anything_is_trained(folder, clock, trained, capsys):
    def interrupted(tree, is_over):
        signal.raise_signal(signal.SIGINT)
        return 130

    trained.append(interrupted)
    outcome = call(capsys, train, "mine.csv", "--minutes", "1")
    assert outcome.code == 130 and "nothing is saved; the same command starts again" in outcome.out
    assert not list((folder / "runs").glob("mine*"))


def test_failures(folder, clock, trained, capsys):
    """One is reported; where all fail, so does the search."""
    trained += [lambda *_: 2, lasting(clock, 10, 0.5)]
    assert chosen(40).preset == "balanced"
    assert "P@1 failed: tfxc: no luck" in capsys.readouterr().out
    assert "failed" in [row["ended"] for row in tried()]
    trained[:] = [lambda *_: 137]
    with pytest.raises(MachineError, match="no training has finished"):
        chosen(40, run="runs/none")


def test_hopeless_settings_are_pruned(folder, clock, trained, monkeypatch):
    """By the dev values during training, once five were trained to their end."""
    values = iter([0.9] * 5)

    def act(tree, is_over):
        clock.now += 10
        value = next(values, 0.1)
        Path(tree["run"]).mkdir(parents=True)
        lines = 4 * [json.dumps({"dev P@1": value}) + "\n"]
        Path(tree["run"], "metrics.jsonl").write_text("".join(lines))
        return 143 if is_over() else value

    trained.append(act)
    chosen(75, preset="balanced")
    assert [row["ended"] for row in tried()] == 5 * [None] + 2 * ["pruned"]


def test_nothing_left_to_try_ends_the_search(folder, clock, trained):
    trained.append(lambda *_: 0.5)
    presets = presets_of("mine.csv", FileChoices(preset="fast"), HELD_OUT)
    given = {"recipe": {"ranker": {"cost_positive": 1, "cost_negative": 1, "threshold": 0}}}
    given["data"] = {"text_features": {"ngram_range": [1, 1], "characters": [2, 3]}}
    choose(presets, 100, given=given)
    assert sorted(row["changes"].get("data.text_features.min_df", 1) for row in tried()) == [
        1,
        2,
        3,
    ]


def test_the_pace_of_a_training(tmp_path):
    """Without its start, which says nothing of the rest."""
    pace = _Pace(tmp_path, 60)
    assert pace.end(50) == 50
    path = tmp_path / "metrics.jsonl"

    def goes_on(*epochs):
        with open(path, "a") as stream:
            stream.writelines(f'{{"epoch": {epoch}, "loss": 1}}\n' for epoch in epochs)

    goes_on(0.1, 1)
    assert pace.end(60) == 60
    goes_on(2)
    assert pace.end(62) == 62, "too early to tell"
    goes_on(6)
    assert pace.end(70) == 70 + 54 / 5 * 10


def test_refusals(folder, capsys, monkeypatch):
    minutes = ("mine.csv", "--minutes", "1")
    for option in (("--dry-run",), ("--cluster", "tcp://host:1"), ("--from-step", "3")):
        assert "does not apply to --minutes" in call(capsys, train, *minutes, *option).problem()
    assert "--minutes" in call(capsys, train, "--config", "quickstart", *minutes[1:]).problem()
    remote = call(capsys, train, *minutes, "--run", "s3://bucket/run")
    assert "is not a folder of this machine" in remote.problem()
    assert "recipe.ranker" in call(capsys, train, *minutes, "--set", "recipe.ranker=3").problem()
    assert call(capsys, train, "mine.csv", "--run", "runs/other").code == 0
    problem = call(capsys, train, *minutes, "--run", "runs/other").problem()
    assert "this run was trained without --minutes" in problem and "--fresh" in problem
    for name in ("tfxc.training.timed_search", "tfxc.tuning.study"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    problem = call(capsys, train, *minutes).problem()
    assert "--minutes: the package optuna is not installed" in problem
    assert "pip install 'tfxc[search]'" in problem and not (folder / "runs/mine-minutes").exists()


@pytest.mark.slow
def test_ctrl_c_at_a_terminal(folder):
    """It reaches the training as well; what was the best so far is trained on all."""
    command = ["train", "mine.csv", "--minutes", "60", "--set", *HELD_OUT]
    with subprocess.Popen(
        [sys.executable, "-m", "tfxc", *command],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=default_signals,
    ) as process:
        for line in process.stdout:
            if "left: balanced" in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 0 and "stopped" in rest
    run = RunFolder("runs/mine-minutes")
    run.verify()
    assert run.summary()["refit"]["runs"] == ["held-out"]
    assert [row["ended"] for row in tried()] == [None, "stopped"]
