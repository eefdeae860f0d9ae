"""One run, four reports: training, evaluate, evaluate --tables and report find the same values."""

import json
import re

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tests import tiny
from tests.commands.calls import call
from tfxc.commands import evaluate, report, train
from tfxc.runs.loaded import load_run

VALUES = ("precision", "recall", "F1")
KNOWN, UNKNOWN = ("fox", "hen", "owl", "yak", "bee", "cow", "elk"), ("gnu", "emu")
SINGLE = {"objective": {"name": "softmax"}, "most_labels": 1}
SEVERAL = {"objective": {"name": "sigmoid"}, "most_labels": 3}
CASES = {
    f"{labels}, {unknown}, threshold {threshold}": (facts, unknown == "unknown labels", threshold)
    for labels, facts in (("one label", SINGLE), ("several labels", SEVERAL))
    for unknown in ("known labels", "unknown labels")
    for threshold in (None, -1.0)
}


def examples(random, count, names, most_labels):
    """Texts that name most of their labels, and some that they do not have."""
    rows = []
    for number in range(count):
        labels = random.choice(names, random.integers(1, most_labels + 1), replace=False).tolist()
        words = [name for name in labels if random.random() < 0.7]
        words += random.choice(KNOWN, 1).tolist() if random.random() < 0.4 else []
        rows.append((f"{' '.join(words)} here{number % 5}", labels))
    return rows


def write(path, rows):
    lines = [json.dumps({"text": text, "labels": labels}) for text, labels in rows]
    path.write_text("\n".join(lines) + "\n")


def expected_values(loaded, rows, threshold, single_label):
    """By scikit-learn and NumPy, from the scores of all labels."""
    rule = threshold
    if threshold is None and not single_label:
        rule = 0.0  # the logit of a probability of 0.5
    names = [*loaded.vocabulary.names, *UNKNOWN]
    texts = [text for text, _ in rows]
    features = loaded.text_features.transform(texts).toarray()
    scores = scores_of(loaded.model, features)
    truth = np.array([[name in labels for name in names] for _, labels in rows])
    predicted = np.zeros(truth.shape, bool)
    known = predicted[:, : scores.shape[1]]
    known[:] = np.eye(scores.shape[1])[scores.argmax(1)] if rule is None else scores >= rule
    present = np.flatnonzero((truth | predicted).any(axis=0))
    expected = {"accuracy": accuracy_score(truth, predicted)}
    for average, counted in (("micro", present), ("macro", present), ("samples", None)):
        found = precision_recall_fscore_support(
            truth, predicted, labels=counted, average=average, zero_division=0
        )
        expected |= {f"{average}-{n}": v for n, v in zip(VALUES, found, strict=False)}
    ranks = np.argsort(-scores, axis=1, kind="stable")
    hits, sizes = np.take_along_axis(truth, ranks, axis=1), truth.sum(axis=1)
    for k in (1, 3):
        found = hits[:, :k].sum(axis=1)
        expected[f"P@{k}"] = (found / k).mean()
        expected[f"R@{k}"] = (found[sizes > 0] / sizes[sizes > 0]).mean()
    return expected


def scores_of(model, features):
    table, bias, kernel, head_bias = [weight.numpy() for weight in model.trainable_variables]
    return np.maximum(features @ table + bias, 0) @ kernel.reshape(bias.size, -1) + head_bias


def table_of(lines):
    """Values of a table of averages, as text or Markdown."""
    found = {}
    for line in lines:
        cells = re.fullmatch(r"\W*(micro|macro|samples)((?: [ |]*[0-9.]+){3})[ |]*", line)
        if cells:
            numbers = [float(part) for part in re.findall(r"[0-9.]+", cells[2])]
            found |= {f"{cells[1]}-{n}": v for n, v in zip(VALUES, numbers, strict=True)}
    return found


