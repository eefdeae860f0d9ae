"""``tfxc train --rehearse``: published configs on stand-ins for their data."""

import json
import re
import subprocess
import sys

import pytest

from tests.commands.calls import call, listing
from tests.source_tree import ROOT
from tfxc.commands import evaluate, train
from tfxc.core.config import load_tree

CONFIGS = sorted((ROOT / "configs").rglob("*.json"))
# Networks whose batches are made for GPUs: a step of one takes minutes on a processor.
LARGE = {"resnet", "iresnet", "pretrained", "mhc"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFXC_MODELS", str(tmp_path / "models"))


def test_a_rehearsal_is_trained_and_measured(tmp_path, capsys):
    """It learns far more than which label is the most frequent."""
    command = ("--config", "xr_linear_delicious", "--rehearse", 0.2, "--json")
    outcome = call(capsys, train, *command)
    assert outcome.code == 0, outcome.err
    costs = json.loads(outcome.out)["rehearsal"]
    assert (costs["shape"], costs["share"]) == ("delicious", 0.2)
    assert costs["peak_bytes"] > 50 * 2**20
    run = tmp_path / "runs" / "xr_linear_delicious-rehearsal"
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"runs", "prepared"} and [*run.parent.iterdir()] == [run]
    folders = (run, *(tmp_path / "prepared").iterdir())
    sizes = [sum(filter(None, listing(path).values())) for path in folders]
    # The summary itself was written after it was measured.
    assert costs["run_bytes"] == pytest.approx(sizes[0], abs=10_000)
    assert costs["prepared_bytes"] == sizes[1]
    assert json.loads((run / "summary.json").read_text())["rehearsal"] == costs
    again = call(capsys, train, *command)
    assert json.loads(again.out)["rehearsal"] == costs and "already finished" in again.err
    assert call(capsys, evaluate, "--run", run, "--split", "test").code == 0
    metrics = json.loads((run / "evaluation-test.json").read_text())["metrics"]
    assert metrics["P@1"] > 0.6


def test_a_dry_run_plans_and_leaves_nothing(tmp_path, capsys):
    """All sizes are those of the published set, of which only the first examples are drawn."""
    outcome = call(capsys, train, "--config", "mach_delicious", "--dry-run", "--rehearse")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == "rehearsal on a stand-in for delicious: 16,105 examples, 983 labels"
    assert re.match(r"delicious-rehearsal: 983 labels, 500 features \(sparse\)", lines[1])
    assert "12,920 examples" in lines[2] and "3,185 examples" in lines[3]
    steps = -(-12_920 * 40 // 256)
    assert re.search(rf"tried one batch: loss \d+\.\d+; training takes {steps:,} steps", lines[-1])
    assert not list(tmp_path.iterdir())


def test_print_config_makes_nothing(tmp_path, capsys):
    outcome = call(capsys, train, "--config", "dense_bibtex", "--rehearse", "0.5", "--print-config")
    tree = json.loads(outcome.out)
    assert tree["run"] == "runs/dense_bibtex-rehearsal"
    assert tree["data"]["train"] == "builtin:synthetic"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["my.csv", "--rehearse"], r"--rehearse: only the config of a published set"),
        (["--config", "dense_bibtex", "--rehearse", "0"], r"--rehearse: must be a number above 0"),
        (["--config", "dense_bibtex", "--rehearse", "all"], "at most 1, not 'all'"),
    ],
)
def test_refused(capsys, arguments, problem):
    outcome = call(capsys, train, *arguments)
    assert outcome.code == 2 and re.search(problem, outcome.err)


def smaller(path):
    """Options that make the batch of a large network a small one."""
    tree = load_tree(path)
    large = {tree.get(part, {}).get("name") for part in ("encoder", "head")} & LARGE
    return ("--set", "training.batch_size=4", "--set", "training.accumulate=1") if large else ()


@pytest.mark.slow  # test_a_dry_run_plans_and_leaves_nothing does it with one config
@pytest.mark.parametrize(
    "path", CONFIGS, ids=lambda path: path.relative_to(ROOT / "configs").as_posix()
)
def test_every_config_is_planned_and_trained_for_a_step(tmp_path, path):
    """In a process of its own: what 160 networks leave in one would count as taken memory."""
    if "${TFXC_MODELS}" in path.read_text() or "minilm" in path.stem:
        pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
    command = ("--config", path, "--dry-run", "--rehearse", 0.001, *smaller(path))
    program = [sys.executable, "-m", "tfxc.train", *map(str, command)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    planned = {"xr_linear": "classifiers", "prune": "prunes the run runs/minilm_clinc150-rehearsal"}
    recipe = load_tree(path).get("recipe", {}).get("name")
    assert re.search(planned.get(recipe, r"tried one batch: loss \d+\.\d+"), done.stdout)
    assert not list(tmp_path.iterdir())
