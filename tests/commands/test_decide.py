"""A decision that is learned again, by the command."""

import json

import numpy as np
import pytest
import scipy.sparse

from tests import tiny
from tests.commands.calls import call
from tests.decision.test_at_k import COUNT, METHODS, ascent, utility
from tests.linear_runs import NUM_LABELS, write_texts
from tfxc.commands import decide, evaluate, predict, report, train
from tfxc.runs.loaded import load_run


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    """A file, and the run that the default makes of it, in folds."""
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "mine.jsonl", 200, 0)
    write_texts(tmp_path / "new.jsonl", 60, 1)
    assert call(capsys, train, "mine.jsonl").code == 0
    return tmp_path


def test_of_the_examples_that_were_held_out(folder, capsys):
    """It is what the training learned of them; another rule is another file of the run."""
    run = folder / "runs" / "mine"
    content = (run / "decision.json").read_bytes()
    weights = (run / "ranker" / "layer-0" / "values.npy").read_bytes()
    outcome = call(capsys, decide, run)
    assert outcome.code == 0 and f"{run}, learned of dev: decision: micro-F1 " in outcome.out
    assert (run / "decision.json").read_bytes() == content
    section = json.dumps({"name": "threshold", "value": 0.9, "at_least": 1})
    assert call(capsys, decide, run, "--labels", section).code == 0
    rule = load_run(run).model.decision.rule
    assert rule.threshold == 0.9 and rule.at_least == 1 and rule.of_labels is None
    answers = call(capsys, predict, run, "new.jsonl").out.splitlines()
    assert all(json.loads(answer)["labels"] for answer in answers)
    assert (run / "ranker" / "layer-0" / "values.npy").read_bytes() == weights
    outcome = call(capsys, decide, run, "--data", "new.jsonl", "--labels", "f_measure")
    assert outcome.code == 0 and f"{run}, learned of new.jsonl: " in outcome.out


