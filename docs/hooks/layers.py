"""The picture of the package's layers, drawn from its imports."""

import ast
import functools
import html
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PACKAGE = ROOT / "tfxc"
_ROW, _BOX, _GAP, _WIDTH = 84, 34, 14, 760


@functools.cache
def imports():
    """``{folder: Counter of the folders it imports}`` for the package's top-level folders."""
    folders = [path.name for path in _PACKAGE.iterdir() if (path / "__init__.py").exists()]
    found = {folder: Counter() for folder in sorted([*folders, "model"])}
    for folder, counts in found.items():
        paths = (_PACKAGE / folder).rglob("*.py") if folder != "model" else [_PACKAGE / "model.py"]
        for path in paths:
            for name in _imported(path):
                part = name.split(".")[1] if "." in name else ""
                if part in found and part != folder:
                    counts[part] += 1
    return found


def _imported(path):
    """Modules of the package that a file imports, those imported inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "tfxc")


def levels(graph):
    """Folders by level, the lowest first: each is right above the highest one it imports.

    Args:
        graph: ``{folder: folders it imports}``.

    Raises:
        RecursionError: folders import each other.

    Example:
        >>> levels({"core": [], "data": ["core"], "heads": ["core"], "model": ["heads", "data"]})
        [['core'], ['data', 'heads'], ['model']]
    """

    @functools.cache
    def level(folder):
        return 1 + max((level(other) for other in graph[folder]), default=-1)

    rows = {}
    for folder in sorted(graph):
        rows.setdefault(level(folder), []).append(folder)
    return [rows[number] for number in sorted(rows)]


def picture():
    """The layers as SVG: a box for each folder, an arrow for each import between folders.

    Boxes carry a title with the folders they import, shown when the pointer rests on them.
    """
    graph = imports()
    rows = list(reversed(levels(graph)))
    places = {
        name: (_center(number, len(row)), _ROW * depth + _BOX)
        for depth, row in enumerate(rows)
        for number, name in enumerate(row)
    }
    height = _ROW * len(rows)
    lines = [
        _arrow(places[name], places[other], count)
        for name, counts in graph.items()
        for other, count in sorted(_direct(graph, name).items())
    ]
    boxes = [_box(name, *places[name], len(_row_of(rows, name)), graph[name]) for name in places]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="13" role="img" '
        'aria-label="The folders of tfxc in layers; each imports only from below">'
        + "".join([*lines, *boxes])
        + "</svg>"
    )


def _direct(graph, name):
    """Imports that no other import of ``name`` implies, so that the picture stays readable."""
    implied = {far for other in graph[name] for far in _reached(graph, other)}
    return {other: count for other, count in graph[name].items() if other not in implied}


def _reached(graph, name):
    found, left = set(), list(graph[name])
    while left:
        other = left.pop()
        if other not in found:
            found.add(other)
            left += graph[other]
    return found


def _row_of(rows, name):
    return next(row for row in rows if name in row)


def _center(number, count):
    return (2 * number + 1) * _WIDTH / (2 * count)


def _box(name, x, y, count, imported):
    width = min(130, _WIDTH / count - _GAP)
    title = f"{name} imports {', '.join(sorted(imported)) or 'no other folder'}"
    return (
        f'<g><title>{html.escape(title)}</title><rect x="{x - width / 2:.0f}" y="{y - 17}" '
        f'width="{width:.0f}" height="{_BOX}" rx="5" fill="#e8eaf6" stroke="#3949ab"/>'
        f'<text x="{x:.0f}" y="{y + 5}" text-anchor="middle" fill="#1a237e">'
        f"{html.escape(name)}</text></g>"
    )


def _arrow(upper, lower, count):
    (x, y), (u, v) = upper, lower
    width = 0.6 + min(count, 40) / 20
    return (
        f'<path d="M{x:.0f} {y} C{x:.0f} {y + 40} {u:.0f} {v - 40} {u:.0f} {v}" fill="none" '
        f'stroke="#9fa8da" stroke-width="{width:.1f}"/>'
    )
