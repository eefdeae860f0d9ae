"""Where charts put their points, and what they write at their axes."""

import numpy as np
import pytest

from tfxc.reports.charts import HEIGHT, WIDTH, Axis, Chart, line_chart
from tfxc.reports.curves import Curve, means_by_frequency


def points_of(line):
    return [tuple(map(float, point.split(","))) for point in line.split()]


def test_points_are_where_their_values_are():
    curve = Curve("loss", ((0, 5.0), (1, 3.0), (2, 1.0)))
    chart = line_chart("loss", "epoch", [curve])
    left, top, right, bottom = chart.frame
    middle = ((left + right) / 2, (top + bottom) / 2)
    expected = [(left, top), middle, (right, bottom)]
    np.testing.assert_allclose(points_of(chart.lines()[0]), expected, atol=0.1)
    assert 0 < left < right < WIDTH and 0 < top < bottom < HEIGHT
    assert [dot.text for dot in chart.dots()[0]] == [
        "loss: 5 at epoch 0", "loss: 3 at epoch 1", "loss: 1 at epoch 2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.13, 0.21, ["0.14", "0.16", "0.18", "0.2"]),
        (0, 25_000, ["0", "5,000", "10,000", "15,000", "20,000", "25,000"]),
        (0, 3e-5, ["0", "1e-05", "2e-05", "3e-05"]),
    ],
)
def test_ticks_are_round_numbers_inside_the_axis(low, high, texts):
    found = Axis("", low, high).ticks()
    assert [text for _, text in found] == texts
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in found)


def test_ticks_of_a_logarithmic_axis_are_powers_of_ten():
    assert [text for _, text in Axis("", 1, 4, logarithmic=True).ticks()] == [
        "10", "100", "1,000", "10,000",
    ]  # fmt: skip


def test_one_point_and_equal_values_have_an_axis():
    for points in (((3, 0.5),), ((0, 0.0), (9, 0.0))):
        for x, y in points_of(line_chart("", "epoch", [Curve("a", points)]).lines()[0]):
            assert 0 < x < WIDTH and 0 < y < HEIGHT


def test_long_curves_are_thinned():
    points = tuple((float(x), float(x % 7)) for x in range(5000))
    chart = line_chart("", "step", [Curve("a", points)])
    drawn = points_of(chart.lines()[0])
    left, _, right, _ = chart.frame
    assert len(drawn) == 400 and drawn[0][0] == left and drawn[-1][0] == right
    assert not chart.dots()[0]


def test_bars_stand_on_the_axis():
    axes = Axis("probability", 0, 1), Axis("right", 0, 1)
    (bar,) = Chart("", *axes, bars=[(0.5, 1.0, 0.25, "text")]).boxes()
    left, top, right, bottom = Chart("", *axes).frame
    assert (bar.x, bar.x + bar.width) == pytest.approx(((left + right) / 2, right))
    assert bar.y + bar.height == pytest.approx(bottom)
    assert bar.height == pytest.approx((bottom - top) / 4)


def test_means_by_frequency():
    counts = np.array([0, 9, 10, 99, 100])
    found = [*means_by_frequency(counts, {"F1": np.array([0.0, 1.0, 0.5, 0.7, 0.2])})]
    assert [(power, size) for power, size, _ in found] == [(0, 2), (1, 2), (2, 1)]
    assert [means["F1"] for *_, means in found] == pytest.approx([0.5, 0.6, 0.2])
