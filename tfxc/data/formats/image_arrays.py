"""NumPy archives of pixels and labels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.chunk import Chunk
from tfxc.data.formats.base import PixelReader
from tfxc.data.parsing.arrays import array_error, open_rows
from tfxc.data.parsing.label_checks import check_label_name, check_label_names
from tfxc.data.source_files import expand

if TYPE_CHECKING:
    from tfxc.data.parsing.path_probe import PathProbe


class ImageArrays(PixelReader):
    """Reads images and one label each from arrays of an ``.npz`` file.

    Images are uint8 (n, height, width) or (n, height, width, channels) of 1 or 3 channels; drawings
    may be packed to one bit per pixel, (n, ceil(height · width / 8)), as ``numpy.packbits`` packs
    flattened drawing. They are read a chunk at a time and come as uint8
    (n, height, width, channels), a set bit as 255. Labels are ids from 0 or names, one per image.

    Args:
        path: ``.npz`` file of ``numpy.savez`` or ``numpy.savez_compressed``.
        images: name of the array of images.
        labels: name of the array of labels.
        packed_shape: [height, width] of packed drawings.
        invert: take 255 − value, so that set bits come as 0 on 255.
        classes: [first, last): only the images of these label ids, which then count from 0.
        class_names: JSON file with the list of the names of all label ids; relative to the folder
            of ``path``. The labels come as names then.
        labelled: if False, yields the images without labels, which are optional.

    Raises:
        ConfigError: an option is malformed.
        DataError: the file is damaged, an array is missing or of another shape or type, a label
            is negative or has no name.

    Example:
        >>> reader = ImageArrays("faces.npz", labels="label")     # doctest: +SKIP
        >>> next(reader.chunks(8)).images.shape                   # doctest: +SKIP
        (8, 64, 64, 1)
    """

    summary = ".npz with images"
    specificity = 10
    label_options = ("classes", "class_names")

    @classmethod
    def recognises(cls, probe: "PathProbe") -> bool:
        return not probe.arrays.isdisjoint(("images", "images_packed"))

    def __init__(
        self,
        path: str | Path,
        *,
        images: str = "images",
        labels: str = "labels",
        packed_shape: Sequence[int] | None = None,
        invert: bool = False,
        classes: Sequence[Any] | None = None,
        class_names: str | None = None,
        labelled: bool = True,
    ) -> None:
        super().__init__(path)
        if packed_shape is not None and not _is_pair(packed_shape, 1):
            raise _option_error("packed_shape", "[height, width]", packed_shape)
        if classes is not None and not (_is_pair(classes, 0) and classes[0] < classes[1]):
            raise _option_error("classes", "[first, last), ids from 0,", classes)
        if not labelled and (classes is not None or class_names is not None):
            raise ConfigError(
                "classes and class_names need labels", where="labelled", fix="leave them out"
            )
        self._images, self._labels = images, labels
        self._packed_shape, self._invert, self._classes = packed_shape, invert, classes
        with open_rows(self.path, images) as rows:
            self._check_images(rows)
            self.num_examples = rows.shape[0]
        # A list of names, or None if the labels stay numbers.
        self._names = None if class_names is None else self._load_names(class_names)
        self._ids, self._kept = None, np.ones(self.num_examples, bool)
        if labelled:
            self._ids = self._load_labels()
            self._choose_classes()

    def _choose_classes(self):
        self.label_names = self._names
        if self._classes is not None:
            first, last = self._classes
            self._kept = (self._ids >= first) & (self._ids < last)
            self._ids = self._ids - first
            self.num_labels = last - first
            if self._names is not None:
                self.label_names = self._names[first:last]
        if self.label_names is not None:
            self.num_labels = len(self.label_names)
        self.num_examples = int(self._kept.sum())
        if not self.num_examples:
            wanted = f" of classes {first} to {last - 1}" if self._classes is not None else ""
            raise self._error(f"{self._labels}: images{wanted} expected, found none")

    def _blocks(self, size):
        with open_rows(self.path, self._images) as rows:
            size = rows.at_once(size)
            for start in range(0, rows.shape[0], size):
                block = rows.read(min(size, rows.shape[0] - start))
                chosen = np.flatnonzero(self._kept[start : start + len(block)])
                yield Chunk(
                    labels=self._label_lists(start + chosen),
                    images=self._pixels(block[chosen]),
                    names=[f"{self._images}[{index}]" for index in (start + chosen).tolist()],
                )

    def _check_images(self, rows):
        shape, found = rows.shape, f"found {rows.dtype} {rows.shape}"
        if self._packed_shape is not None:
            height, width = self._packed_shape
            length = -(-height * width // 8)
            if rows.dtype != np.uint8 or shape[1:] != (length,):
                raise self._error(
                    f"{self._images}: uint8 (n, {length}), {height} x {width} bits per row, is "
                    f"expected, {found}"
                )
            return
        channels = 1 if len(shape) == 3 else shape[-1] if len(shape) == 4 else None
        if rows.dtype != np.uint8 or channels not in (1, 3) or 0 in shape[1:]:
            raise self._error(
                f"{self._images}: uint8 (n, height, width) or (n, height, width, 1 or 3) is "
                f"expected, {found}"
            )

    def _pixels(self, block):
        if self._packed_shape is not None:
            height, width = self._packed_shape
            bits = np.unpackbits(block, axis=1, count=height * width)
            block = (bits * np.uint8(255)).reshape(-1, height, width)
        if block.ndim == 3:
            block = block[..., np.newaxis]
        return 255 - block if self._invert else block

    def _load_labels(self):
        """int64 ids or names, (n,), checked."""
        numbered = self._classes is not None or self._names is not None
        with open_rows(self.path, self._labels) as rows:
            if rows.shape != (self.num_examples,) or rows.dtype.kind not in "iuU"[: 3 - numbered]:
                raise self._error(
                    f"{self._labels}: integers{'' if numbered else ' or strings'} of shape "
                    f"({self.num_examples},) expected, found {rows.dtype} {rows.shape}"
                )
            labels = rows.read(self.num_examples)
        if labels.dtype.kind == "U":
            for name in np.unique(labels).tolist():
                check_label_name(name, f"{self.path}: {self._labels}")
            return labels
        limit = 2**31 if self._names is None else len(self._names)
        wrong = np.flatnonzero((labels < 0) | (labels >= limit))
        if wrong.size:
            raise self._error(
                f"{self._labels}[{wrong[0]}]: a label id of 0 to {limit - 1:,} expected, found "
                f"{labels[wrong[0]]}"
            )
        return labels.astype(np.int64)

    def _label_lists(self, indices):
        if self._ids is None:
            return [[] for _ in indices]
        if self.label_names is None:
            return [[label] for label in self._ids[indices].tolist()]
        return [[self.label_names[label]] for label in self._ids[indices].tolist()]

    def _load_names(self, class_names):
        path = self.path.parent / expand(str(class_names))
        if not path.is_file():
            raise DataError("no such file", where=path, fix="correct class_names")
        try:
            names = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise DataError(f"a JSON list of names expected: {error}", where=path) from None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError("a JSON list of names expected", where=path)
        check_label_names(names, path)
        if self._classes is not None and self._classes[1] > len(names):
            raise DataError(
                f"names of classes up to {self._classes[1] - 1} expected, found {len(names)} names",
                where=path,
                fix="correct classes or class_names",
            )
        return names

    def _error(self, problem):
        return array_error(self.path, problem)


def _is_pair(value, lowest):
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(type(item) is int and item >= lowest for item in value)
    )


def _option_error(option, expected, found):
    return ConfigError(f"{expected} expected, found {found!r}", where=option)
