"""The command search: settings, going on, table."""

import argparse
import json
import random

import pytest

from tests import tiny
from tests.commands.calls import call
from tfxc.commands import search
from tfxc.core.errors import ConfigError


def test_values():
    assert search.values_of("a.b=1,0.5,x").choices == [1, 0.5, "x"]
    assert search.values_of("a=[[41,40],[6,271]]").choices == [[41, 40], [6, 271]]
    assert search.values_of("a=true").choices == [True]
    found = search.values_of("a=log:1e-4..1e-2")
    assert (found.low, found.high, found.logarithmic, found.integers) == (1e-4, 1e-2, True, False)
    assert search.values_of("a=1..8").integers
    drawn = [found.draw(random.Random(seed)) for seed in range(400)]
    assert min(drawn) >= 1e-4 and max(drawn) <= 1e-2
    assert 0.4 < sum(value < 1e-3 for value in drawn) / 400 < 0.6, "even in the logarithm"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "KEY=VALUES expected"),
        ("a=", "KEY=VALUES expected"),
        ("a=3..x", "LOW..HIGH expected"),
        ("a=3..1", "LOW < HIGH expected"),
        ("a=log:0..1", "0 < LOW < HIGH expected"),
        ("a=[]", "a: values expected, found none"),
    ],
)
def test_bad_values(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        search.values_of(text)


def test_settings():
    lists = [search.values_of("a=1,2"), search.values_of("b=x,y,x")]
    found = search.settings(lists, None, 0)
    assert found == [{"a": a, "b": b} for a in (1, 2) for b in ("x", "y")]
    some = search.settings(lists, 3, 0)
    assert len(some) == 3 and all(each in found for each in some)
    assert some == search.settings(lists, 3, 0)
    assert len(search.settings(lists, 100, 0)) == 4, "there are no more"
    with pytest.raises(ConfigError, match="add --random NUMBER"):
        search.settings([search.values_of("a=1..2")], None, 0)
    with pytest.raises(ConfigError, match="found 'a' twice"):
        search.settings([lists[0], lists[0]], None, 0)


def test_search_goes_on(tmp_path, capsys, monkeypatch):
    """Finished runs are not trained again; a stop ends the search, a failure does not."""
    config = tiny.write_config(tmp_path)
    values, codes, asked = {0.1: 0.3, 0.2: 0.5, 0.3: None}, [], []

    def train(options, changes, run):
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
    assert [row["result"] for row in rows] == [0.5, 0.3, None]
    asked.clear()
    assert "0.5000" in call(capsys, search, *command).out and asked == [0.3]
    problem = call(capsys, search, *command, "--metric", "F1").problem()
    assert "no metric 'F1' on dev" in problem and "choose one of: P@1" in problem


@pytest.mark.slow
def test_a_real_training(tmp_path, capsys):
    config = tiny.write_config(tmp_path)
    command = ["--config", config, "--runs", tmp_path / "runs", "--prepared", tmp_path / "prepared"]
    command += ["--set", "training.epochs=1", "--try", "head.name=dense"]
    outcome = call(capsys, search, *command)
    assert outcome.code == 0 and "dense" in outcome.out
    (run,) = (tmp_path / "runs").glob("tiny-*")
    assert json.loads((run / "summary.json").read_text())["dev"]["P@1"] >= 0


def test_a_wrong_key_is_refused_before_any_training(tmp_path, capsys):
    config = tiny.write_config(tmp_path)
    command = ("--config", config, "--runs", tmp_path / "runs", "--try", "trainings.epochs=1,2")
    assert "trainings" in call(capsys, search, *command).problem()
    assert not (tmp_path / "runs").exists()
