"""The command search: trains, resumes, prunes, prints the table."""

import contextlib
import json
import sys
import threading

import pytest

from tests import tiny
from tests.commands.calls import call
from tfxc.commands import search
from tfxc.core.storage.locks import locked
from tfxc.core.storage.ownership import lock_of
from tfxc.tuning import trainings


def test_search_goes_on(tmp_path, capsys, monkeypatch):
    """Finished runs are not trained again; a stop ends the search, a failure does not."""
    config = tiny.write_config(tmp_path)
    values, codes, asked = {0.1: 0.3, 0.2: 0.5, 0.3: None}, [], []

    def train(options, changes, run, received):
        asked.append(changes["encoder.dropout"])
        if codes:
            return codes.pop()
        value = values[changes["encoder.dropout"]]
        if value is None:
            return 2
        run.mkdir(parents=True)
        summary = {"dev": {"P@1": value / 2}, "best": value, "best_metric": "P@1"}
        (run / "summary.json").write_text(json.dumps(summary))
        return 0

    monkeypatch.setattr(search, "train", train)
    codes.append(130)
    command = (
        "--config",
        config,
        "--runs",
        tmp_path / "runs",
        "--try",
        "encoder.dropout=0.1,0.2,0.3",
    )
    assert call(capsys, search, *command).code == 130
    outcome = call(capsys, search, *command)
    assert outcome.code == 0 and asked == [0.1, 0.1, 0.2, 0.3]
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0] == ["P@1", "encoder.dropout"]
    assert lines[1:4] == [["0.5000", "0.2"], ["0.3000", "0.1"], ["failed", "0.3"]]
    rows = json.loads((tmp_path / "runs" / "search.json").read_text())
    assert [row["result"] for row in rows["settings"]] == [0.5, 0.3, None]
    asked.clear()
    assert "0.5000" in call(capsys, search, *command).out and asked == [0.3]
    problem = call(capsys, search, *command, "--metric", "F1").problem()
    assert "no metric 'F1' on dev" in problem and "Choose one of: P@1" in problem


@pytest.mark.parametrize(("refit", "share"), [({"share": 0.25}, "0.25"), ({"folds": 5}, "0.2")])
def test_settings_are_compared_by_what_a_refit_holds_out(
    tmp_path, capsys, monkeypatch, refit, share
):
    """Each is trained once, without these examples."""
    tree = tiny.tiny_tree(tmp_path, refit=refit)
    del tree["data"]["dev"]
    (tmp_path / "config.json").write_text(json.dumps(tree))
    seen = []

    def train(options, changes, run, received):
        seen.append([*options.set])
        return 2

    monkeypatch.setattr(search, "train", train)
    command = ("--config", tmp_path / "config.json", "--runs", tmp_path / "runs")
    command += ("--prepared", tmp_path / "prepared", "--try", "encoder.dropout=0.1")
    assert call(capsys, search, *command).code == 1
    assert seen == [["refit=null", f"data.dev_share={share}"]]


@pytest.mark.slow
def test_the_training_of_a_killed_search_is_waited_for(tmp_path, monkeypatch):
    """It notices that its parent has ended, and saves, while the search is started again."""
    run, order = tmp_path / "runs" / "a", []
    began, asked = threading.Event(), threading.Event()
    run.parent.mkdir()

    def save():
        with locked(lock_of(run), print):
            began.set()
            asked.wait(60)
            order.append("saved")

    class Started(contextlib.nullcontext):
        def __init__(self, *_, **__):
            super().__init__(self)
            order.append("started")

        def wait(self, _):
            return 0

    monkeypatch.setattr(trainings, "_wait_for", lambda *_: asked.set())
    monkeypatch.setattr(trainings.subprocess, "Popen", Started)
    training = threading.Thread(target=save)
    training.start()
    began.wait(60)
    options = search.Options(config="config.json", tried=[])
    assert search.train(options, {}, run, lambda: 0) == 0
    training.join()
    assert order == ["saved", "started"]


def test_a_real_training(tmp_path, capsys):
    config = tiny.write_config(tmp_path)
    command = ["--config", config, "--runs", tmp_path / "runs", "--prepared", tmp_path / "prepared"]
    command += ["--set", "training.epochs=1", "--try", "head.name=dense"]
    outcome = call(capsys, search, *command)
    assert outcome.code == 0 and "dense" in outcome.out
    (run,) = (tmp_path / "runs").glob("tiny-*")
    assert json.loads((run / "summary.json").read_text())["dev"]["P@1"] >= 0


def test_missing_data_end_the_search_before_any_training(tmp_path, capsys):
    config = tiny.write_config(tmp_path, data={"train": str(tmp_path / "none.jsonl")})
    command = ("--config", config, "--runs", tmp_path / "runs", "--try", "seed=1,2")
    assert "no file" in call(capsys, search, *command).problem()
    assert not (tmp_path / "runs").exists()


