"""The tools for people."""

import json
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import scipy.sparse
from sklearn.linear_model import SGDClassifier
from sklearn.multiclass import OneVsRestClassifier

from tests import tiny
from tests.commands.calls import call
from tests.source_tree import ROOT
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError


@pytest.fixture
def tool(tool):
    """The same; tools do not work in other processes."""
    # Worker processes that earlier tests left behind do not know the folder of the tools.
    with joblib.parallel_config(backend="threading"):
        yield tool


def random_set(seed, count, num_labels=70):
    rng = np.random.default_rng(seed)
    features = scipy.sparse.random(count, 40, 0.2, format="csr", rng=rng)
    targets = rng.random((count, num_labels)) < 0.15
    targets[:, 5], targets[:, 66] = False, True  # nobody has it, everybody has it
    return features, targets


def test_best_labels_like_one_versus_rest(tool):
    features, targets = random_set(0, 80)
    questions, _ = random_set(1, 25)
    linear_baseline = tool("linear_baseline")
    known = [label for label in range(70) if label not in (5, 66)]
    sgd = SGDClassifier(**linear_baseline.SETTINGS)
    reference = OneVsRestClassifier(sgd).fit(features, targets[:, known].astype(int))
    scores = np.full((25, 70), -np.inf)
    scores[:, 66] = np.inf
    scores[:, known] = reference.decision_function(questions)
    columns = scipy.sparse.csc_matrix(targets.astype(float))
    ids, found = linear_baseline.best_labels(features, columns, questions, 6)
    assert ids.shape == found.shape == (25, 6)
    np.testing.assert_array_equal(ids, np.argsort(-scores, axis=1, kind="stable")[:, :6])
    np.testing.assert_allclose(found, np.take_along_axis(scores, ids, 1), rtol=1e-5)


def test_linear_baseline_prints_both(tool, tmp_path, capsys):
    config = tiny.write_config(tmp_path)
    run = tmp_path / "a run"
    run.mkdir()
    metrics = {f"{name}@{k}": 0.125 for name in ("P", "nDCG") for k in (1, 3, 5)}
    (run / "evaluation-dev.json").write_text(json.dumps({"metrics": metrics}))
    command = ["--config", config, "--prepared", tmp_path / "prepared"]
    command += ["--run", run, "--split", "dev"]
    outcome = call(capsys, tool("linear_baseline"), *command)
    assert outcome.code == 0, outcome.err
    header, ours, linear = outcome.out.splitlines()
    assert header.split() == ["P@1", "P@3", "P@5", "nDCG@1", "nDCG@3", "nDCG@5"]
    assert ours.removeprefix(str(run)).split() == ["12.50"] * 6
    figures = [float(text) for text in linear.removeprefix("linear, one vs rest").split()]
    # Two of thirty labels are true, and each is a linear function of the features.
    assert len(figures) == 6 and figures[0] > 60 and all(0 <= f <= 100 for f in figures)


def test_matrices_hold_the_file(tool, tmp_path):
    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.store.preparation import ensure_prepared

    config = load_config(tiny.write_config(tmp_path, data={"normalise": None}))
    folder = ensure_prepared(config.data, tmp_path / "prepared", jobs=1)
    features, targets = tool("linear_baseline").matrices(folder, "dev")
    assert features.shape == (60, 60) and targets.shape == (60, 30)
    for row, line in enumerate((tmp_path / "dev.txt").read_text().splitlines()[1:]):
        labels, *pairs = line.split(" ")
        found = np.flatnonzero(targets[[row]].toarray()).tolist()
        assert found == [int(label) for label in labels.split(",")]
        expected = {int(f): float(v) for f, v in (pair.split(":") for pair in pairs)}
        ids, values = features[row].indices.tolist(), features[row].data
        assert dict(zip(ids, values, strict=True)) == expected


def repetitions(folder, **changes):
    head = {"name": "mach", "num_buckets": 8, "num_repetitions": 5}
    changes = {"head": head, "recipe": {"name": "repetitions"}, **changes}
    return ["--config", tiny.write_config(folder, **changes), "--prepared", folder / "prepared"]


