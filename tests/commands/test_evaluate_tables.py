"""Option --tables of evaluate: tables and averages against scikit-learn."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tests import tiny
from tests.commands.calls import call
from tfxc.commands import evaluate, train
from tfxc.metrics import per_label
from tfxc.metrics.per_label import PerLabel
from tfxc.runs.loaded import load_run

NAMES = ("fox", "hen", "owl", "yak")


def trained(folder, capsys, rows, objective, watch="P@1"):
    """A run on texts and labels, measured on the same."""
    for split in ("train", "dev"):
        with open(folder / f"{split}.jsonl", "w") as stream:
            for text, labels in rows:
                stream.write(json.dumps({"text": text, "labels": labels}) + "\n")
    data = {
        "name": "animals",
        "train": str(folder / "train.jsonl"),
        "dev": str(folder / "dev.jsonl"),
        "text_features": {"name": "tfidf"},
        "normalise": None,
    }
    training = {"watch": watch}
    objective = {"name": objective}
    config = tiny.write_config(folder, data=data, objective=objective, training=training)
    command = ("--config", config, "--prepared", folder / "prepared")
    assert call(capsys, train, *command, "--set", "training.epochs=4").code == 0
    return folder / "run"


def measured(folder, run, capsys, *more):
    """Output and rows of the three tables."""
    command = ("--run", run, "--data", folder / "dev.jsonl", "--k", "1")
    outcome = call(capsys, evaluate, *command, "--tables", folder / "tables", *more)
    assert outcome.code == 0, outcome
    tables = [
        list(csv.DictReader((folder / "tables" / f"{name}.csv").open(newline="")))
        for name in ("labels", "confusions", "wrong")
    ]
    return outcome.out, *tables


def probabilities(run, texts):
    loaded = load_run(run)
    rows = loaded.text_features.transform(texts)
    features = {
        "ids": tf.constant(rows.indices),
        "weights": tf.constant(rows.data),
        "row_splits": tf.constant(rows.indptr, tf.int64),
    }
    logits = loaded.model(features)
    link = loaded.model.objective.link
    found = tf.sigmoid(logits) if link == "sigmoid" else tf.nn.softmax(logits)
    return found.numpy(), loaded.vocabulary.names


def line_of(out, name):
    """The numbers of an average."""
    (line,) = (line for line in out.splitlines() if line.startswith(f"{name} "))
    return [float(part) / 100 for part in line[len(name) :].split()]


def check(out, rows, true, predicted, names):
    """Averages, accuracy and the table of labels."""
    for average in ("micro", "macro", "samples"):
        expected = precision_recall_fscore_support(
            true, predicted, average=average, zero_division=0
        )
        np.testing.assert_allclose(line_of(out, average), expected[:3], atol=6e-5)
    (line,) = (line for line in out.splitlines() if line.startswith("accuracy: "))
    assert float(line.split()[1]) == pytest.approx(100 * accuracy_score(true, predicted), abs=6e-3)
    expected = precision_recall_fscore_support(true, predicted, average=None, zero_division=0)
    assert len(rows) == len(names)
    for row in rows:
        label = names.index(row["label"])
        values = [float(row[key]) for key in ("precision", "recall", "F1")]
        np.testing.assert_allclose(values, [part[label] for part in expected[:3]])
        assert int(row["true"]) == expected[3][label]


def indicators(lists, names):
    return np.array([[name in labels for name in names] for labels in lists]).astype(int)


def test_several_labels(tmp_path, capsys):
    """Labels of probability 0.5 or more; texts of which some say nothing about theirs."""
    random, rows = np.random.default_rng(0), []
    for number in range(160):
        labels = [name for name in NAMES if random.random() < 0.4]
        stated = [name for name in labels if random.random() < 0.8]
        rows.append((f"a {' and '.join(stated)} here{number % 9}", labels or ["fox"]))
    run = trained(tmp_path, capsys, rows, "sigmoid")
    out, labels, confusions, wrong = measured(tmp_path, run, capsys)
    found, names = probabilities(run, [text for text, _ in rows])
    true, predicted = indicators([row for _, row in rows], names), (found >= 0.5).astype(int)
    assert "labels of probability 0.5 or more" in out and " examples per second" in out
    check(out, labels, true, predicted, names)
    differing = (true != predicted).any(axis=1)
    assert len(wrong) == differing.sum() > 5
    for row in wrong:
        number = int(row["example"]) - 1
        assert row["text"] == rows[number][0] and differing[number]
        given = [float(part) for part in row["probabilities"].split("; ") if part]
        expected = np.sort(found[number][found[number] >= 0.5])[::-1]
        np.testing.assert_allclose(given, expected, rtol=1e-3)
    for row in confusions:
        one, other = names.index(row["true"]), names.index(row["predicted instead"])
        missed = true[:, one] & ~predicted[:, one] & predicted[:, other] & (1 - true[:, other])
        assert int(row["examples"]) == missed.sum()
    out, _, _, wrong = measured(tmp_path, run, capsys, "--threshold", "1.5", "--max-wrong", "3")
    assert "labels of score 1.5 or more" in out and len(wrong) == 3
    assert "wrong examples the 3 most confident are kept" in out and "scores" in wrong[0]


def test_one_label_of_two(tmp_path, capsys):
    """The best label alone; the average ``binary``, and the full loss next to probabilities."""
    rows = [(f"{'bad' if n % 5 == 0 else 'good'} film{n % 7}", [str(n % 3 % 2)]) for n in range(90)]
    run = trained(tmp_path, capsys, rows, "softmax", watch="binary-F1")
    out, labels, _, wrong = measured(tmp_path, run, capsys, "--full-loss")
    found, names = probabilities(run, [text for text, _ in rows])
    assert "best label" in out and "full_loss" in out
    true = indicators([row for _, row in rows], names)
    predicted = np.eye(2, dtype=int)[found.argmax(axis=1)]
    check(out, labels, true, predicted, names)
    one = names.index("1")
    expected = precision_recall_fscore_support(
        true[:, one], predicted[:, one], average="binary", zero_division=0
    )
    np.testing.assert_allclose(line_of(out, "binary (1)"), expected[:3], atol=6e-5)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["best_metric"] == "binary-F1"
    assert summary["dev"]["binary-F1"] == pytest.approx(expected[2])
    assert f"binary-F1 {100 * expected[2]:.2f}" in (run / "log.txt").read_text()
    assert wrong
    for row in wrong:
        best = found[int(row["example"]) - 1].max()
        assert float(row["probabilities"]) == pytest.approx(best, rel=1e-3)
    plain = call(capsys, evaluate, "--run", run, "--data", tmp_path / "dev.jsonl", "--k", "1")
    (line,) = (line for line in plain.out.splitlines() if line.startswith("accuracy "))
    assert f"accuracy: {line.split()[1]}" in out  # one label per example: always measured


def test_what_is_kept(monkeypatch):
    """The most confident wrong examples, and the most frequent pairs."""
    monkeypatch.setattr(per_label, "_MAX_PAIRS", 4)
    found, random = PerLabel(30, most=5), np.random.default_rng(0)
    scores = random.permutation(200) / 200
    best, true = random.integers(0, 30, (2, 200))
    best[:40], true[:40] = 1, 2
    found.update(best[:, None], scores[:, None], true[:, None])
    wrong = np.flatnonzero(best != true)
    assert found.num_wrong == len(wrong)
    surest = sorted(wrong[np.argsort(-scores[wrong])][:5])
    assert [row for row, *_ in found.wrong] == surest
    assert found.confusions()[0].tolist() == [2, 1, 40]
    assert found.pairs_left_out and len(found.confusions()) <= 8