def test_a_wrong_key_is_refused_before_any_training(tmp_path, capsys):
    config = tiny.write_config(tmp_path)
    command = ("--config", config, "--runs", tmp_path / "runs", "--try", "trainings.epochs=1,2")
    assert "trainings" in call(capsys, search, *command).problem()
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def fast(monkeypatch, quick_database):
    """Trainings of no time: the result is 1 - dropout; ``codes`` are exit codes to begin with."""
    asked, codes = [], []

    def train(options, changes, run, received, is_hopeless=None):
        asked.append(changes["encoder.dropout"])
        run.mkdir(parents=True, exist_ok=True)
        with open(run / "metrics.jsonl", "w") as stream:
            for _ in range(4):
                stream.write(json.dumps({"dev P@1": 1 - changes["encoder.dropout"]}) + "\n")
        if codes and (code := codes.pop()):
            return code
        if is_hopeless is not None and is_hopeless():
            return 143
        summary = {"dev": {"P@1": 1 - changes["encoder.dropout"]}}
        (run / "summary.json").write_text(json.dumps(summary))
        return 0

    monkeypatch.setattr(search, "train", train)
    return asked, codes


def trials(tmp_path, count, *more):
    config = tiny.write_config(tmp_path)
    return ("--config", config, "--runs", tmp_path / "runs", "--trials", count,
            "--try", "encoder.dropout=0.0..0.9", "--try", "seed=0,1", *more)  # fmt: skip


def test_optuna_chooses_prunes_and_goes_on(fast, tmp_path, capsys):
    optuna = pytest.importorskip("optuna", reason="the extra search is not installed")
    asked, codes = fast
    codes += [130, 0, 0]  # the third is stopped
    assert call(capsys, search, *trials(tmp_path, 12)).code == 130 and len(asked) == 3
    outcome = call(capsys, search, *trials(tmp_path, 12))
    assert outcome.code == 0 and asked[3] == asked[2], "the interrupted one first"
    assert "12 trials of" in outcome.err and ", 2 done" in outcome.err and len(asked) == 13
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["P@1", "encoder.dropout", "seed"] and "pruned" in outcome.out
    results = [float(line.split()[0]) for line in lines[1:13] if "pruned" not in line]
    assert results == sorted(results, reverse=True) and len(results) >= 5
    assert results[0] == pytest.approx(1 - min(asked), abs=1e-4)
    assert f"importance of the keys ({len(results)} trials)" in outcome.out
    shares = [line.split() for line in lines if line.endswith(("encoder.dropout", "  seed"))]
    assert "importance of the keys" in outcome.out and shares[-2][1] == "encoder.dropout"
    (study,) = optuna.get_all_study_summaries(f"sqlite:///{tmp_path}/runs/search.db")
    assert study.best_trial.value == pytest.approx(results[0], abs=1e-4)
    asked.clear()
    again = call(capsys, search, *trials(tmp_path, 12))
    assert not asked and again.out.splitlines()[:13] == lines[:13], "nothing is trained twice"
    assert call(capsys, search, *trials(tmp_path, 14, "--jobs", 2)).code == 0 and len(asked) == 2


def test_a_failure_counts_and_pruning_can_be_left_out(fast, tmp_path, capsys):
    pytest.importorskip("optuna", reason="the extra search is not installed")
    asked, codes = fast
    codes += [0] * 9 + [2]
    outcome = call(capsys, search, *trials(tmp_path, 10, "--no-pruning"))
    assert outcome.code == 0 and len(asked) == 10
    assert outcome.out.count("failed") == 1 and "pruned" not in outcome.out
    outcome = call(capsys, search, *trials(tmp_path, 10, "--no-pruning"))
    assert asked[10:] == asked[:1], "what has failed is tried again, as are listed settings"
    assert outcome.code == 0 and "failed" not in outcome.out and ", 9 done" in outcome.err
    assert not call(capsys, search, *trials(tmp_path, 10, "--no-pruning")).code and len(asked) == 11


def test_trials_are_refused_before_any_training(fast, tmp_path, capsys, monkeypatch):
    wrong = (*trials(tmp_path, 3), "--try", "encoder.dropot=0.1..0.2")
    if pytest.importorskip("optuna", reason="the extra search is not installed"):
        assert "encoder.dropot" in call(capsys, search, *wrong).problem()
    monkeypatch.delitem(sys.modules, "tfxc.tuning.study", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    problem = call(capsys, search, *trials(tmp_path, 3)).problem()
    assert "--trials: the package optuna is not installed" in problem
    assert "pip install 'tfxc[search]'" in problem and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_real_training_is_pruned(tmp_path):
    run, config, looks = tmp_path / "run", tiny.write_config(tmp_path), []

    def is_hopeless():
        looks.append((run / "metrics.jsonl").is_file())
        return looks[-1]

    options = search.Options(
        config=str(config),
        prepared=str(tmp_path / "prepared"),
        set=["training.epochs=2000"],
        tried=[],
    )
    assert search.train(options, {"seed": 1}, run, lambda: None, is_hopeless) == 143
    assert looks[-1] and not (run / "summary.json").exists()
    assert list((run / "checkpoints").glob("ckpt-*.json")), "it has saved"
