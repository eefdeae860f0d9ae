"""Images that need no download: the characters of matplotlib's fonts, drawn and distorted.

A few thousand classes with some dozen images each, which no photograph is needed for: enough to
train, and to verify on characters that were never trained on.
"""

import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import scipy
from annotated_types import Ge, Le

from tfxc.core.declared import Count
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.progress import Progress
from tfxc.core.resources import thread_count
from tfxc.core.storage.cache import cache_of
from tfxc.core.storage.files import write_array, write_json
from tfxc.core.storage.ownership import atomic_folder
from tfxc.core.storage.reading import read_array, read_json
from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.builtin.glyphs.drawing import draw, seed_of
from tfxc.data.reading.builtin.glyphs.faces import (
    FACES,
    GlyphClass,
    classes_of,
    font_folder,
    fonts_fingerprint,
    looks_of_face,
)
from tfxc.data.reading.formats.base import Reader, Split
from tfxc.data.reading.parsing.row_file import array_header
from tfxc.parallel import map_ordered

_SPLITS = ("train", "dev", "test")
_GLYPHS_PER_TASK = 256
# One class in so many is unseen.
_UNSEEN = 5
# To be raised with every change to what the images look like.
_VERSION = 1
_DELETE = "delete the folder; it is created again"


class Glyphs(Reader):
    """Characters of the DejaVu fonts as images: one class per character.

    Classes are the printable characters that at least ``min_faces`` of the twelve faces hold
    (three families, upright and slanted, regular and bold). Characters whose bitmaps are the same
    in any face (Latin A, Greek Alpha and Cyrillic A) are one class, named after the first of them,
    so that no image could belong to two classes; blank characters are left out. Each glyph of a
    class gives ``variants`` images, white ink on black: turned, sheared, scaled, shifted, blurred
    and noisy, at random but always the same (a hash of character, face and variant).

    80 / 10 / 10 % of the images, by a hash of character, face and variant, are train / dev / test;
    the first image of every class is in train. A fifth of the classes, by a hash of the name, are
    "unseen": leave them out of training (``classes="seen"``) to verify on them.

    With the defaults and the fonts of matplotlib 3.11 there are 5,204 classes (5,602 characters
    that are not blank) and 172,028 images. The first use draws them and caches them below
    ``cache_folder``, under a key of fonts, font engine and options.

    Args:
        split: ``"train"``, ``"dev"`` or ``"test"``.
        classes: ``"all"``, ``"seen"`` or ``"unseen"``.
        variants: images of each glyph.
        image_size: height and width in pixels.
        min_faces: faces that have to hold a character.
        characters: text of the only characters to draw; None = all.
        cache_folder: where the images are kept; None = ``TFXC_CACHE`` of the environment, or
            ``~/.cache/tfxc``.
        jobs: processes for the first use; None = one per core.

    Attributes:
        source_fingerprint: hexadecimal key of fonts, versions and options.
        label_names: names of the classes, e.g. ``"U+0041 LATIN CAPITAL LETTER A"``.

    Raises:
        ConfigError: none of the ``characters`` can be drawn, or matplotlib or Pillow is not
            installed.

    Example:
        >>> reader = Glyphs("train")                      # doctest: +SKIP
        >>> next(reader.chunks(100)).images.shape         # doctest: +SKIP
        (100, 32, 32, 1)
    """

    def __init__(
        self,
        split: Split = "train",
        classes: Literal["all", "seen", "unseen"] = "all",
        variants: Annotated[int, Ge(1), Le(1000)] = 4,
        image_size: Annotated[int, Ge(8), Le(512)] = 32,
        min_faces: Annotated[int, Ge(1), Le(len(FACES))] = 4,
        characters: str | None = None,
        cache_folder: str | Path | None = None,
        jobs: Count | None = None,
    ) -> None:
        codes = None if characters is None else sorted(set(map(ord, characters)))
        options = {
            "variants": variants,
            "image_size": image_size,
            "min_faces": min_faces,
            "characters": codes,
        }
        versions = [_VERSION, fonts_fingerprint(), np.__version__, scipy.__version__]
        key = json_text([versions, options])
        self.source_fingerprint = hashlib.sha1(key.encode()).hexdigest()[:16]
        folder = cache_of(cache_folder) / f"glyphs-{self.source_fingerprint}"
        if not folder.is_dir():
            _build(folder, options, jobs or thread_count())
        super().__init__(folder / f"{split}.npy")
        names = read_json(folder / "classes.json", fix=_DELETE, kind=(dict, list))
        part = []
        for name in names:
            is_unseen = seed_of("class", name) % _UNSEEN == 0
            part.append(classes == "all" or is_unseen == (classes == "unseen"))
        self.label_names = list(itertools.compress(names, part))
        self.num_labels = len(self.label_names)
        index = read_array(folder / f"{split}-index.npy", fix=_DELETE)
        self._rows = np.flatnonzero(np.array(part, bool)[index[:, 0]])
        self._index = index[self._rows]
        self._names = names
        self.num_examples = len(self._rows)

    @property
    def bytes_read(self) -> int:
        return 0

    @property
    def labels(self) -> np.ndarray:
        """Number of each image's class, int (n,); equal within a class, with gaps."""
        return self._index[:, 0]

    def images(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the given images, uint8 (rows, size, size, 1)."""
        return np.load(self.path, mmap_mode="r")[self._rows[rows]]

    def _read(self, size: int) -> Iterator[Chunk]:
        images = np.load(self.path, mmap_mode="r")
        for start in range(0, len(self._rows), size):
            index = self._index[start : start + size].tolist()
            yield Chunk(
                labels=[[self._names[row[0]]] for row in index],
                images=images[self._rows[start : start + size]],
                names=[f"U+{code:04X} {FACES[face]} {variant}" for _, code, face, variant in index],
            )


def _build(folder: Path, options: Mapping[str, Any], jobs: int) -> None:
    font_folder()
    codes = options["characters"]
    codes = None if codes is None else set(codes)
    with Progress("comparing glyphs", len(FACES), unit="faces") as progress:
        looks = []
        faces = [(face, codes) for face in range(len(FACES))]
        for looks_of_one in map_ordered(looks_of_face, faces, jobs):
            looks.append(looks_of_one)
            progress.advance(1)
    classes = classes_of(looks, options["min_faces"])
    if not classes:
        raise ConfigError(
            f"none of the characters is in {options['min_faces']} typefaces",
            where="characters",
            fix="lower min_faces or choose other characters",
        )
    variants = options["variants"]
    size = options["image_size"]
    with atomic_folder(folder, "built-in data set") as scratch, contextlib.ExitStack() as stack:
        write_json(scratch / "classes.json", [glyph_class.name for glyph_class in classes])
        files = {}
        wanted = {}
        for split, index in _index(classes, variants).items():
            write_array(scratch / f"{split}-index.npy", index)
            # No memory map: writing to one ends the process where the disk is full.
            files[split] = stack.enter_context(open(scratch / f"{split}.npy", "wb"))
            files[split].write(array_header((len(index), size, size, 1), np.dtype(np.uint8)))
            wanted[split] = len(index)
        glyphs = [
            (code, face, place == 0)
            for glyph_class in classes
            for place, (code, face) in enumerate(glyph_class.glyphs)
        ]
        starts = range(0, len(glyphs), _GLYPHS_PER_TASK)
        tasks = [(glyphs[start : start + _GLYPHS_PER_TASK], variants, size) for start in starts]
        drawn = dict.fromkeys(files, 0)
        with Progress("drawing glyphs", len(glyphs), unit="glyphs") as progress:
            for task, images_of_splits in zip(
                tasks, map_ordered(_draw_glyphs, tasks, jobs), strict=True
            ):
                for split, images in images_of_splits.items():
                    files[split].write(images.tobytes())
                    drawn[split] += len(images)
                progress.advance(len(task[0]))
        assert drawn == wanted, "one image per row"


def _index(classes: Sequence[GlyphClass], variants: int) -> dict[str, np.ndarray]:
    """Returns class, code point, face and variant of each image, int32 (n, 4) by split."""
    rows: dict[str, list[tuple[int, int, int, int]]] = {split: [] for split in _SPLITS}
    for number, glyph_class in enumerate(classes):
        for place, (code, face) in enumerate(glyph_class.glyphs):
            for variant in range(variants):
                split = _split(code, face, variant, place == 0 and variant == 0)
                rows[split].append((number, code, face, variant))
    return {split: np.array(part, np.int32).reshape(-1, 4) for split, part in rows.items()}


def _split(code: int, face: int, variant: int, is_first: bool) -> str:
    tenth = 0 if is_first else seed_of("split", code, FACES[face], variant) % 10
    return _SPLITS[max(0, tenth - 7)]


def _draw_glyphs(
    glyphs: Sequence[tuple[int, int, bool]], variants: int, size: int
) -> dict[str, np.ndarray]:
    """Returns the images of some glyphs by split, uint8 (n, size, size)."""
    parts_of_splits = {split: [np.zeros((0, size, size), np.uint8)] for split in _SPLITS}
    for code, face, is_first in glyphs:
        images = draw(code, face, range(variants), size)
        splits = [
            _split(code, face, variant, is_first and variant == 0) for variant in range(variants)
        ]
        for split, image in zip(splits, images, strict=True):
            parts_of_splits[split].append(image[None])
    return {split: np.concatenate(parts) for split, parts in parts_of_splits.items()}
