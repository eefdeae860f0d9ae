"""Which characters the DejaVu fonts of matplotlib can draw, and which of them look the same."""

import collections
import dataclasses
import functools
import hashlib
import importlib.util
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import missing_package

#: The faces by file name; matplotlib's two "Display" faces hold a few large brackets only.
FACES = tuple(
    f"DejaVu{family}{style}"
    for family, styles in (
        ("Sans", ("", "-Bold", "-Oblique", "-BoldOblique")),
        ("SansMono", ("", "-Bold", "-Oblique", "-BoldOblique")),
        ("Serif", ("", "-Bold", "-Italic", "-BoldItalic")),
    )
    for style in styles
)
# Pixels per em at which glyphs are compared.
_EM = 64


@dataclasses.dataclass(frozen=True)
class GlyphClass:
    """Characters that look the same, and what they look like.

    Attributes:
        name: of the class, that of its first character, e.g. ``"U+0041 LATIN CAPITAL LETTER A"``.
        characters: code points in ascending order.
        glyphs: list of (code point, place in ``FACES``), no two of them alike.
    """

    name: str
    characters: tuple[int, ...]
    glyphs: tuple[tuple[int, int], ...]


def font_folder() -> Path:
    """Returns the folder of matplotlib's fonts.

    Raises:
        ConfigError: matplotlib or Pillow is not installed.
    """
    for module in ("matplotlib", "PIL"):
        with missing_package("vision", where="builtin:glyphs"):
            if importlib.util.find_spec(module) is None:  # importing matplotlib takes a second
                raise ModuleNotFoundError(name=module)
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None, "it is a package with files"
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"


def fonts_fingerprint() -> str:
    """Returns a key of everything that determines what a glyph looks like."""
    folder = font_folder()
    from PIL import features

    digest = hashlib.sha1(unicodedata.unidata_version.encode())
    for part in ("pil", "freetype2"):
        digest.update(str(features.version(part)).encode())
    for face in FACES:
        digest.update((folder / f"{face}.ttf").read_bytes())
    return digest.hexdigest()


@functools.cache
def open_font(face: int, em: int) -> Any:
    """Returns a face (its place in ``FACES``) at ``em`` pixels."""
    from PIL import ImageFont

    path = font_folder() / f"{FACES[face]}.ttf"
    return ImageFont.truetype(path, em, layout_engine=ImageFont.Layout.BASIC)


def ink(face: int, code: int, em: int = _EM) -> tuple[np.ndarray, int] | None:
    """Returns a glyph without margins.

    Returns:
        ``(uint8 (height, width), top)``: 255 = ink, ``top`` pixels from the baseline down to the
        first row; None for a blank one.
    """
    font = open_font(face, em)
    character = chr(code)
    _, top, _, _ = font.getbbox(character, anchor="ls")
    mask = font.getmask(character, mode="L", anchor="ls")
    pixels = np.array(mask, np.uint8).reshape(mask.size[::-1])
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], top + int(rows[0])


def looks_of_face(face: int, characters: set[int] | None = None) -> dict[int, tuple]:
    """Returns ``{code point: look}`` of a face's printable characters; equal looks are equal
    bitmaps.

    A look includes the height above the baseline, which distinguishes a comma from an apostrophe.
    Control, private-use, unassigned and separating characters are left out, and blank glyphs.

    Args:
        characters: set of code points to keep, or None.
    """
    from matplotlib.ft2font import FT2Font

    looks = {}
    for code in sorted(FT2Font(str(font_folder() / f"{FACES[face]}.ttf")).get_charmap()):
        if unicodedata.category(chr(code))[0] in "CZ":
            continue
        if characters is None or code in characters:
            glyph = ink(face, code)
            if glyph is not None:
                pixels, top = glyph
                digest = hashlib.sha1(pixels.tobytes()).hexdigest()
                looks[code] = (face, top, pixels.shape, digest)
    return looks


def classes_of(looks: Sequence[Mapping[int, tuple]], min_faces: int) -> list[GlyphClass]:
    """Groups characters into classes.

    Two characters that look the same in any face are one class, and so are those linked by a third:
    no two classes share a bitmap. A class holds each of its bitmaps once.

    Args:
        looks: ``looks_of_face`` of each face.
        min_faces: characters in fewer faces are left out.

    Returns:
        list of ``GlyphClass`` by their first character.
    """
    faces = collections.Counter(code for face in looks for code in face)
    codes = sorted(code for code, count in faces.items() if count >= min_faces)
    parent = {code: code for code in codes}

    def first(code: int) -> int:
        while parent[code] != code:
            parent[code] = parent[parent[code]]
            code = parent[code]
        return code

    owners: dict[tuple, int] = {}
    glyphs: dict[tuple, tuple[int, int]] = {}
    for code in codes:
        for face, look in ((face, part[code]) for face, part in enumerate(looks) if code in part):
            owner = owners.setdefault(look, code)
            glyphs.setdefault(look, (code, face))
            low, high = sorted((first(owner), first(code)))
            parent[high] = low
    members = collections.defaultdict(list)
    drawn = collections.defaultdict(list)
    for code in codes:
        members[first(code)].append(code)
    for look, owner in owners.items():
        drawn[first(owner)].append(glyphs[look])
    return [
        GlyphClass(_name(code), tuple(class_codes), tuple(sorted(drawn[code])))
        for code, class_codes in sorted(members.items())
    ]


def _name(code: int) -> str:
    return f"U+{code:04X} {unicodedata.name(chr(code), 'WITHOUT A NAME')}"
