"""Command report: tables against counts by hand, plots, texts of wrong examples."""

import csv
import json
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from tests import tiny
from tests.commands.calls import call
from tfxc.commands import card, report, train
from tfxc.core.errors import ConfigError
from tfxc.decision.decision import Decision
from tfxc.metrics.per_label import PerLabel
from tfxc.reports.tables import average_rows


def test_counts_by_hand():
    found = PerLabel(4, Decision(0.5))
    ids = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 1, 3]])
    scores = np.array([[0.9, 0.6, 0.1, 0.0], [0.7, 0.4, 0.3, 0.2], [0.4, 0.3, 0.2, 0.1]])
    found.update(ids, scores, np.array([[0, 1, -1], [1, 2, -1], [2, 9, -1]]))
    assert found.true.tolist() == [1, 2, 2, 0]
    assert found.predicted.tolist() == [1, 1, 0, 1]
    assert found.hits.tolist() == [1, 1, 0, 0]
    assert found.confusions().tolist() == [[1, 3, 1], [2, 3, 1]]
    assert [row for row, *_ in found.wrong] == [1, 2]
    precision, recall, f1 = found.precision_recall_f1()
    np.testing.assert_allclose(precision, [1, 1, 0, 0])
    np.testing.assert_allclose(recall, [1, 0.5, 0, 0])
    np.testing.assert_allclose(f1, [1, 2 / 3, 0, 0])
    with pytest.raises(ConfigError, match="an example has 2 labels above the threshold"):
        found.update(ids[:, :2], scores[:, :2], np.array([[0], [1], [2]]))


def test_the_best_label_alone():
    """Against scikit-learn."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    random = np.random.default_rng(0)
    true, best = random.integers(0, 6, (2, 500))
    found = PerLabel(7)
    for part in np.array_split(np.arange(500), 7):
        found.update(best[part, None], np.ones((len(part), 1)), true[part, None])
    expected = precision_recall_fscore_support(true, best, labels=range(6), zero_division=0)
    for mine, theirs in zip(found.precision_recall_f1(), expected, strict=False):
        np.testing.assert_allclose(mine[:6], theirs)
        assert np.isnan(mine[6])
    for average, *values in average_rows(found, list("abcdefg"))[:2]:
        expected = precision_recall_fscore_support(true, best, average=average, zero_division=0)
        np.testing.assert_allclose(values, expected[:3])
    matrix = confusion_matrix(true, best, labels=range(7))
    for one, other, count in found.confusions().tolist():
        assert matrix[one, other] == count
    assert found.confusions()[:, 2].sum() + found.hits.sum() == 500
    assert len(found.wrong) == (true != best).sum()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run, next to its data."""
    folder = tmp_path_factory.mktemp("report")
    with open(folder / "train.jsonl", "w") as stream:
        for number in range(200):
            label = ("fox", "hen", "owl")[number % 3]
            stream.write(
                json.dumps({"text": f"a {label} | here {number}", "labels": [label]}) + "\n"
            )
    lines = (folder / "train.jsonl").read_text().splitlines()[:40]
    lines.append(json.dumps({"text": "certainly a fox fox", "labels": ["owl"]}))
    (folder / "dev.jsonl").write_text("\n".join(lines) + "\n")
    data = {
        "name": "animals",
        "train": str(folder / "train.jsonl"),
        "dev": str(folder / "dev.jsonl"),
        "text_features": {"name": "tfidf"},
        "normalise": None,
    }
    config = tiny.write_config(folder, data=data, objective={"name": "softmax"})
    command = ["--config", str(config), "--prepared", str(folder / "prepared")]
    assert train.main([*command, "--set", "training.epochs=6"]) == 0
    return folder / "run"


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_report(run, capsys):
    outcome = call(capsys, report, "--run", run, "--prepared", run.parent / "prepared")
    assert outcome.code == 0 and "report.md" in outcome.out
    folder = run / "report"
    labels = {row["label"]: row for row in rows_of(folder / "labels.csv")}
    assert sorted(labels) == ["fox", "hen", "owl"]
    assert labels["owl"]["true"] == "14" and labels["owl"]["right"] == "13"
    assert labels["fox"]["trained on"] == "67"
    (pair,) = rows_of(folder / "confusions.csv")
    assert pair == {"true": "owl", "predicted instead": "fox", "examples": "1"}
    (wrong,) = rows_of(folder / "wrong.csv")
    assert (wrong["example"], wrong["text"]) == ("41", "certainly a fox fox")
    text = (folder / "report.md").read_text()
    assert "| macro | 0." in text and "Of the best label:" in text
    for part in ("encoder `bag_mlp`", "config.json", "## Metrics", "certainly a fox", "curves.svg"):
        assert part in text
    for name in ("curves", "labels", "confusions"):
        assert f"]({name}.svg)" in text
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")


def test_page_and_card(run, tmp_path, capsys):
    """Both are written from the same numbers as the tables."""
    options = ("--prepared", run.parent / "prepared")
    outcome = call(capsys, report, "--run", run, *options, "--no-plots", "--output", tmp_path)
    assert outcome.code == 0 and "report.html" in outcome.out
    page = (tmp_path / "report.html").read_text()
    environment = json.loads((run / "environment.json").read_text())
    for part in ("certainly a fox fox", "fox", environment["finished"], environment["processor"],
                 environment["packages"]["tensorflow"], "reliability diagram"):  # fmt: skip
        assert part in page
    outcome = call(capsys, card, run, *options, "--license", "mit")
    assert outcome.code == 0, outcome.err
    head = yaml.safe_load((run / "card.md").read_text().split("---\n")[1])
    (result,) = head["model-index"][0]["results"]
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert values["accuracy"] == pytest.approx(40 / 41, abs=1e-6)
    assert (head["license"], head["pipeline_tag"]) == ("mit", "text-classification")


def test_a_page_needs_jinja(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    options = ("--run", run, "--data", run.parent / "dev.jsonl", "--no-plots")
    problem = call(capsys, report, *options, "--output", tmp_path / "out").problem()
    assert "the package jinja2" in problem and "--no-page" in problem
    assert not (tmp_path / "out").exists()
    assert call(capsys, report, *options, "--no-page", "--output", tmp_path / "out").code == 0
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_damaged_environment_is_named(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "environment.json").write_text('{"tfxc": 1}')
    options = ("--data", run.parent / "dev.jsonl", "--no-plots", "--output", tmp_path / "out")
    problem = call(capsys, report, "--run", tmp_path / "run", *options).problem()
    assert "environment.json: " in problem and not (tmp_path / "out").exists()


def test_a_report_needs_no_source_files(run, tmp_path, capsys):
    """The prepared data are measured; the texts of wrong examples are left out."""
    path = run.parent / "dev.jsonl"
    path.rename(tmp_path / "dev.jsonl")
    try:
        options = (
            "--prepared",
            run.parent / "prepared",
            "--no-plots",
            "--output",
            tmp_path / "out",
        )
        assert call(capsys, report, "--run", run, *options).code == 0
    finally:
        (tmp_path / "dev.jsonl").rename(path)
    (wrong,) = rows_of(tmp_path / "out" / "wrong.csv")
    assert (wrong["true"], wrong["text"]) == ("owl", "")


def test_report_on_a_file_without_plots(run, tmp_path, capsys):
    data = ("--data", run.parent / "dev.jsonl", "--output", tmp_path / "out")
    assert call(capsys, report, "--run", run, *data, "--no-plots").code == 0
    assert len(rows_of(tmp_path / "out" / "wrong.csv")) == 1
    assert ".svg" not in (tmp_path / "out" / "report.md").read_text()
