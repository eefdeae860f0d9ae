"""A run of recipe 'xr_linear' through the commands."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tests.commands.calls import call, listing
from tests.linear_runs import texts_of
from tests.serving.runs import client_of
from tests.source_tree import ROOT
from tfxc.commands import evaluate, export, info, predict, report, train
from tfxc.core.storage import checksums
from tfxc.decision.calibration import Calibration, Curve
from tfxc.decision.fitted import FittedDecision
from tfxc.ranker.search import Ranker
from tfxc.ranker.sizes import size_lines
from tfxc.recipes.xr_linear.model import LinearModel
from tfxc.runs.loaded import load_run
from tfxc.serving.served import RunOptions


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run that a test may change."""
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def asked(run, k, *more):
    """Arguments of predict for the texts of the dev split."""
    return ("--run", run, run.parent / "dev.jsonl", "--k", k, "--format", "jsonl", *more)


def test_predictions_are_the_rankers(run, capsys):
    texts = texts_of(run)
    features = load_run(run).text_features.transform(texts)
    names = load_run(run).vocabulary.names
    for beam, more in ((None, ()), (1, ("--beam", 1))):
        ids, scores = Ranker.load(run).predict(features, 8, beam_size=beam)
        assert (ids < 0).any() == (beam == 1), "a leaf holds four labels at most"
        arguments = asked(run, 8, "--scores", *more)
        lines = call(capsys, predict, *arguments).out.splitlines()
        for line, row, values in zip(lines, ids, scores, strict=True):
            found = json.loads(line)
            assert found["labels"] == [names[i] for i in row if i >= 0]
            np.testing.assert_allclose(found["scores"], values[row >= 0], atol=1e-6)


