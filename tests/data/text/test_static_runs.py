"""Runs whose texts are read by a static table: trained, predicted with and exported."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call, listing
from tests.data.text.static_tables import make_table
from tests.exports.test_bundle import alone
from tfxc import Run
from tfxc.commands import add_labels, evaluate, export, predict, train

TEXTS = {"animal": ["the red fox", "a fox", "red hens", "a hen!"],
         "sea_life": ["the fish", "a red fish", "fish and crabs", "crabs"]}  # fmt: skip
RANKER = {"name": "xr_linear", "ranker": {"threshold": 0.0, "epsilon": 1e-4}}
NETWORK = {
    "encoder": {"name": "bag_mlp", "hidden": [6]},
    "head": "dense",
    "objective": "softmax",
    "training": {"epochs": 2, "batch_size": 4},
}


def run_of(folder, table, more=(), **sections):
    """Writes a config and its data; returns the run folder."""
    folder.mkdir(exist_ok=True)
    lines = [{"text": t, "labels": [label]} for label, texts in TEXTS.items() for t in texts]
    for split, rows in (("train", [*lines, *more]), ("dev", lines)):
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    texts = {"name": "static", "table": table, "terms": {"name": "tfidf"}}
    data = {"name": "x", "text_features": texts, **sections.pop("data", {})}
    data |= {split: str(folder / f"{split}.jsonl") for split in ("train", "dev")}
    tree = {"run": str(folder / "run"), "data": data, **(sections or {"recipe": RANKER})}
    (folder / "c.json").write_text(json.dumps(tree))
    return folder / "run"


def trained(capsys, folder, run):
    done = call(capsys, train, "--config", folder / "c.json", "--prepared", folder / "prepared")
    assert done.code == 0, done.err
    return run


@pytest.mark.parametrize("kind", ["linear", "network"])
def test_answers_of_exports_are_those_of_the_run(tmp_path, capsys, kind):
    run = run_of(tmp_path, make_table(tmp_path, "words"), **(NETWORK if kind == "network" else {}))
    run = trained(capsys, tmp_path, run)
    texts = tmp_path / "t.txt"
    texts.write_text("a fox\nfish\n\nowls\nthe red hen and a fish\n")
    assert call(capsys, export, "--run", run, "--format", "runtime", "--k", 2).code == 0
    found = alone(run / "runtime", texts)
    assert found.returncode == 0, found.stderr
    expected = call(capsys, predict, "--run", run, texts, "--k", 2, "--scores").out
    for ours, theirs in zip(expected.splitlines(), found.stdout.splitlines(), strict=True):
        ours, theirs = json.loads(ours), json.loads(theirs)
        assert ours["labels"] == theirs["labels"]
        np.testing.assert_allclose(theirs["scores"], ours["scores"], atol=1e-5)
    assert call(capsys, export, "--run", run, "--k", 2).code == 0
    served = tf.saved_model.load(str(run / "savedmodel")).signatures["serving_default"]
    answers = served(tf.constant(texts.read_text().splitlines()))
    for ours, labels in zip(expected.splitlines(), answers["labels"].numpy(), strict=True):
        assert [label.decode() for label in labels] == json.loads(ours)["labels"]


def test_the_run_needs_the_table_no_more(tmp_path, capsys):
    table = make_table(tmp_path, "byte pairs")
    run = trained(capsys, tmp_path, run_of(tmp_path, table))
    before = call(capsys, predict, "--run", run, tmp_path / "dev.jsonl").out
    (tmp_path / "pairs").rename(tmp_path / "elsewhere")
    assert call(capsys, predict, "--run", run, tmp_path / "dev.jsonl").out == before
    assert "text_features/table.npy" in " ".join(listing(run / "assets"))


@pytest.mark.parametrize("kind", ["words", "word pieces"])
def test_a_table_that_has_changed_is_refused(tmp_path, capsys, kind):
    """By what reads the prepared data; the run goes on without it."""
    table = Path(make_table(tmp_path, kind))
    run = trained(capsys, tmp_path, run_of(tmp_path, str(table)))
    before = call(capsys, predict, "--run", run, tmp_path / "dev.jsonl").out
    file = table / "model.safetensors" if table.is_dir() else table
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    prepared = ("--prepared", tmp_path / "prepared")
    for command in (
        (train, "--config", tmp_path / "c.json"),
        (evaluate, "--run", run, "--split", "dev"),
    ):
        problem = call(capsys, *command, *prepared).problem()
        assert problem.startswith(f"data.text_features.table: {table} has changed since it was")
    assert call(capsys, predict, "--run", run, tmp_path / "dev.jsonl").out == before
    file.write_bytes(content)
    assert call(capsys, evaluate, "--run", run, "--split", "dev", *prepared).code == 0
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    fresh = call(capsys, train, "--config", tmp_path / "c.json", "--fresh", *prepared)
    assert fresh.code == 0 and "has changed since it was prepared" in fresh.err


def scores_of(run, texts, count):
    """Scores of all labels in alphabetical order, (texts, count)."""
    predicted = Run(run).predict(texts, k=count)
    order = np.argsort(np.array(predicted.labels), axis=1)
    return np.take_along_axis(np.array(predicted.scores), order, 1)


def test_texts_of_labels_as_examples(tmp_path, capsys):
    """The same ranker as of a file that holds the names as examples, also with a new label."""
    table = make_table(tmp_path, "words")
    rows = {**RANKER, "label_text_rows": True}
    own = run_of(tmp_path / "a", table, recipe=rows, data={"label_texts": "names"})
    names = [{"text": "animal", "labels": ["animal"]}, {"text": "sea life", "labels": ["sea_life"]}]
    written = run_of(tmp_path / "b", table, names, recipe=RANKER)
    plain = run_of(tmp_path / "c", table, recipe=RANKER)
    texts = ["animal", "life", "a fox", "fish", "owls"]
    (tmp_path / "new.jsonl").write_text(json.dumps({"text": "owls", "labels": ["bird"]}) + "\n")
    scores = []
    for run in (own, written, plain):
        trained(capsys, run.parent, run)
        more = run.parent / "more"
        options = ("--data", tmp_path / "new.jsonl", "--prepared", run.parent / "prepared")
        assert call(capsys, add_labels, run, *options, "--output", more).code == 0
        scores += [scores_of(run, texts, 2), scores_of(more, texts, 3)]
    np.testing.assert_allclose(scores[0], scores[2], atol=2e-3)
    np.testing.assert_allclose(scores[1], scores[3], atol=2e-3)
    assert np.abs(scores[0] - scores[4]).max() > 0.1


@pytest.mark.parametrize(
    ("data", "ranker", "problem"),
    [
        ({}, {}, "it needs data.label_texts"),
        ({"label_texts": "names"}, {"relevance_file": "x.npz", "relevance_mode": "induce"},
         "recipe.ranker.relevance_file has no rows"),
    ],
)  # fmt: skip
def test_texts_of_labels_that_cannot_be_examples(tmp_path, capsys, data, ranker, problem):
    recipe = {**RANKER, "label_text_rows": True, "ranker": ranker}
    run_of(tmp_path, "x.vec", recipe=recipe, data=data)
    done = call(capsys, train, "--config", tmp_path / "c.json")
    assert f"recipe.label_text_rows: {problem}" in done.problem()
