"""Stand-ins for data sets that are not here: of the same sizes, and something can be learned."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge

from tfxc.core.declared import Count, Natural, ShareAboveZero
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.data.examples.chunk import Chunk, of_size
from tfxc.data.examples.lists import LabelLists
from tfxc.data.reading.builtin.synthetic.drawing import Drawing, Labels
from tfxc.data.reading.builtin.synthetic.shapes import find_shape
from tfxc.data.reading.formats.base import Reader, Split

_SPLITS = ("train", "dev", "test")
# To be raised with every change to what is drawn.
_VERSION = 1


class Synthetic(Reader):
    """Examples with the sizes of a published data set, drawn and learnable.

    Labels are frequent by a power law and belong to topics; the features of an example are those
    that its topic and its labels prefer, and noise. So linear models, networks and trees learn
    something, and memory, time and disk are those of the published set; accuracy is not. Examples
    are drawn in blocks, each from its number alone: nothing is kept, in memory or on disk.

    ``share`` of the set are that share of its examples and labels (but at least 1,024 and 256,
    where there are as many) with the square root of it of the features.

    Args:
        split: ``"train"``, ``"dev"`` or ``"test"``.
        shape: the set, e.g. ``"amazon670k"``; the names are in
            ``tfxc.data.reading.builtin.synthetic.shapes.SHAPES``.
        share: of examples and labels, above 0 and at most 1.
        form: ``"features"`` are sparse tf-idf rows, ``"texts"`` texts of words made of the numbers
            of features, ``"both"`` the two of the same words, ``"vectors"`` dense, ``"images"``
            pixels, ``"files"`` images as JPEG files; None = what the set has.
        examples: number of examples of the split, in place of the shape's.
        labels: number of labels, in place of the shape's.
        seed: of all random numbers.

    Attributes:
        source_fingerprint: hexadecimal key of sizes and options.

    Raises:
        ConfigError: an unknown shape, or a form or split that the set does not have.

    Example:
        >>> reader = Synthetic("test", "eurlex4k")
        >>> reader.num_labels, next(reader.chunks(10)).features.shape
        (3993, (10, 5000))
    """

    num_examples: int

    def __init__(
        self,
        split: Split = "train",
        shape: str = "amazon670k",
        share: ShareAboveZero = 1.0,
        form: str | None = None,
        examples: Count | None = None,
        labels: Annotated[int, Ge(2)] | None = None,
        seed: Natural = 0,
    ) -> None:
        sizes = find_shape(shape).scaled(share)
        if examples is not None:
            sizes = sizes.with_examples(split, examples)
        if labels is not None:
            sizes = dataclasses.replace(sizes, labels=labels)
        self._form = sizes.forms[0] if form is None else form
        if self._form not in sizes.forms:
            raise ConfigError(
                f"shape {shape!r} has no form {self._form!r}, only {', '.join(sizes.forms)}",
                where="form",
            )
        self.path = Path(f"builtin:synthetic/{shape}")
        self._split = split
        self.shape = sizes
        self.num_examples = sizes.examples(split)
        if not self.num_examples:
            raise ConfigError(
                f"shape {shape!r} has no split {split!r}",
                where="split",
                fix=f"choose one of: {', '.join(s for s in _SPLITS if sizes.examples(s))}",
            )
        self.num_labels = sizes.labels
        if self._form in ("features", "both", "vectors"):
            self.num_features = sizes.features
        self._drawing = Drawing(sizes, seed)
        key = json_text([_VERSION, shape, share, self._form, examples, labels, seed])
        self.source_fingerprint = hashlib.sha1(key.encode()).hexdigest()[:16]

    @property
    def bytes_read(self) -> int:
        return 0

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Yields (number, examples of it that count)."""
        size = self._drawing.block
        for number in range(-(-self.num_examples // size)):
            yield number, min(size, self.num_examples - number * size)

    def label_lists(self, size: int = 4096) -> Iterator[LabelLists]:
        for number, count in self._blocks():
            yield _lists(self._drawing.labels(self._split, number), count)

    def ranges(self, folder: Path) -> Callable[[int, int], Chunk] | None:
        if self._form in ("images", "files", "vectors"):  # as large as they can be: read in order
            return None
        size = self._drawing.block

        def rows(start: int, stop: int) -> Chunk:
            parts = []
            for number in range(start // size, -(-stop // size)):
                first = number * size
                block = self._block(number)
                parts.append(block.slice(max(start - first, 0), min(stop - first, size)))
            return Chunk.joined(parts)

        return rows

    def _read(self, size: int) -> Iterator[Chunk]:
        blocks = (self._block(number).slice(0, count) for number, count in self._blocks())
        return of_size(blocks, size)

    def _block(self, number: int) -> Chunk:
        """Returns one whole block as a ``Chunk``."""
        drawing = self._drawing
        split = self._split
        labels = drawing.labels(split, number)
        chunk = Chunk(labels=_lists(labels, drawing.block))
        if self._form == "vectors":
            chunk.features = drawing.vectors(split, number, labels)
        elif self._form in ("images", "files"):
            images = drawing.images(split, number, labels)
            chunk.images = images if self._form == "images" else _files(images)
        else:
            words = drawing.words(split, number, labels)
            if self._form != "texts":
                chunk.features = drawing.features(words)
            if self._form != "features":
                chunk.texts = drawing.texts(words)
        return chunk


def _lists(labels: Labels, count: int) -> LabelLists:
    return LabelLists(labels.indptr, labels.ids)[:count]


def _files(images: np.ndarray) -> list[bytes]:
    """Returns images as JPEG files."""
    import tensorflow as tf

    return [tf.io.encode_jpeg(image, quality=90).numpy() for image in images]
