"""What the plots of a report show."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from tfxc.reports import plots


@pytest.fixture
def drawn(monkeypatch):
    """List of the figures, which stay open."""
    figures, pyplot = [], plots.pyplot()
    monkeypatch.setattr(pyplot, "close", figures.append)
    yield figures
    monkeypatch.undo()
    pyplot.close("all")


def found_of(precision, recall):
    precision, recall = np.array(precision), np.array(recall)
    some = np.ones(len(precision), int)
    return SimpleNamespace(
        precision_recall_f1=lambda: (precision, recall, None), predicted=some, true=some
    )


def test_means_stand_over_their_power_of_ten(drawn, tmp_path):
    counts = np.array([1, 9, 10, 99, 500])
    found = found_of([0.2, 0.4, 0.5, 0.7, 1.0], np.zeros(5))
    plots.labels_by_frequency(found, counts, tmp_path / "labels.png")
    axis = drawn[0].axes[0]
    lines = [(line.get_xdata()[0], line.get_ydata().tolist()) for line in axis.lines]
    assert [x for x, _ in lines] == [1, 10, 100]
    np.testing.assert_allclose([y for _, y in lines], [[0.3, 0.3], [0.6, 0.6], [1.0, 1.0]])
    np.testing.assert_allclose(axis.collections[0].get_offsets()[:, 0], counts)


def test_labels_with_as_many_examples_stand_in_a_row(drawn, tmp_path):
    found = found_of([0.9, 0.2, 0.5], np.ones(3))
    plots.labels_by_frequency(found, np.array([100, 100, 120]), tmp_path / "labels.png")
    (line,) = drawn[0].axes[0].lines
    assert line.get_ydata().tolist() == [0.2, 0.5, 0.9]


def test_equal_curves_are_drawn_once(drawn, tmp_path):
    lines = [
        {"step": s, "epoch": s, "dev P@1": s / 9, "dev R@1": s / 9, "dev P@5": s / 45}
        for s in range(3)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert plots.learning_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    axis = drawn[0].axes[0]
    assert [line.get_label() for line in axis.lines] == ["dev P@1, R@1", "dev P@5"]


def test_a_single_point_is_no_curve(drawn, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 1, "dev P@1": 0.5}\n')
    assert not plots.learning_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert not drawn and not (tmp_path / "curves.png").exists()