def test_plan_repetitions(tool, tmp_path, capsys, monkeypatch):
    from tfxc.training.memory.estimate import Estimate, Memory

    command = repetitions(tmp_path, run=str(tmp_path / "a run"))
    need = 10**9
    monkeypatch.setattr("tfxc.recipes.bases.processes.available_bytes", lambda: int(3.5 * need))
    estimate = Estimate(Memory(0, need, *[0] * 8), 0, 0, 0)
    monkeypatch.setattr("tfxc.recipes.bases.processes.estimate", lambda *_, **__: estimate)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    outcome = call(capsys, tool("plan_repetitions"), *command)
    assert outcome.out.splitlines()[-1] == f"5 3 {tmp_path / 'a run'}"
    assert (tmp_path / "a run/config.json").exists()
    assert (tmp_path / "a run/assets/labels.txt").exists()
    (tmp_path / "a run/repetition-00").mkdir()
    (tmp_path / "a run/repetition-00/model.weights.h5").touch()  # there is something to lose
    outcome = call(capsys, tool("plan_repetitions"), *command, "--set", "recipe.parallel=4")
    assert "recipe" in outcome.problem(), "another config in the same folder"
    outcome = call(
        capsys, tool("plan_repetitions"), *command, "--set", "recipe.parallel=4", "--fresh"
    )
    assert outcome.out.splitlines()[-1] == f"5 4 {tmp_path / 'a run'}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": {"name": "fit"}}, "recipe.name: train.sh trains recipe 'repetitions', not"),
        ({"recipe": {"name": "repetitions", "together": True}}, "recipe.together"),
        ({"head": {"name": "dense"}}, "needs a head with repetitions"),
        ({"head": {"name": "mach", "num_buckets": 99}}, "num_buckets"),
        ({"encoder": {"name": "bag_mlp", "hiden": [3]}}, "did you mean 'hidden'"),
    ],
)
def test_plans_that_cannot_be(tool, tmp_path, capsys, changes, message):
    outcome = call(capsys, tool("plan_repetitions"), *repetitions(tmp_path, **changes))
    assert message in outcome.problem()
    assert not (tmp_path / "run").exists()


def test_show_predictions_reads_examples_of_a_run(tool, tmp_path):
    from tests.small_runs import make_run

    run = make_run(tmp_path / "run", text_features={"name": "tfidf"})
    examples = [(f"text {i}", ["a", "b"][: 1 + i % 2]) for i in range(20)]
    lines = [json.dumps({"text": text, "labels": labels}) for text, labels in examples]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    tree = json.loads((run / "config.json").read_text())
    tree["data"] |= {"train": str(tmp_path / "data.jsonl"), "test": str(tmp_path / "data.jsonl")}
    (run / "config.json").write_text(json.dumps(tree))
    found = tool("show_predictions").read_examples(run, "test", 3)
    assert found == [(f"text {i}", ["a", "b"]) for i in (1, 7, 13)]
    with pytest.raises(ConfigError, match=r"--split: the data has no split 'dev'"):
        tool("show_predictions").read_examples(run, "dev", 3)
    tree["data"]["dev_share"] = 0.25
    (run / "config.json").write_text(json.dumps(tree))
    parts = [tool("show_predictions").read_examples(run, split, 99) for split in ("train", "dev")]
    assert parts[1] and len(parts[0]) + len(parts[1]) == 10
    assert not {text for text, _ in parts[0]} & {text for text, _ in parts[1]}


@pytest.mark.parametrize(
    "name",
    [
        "linear_baseline",
        "plan_repetitions",
        "show_predictions",
    ],
)
def test_tools_explain_themselves(monkeypatch, program, name):
    monkeypatch.chdir("/")
    outcome = program(name, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"usage: python tools/{name}.py")


def test_a_benchmark_counts_the_parameters_of_a_head(tmp_path, monkeypatch):
    config = parse_config(tiny.tiny_tree(tmp_path))
    sizes = {"num_features": tiny.NUM_FEATURES, "num_labels": tiny.NUM_LABELS}
    loaded = SimpleNamespace(config=config, dimensions=sizes)
    monkeypatch.setattr("tfxc.runs.loaded.load_run", lambda run: loaded)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    head_parameters = __import__("repetitions").head_parameters
    assert head_parameters(tmp_path) == (32 + 1) * tiny.NUM_LABELS


def test_a_benchmark_lets_nothing_come_before_what_it_needs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    stream = __import__("stream")
    names = [f"s{number}" for number in range(40)]
    needs = {name: [f"s{number // 2}", f"s{number // 3}"] for number, name in enumerate(names)}
    needs["s0"] = ["s1"]  # a circle, of which either may come first
    orders = [stream.in_order(list(names), needs, seed) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    for order in orders:
        assert sorted(order) == sorted(names)
        place = {name: number for number, name in enumerate(order)}
        assert all(place[need] < place[n] for n in names[2:] for need in needs[n])


def test_a_benchmark_measures_how_labels_drift(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    drift_of = __import__("stream").drift_of
    before = [{"labels": ["a", "b"]}]
    assert drift_of(before, []) is None
    assert set(drift_of(before, before).values()) == {0}
    drift = drift_of([{"labels": ["a", "c"]}, {"labels": ["c", "c"]}], before)
    assert drift == {"new labels": 0.5, "new truths": 0.75, "distance": 0.75}
