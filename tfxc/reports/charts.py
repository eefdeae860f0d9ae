"""Charts as SVG, which needs no other package: for a page, and as files of their own.

Shapes carry their colours themselves, as a file has no style; the style of a page replaces them by
the names of their classes.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from tfxc.core.errors import ConfigError
from tfxc.core.escaping import html_text
from tfxc.core.storage.files import atomic_file
from tfxc.reports.curves import Curve

WIDTH = 480
HEIGHT = 270
_LEFT = 52
_RIGHT = WIDTH - 28
_TOP = 12
_BOTTOM = HEIGHT - 42
_LEGEND_ROW = 16
_TITLE = 24  # above a chart in a file
_MOST_POINTS = 400
_MOST_DOTS = 60  # of a curve, each with a text
_LONGEST_TEXT = 70
_SHORT_NAME = 24  # two of them stand side by side
# People with any kind of colour vision can distinguish them (after Okabe and Ito, 2008).
_COLOURS = (
    "#0b62a8", "#b34700", "#0a7a5c", "#9b3d84", "#86690a", "#2f7fa8", "#b3261e", "#555c66",
)  # fmt: skip
_DASHES = ("none", "7 3", "2 2")


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
        if self.logarithmic and self.high - self.low < 2:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            marks = [power + math.log10(digit) for power in powers for digit in (1, 2, 5)]
            marks = [mark for mark in marks if -1e-9 <= self.share(mark) <= 1 + 1e-9]
        else:
            step = _step((self.high - self.low) / 5)
            if self.logarithmic:
                step = max(1.0, math.ceil(step))
            first = math.ceil(self.low / step - 1e-9)
            last = math.floor(self.high / step + 1e-9)
            marks = [number * step for number in range(first, last + 1)]
        return [(mark, self.text(mark)) for mark in marks]

    def text(self, value: float) -> str:
        """Returns a value for people: few digits, thousands separated."""
        number = 10**value if self.logarithmic else value
        size = abs(number)
        if number == 0:
            return "0"
        if size >= 1e7 or size < 1e-4:
            return f"{number:.3g}"
        return f"{number:,.4g}" if size < 1000 else f"{number:,.0f}"


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines over two axes, with dots and bars behind them.

    Args:
        title: for those who cannot see it, and above it.
        x, y: axes.
        curves: drawn as lines with dots.
        bars: (low x, high x, y, text) of bars that stand on the lower end of ``y``.
        cloud: (x, y) of dots without texts; those at the same place are drawn once.
        diagonal: whether to draw the line from one corner to the other.

    Example:
        >>> axes = Axis("epoch", 0, 1), Axis("loss", 0, 1)
        >>> chart = Chart("loss", *axes, curves=[Curve("loss", ((0, 1), (1, 0)))])
        >>> 'points="52.0,12.0 452.0,228.0"' in chart.svg()
        True
    """

    title: str
    x: Axis
    y: Axis
    curves: Sequence[Curve] = ()
    bars: Sequence[tuple[float, float, float, str]] = ()
    cloud: Sequence[tuple[float, float]] = ()
    diagonal: bool = False

    def left(self, value: float) -> float:
        """Returns the place of a value of ``x``."""
        return round(_LEFT + self.x.share(value) * (_RIGHT - _LEFT), 1)

    def top(self, value: float) -> float:
        """Returns the place of a value of ``y``."""
        return round(_BOTTOM - self.y.share(value) * (_BOTTOM - _TOP), 1)

    @property
    def height(self) -> int:
        """The height of the drawing; several curves have their names below it."""
        if len(self.curves) < 2:
            return HEIGHT
        return HEIGHT + _LEGEND_ROW * math.ceil(len(self.curves) / self._legend_columns()) + 6

    def _legend_columns(self) -> int:
        return 2 if max(len(curve.name) for curve in self.curves) <= _SHORT_NAME else 1

    def svg(self, **place: object) -> str:
        """Returns the drawing as an element.

        Args:
            place: attributes that say where it is inside another one.
        """
        parts = []
        grid = {"class_": "grid", "stroke": "#d9dee7"}
        for value, text in self.y.ticks():
            y = self.top(value)
            parts.append(element("line", x1=_LEFT, x2=_RIGHT, y1=y, y2=y, **grid))
            parts.append(label(text, _LEFT - 6, y + 4, "end"))
        for value, text in self.x.ticks():
            x = self.left(value)
            parts.append(element("line", x1=x, x2=x, y1=_TOP, y2=_BOTTOM, **grid))
            parts.append(label(text, x, _BOTTOM + 16))
        parts.append(label(self.x.label, (_LEFT + _RIGHT) / 2, _BOTTOM + 34))
        parts.append(label(self.y.label, -(_TOP + _BOTTOM) / 2, 12, transform="rotate(-90)"))
        for low, high, value, text in self.bars:
            x = self.left(low)
            y = self.top(value)
            size = {"width": round(self.left(high) - x, 1), "height": round(_BOTTOM - y, 1)}
            paint = {"class_": "bar", "fill": _COLOURS[0], "fill_opacity": 0.55}
            parts.append(element("rect", hint(text), x=x, y=y, **size, **paint))
        if self.diagonal:
            ends = {"x1": _LEFT, "y1": _BOTTOM, "x2": _RIGHT, "y2": _TOP}
            paint = {"class_": "diagonal", "stroke": "#1c2330", "stroke_dasharray": "5 4"}
            parts.append(element("line", **ends, **paint))
        places = {(round(self.left(x)), round(self.top(y))) for x, y in self.cloud}
        if places:
            path = "".join(f"M{x} {y}h0" for x, y in sorted(places))
            paint = {"stroke": "#555c66", "stroke_width": 3, "stroke_linecap": "round"}
            parts.append(element("path", d=path, stroke_opacity=0.5, **paint))
        for number, curve in enumerate(self.curves):
            style = number if curve.style is None else curve.style
            colour = style % len(_COLOURS)
            content = self._curve(curve, style)
            if len(self.curves) > 1:
                row, column = divmod(number, self._legend_columns())
                x = _LEFT + column * WIDTH // 2
                y = HEIGHT + _LEGEND_ROW * (row + 0.5)
                content += _line("line", style, x1=x, x2=x + 30, y1=y, y2=y)
                content += label(curve.name, x + 38, y + 4, "start")
            parts.append(element("g", content, class_=f"colour{colour}", color=_COLOURS[colour]))
        box = f"0 0 {WIDTH} {self.height}"
        return element("svg", *parts, viewBox=box, role="img", aria_label=self.title, **place)

    def _curve(self, curve: Curve, style: int) -> str:
        """Returns a band, a line and, if they are few, the points."""
        parts = []
        if curve.band:
            lower = [(x, low) for x, low, _ in curve.band]
            upper = [(x, high) for x, _, high in reversed(curve.band)]
            corners = f"{self._places(lower)} {self._places(upper)}"
            parts.append(element("polygon", points=corners, fill="currentColor", fill_opacity=0.2))
        parts.append(_line("polyline", style, points=self._places(curve.points)))
        for x, y in curve.points if len(curve.points) <= _MOST_DOTS else ():
            text = f"{curve.name}: {self.y.text(y)} at {self.x.label} {self.x.text(x)}"
            place = {"cx": self.left(x), "cy": self.top(y), "r": 3}
            parts.append(element("circle", hint(text), fill="currentColor", **place))
        return "".join(parts)

    def _places(self, points: Sequence[tuple[float, float]]) -> str:
        """Returns as many points as a drawing has room for, the first and the last among them."""
        if len(points) > _MOST_POINTS:
            step = (len(points) - 1) / (_MOST_POINTS - 1)
            points = [points[round(number * step)] for number in range(_MOST_POINTS)]
        return " ".join(f"{self.left(x)},{self.top(y)}" for x, y in points)


