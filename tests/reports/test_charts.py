"""Where charts put their points, and what they write at their axes."""

from xml.etree import ElementTree

import numpy as np
import pytest

from tfxc.core.errors import ConfigError
from tfxc.reports.charts import (
    HEIGHT,
    WIDTH,
    Axis,
    Chart,
    check_svg,
    line_chart,
    write_charts,
)
from tfxc.reports.curves import Curve, means_by_frequency


def shapes(chart, name):
    """The elements of that name in the drawing of a chart."""
    return list(ElementTree.fromstring(chart.svg()).iter(name))


def points_of(chart):
    """Points of the first line."""
    line = shapes(chart, "polyline")[0].get("points")
    return [tuple(map(float, point.split(","))) for point in line.split()]


def frame(chart):
    """Left, top, right and bottom of the space between the axes."""
    return (
        chart.left(chart.x.low), chart.top(chart.y.high),
        chart.left(chart.x.high), chart.top(chart.y.low),
    )  # fmt: skip


def test_points_are_where_their_values_are():
    curve = Curve("loss", ((0, 5.0), (1, 3.0), (2, 1.0)))
    chart = line_chart("loss", "epoch", [curve])
    left, top, right, bottom = frame(chart)
    middle = ((left + right) / 2, (top + bottom) / 2)
    expected = [(left, top), middle, (right, bottom)]
    np.testing.assert_allclose(points_of(chart), expected, atol=0.1)
    assert 0 < left < right < WIDTH and 0 < top < bottom < HEIGHT
    assert [dot.findtext("title") for dot in shapes(chart, "circle")] == [
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
    short = Axis("", np.log10(0.3), np.log10(4), logarithmic=True).ticks()
    assert [text for _, text in short] == ["0.5", "1", "2"]


def test_one_point_and_equal_values_have_an_axis():
    for points in (((3, 0.5),), ((0, 0.0), (9, 0.0))):
        for x, y in points_of(line_chart("", "epoch", [Curve("a", points)])):
            assert 0 < x < WIDTH and 0 < y < HEIGHT


def test_long_curves_are_thinned():
    points = tuple((float(x), float(x % 7)) for x in range(5000))
    chart = line_chart("", "step", [Curve("a", points)])
    drawn = points_of(chart)
    left, _, right, _ = frame(chart)
    assert len(drawn) == 400 and drawn[0][0] == left and drawn[-1][0] == right
    assert not shapes(chart, "circle")


def test_bars_stand_on_the_axis():
    axes = Axis("probability", 0, 1), Axis("right", 0, 1)
    chart = Chart("", *axes, bars=[(0.5, 1.0, 0.25, "text")])
    (bar,) = shapes(chart, "rect")
    left, top, right, bottom = frame(chart)
    x, y, width, height = (float(bar.get(name)) for name in ("x", "y", "width", "height"))
    assert (x, x + width) == pytest.approx(((left + right) / 2, right))
    assert y + height == pytest.approx(bottom)
    assert height == pytest.approx((bottom - top) / 4)


def test_several_curves_have_names_and_looks_of_their_own():
    curves = [Curve(f"name {number}", ((0, number), (1, 1))) for number in range(24)]
    chart = line_chart("", "epoch", curves)
    groups = shapes(chart, "g")
    assert [text for g in groups if (text := g.findtext("text"))] == [c.name for c in curves]
    looks = {(g.get("color"), g.find("polyline").get("stroke-dasharray")) for g in groups}
    assert len(looks) == len(curves)
    assert chart.height < HEIGHT + 13 * 17, "two short names stand side by side"
    heights = [float(text.get("y")) for text in shapes(chart, "text")]
    assert max(heights) < chart.height == float(chart.svg().split('viewBox="0 0 480 ')[1][:3])
    assert not shapes(line_chart("", "epoch", curves[:1]), "g")[0].findall("text")


def test_a_band_is_around_its_curve():
    curve = Curve("a", ((0, 1.0), (1, 2.0)), band=((0, 0.5, 1.5), (1, 1.0, 3.0)))
    chart = Chart("", Axis("", 0, 1), Axis("", 0, 4), [curve])
    (band,) = shapes(chart, "polygon")
    corners = [(0, 0.5), (1, 1.0), (1, 3.0), (0, 1.5)]
    assert band.get("points") == " ".join(f"{chart.left(x)},{chart.top(y)}" for x, y in corners)


def test_dots_of_a_cloud_at_the_same_place_are_drawn_once():
    chart = Chart("", Axis("", 0, 1), Axis("", 0, 1), cloud=[(0.5, 0.5)] * 1000 + [(1.0, 0.0)])
    (path,) = shapes(chart, "path")
    left, top, right, bottom = frame(chart)
    middle = f"M{(left + right) / 2:.0f} {(top + bottom) / 2:.0f}h0"
    assert path.get("d") == f"{middle}M{right:.0f} {bottom:.0f}h0"


HOSTILE = '</text><script>alert("1")</script>&\x1b[31m'


def test_names_become_no_markup(tmp_path):
    curves = [Curve(HOSTILE, ((0, 1), (1, 2))), Curve("b", ((0, 1), (1, 2)))]
    write_charts(tmp_path / "a.svg", [line_chart(HOSTILE, HOSTILE, curves)])
    text = (tmp_path / "a.svg").read_text("utf-8")
    assert "script>" not in text and "\x1b" not in text
    root = ElementTree.fromstring(text)
    assert HOSTILE.replace("\x1b", "\\x1b") in "".join(root.itertext())


def test_charts_stand_side_by_side(tmp_path):
    axes = Axis("", 0, 1), Axis("", 0, 1)
    one = Chart("one", *axes, [Curve("a", ((0, 0), (1, 1)))])
    two = Chart("two", *axes, [Curve(name, ((0, 0), (1, 1))) for name in "ab"])
    write_charts(tmp_path / "a.svg", [one, two])
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    inner = root.findall("{*}svg")
    assert [svg.get("x") for svg in inner] == ["0", str(WIDTH)]
    assert float(root.get("width")) == 2 * WIDTH and float(root.get("height")) > two.height
    titles = [text.text for text in root.findall("{*}text")]
    assert titles == ["one", "two"]


def test_a_picture_is_svg():
    check_svg("a/b.SVG", "--output")
    with pytest.raises(ConfigError, match=r"--output: .*'b\.png'\. End it in \.svg"):
        check_svg("a/b.png", "--output")


def test_means_by_frequency():
    counts = np.array([0, 9, 10, 99, 100])
    found = [*means_by_frequency(counts, {"F1": np.array([0.0, 1.0, 0.5, 0.7, 0.2])})]
    assert [(power, size) for power, size, _ in found] == [(0, 2), (1, 2), (2, 1)]
    assert [means["F1"] for *_, means in found] == pytest.approx([0.5, 0.6, 0.2])