def metrics_of(text):
    """Lines of the table of metrics."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("% "))
    last = next(n for n in range(first, len(lines)) if re.match(r"```|[0-9.]+ s, ", lines[n]))
    return lines[first:last]


def trained(folder, capsys, facts, unknown, threshold):
    """Command line of a run, its dev examples, and its summary; it watches F1 where it has one."""
    random, most = np.random.default_rng(0), facts["most_labels"]
    write(folder / "train.jsonl", examples(random, 150, KNOWN, most))
    rows = examples(random, 70, (*KNOWN, *UNKNOWN) if unknown else KNOWN, most)
    rows += [("fox here1", []), ("nothing", [])] if unknown else []
    write(folder / "dev.jsonl", rows)
    data = {"train": str(folder / "train.jsonl"), "dev": str(folder / "dev.jsonl")}
    watched = "macro-F1" if facts is SINGLE or threshold is not None else "R@3"
    config = tiny.write_config(
        folder,
        data={**data, "text_features": {"name": "tfidf"}, "normalise": None},
        objective=facts["objective"],
        training={"epochs": 5, "watch": watched},
        evaluation={"k": [1, 3], "threshold": threshold},
    )
    prepared = ("--prepared", folder / "prepared")
    assert call(capsys, train, "--config", config, *prepared).code == 0
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["best_metric"] == watched and summary["best"] >= summary["dev"][watched]
    log = (folder / "run" / "log.txt").read_text()
    assert f"{watched} {100 * summary['dev'][watched]:.2f}" in log
    return ("--run", folder / "run", *prepared), rows, summary["dev"]


@pytest.mark.parametrize(
    "case",
    [
        # With labels that are not known each number of labels once, with and without a threshold.
        pytest.param(
            case,
            marks=() if unknown and (facts is SINGLE) == (threshold is None) else pytest.mark.slow,
        )
        for case, (facts, unknown, threshold) in CASES.items()
    ],
)
def test_the_four_agree(tmp_path, capsys, case):
    facts, unknown, threshold = CASES[case]
    command, rows, in_training = trained(tmp_path, capsys, facts, unknown, threshold)
    run, folder, shown, evaluated = tmp_path / "run", tmp_path / "tables", {}, {}
    for name, more in (("plain", ()), ("tables", ("--tables", folder))):
        shown[name] = call(capsys, evaluate, *command, "--output", tmp_path / name, *more)
        assert shown[name].code == 0, shown[name].err
        record = json.loads((tmp_path / name / "evaluation-dev.json").read_text())
        evaluated[name] = {key: v for key, v in record["metrics"].items() if v is not None}
    assert call(capsys, report, *command, "--no-plots").code == 0
    reported = (run / "report/report.md").read_text()

    single_label = facts is SINGLE
    expected = expected_values(load_run(run), rows, threshold, single_label)
    for name in expected if single_label or threshold is not None else ("P@1", "P@3", "R@1"):
        assert in_training[name] == pytest.approx(expected[name], abs=1e-6), name
    assert evaluated["plain"] == pytest.approx(evaluated["tables"], abs=1e-6)
    for name, value in in_training.items():
        assert evaluated["plain"][name] == pytest.approx(value, abs=1e-6), name
    averages = {name: v for name, v in expected.items() if "-" in name}
    in_percent = table_of(shown["tables"].out.rpartition(", in %:")[2].splitlines())
    assert in_percent == pytest.approx({n: 100 * v for n, v in averages.items()}, abs=0.006)
    assert table_of(reported.splitlines()) == pytest.approx(averages, abs=6e-5)
    accuracy = re.search(r"^accuracy: ([0-9.]+)$", shown["tables"].out, re.MULTILINE)[1]
    assert float(accuracy) == pytest.approx(100 * expected["accuracy"], abs=0.006)
    plain, with_tables = (metrics_of(shown[name].out) for name in ("plain", "tables"))
    assert plain == with_tables == metrics_of(reported)
    for name in ("labels", "confusions", "wrong"):
        one, other = (place / f"{name}.csv" for place in (folder, run / "report"))
        assert one.read_text() == other.read_text() and one.read_text().count("\n") > 1
