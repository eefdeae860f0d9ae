"""Fonts for the names of labels in plots: matplotlib's own has no Chinese, Thai or Hindi."""

import contextlib
from collections.abc import Iterator, Sequence

_DEFAULT_FONT = "DejaVu Sans"


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that can be drawn, and the fonts that have their characters.

    Characters that matplotlib's own font lacks are looked for in the fonts of this machine.

    Args:
        names: label names by id, without control characters.

    Returns:
        The names, ``#7`` in place of the name of label 7 if some character of it is in no font; and
        the families of fonts to draw them with, for the parameter ``family``.
    """
    from matplotlib import font_manager

    missing = set("".join(names)) - _characters(font_manager.findfont(_DEFAULT_FONT))
    families = [_DEFAULT_FONT]
    for family, path in _installed_fonts() if missing else ():
        if drawn := missing & _characters(path):
            families.append(family)
            missing -= drawn
        if not missing:
            break
    shown = [f"#{n}" if missing.intersection(name) else name for n, name in enumerate(names)]
    return shown, families


def _characters(path: str) -> set[str]:
    from matplotlib import font_manager

    with contextlib.suppress(OSError, RuntimeError):  # a file that is gone since, or damaged
        return {chr(code) for code in font_manager.get_font(path).get_charmap()}
    return set()


def _installed_fonts() -> Iterator[tuple[str, str]]:
    """Yields (family, file) of the installed upright fonts, in the order of their names.

    Those of pictures, as of colour emoji, are not among them: matplotlib cannot draw them. The font
    of last resort has every character, as a box.
    """
    from matplotlib import font_manager

    fonts: dict[str, str] = {}
    for entry in font_manager.fontManager.ttflist:
        if entry.style == "normal" and not entry.name.startswith("Last Resort"):
            fonts.setdefault(entry.name, entry.fname)
    yield from sorted(fonts.items())
