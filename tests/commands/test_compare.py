"""The command compare: runs by their curves."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from tests import tiny
from tests.commands.calls import call
from tfxc.commands import compare
from tfxc.core.config import parse_config
from tfxc.core.storage import remote


def write_run(folder, name, lines, objective="scent", **changes):
    """A run folder with a config and metrics."""
    run = folder / name
    run.mkdir(parents=True)
    tree = tiny.tiny_tree(folder / "data", run=str(run), objective={"name": objective}, **changes)
    (run / "config.json").write_text(parse_config(tree).to_json())
    if lines is not None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (run / "metrics.jsonl").write_text(text)
    return run


def falling(start, rate, epochs=4, **more):
    """Lines of a run: a log line and an evaluation each epoch of ten steps."""
    lines = []
    for epoch in range(1, epochs + 1):
        lines.append({"step": 10 * epoch, "epoch": float(epoch), "loss": 1.0})
        value = {"train full_loss": start * rate**epoch, "dev P@1": epoch / 10}
        lines.append({"step": 10 * epoch, "epoch": float(epoch), **value, **more})
    return lines


LOSS = ("--metric", "train full_loss")
METHODS = (*LOSS, "--label-by", "objective.name")


@pytest.fixture
def runs(tmp_path):
    """Two seeds of one method and one run of another."""
    return [
        write_run(tmp_path, "a0", falling(8, 0.5), seed=0),
        write_run(tmp_path, "a1", falling(6, 0.5), seed=1),
        write_run(tmp_path, "b0", falling(8, 0.9), "sox"),
    ]


def test_table_points_and_plot(runs, tmp_path, capsys):
    plot, points = tmp_path / "new/curves.svg", tmp_path / "curves.csv"
    outcome = call(capsys, compare, *runs[::-1], *METHODS, "--output", plot, "--csv", points)
    assert (outcome.code, outcome.err) == (0, "")
    title, header, *rows = outcome.out.splitlines()[:4]
    assert title == "train full_loss" and header.split() == [
        "method",
        "runs",
        "epoch",
        "mean",
        "std",
    ]
    ends = np.array([8, 6]) * 0.5**4
    assert rows[0].split() == ["scent", "2", "4", f"{ends.mean():.4f}", f"{ends.std(ddof=1):.4f}"]
    assert rows[1].split() == ["sox", "1", "4", f"{8 * 0.9**4:.4f}", "-"]
    with open(points) as stream:
        found = list(csv.DictReader(stream))
    assert len(found) == 8
    assert [float(row["mean"]) for row in found[:4]] == pytest.approx(
        [7 * 0.5**e for e in range(1, 5)]
    )
    assert float(found[0]["std"]) == pytest.approx(np.sqrt(0.5)) and found[7]["std"] == ""
    picture = ElementTree.parse(plot)
    lines = [(group.findtext("{*}text"), len(group.findall("{*}polygon")), group.get("color"))
             for group in picture.findall(".//{*}g")]  # fmt: skip
    (first, second) = lines
    assert first[:2] == ("scent (2 runs)", 1) and second[:2] == ("sox", 0), "a band of two runs"
    assert first[2] != second[2]
    assert len(list(picture.findall(".//{*}circle"))) == 8


def test_each_run_by_its_dev_metric(runs, capsys):
    title, _, *rows = call(capsys, compare, *runs).out.splitlines()
    assert title == "dev P@1"
    assert [row.split() for row in rows] == [[str(run), "1", "4", "0.4000", "-"] for run in runs]


def test_a_remote_run_is_labelled_by_its_address(runs, monkeypatch):
    monkeypatch.setattr(remote, "_addresses", {})
    remote.is_copy(runs[0], "s3://bucket/mine")
    assert [*compare.grouped(map(str, runs[:2]), None)] == ["s3://bucket/mine", str(runs[1])]


def test_other_metrics_axes_and_labels(runs, capsys):
    command = [f"mine={runs[0]}", f"mine={runs[1]}", f"b c={runs[2]}"]
    outcome = call(capsys, compare, *command, "--metric", "dev P@1", "--axis", "step")
    assert outcome.out.splitlines()[2].split() == ["mine", "2", "40", "0.4000", "0.0000"]
    assert "\nb c " in outcome.out
    outcome = call(capsys, compare, *runs, "--label-by", "head.name,objective.name")
    assert "dense, scent" in outcome.out and "dense, sox" in outcome.out
    outcome = call(capsys, compare, *runs, "--label-by", "head.name")
    assert "note: the runs of 'dense' differ in more than the seed: objective.name" in outcome.err


def test_points_that_all_runs_have_and_old_lines(runs, tmp_path, capsys):
    lines = [{k: v for k, v in line.items() if k != "epoch" or "loss" in line}
             for line in falling(6, 0.5, epochs=3)]  # fmt: skip
    old = write_run(tmp_path, "old", lines)
    (old / "metrics.jsonl").write_text((old / "metrics.jsonl").read_text() + '{"step": 4')
    outcome = call(capsys, compare, runs[0], old, *METHODS)
    assert outcome.out.splitlines()[2].split()[:4] == ["scent", "2", "3", f"{7 * 0.5**3:.4f}"]


def test_logarithmic_axis(runs, tmp_path, capsys):
    plot = tmp_path / "log.svg"
    assert call(capsys, compare, *runs, *METHODS, "--scale", "log", "--output", plot).code == 0
    assert plot.stat().st_size > 3000
    zero = write_run(tmp_path, "zero", falling(0, 0.5), "asgd")
    outcome = call(capsys, compare, *runs, zero, *METHODS, "--scale", "log", "--output", plot)
    assert "--scale: a value of 0 or less has no logarithm" in outcome.problem()


def test_mistakes(runs, tmp_path, capsys, monkeypatch):
    def problem(*command):
        return call(capsys, compare, *command).problem()

    assert "absent: there is no such run folder" in problem(tmp_path / "absent")
    assert "the run has no metrics per epoch" in problem(write_run(tmp_path, "new", None))
    output = problem(*runs, "--metric", "dev full_loss")
    assert (
        "there is no metric 'dev full_loss'; the run has dev P@1, loss, train full_loss" in output
    )
    assert "evaluation.full_loss=true" in output
    assert "the run has none yet" in problem(write_run(tmp_path, "empty", []))
    assert "this run is named twice" in problem(runs[0], runs[0])
    assert "has no key 'objective.nam'" in problem(*runs, "--label-by", "objective.nam")
    lines = [{"step": 3, "epoch": 0.3, "train full_loss": 1.0}]
    assert "have no epoch of" in problem(runs[0], write_run(tmp_path, "x", lines), *METHODS)
    assert "its metrics have no epochs" in problem(
        write_run(tmp_path, "y", [{"step": 3, "train full_loss": 1}]), *LOSS
    )
    assert "End it in .svg" in problem(*runs, "--output", tmp_path / "curves.png")