def test_prediction_and_evaluation_need_no_tensorflow(run, tmp_path):
    """In a process of its own, where nothing else has imported it."""
    file, options = str(run.parent / "dev.jsonl"), ("--run", str(run))
    code = f"""
import sys, tfxc
from tfxc.commands import evaluate, predict
assert predict.main([*{options}, {file!r}, "--k", "3"]) == 0
assert evaluate.main([*{options}, "--data", {file!r}, "--output", {str(tmp_path)!r}]) == 0
print(tfxc.Run({str(run)!r}).predict(["w1a w1b"], k=2).labels)
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    *answers, labels, found = done.stdout.splitlines()
    assert found == "[]" and "label 1" in labels
    assert len([line for line in answers if line.startswith('{"labels"')]) == 80


def test_other_post_processor(run, capsys):
    features = load_run(run).text_features.transform(texts_of(run)[:1])
    _, scores = Ranker.load(run).predict(features, 3, post_processor="noop")
    arguments = asked(run, 3)
    lines = call(capsys, predict, *arguments, "--post-processor", "noop").out.splitlines()
    np.testing.assert_allclose(json.loads(lines[0])["scores"], scores[0], atol=1e-6)
    problem = call(capsys, predict, *arguments, "--post-processor", "norp").problem()
    assert problem.startswith("--post-processor: must be one of noop, sigmoid")
    more = ("--post-processor", "noop", "--probabilities")
    assert "are not calibrated" in call(capsys, predict, *arguments, *more).problem()


def test_probabilities_and_least_score(run, capsys):
    arguments = asked(run, 8)
    more = ("--probabilities", "--min-score", 0.5)
    found = [json.loads(line) for line in call(capsys, predict, *arguments, *more).out.splitlines()]
    scores = np.concatenate([line["scores"] for line in found])
    assert scores.min() >= 0.5 and scores.max() <= 1
    counts = [len(line["labels"]) for line in found]
    assert 1.5 < np.mean(counts) < 2.5, "each text has two labels"


def test_evaluate_report_and_info(run, tmp_path, capsys):
    source = ("--run", run, "--data", run.parent / "dev.jsonl")
    outcome = call(capsys, evaluate, *source, "--output", tmp_path, "--tables", tmp_path / "tables")
    summary = json.loads((run / "summary.json").read_text())
    found = json.loads((tmp_path / "evaluation-dev-jsonl.json").read_text())["metrics"]
    assert found["P@3"] == summary["dev"]["P@3"] and "of the labels of probability" in outcome.out
    narrow = call(capsys, evaluate, *source, "--output", tmp_path, "--beam", 1)
    assert narrow.code == 0
    worse = json.loads((tmp_path / "evaluation-dev-jsonl-beam-1.json").read_text())
    assert worse["beam"] == 1 and worse["metrics"]["R@5"] < found["R@5"]
    again = json.loads((tmp_path / "evaluation-dev-jsonl.json").read_text())["metrics"]
    assert again == found

    folder = tmp_path / "report"
    assert call(capsys, report, *source, "--output", folder, "--no-plots").code == 0
    assert "Model: recipe `xr_linear`. Trained in" in (folder / "report.md").read_text()
    shown = call(capsys, info, "--run", run).out
    assert "training: finished, dev P@1" in shown
    assert "\n".join(size_lines(run)) in shown
    problem = call(capsys, evaluate, *source, "--full-loss").problem()
    assert "the model has no softmax over all labels" in problem


def test_export_answers_as_the_native_search(run, tmp_path, capsys):
    outcome = call(capsys, export, "--run", run, "--output", tmp_path / "served", "--k", 8)
    assert outcome.code == 0 and "checked against the run's model" in outcome.out
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    found = served(text=tf.constant(texts_of(run)))
    features = load_run(run).text_features.transform(texts_of(run))
    ids, scores = Ranker.load(run).predict(features, 8)
    np.testing.assert_array_equal(found["ids"], ids)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-5)
    names = load_run(run).vocabulary.names
    assert found["labels"].numpy()[0, 0].decode() == names[ids[0, 0]]
    problem = call(capsys, export, "--run", run, "--format", "onnx").problem()
    assert problem.startswith("--format: a linear ranker cannot be exported as")


def test_the_server_asks_the_native_search(run, monkeypatch):
    def graph(*arguments):
        raise AssertionError("no search in TensorFlow's graph expected")

    monkeypatch.setattr(LinearModel, "top_k", graph)
    client, _ = client_of({"run": run}, options=RunOptions(k=8, scores=True))
    with client:
        answer = client.post("/predict", json={"texts": texts_of(run)}).json()
    features, names = load_run(run).text_features.transform(texts_of(run)), load_run(run).vocabulary
    ids, scores = Ranker.load(run).predict(features, 8)
    for row, labels, values in zip(answer["predictions"], ids, scores, strict=True):
        assert [one["label"] for one in row] == [names.names[i] for i in labels if i >= 0]
        np.testing.assert_allclose([one["score"] for one in row], values[labels >= 0], rtol=1e-5)


# Logistic: recipes/test_xr_exports.py.
@pytest.mark.parametrize("method", [pytest.param("logistic", marks=pytest.mark.slow), "isotonic"])
def test_exported_probabilities_are_those_of_predict(copy, run, method, tmp_path, capsys):
    if method == "isotonic":
        curve = Curve(np.array([0.05, 0.2, 0.5, 0.7]), np.array([0, 0.1, 0.6, 0.9]))
        FittedDecision(Calibration(curve)).save(copy)
        checksums.add(copy, "decision.json")
    options = ("--k", 8, "--beam", 1, "--probabilities")
    done = call(capsys, export, "--run", copy, "--output", tmp_path / "served", *options)
    assert done.code == 0 and "scores are probabilities" in done.out
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    found = served(text=tf.constant(texts_of(run)))
    ids, scores, names = (found[name].numpy() for name in ("ids", "scores", "labels"))
    assert (ids < 0).any() and np.isneginf(scores[ids < 0]).all()
    assert set(names[ids < 0]) == {b""}
    arguments = ("--run", copy, run.parent / "dev.jsonl", *options)
    lines = call(capsys, predict, *arguments).out.splitlines()
    for line, kept, row, chances in zip(lines, ids >= 0, names, scores, strict=True):
        expected = json.loads(line)
        assert [name.decode() for name in row[kept]] == expected["labels"]
        np.testing.assert_allclose(chances[kept], expected["scores"], rtol=0, atol=1e-6)
    raw = Ranker.load(copy).predict(load_run(copy).text_features.transform(texts_of(run)), 8)[1]
    assert np.abs(raw[:, 0] - scores[:, 0]).max() > 0.01


def test_export_without_probabilities_to_give(copy, tmp_path, capsys):
    arguments = ("--run", copy, "--output", tmp_path / "served", "--probabilities")
    before = listing(tmp_path)
    for more in (("--post-processor", "noop"), ()):
        problem = call(capsys, export, *arguments, *more).problem()
        assert problem.startswith("--probabilities: the scores of this model")
        assert listing(tmp_path) == before
        (copy / "decision.json").unlink(missing_ok=True)
        names = set(checksums.entries_of(copy, "")) - {"decision.json"}
        checksums.record(copy, sorted(names))
        before = listing(tmp_path)
    problem = call(capsys, export, *arguments, "--format", "onnx").problem()
    assert problem.startswith("--format: a linear ranker cannot be exported as onnx")


def test_dense_features(tmp_path, capsys):
    random = np.random.default_rng(0)
    centres = random.normal(size=(6, 5))
    for split, count in (("train", 90), ("dev", 30)):
        labels = random.integers(0, 6, count)
        features = centres[labels] + random.normal(size=(count, 5)) / 4
        np.savez(tmp_path / f"{split}.npz", features=features, labels=labels)
    data = {"name": "dense", "train": str(tmp_path / "train.npz"), "dev": str(tmp_path / "dev.npz")}
    tree = {"run": str(tmp_path / "run"), "data": data, "recipe": {"name": "xr_linear"}}
    (tmp_path / "dense.json").write_text(json.dumps(tree))
    arguments = ("--config", tmp_path / "dense.json", "--prepared", tmp_path / "prepared")
    outcome = call(capsys, train, *arguments, "--json")
    assert json.loads(outcome.out)["dev"]["P@1"] > 0.9
    done = call(capsys, export, "--run", tmp_path / "run", "--k", 3)
    assert done.code == 0 and "float32 (batch, 5)" in done.out


def test_other_runs_have_no_beam(tmp_path, capsys):
    from tests.small_runs import make_run

    run = make_run(tmp_path / "run")
    problem = call(capsys, predict, "--run", run, "--beam", 3).problem()
    assert problem.startswith("--beam: a run of recipe 'fit' has no linear ranker")


def test_damaged_ranker(copy, capsys):
    (copy / "ranker" / "layer-1" / "values.npy").unlink()
    problem = call(capsys, info, "--run", copy).problem()
    assert "layer-1/values.npy" in problem and "no such file" in problem


def pairs_of(run, path, rows=80, columns=30):
    """A matrix of pairs in a file: two labels of every example."""
    places = np.repeat(np.arange(rows), 2), np.arange(2 * rows) % columns
    pairs = scipy.sparse.csr_matrix((np.zeros(2 * rows), places), (rows, columns))
    scipy.sparse.save_npz(path, pairs)
    return pairs


def test_chosen_pairs_are_scored(run, tmp_path, capsys):
    pairs = pairs_of(run, tmp_path / "pairs.npz")
    arguments = ("--run", run, run.parent / "dev.jsonl", "--pairs", tmp_path / "pairs.npz")
    arguments += ("--output", tmp_path / "scores.npz", "--batch-size", 30)
    features = load_run(run).text_features.transform(texts_of(run))
    ids, scores = Ranker.load(run).predict(features, 30, beam_size=30, post_processor="noop")
    expected = np.zeros((80, 30), np.float32)
    np.put_along_axis(expected, ids, scores, 1)
    outcome = call(capsys, predict, *arguments, "--post-processor", "noop")
    assert outcome.code == 0 and "scores of 160 pairs" in outcome.out
    found = scipy.sparse.load_npz(tmp_path / "scores.npz")
    np.testing.assert_array_equal(found.indices, pairs.indices)
    places = np.repeat(np.arange(80), 2), pairs.indices
    np.testing.assert_allclose(found.data, expected[places], rtol=1e-5, atol=1e-6)
    call(capsys, predict, *arguments, "--probabilities")
    chances = scipy.sparse.load_npz(tmp_path / "scores.npz").data
    raw = Ranker.load(run).score_pairs(features, pairs).data
    decision = FittedDecision.load(run, 30)
    np.testing.assert_array_equal(chances, decision.calibration(raw[:, None])[:, 0])


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (79, 30, "the matrix has 79 rows, but .* has 80 examples"),
        (81, 30, "the matrix has 81 rows, but .* has 80 examples"),
        (80, 31, "the matrix has 31 columns, but the run has 30 labels"),
    ],
)
def test_pairs_of_other_examples_or_labels(run, tmp_path, capsys, rows, columns, message):
    pairs_of(run, tmp_path / "pairs.npz", rows, columns)
    arguments = ("--run", run, run.parent / "dev.jsonl", "--pairs", tmp_path / "pairs.npz")
    problem = call(capsys, predict, *arguments, "--output", tmp_path / "scores.npz").problem()
    assert re.search(message, problem)
    assert list(listing(tmp_path)) == ["pairs.npz"]


def test_what_does_not_apply_to_pairs(run, tmp_path, capsys):
    pairs_of(run, tmp_path / "pairs.npz")
    pairs, output = ("--pairs", tmp_path / "pairs.npz"), ("--output", tmp_path / "scores.npz")
    texts = run.parent / "dev.jsonl"
    for arguments, message in (
        (
            ("--run", run, texts, *pairs, *output, "--k", 3),
            "--k: this option does not apply to --pairs",
        ),
        (
            ("--run", run, texts, *pairs, *output, "--beam", 3),
            "--beam: this option does not apply to --pairs",
        ),
        (
            ("--run", run, texts, *pairs, *output, "--min-score", 0),
            "--min-score: this option does not apply to --pairs",
        ),
        (
            ("--model", run, texts, *pairs, *output),
            "--model: this option does not apply to --pairs",
        ),
        (("--run", run, texts, *pairs), "--output: the scores of --pairs need a file"),
        (
            ("--run", run, *pairs, *output),
            "FILE: the examples of --pairs cannot come from standard input",
        ),
        (
            ("--run", run, "--run", "x", texts, *pairs, *output),
            "--run: --pairs scores labels with one run, but 2 are given",
        ),
    ):
        assert call(capsys, predict, *arguments).problem().startswith(message)


def test_other_runs_score_no_pairs(run, tmp_path, capsys):
    from tests.small_runs import make_run

    pairs_of(run, tmp_path / "pairs.npz")
    arguments = ("--run", make_run(tmp_path / "run"), tmp_path / "x.txt")
    arguments += ("--pairs", tmp_path / "pairs.npz", "--output", tmp_path / "scores.npz")
    problem = call(capsys, predict, *arguments).problem()
    assert problem.startswith(
        "--run: --pairs needs a linear ranker, but this run searches with the"
    )