def line_chart(title: str, text: str, curves: Sequence[Curve]) -> Chart:
    """Returns curves over axes that hold all their points.

    Args:
        title: of the chart.
        text: of the x axis.
        curves: at least one, with at least one point each.
    """
    x = Axis.around(text, [x for curve in curves for x, _ in curve.points])
    y = Axis.around("", [y for curve in curves for _, y in curve.points])
    return Chart(title, x, y, curves)


def write_charts(path: str | Path, charts: Sequence[Chart]) -> None:
    """Writes charts, side by side, below their titles.

    Args:
        path: see ``write_svg``.
        charts: at least one.
    """
    parts = []
    for number, chart in enumerate(charts):
        left = WIDTH * number
        place = {"x": left, "y": _TITLE, "width": WIDTH, "height": chart.height}
        parts.append(label(chart.title, left + WIDTH / 2, 17, fill="#1c2330"))
        parts.append(chart.svg(**place))
    height = _TITLE + max(chart.height for chart in charts)
    write_svg(path, WIDTH * len(charts), height, parts)


def write_svg(path: str | Path, width: int, height: int, parts: Sequence[str]) -> None:
    """Writes elements, on white, as a file.

    Args:
        path: whose name ends in ``.svg``.
        width, height: of the drawing.
        parts: elements.
    """
    paper = element("rect", width=width, height=height, fill="#ffffff")
    namespace = {"xmlns": "http://www.w3.org/2000/svg", "font_family": "sans-serif"}
    size = {"width": width, "height": height, "viewBox": f"0 0 {width} {height}"}
    with atomic_file(path) as stream:
        stream.write(element("svg", paper, *parts, **namespace, **size) + "\n")


