"""Charts as numbers: places of points and ticks in a drawing of 480 x 270, which a page draws."""

import dataclasses
import math
from collections.abc import Sequence

from tfxc.reports.curves import Curve

WIDTH = 480
HEIGHT = 270
_LEFT = 52
_RIGHT = 28
_TOP = 12
_BOTTOM = 42
_MOST_POINTS = 400


@dataclasses.dataclass(frozen=True)
class Axis:
    """One direction of a chart, which runs from ``low`` to ``high``.

    Attributes:
        label: what it shows.
        low, high: the values at its ends; of a logarithmic axis powers of ten.
        logarithmic: whether the values are the powers of ten that they stand for.
    """

    label: str
    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def around(cls, label: str, values: Sequence[float], logarithmic: bool = False) -> "Axis":
        """Returns the axis that holds all ``values``, with some space where they are the same."""
        low = min(values)
        high = max(values)
        if low == high:
            low = low - (abs(low) / 2 or 0.5)
            high = high + (abs(high) / 2 or 0.5)
        return cls(label, low, high, logarithmic)

    def share(self, value: float) -> float:
        """Returns where a value is between the ends, 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Returns values to mark, and their texts.

        Example:
            >>> Axis("epoch", 0, 4).ticks()
            [(0.0, '0'), (1.0, '1'), (2.0, '2'), (3.0, '3'), (4.0, '4')]
        """
        step = _step((self.high - self.low) / 5)
        if self.logarithmic:
            step = max(1.0, math.ceil(step))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        marks = [number * step for number in range(first, last + 1)]
        return [(mark, _text(10**mark if self.logarithmic else mark)) for mark in marks]


@dataclasses.dataclass(frozen=True)
class Mark:
    """A bar or a dot, in the drawing's coordinates, with a text of its own.

    Attributes:
        x, y: of a bar its upper left corner, of a dot its middle.
        width, height: of a bar.
        text: shown where a mouse points at it.
    """

    x: float
    y: float
    text: str
    width: float = 0.0
    height: float = 0.0


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines over two axes, and bars behind them.

    Args:
        title: for those who cannot see it, and above it.
        x, y: axes.
        curves: drawn as lines with dots, in this order of colours.
        bars: (low x, high x, y, text) of bars that stand on the lower end of ``y``.
        diagonal: whether to draw the line from one corner to the other.

    Example:
        >>> axes = Axis("epoch", 0, 1), Axis("loss", 0, 1)
        >>> Chart("loss", *axes, curves=[Curve("loss", ((0, 1), (1, 0)))]).lines()[0]
        '52.0,12.0 452.0,228.0'
    """

    title: str
    x: Axis
    y: Axis
    curves: Sequence[Curve] = ()
    bars: Sequence[tuple[float, float, float, str]] = ()
    diagonal: bool = False

    def left(self, value: float) -> float:
        """Returns the place of a value of ``x``."""
        return round(_LEFT + self.x.share(value) * (WIDTH - _LEFT - _RIGHT), 1)

    def top(self, value: float) -> float:
        """Returns the place of a value of ``y``."""
        return round(HEIGHT - _BOTTOM - self.y.share(value) * (HEIGHT - _TOP - _BOTTOM), 1)

    @property
    def frame(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the space between the axes."""
        return _LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def lines(self) -> list[str]:
        """Returns the points of each curve, as SVG's polylines have them."""
        return [
            " ".join(f"{self.left(x)},{self.top(y)}" for x, y in _thinned(curve.points))
            for curve in self.curves
        ]

    def dots(self) -> list[list[Mark]]:
        """Returns the points of each curve with few of them."""
        return [
            [
                Mark(
                    self.left(x),
                    self.top(y),
                    f"{curve.name}: {_text(y)} at {self.x.label} "
                    f"{_text(10**x if self.x.logarithmic else x)}",
                )
                for x, y in (curve.points if len(curve.points) <= 60 else ())
            ]
            for curve in self.curves
        ]

    def boxes(self) -> list[Mark]:
        """Returns the bars."""
        floor = self.top(self.y.low)
        marks = []
        for low, high, value, text in self.bars:
            left = self.left(low)
            top = self.top(value)
            width = round(self.left(high) - left, 1)
            height = round(floor - top, 1)
            marks.append(Mark(left, top, text, width, height))
        return marks


def line_chart(title: str, label: str, curves: Sequence[Curve], unit: bool = False) -> Chart:
    """Returns curves over axes that hold all their points.

    Args:
        title: of the chart.
        label: of the x axis.
        curves: at least one, with at least one point each.
        unit: whether the y axis runs from 0 to 1 in any case.
    """
    x = Axis.around(label, [x for curve in curves for x, _ in curve.points])
    y = Axis("", 0, 1) if unit else Axis.around("", [y for c in curves for _, y in c.points])
    return Chart(title, x, y, curves)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Returns as many points as a drawing has room for, the first and the last among them."""
    if len(points) <= _MOST_POINTS:
        return points
    step = (len(points) - 1) / (_MOST_POINTS - 1)
    return [points[round(number * step)] for number in range(_MOST_POINTS)]


def _step(wanted: float) -> float:
    """Returns the smallest of 1, 2, 5, 10, ... times a power of ten that is at least ``wanted``."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted * 0.999)


def _text(value: float) -> str:
    """Returns a number for people: few digits, thousands separated."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        return f"{value:.3g}"
    return f"{value:,.4g}" if size < 1000 else f"{value:,.0f}"
