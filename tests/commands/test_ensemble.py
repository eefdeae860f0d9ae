"""The command ensemble."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.commands.calls import call
from tests.linear_runs import write_texts
from tests.source_tree import ROOT
from tfxc.commands import decide, ensemble, predict, train
from tfxc.core.errors import DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.inference.ensemble_file import EnsembleFile
from tfxc.inference.predictors import RunPredictor
from tfxc.ranker.ensemble import combine
from tfxc.runs.loaded import load_run

DATA = ROOT / "tests" / "ranker" / "data"


def make_runs(folder):
    """Two runs over the same labels in another order, and a file of examples."""
    from tests.small_runs import NAMES, TEXTS, make_run

    one = make_run(folder / "one", text_features={"name": "tfidf"})
    other = make_run(folder / "other", text_features={"name": "tfidf"}, names=NAMES[::-1])
    lines = [{"text": t, "labels": [NAMES[n], "new"]} for n, t in enumerate(TEXTS)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return one, other


def test_ensemble(tmp_path, capsys):
    from tests.small_runs import NAMES, TEXTS, make_run

    one, other = make_runs(tmp_path)
    arguments = (one, other, "--data", tmp_path / "texts.jsonl", "--k", "1,3", "--top", 6)
    outcome = call(capsys, ensemble, *arguments, "--method", "rank_average")
    assert outcome.code == 0
    lists = []
    for number, path in enumerate((one, other)):
        loaded = load_run(path)
        bag = loaded.text_features.transform(TEXTS)
        weights = [np.asarray(weight.value) for weight in loaded.model.trainable_variables]
        table, bias, kernel, head_bias = weights
        scores = np.maximum(bag @ table + bias, 0) @ kernel + head_bias
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :6]
        lists.append((len(NAMES) - 1 - ids if number else ids, np.take_along_axis(scores, ids, 1)))
    expected = combine(lists, "rank_average", 3)[0]
    hits = (expected == np.arange(len(TEXTS))[:, None]).sum(axis=1).mean() / 3
    line = next(line for line in outcome.out.splitlines() if line.startswith("rank_average of 2"))
    assert f"P@3 {100 * hits:.2f}" in line

    third = make_run(tmp_path / "third", text_features={"name": "tfidf"}, names=NAMES[:-1])
    problem = call(capsys, ensemble, one, third, *arguments[2:]).problem()
    assert problem.startswith(f"{third}: its 11 labels are not the 12 of the first run")


def test_weights_are_chosen(tmp_path, capsys):
    """The weights that differ least among the best."""
    right, wrong = (np.array([[1], [2]]), np.ones((2, 1))), (np.array([[2], [1]]), np.ones((2, 1)))
    truth = np.array([[1], [2]], np.int32)
    assert ensemble.best_weights([right, wrong], truth, [1], "rank_average") == [0.6, 0.4]
    assert ensemble.best_weights([wrong, wrong, right], truth, [1], "rank_average")[2] > 0.5
    one, other = make_runs(tmp_path)
    for options, message in (
        (["--choose", "dev", "--split", "dev"], "--choose: 'dev' is the split that is measured"),
        (["--weights", "1,2,3"], "a number of at least 0 for each of 2 models"),
    ):
        assert message in call(capsys, ensemble, one, other, *options).problem()
    assert (
        "weights can be chosen for 2 to 5 runs"
        in call(capsys, ensemble, one, "--choose", "dev").problem()
    )


def test_a_decision_of_several_runs(tmp_path, monkeypatch, capsys):
    """Learned of their combined lists, and moved with them."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_texts("mine.jsonl", 150, 0)
    write_texts("held.jsonl", 80, 1)
    write_texts("new.jsonl", 30, 2)
    for name, least in (("one", 1), ("two", 3)):
        features = f'data.text_features={{"name": "tfidf", "min_df": {least}}}'
        arguments = ("mine.jsonl", "--no-refit", "--set", features, "--run", name)
        assert call(capsys, train, *arguments).code == 0
    options = ("--data", "held.jsonl", "--weights", "2,1", "--top", 6, "--output", "both.json")
    assert "take it in place of a run" in call(capsys, ensemble, "one", "two", *options).out
    asked = ("both.json", "new.jsonl")
    assert "learned of dev: decision" in call(capsys, decide, "both.json").out
    outcome = call(capsys, decide, "both.json", "--data", "held.jsonl")
    assert "both.json, learned of held.jsonl: decision: micro-F1 " in outcome.out, outcome.err
    found = call(capsys, predict, *asked).out.splitlines()

    texts = [json.loads(line)["text"] for line in Path("new.jsonl").read_text().splitlines()]
    lists = []
    for name in ("one", "two"):
        loaded = load_run(name)
        chunk = Chunk(labels=[[] for _ in texts], texts=texts)
        lists.append(RunPredictor(loaded, 6).find(chunk))
    ids, scores = combine(lists, "softmax_average", 6, [2, 1])
    decision = EnsembleFile.load("both.json").decision
    likely = decision.calibration(scores)
    chosen = decision.rule.predicted(ids, likely)
    names = load_run("one").vocabulary.names
    for line, row, of_row, counts in zip(found, ids, likely, chosen, strict=True):
        answer = json.loads(line)
        assert answer["labels"] == [names[i] for i in row[counts]]
        np.testing.assert_allclose(answer["scores"], of_row[counts], atol=1e-5)
    section = '{"name": "coverage_at_k", "count": 2}'
    together = call(capsys, decide, "both.json", "--labels", section, "--unlabelled", "new.jsonl")
    assert "both.json, fitted to new.jsonl: 2 labels for each of 30 examples" in together.out
    fitted = EnsembleFile.load("both.json").decision
    assert fitted.calibration.content() == decision.calibration.content()
    returned = call(capsys, predict, *asked).out.splitlines()
    assert all(len(json.loads(line)["labels"]) == 2 for line in returned)
    EnsembleFile.save(
        dataclasses.replace(EnsembleFile.load("both.json"), decision=decision), "both.json"
    )
    best = call(capsys, predict, *asked, "--k", 2).out.splitlines()
    assert all(len(json.loads(line)["labels"]) == 2 for line in best)

    shutil.copytree(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    shutil.rmtree("here")
    assert call(capsys, predict, "there/both.json", "there/new.jsonl").out.splitlines() == found
    problem = call(capsys, predict, "there/both.json", "there/new.jsonl", "--top", 3).problem()
    assert problem.startswith("--top: there/both.json says how its runs are combined")
    assert call(capsys, train, "there/mine.jsonl", "--run", "all").code == 0
    options = ("--data", "there/held.jsonl", "--output", "several.json")
    assert call(capsys, ensemble, "all", "there/one", *options).code == 0
    problem = call(capsys, decide, "several.json").problem()
    assert "all was trained on all of its examples at last. Name a file of other" in problem
    right = (tmp_path / "there" / "both.json").read_text()
    one_run = '{"format": 1, "top": 3, "runs": ["one"]}'
    for content in ("{}", '{"format": 2}', one_run, right.replace('"top": 6', '"top": "6"')):
        (tmp_path / "wrong.json").write_text(content)
        with pytest.raises(DataError, match="this is not an ensemble"):
            EnsembleFile.load("wrong.json")


def test_trees_score_what_several_runs_list(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_texts("mine.jsonl", 400, 0)
    write_texts("held.jsonl", 80, 1)
    one = ("mine.jsonl", "--no-refit", "--run", "one")
    assert call(capsys, train, *one).code == 0
    features = '{"name": "tfidf", "characters": [2, 3]}'
    two = ("mine.jsonl", "--no-refit", "--run", "two", "--set", "recipe=memory")
    assert call(capsys, train, *two, "--set", f"data.text_features={features}").code == 0
    asked = ("one", "two", "--method", "trees")
    problem = call(capsys, ensemble, *asked, "--data", "held.jsonl").problem()
    assert "--method: trees are fitted on examples that no run was trained on" in problem
    problem = call(capsys, ensemble, *asked, "--choose", "train", "--data", "held.jsonl").problem()
    assert "--choose: the runs were trained on it" in problem
    asked = (*asked, "--choose", "dev", "--data", "held.jsonl", "--output", "both.json")
    outcome = call(capsys, ensemble, *asked)
    assert "trees of 2 runs: P@1 " in outcome.out, outcome.err
    problem = call(capsys, decide, "both.json").problem()
    assert "its trees were fitted on a split of the runs" in problem
    problem = call(capsys, predict, "both.json", "held.jsonl", "--probabilities").problem()
    assert "--probabilities: no probabilities have been learned of both.json" in problem
    together = ("both.json", "--labels", "coverage_at_k", "--unlabelled", "held.jsonl")
    assert "no probabilities have been learned of it" in call(capsys, decide, *together).problem()
    assert call(capsys, decide, "both.json", "--data", "held.jsonl").code == 0
    again = call(capsys, ensemble, "both.json", "--data", "held.jsonl")
    assert again.out.splitlines() == outcome.out.splitlines()[:-1]
    problem = call(capsys, ensemble, "both.json", "--data", "held.jsonl", "--top", 3).problem()
    assert problem.startswith("--top: both.json says how its runs are combined")
    problem = call(capsys, ensemble, "both.json", "--data", "held.jsonl", "--k", 21).problem()
    assert "labels that both.json lists" in problem

    found = call(capsys, predict, "both.json", "held.jsonl", "--k", 3, "--scores").out
    texts = [json.loads(line)["text"] for line in Path("held.jsonl").read_text().splitlines()]
    lists = []
    for name in ("one", "two"):
        chunk = Chunk(labels=[[] for _ in texts], texts=texts)
        lists.append(RunPredictor(load_run(name), 20).find(chunk))
    ids, scores = combine(lists, EnsembleFile.load("both.json").method, 3)
    names = load_run("one").vocabulary.names
    for line, row, of_row in zip(found.splitlines(), ids, scores, strict=True):
        answer = json.loads(line)
        assert answer["labels"] == [names[i] for i in row]
        np.testing.assert_allclose(answer["scores"], of_row, atol=1e-5)
    content = json.loads(Path("both.json").read_text())
    for wrong in ({**content, "trees": {}}, {**content, "method": "average"}):
        Path("wrong.json").write_text(json.dumps(wrong))
        with pytest.raises(DataError, match="this is not an ensemble"):
            EnsembleFile.load("wrong.json")


def test_a_file_of_several_runs_is_theirs(tmp_path, monkeypatch, capsys):
    """Of other labels than theirs nothing is said, and nothing else is overwritten."""
    one, other = make_runs(tmp_path)
    monkeypatch.chdir(tmp_path)
    data = ("--data", "texts.jsonl", "--top", 6, "--k", 1, "--method", "average")
    problem = call(capsys, ensemble, one, *data, "--output", "both.json").problem()
    assert problem.startswith("--output: one run is no ensemble")
    (tmp_path / "config.json").write_text("{}")
    problem = call(capsys, ensemble, one, other, *data, "--output", "config.json").problem()
    assert "config.json: this is not an ensemble" in problem
    assert call(capsys, ensemble, one, other, *data, "--output", "both.json").code == 0
    likely = ("texts.jsonl", "--probabilities", "--k", 3)
    found = call(capsys, predict, "both.json", *likely).out
    runs = ("--run", one, "--run", other, "--ensemble", "average", "--top", 6)
    assert found == call(capsys, predict, *runs, *likely).out and found
    problem = call(capsys, decide, "both.json", "--data", "texts.jsonl", "--k", 7).problem()
    assert problem.startswith("--k: 7 is more than the 6 labels of each run")
    content = json.loads(Path("both.json").read_text())
    Path("both.json").write_text(json.dumps({**content, "labels": "of others"}))
    for command in ((predict, "both.json", "texts.jsonl"), (decide, "both.json", *data[:2])):
        assert "its runs had other labels" in call(capsys, *command).problem()
