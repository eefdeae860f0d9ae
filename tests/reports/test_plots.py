"""What the plots of a report show."""

import json
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from tfxc.metrics.roc import Roc
from tfxc.reports import plots


@pytest.fixture
def drawn(monkeypatch):
    """List of the charts that are written."""
    charts = []
    monkeypatch.setattr(plots, "write_charts", lambda path, all: charts.extend(all))
    return charts


def found_of(precision, recall):
    precision, recall = np.array(precision), np.array(recall)
    some = np.ones(len(precision), int)
    return SimpleNamespace(
        precision_recall_f1=lambda: (precision, recall, None), predicted=some, true=some
    )


def test_means_stand_over_their_power_of_ten(drawn, tmp_path):
    counts = np.array([1, 9, 10, 99, 500])
    found = found_of([0.2, 0.4, 0.5, 0.7, 1.0], np.zeros(5))
    plots.labels_by_frequency(found, counts, tmp_path / "labels.svg")
    assert [chart.title for chart in drawn] == ["precision", "recall"]
    (curve,) = drawn[0].curves
    np.testing.assert_allclose(curve.points, [(0.5, 0.3), (1.5, 0.6), (2.5, 1.0)])
    places, values = zip(*drawn[0].cloud, strict=True)
    np.testing.assert_allclose(places, np.log10(counts))
    assert values == (0.2, 0.4, 0.5, 0.7, 1.0)
    assert drawn[0].x.low == 0 and drawn[0].x.high == 3


def test_labels_with_as_many_examples_stand_in_a_row(drawn, tmp_path):
    found = found_of([0.9, 0.2, 0.5], np.ones(3))
    plots.labels_by_frequency(found, np.array([100, 100, 120]), tmp_path / "labels.svg")
    assert drawn[0].cloud == [(0, 0.2), (1, 0.5), (2, 0.9)] and not drawn[0].curves


@pytest.mark.parametrize("counts", [[0, 0], [0, 7]])
def test_labels_without_training_examples(tmp_path, counts):
    path = tmp_path / "labels.svg"
    plots.labels_by_frequency(found_of([0.0, 1.0], [0.0, 0.5]), np.array(counts), path)
    assert "nan" not in path.read_text() and len(ElementTree.parse(path).getroot()) > 2


def test_equal_curves_are_drawn_once(tmp_path):
    lines = [
        {"step": s, "epoch": s, "dev P@1": s / 9, "dev R@1": s / 9, "dev P@5": s / 45}
        for s in range(3)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (chart,) = plots.learning_charts(tmp_path / "metrics.jsonl")
    assert [curve.name for curve in chart.curves] == ["dev P@1, R@1", "dev P@5"]


def test_a_single_point_is_no_curve(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 1, "dev P@1": 0.5}\n')
    assert not plots.learning_charts(tmp_path / "metrics.jsonl")


def test_confusions(tmp_path):
    """Each share at its place, with the names of its labels, of any script."""
    path = tmp_path / "confusions.svg"
    found = SimpleNamespace(
        num_labels=2, hits=np.array([1, 2]), confusions=lambda: np.array([[0, 1, 3]])
    )
    assert plots.confusion_matrix(found, ["狐" * 30, "<b> $x_2$"], path)
    root = ElementTree.parse(path).getroot()
    cells = [cell for cell in root.findall(".//{*}rect") if cell.find("{*}title") is not None]
    assert [float(cell.get("fill-opacity")) for cell in cells] == [0.25, 0.75, 1]
    rows, columns = ([cell.get(name) for cell in cells] for name in "yx")
    assert rows[0] == rows[1] < rows[2] and columns[0] < columns[1] == columns[2]
    assert cells[1].findtext("{*}title") == f"{'狐' * 30}, predicted as <b> $x_2$: 75.0 %"
    texts = [text.text for text in root.findall(".//{*}text")]
    assert texts.count("狐" * 17 + "…") == texts.count("<b> $x_2$") == 2
    assert not plots.confusion_matrix(SimpleNamespace(num_labels=61), [], path)


def test_roc_curve(drawn, tmp_path):
    """Steps at the true accept rates, from the lowest false accept rate above 0 to 1."""
    generator = np.random.default_rng(0)
    scores = np.r_[generator.normal(1, 1, 3000), generator.normal(-1, 1, 3000)]
    curve = Roc.of(scores, np.arange(6000) < 3000)
    plots.roc_curve(curve, "title", tmp_path / "roc.svg")
    (chart,) = drawn
    (line,) = chart.curves
    x, y = np.array(line.points).T
    assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all() and len(x) <= 400
    assert 10 ** x[0] == pytest.approx(curve.far[curve.far > 0][0]) and (x[-1], y[-1]) == (0, 1)
    at = 10.0**-1.5
    drawn_rate = y[np.searchsorted(x, -1.5, side="right") - 1]
    assert drawn_rate == pytest.approx(curve.tar_at(at)[0], abs=0.02)
