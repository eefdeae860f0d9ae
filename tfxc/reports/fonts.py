"""Fonts for the names of labels in plots: matplotlib's own has no Chinese, Thai or Hindi."""

import contextlib
from collections.abc import Iterator, Sequence

_OWN = "DejaVu Sans"


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that can be drawn, and the fonts that have their characters.

    Characters that matplotlib's own font lacks are looked for in the fonts of this machine.

    Args:
        names: label names by id, without control characters.

    Returns:
        The names, ``#7`` in place of the name of label 7 if some character of it is in no font; and
        the families of fonts to draw them with, for the parameter ``family``.
    """
    missing = set("".join(names)) - _characters(_file_of_own())
    families = [_OWN]
    for family, path in _scalable_fonts() if missing else ():
        if found := missing & _characters(path):
            families.append(family)
            missing -= found
        if not missing:
            break
    shown = [f"#{n}" if missing.intersection(name) else name for n, name in enumerate(names)]
    return shown, families


def _file_of_own():
    from matplotlib import font_manager

    return font_manager.findfont(_OWN)


def _characters(path):
    from matplotlib import font_manager

    return {chr(code) for code in font_manager.get_font(path).get_charmap()}


def _scalable_fonts() -> Iterator[tuple[str, str]]:
    """(family, file) of the installed upright fonts of normal weight, in the order of their names.

    Pictures of characters, as colour emoji are, cannot be drawn.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FaceFlags

    seen = {_OWN}
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: entry.name):
        if entry.name in seen or entry.style != "normal" or entry.weight not in (400, "normal"):
            continue
        seen.add(entry.name)
        with contextlib.suppress(OSError, RuntimeError):  # a file that is gone, or damaged
            if FaceFlags.SCALABLE in font_manager.get_font(entry.fname).face_flags:
                yield entry.name, entry.fname