def test_labels_that_the_run_does_not_know_are_named(folder, capsys):
    run = folder / "runs" / "mine"
    lines = [json.loads(line) for line in (folder / "new.jsonl").read_text().splitlines()]
    lines = [{**line, "labels": [*line["labels"], "owl.0"]} for line in lines]
    (folder / "odd.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcome = call(capsys, decide, run, "--data", "odd.jsonl")
    assert outcome.code == 0
    assert "odd.jsonl: 1 of their labels are unknown to the run: 'owl.0'" in outcome.err
    lines = [{**line, "labels": ["owl.0"]} for line in lines]
    (folder / "odd.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcome = call(capsys, decide, run, "--data", "odd.jsonl")
    assert "labels found is true" in outcome.problem() and "'owl.0'" in outcome.err


def test_as_many_for_each(folder, capsys):
    run = folder / "runs" / "mine"
    assert call(capsys, decide, run, "--labels", '{"name": "top_k", "count": 2}').code == 0
    answers = call(capsys, predict, run, "new.jsonl").out.splitlines()
    assert {len(json.loads(answer)["labels"]) for answer in answers} == {2}


@pytest.mark.parametrize("method", METHODS)
def test_for_all_examples_of_a_file_together(folder, capsys, method):
    """Nearly as good as block coordinate ascent over the file."""
    run = folder / "runs" / "mine"
    random = np.random.default_rng(0)
    shares = 1 / np.arange(1, NUM_LABELS + 1)
    with open("texts.txt", "w") as stream:  # of five labels, some of them in most texts
        for _ in range(60):
            labels = random.choice(NUM_LABELS, 5, replace=False, p=shares / shares.sum())
            stream.write(" ".join(f"w{label}a" for label in labels) + "\n")
    assert call(capsys, decide, run, "--abstain", "0.01").code == 0
    before = load_run(run).model.decision
    section = json.dumps({"name": METHODS[method].name, "count": COUNT})
    outcome = call(capsys, decide, run, "--labels", section, "--unlabelled", "texts.txt")
    assert f"texts.txt: {COUNT} labels for each of 60 examples, " in outcome.out, outcome.err
    by_name = call(
        capsys, decide, run, "--labels", METHODS[method].name, "--unlabelled", "texts.txt"
    )
    assert "texts.txt: 5 labels for each of 60 examples, " in by_name.out, by_name.err
    assert call(capsys, decide, run, "--labels", section, "--unlabelled", "texts.txt").code == 0
    fitted = load_run(run).model.decision
    assert fitted.calibration.content() == before.calibration.content()
    assert fitted.rule.abstain == 0.01

    everything = ("--k", NUM_LABELS, "--probabilities", "--output", "all.npz")
    assert call(capsys, predict, run, "texts.txt", *everything).code == 0
    chances = scipy.sparse.load_npz("all.npz").toarray()
    assert call(capsys, predict, run, "texts.txt", "--output", "chosen.npz").code == 0
    chosen = scipy.sparse.load_npz("chosen.npz").toarray() > 0
    assert (chosen.sum(axis=1) == COUNT).all()
    likeliest = np.zeros(chances.shape, bool)
    np.put_along_axis(likeliest, np.argsort(-chances, axis=1)[:, :COUNT], True, 1)
    precision = METHODS[method](COUNT).precision
    least, own, most = (
        utility(method, chances, labels, precision)
        for labels in (likeliest, chosen, ascent(method, chances, precision))
    )
    assert least < most and (own - least) / (most - least) > 0.8, (least, own, most)


def test_sets_and_none_of_them(folder, capsys):
    run = folder / "runs" / "mine"
    section = json.dumps({"name": "conformal", "alpha": 0.2})
    outcome = call(capsys, decide, run, "--labels", section, "--abstain", "2")
    assert outcome.code == 0 and " labels each with " in outcome.out, outcome.err
    rule = load_run(run).model.decision.rule
    assert rule.abstain == 2 and rule.penalty is None
    answers = call(capsys, predict, run, "new.jsonl").out.splitlines()
    assert not any(json.loads(answer)["labels"] for answer in answers)
    assert call(capsys, decide, run, "--labels", section, "--abstain", '{"risk": 0.3}').code == 0
    rule = load_run(run).model.decision.rule
    assert 0 < rule.abstain <= 1
    outcome = call(capsys, evaluate, run, "--data", "new.jsonl", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)["metrics"]
    assert found["set coverage"] >= 0.7 and found["mean set size"] >= found["set coverage"]
    assert {"ECE@1", "adaptive ECE@5", "Brier@3", "AURC", "macro-F1@1", "median set size"} <= {
        *found
    }
    assert {f"set coverage/{part}" for part in ("head", "torso", "tail")} <= {*found}
    assert call(capsys, report, run, "--data", "new.jsonl", "--no-page").code == 0
    assert "(sets.svg)" in (run / "report" / "report.md").read_text()
    drawn = (run / "report" / "sets.svg").read_text()
    assert "risk and coverage" in drawn and "sizes of the sets returned" in drawn
    impossible = json.dumps({"name": "conformal", "alpha": 0.0001})
    message = call(capsys, decide, run, "--labels", impossible).err
    assert "alpha 0.0001 needs 9,999 examples, and there are 200" in message
    assert load_run(run).model.decision.rule == rule


def test_a_network_of_one_label_each(tmp_path, capsys):
    """Sets and abstaining are learned in training, of a softmax without further probabilities."""
    for name, count, seed in (("train", 150, 0), ("dev", 60, 1)):
        random = np.random.default_rng(seed)
        rows = [
            {"text": f"{label} n{random.integers(9)}", "labels": [label]}
            for label in random.choice(["fox", "hen", "owl", "yak"], count).tolist()
        ]
        lines = [json.dumps(row) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "dev")}
    config = tiny.write_config(
        tmp_path,
        data={**files, "text_features": {"name": "tfidf"}, "normalise": None},
        objective={"name": "softmax"},
        evaluation={"k": [1, 3]},
        decision={"labels": "conformal", "abstain": 0.5},
    )
    outcome = call(capsys, train, "--config", config, "--prepared", tmp_path / "prepared")
    assert outcome.code == 0 and "decision: micro-F1 " in outcome.out, outcome.err
    rule = load_run(tmp_path / "run").model.decision.rule
    assert rule.penalty == 0.1 and rule.abstain == 0.5 and rule.at_most == 4
    (tmp_path / "new.txt").write_text("fox n1\nwords that are not known\n")
    answers = call(capsys, predict, tmp_path / "run", tmp_path / "new.txt").out.splitlines()
    assert [json.loads(answer)["labels"] for answer in answers] == [["fox"], []]


def test_what_is_refused(folder, capsys):
    run = folder / "runs" / "mine"
    before = (run / "decision.json").read_bytes()
    for more, message in (
        (("--data", "mine.jsonl"), "--data: the run was trained on mine.jsonl, of whose labels"),
        (("--labels", "best"), "decision.labels: unknown labels 'best'"),
        (("--labels", '{"name": "top_k"}'), "--labels: labels 'top_k' needs count"),
        (("--labels", '{"name"'), '--labels: {"name" is not JSON'),
        (("--abstain", "never"), "--abstain: never is neither a number nor JSON"),
        (("--abstain", '{"risk": 2}'), "decide: decision.abstain.risk: must be "),
        (("--unlabelled", "mine.jsonl"), "--unlabelled: the run was trained on mine.jsonl"),
        (("--unlabelled", "new.jsonl"), "--labels: only macro_f1_at_k and coverage_at_k are"),
        (("--unlabelled", "new.jsonl", "--abstain", ".3"), "--abstain: it is learned of labelled"),
        (("--abstain", "{}"), "decision.abstain: neither below nor risk is set"),
    ):
        assert message in call(capsys, decide, run, *more).err
    assert (run / "decision.json").read_bytes() == before
