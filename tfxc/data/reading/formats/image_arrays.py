"""NumPy archives of pixels and labels."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Len

from tfxc.core.declared import Count, Natural
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.formats.base import PixelReader
from tfxc.data.reading.parsing.arrays import ArrayRows, array_error, open_rows
from tfxc.data.reading.parsing.label_checks import check_label_name, check_label_names
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.source_files import expand


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

    Raises:
        ConfigError: ``classes`` does not ascend, or options of labels are given without labels.
        DataError: the file is damaged, an array is missing or of another shape or type, a label
            is negative or has no name.

    Example:
        >>> reader = ImageArrays("faces.npz", labels="label")     # doctest: +SKIP
        >>> next(reader.chunks(8)).images.shape                   # doctest: +SKIP
        (8, 64, 64, 1)
    """

    summary = ".npz with images"
    num_examples: int
    specificity = 10
    label_options = ("classes", "class_names")

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return not probe.arrays.isdisjoint(("images", "images_packed"))

    def __init__(
        self,
        path: str | Path,
        *,
        images: str = "images",
        labels: str = "labels",
        packed_shape: Annotated[Sequence[Count], Len(2, 2)] | None = None,
        invert: bool = False,
        classes: Annotated[Sequence[Natural], Len(2, 2)] | None = None,
        class_names: str | Path | None = None,
        labelled: bool = True,
    ) -> None:
        super().__init__(path)
        if classes is not None and classes[0] >= classes[1]:
            raise ConfigError(
                f"must be a range [first, last) of label ids, not {classes!r}",
                where="classes",
                fix="give two ids that ascend",
            )
        if not labelled and (classes is not None or class_names is not None):
            raise ConfigError(
                "classes and class_names need labels", where="labelled", fix="leave them out"
            )
        self._images = images
        self._labels = labels
        self._packed_shape = packed_shape
        self._invert = invert
        self._classes = classes
        with open_rows(self.path, images) as rows:
            self._check_images(rows)
            self.num_examples = rows.shape[0]
        # A list of names, or None if the labels stay numbers.
        self._names = None if class_names is None else self._load_names(class_names)
        self._ids: np.ndarray | None = None
        self._chosen = np.ones(self.num_examples, bool)
        if labelled:
            ids = self._load_labels()
            self.label_names = self._names
            which = ""
            if classes is not None:
                first, last = classes
                which = f" of the classes {first} to {last - 1}"
                self._chosen = (ids >= first) & (ids < last)
                ids = ids - first
                self.num_labels = last - first
                if self._names is not None:
                    self.label_names = self._names[first:last]
            if self.label_names is not None:
                self.num_labels = len(self.label_names)
            self.num_examples = int(self._chosen.sum())
            if not self.num_examples:
                raise self._error(f"{labels}: there are no images{which}")
            self._ids = ids

    def _blocks(self, size: int) -> Iterator[Chunk]:
        with open_rows(self.path, self._images) as rows:
            size = rows.at_once(size)
            for start in range(0, rows.shape[0], size):
                block = rows.read(min(size, rows.shape[0] - start))
                chosen = np.flatnonzero(self._chosen[start : start + len(block)])
                labels: list[list[Any]] = [[] for _ in chosen]
                if self._ids is not None:
                    labels = [[label] for label in self._ids[start + chosen].tolist()]
                    if self.label_names is not None:
                        labels = [[self.label_names[label]] for [label] in labels]
                yield Chunk(
                    labels=labels,
                    images=self._pixels(block[chosen]),
                    names=[f"{self._images}[{index}]" for index in (start + chosen).tolist()],
                )

    def _check_images(self, rows: ArrayRows) -> None:
        shape = rows.shape
        problem = f"{self._images}: the array is {rows.dtype} {shape} instead of uint8"
        if self._packed_shape is not None:
            height, width = self._packed_shape
            length = -(-height * width // 8)
            if rows.dtype != np.uint8 or shape[1:] != (length,):
                raise self._error(f"{problem} (n, {length}) of {height} x {width} bits per row")
            return
        channels = 1 if len(shape) == 3 else shape[-1] if len(shape) == 4 else None
        if rows.dtype != np.uint8 or channels not in (1, 3) or 0 in shape[1:]:
            raise self._error(f"{problem} (n, height, width) or (n, height, width, 1 or 3)")

    def _pixels(self, block: np.ndarray) -> np.ndarray:
        if self._packed_shape is not None:
            height, width = self._packed_shape
            bits = np.unpackbits(block, axis=1, count=height * width)
            block = (bits * np.uint8(255)).reshape(-1, height, width)
        if block.ndim == 3:
            block = block[..., np.newaxis]
        return 255 - block if self._invert else block

    def _load_labels(self) -> np.ndarray:
        """Returns int64 ids or names, (n,), checked."""
        numbered = self._classes is not None or self._names is not None
        with open_rows(self.path, self._labels) as rows:
            if rows.shape != (self.num_examples,) or rows.dtype.kind not in "iuU"[: 3 - numbered]:
                raise self._error(
                    f"{self._labels}: the array is {rows.dtype} {rows.shape} instead of integers"
                    f"{'' if numbered else ' or strings'} of shape ({self.num_examples},)"
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
                f"{self._labels}[{wrong[0]}]: the label id {labels[wrong[0]]} is not one of 0 to "
                f"{limit - 1:,}"
            )
        return labels.astype(np.int64)

    def _load_names(self, class_names: str | Path) -> list[str]:
        path = self.path.parent / expand(str(class_names))
        if not path.is_file():
            raise DataError("no such file", where=path, fix="correct class_names")
        fix = "list the names of all classes, in the order of their ids"
        try:
            names = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise DataError(f"the file is not JSON: {error}", where=path, fix=fix) from None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError("the file is not a JSON list of names", where=path, fix=fix)
        check_label_names(names, str(path))
        if self._classes is not None and self._classes[1] > len(names):
            raise DataError(
                f"the file names {len(names)} classes, but classes goes up to "
                f"{self._classes[1] - 1}",
                where=path,
                fix="correct classes or class_names",
            )
        return names

    def _error(self, problem: str) -> DataError:
        return array_error(self.path, problem)