def check_svg(path: str | Path, where: str) -> None:
    """Refuses the name of a picture that is not of the one kind there is.

    Args:
        path: the file.
        where: the option that names it.

    Raises:
        ConfigError: the name does not end in ``.svg``.
    """
    if Path(path).suffix.lower() != ".svg":
        raise ConfigError(
            f"pictures are SVG, but the name is {Path(path).name!r}",
            where=where,
            fix="end it in .svg",
        )


def element(name: str, *content: str, **attributes: object) -> str:
    """Returns an element of SVG.

    Args:
        name: of the element.
        content: elements, or escaped text.
        attributes: by their names, with ``_`` for each ``-``; escaped here.

    Example:
        >>> element("g", element("path", d="M0 0h0"), fill_opacity=0.5, class_="<>")
        '<g fill-opacity="0.5" class="&lt;&gt;"><path d="M0 0h0"></path></g>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html_text(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(content)}</{name}>"


def label(text: str, x: float, y: float, anchor: str = "middle", **attributes: object) -> str:
    """Returns a text at a place, shortened if need be; as a whole where a mouse points at it."""
    shown = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
    paint = {"class_": "tick", "font_size": 12, "fill": "#5a6577"} | attributes
    content = [html_text(shown)] + ([hint(text)] if shown != text else [])
    return element("text", *content, x=x, y=y, text_anchor=anchor, **paint) if text else ""


def hint(text: str) -> str:
    """Returns what is shown where a mouse points at the element that it is in."""
    return element("title", html_text(text))


def _line(name: str, style: int, **shape: object) -> str:
    """Returns a line that looks like no other one, in the colour of what it is in."""
    paint = {"class_": "line", "fill": "none", "stroke": "currentColor"}
    dashes = _DASHES[style % len(_DASHES)]
    # Narrower and above: a curve on top of another leaves that one to be seen.
    width = round(3 - 0.25 * min(style, 6), 2)
    return element(name, stroke_dasharray=dashes, stroke_width=width, **paint, **shape)


def _step(wanted: float) -> float:
    """Returns the smallest of 1, 2, 5, 10, ... times a power of ten that is at least ``wanted``."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted * 0.999)
