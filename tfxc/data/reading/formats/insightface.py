"""Face images in the record files of InsightFace."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import existing_file, read_errors
from tfxc.data.reading.formats.base import EncodedImageReader
from tfxc.data.reading.parsing.lines import Lines
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.recordio import read_record, record_error, unpack_image

_INDEX_LINES = 1 << 16
# Of the opening record, whose two labels are the first record of an identity and their end.
_OVERVIEW_FLAG = 2


class InsightFaceRecords(EncodedImageReader):
    """Reads ``.rec`` files (RecordIO) of images with one integer label.

    Where record 0 has the flag 2 as in the sets of InsightFace, its first label says where the
    images end: they are the records 1 to that number − 1. Else every record is an image. With the
    ``.idx`` file next to it the records are taken by number, without it in the order of the file.
    ``property`` in the same folder ("classes,height,width") holds the number of labels. Other
    files (``.lst``) are not needed. The images come as the bytes of their files; of an image with
    several labels the first one counts.

    Args:
        path: ``.rec`` file, or a folder with ``train.rec`` or one other.

    Raises:
        DataError: a record is truncated or damaged (the message names the byte), a label id is not
        below the number of labels, the index does not fit.

    Source: https://github.com/deepinsight/insightface, recognition/arcface_torch/dataset.py.

    Example:
        >>> reader = InsightFaceRecords("faces_webface_112x112")     # doctest: +SKIP
        >>> reader.num_labels, reader.num_examples                   # doctest: +SKIP
        (10572, 490623)
    """

    suffixes = (".rec",)
    summary = ".rec files, or a folder with one"
    specificity = 30

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return ".rec" in probe.endings or super().recognises(probe)

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        if self.path.is_dir():
            files = sorted(file for file in self.path.iterdir() if file.suffix == ".rec")
            chosen = [file for file in files if file.name == "train.rec"] or files
            if not chosen:
                raise DataError(
                    "the folder has no .rec file", where=self.path, fix="check the folder"
                )
            if len(chosen) > 1:
                names = ", ".join(file.name for file in files)
                raise DataError(
                    f"the folder has several .rec files: {names}",
                    where=self.path,
                    fix="give the file itself",
                )
            self.path = chosen[0]
        self.total_bytes = self.path.stat().st_size
        properties = self.path.parent / "property"
        if os.path.lexists(properties):
            with read_errors(properties):
                first = existing_file(properties).read_bytes().split(b",")[0].strip()
            if not first.isdigit() or not int(first):
                raise DataError(
                    f"the first value of 'classes,height,width' is {first[:60]!r}, not the number "
                    "of labels",
                    where=properties,
                    fix="correct the file or delete it",
                )
            self.num_labels = int(first)
        # Without an index the offsets are None, and so are the numbers of images up to the end.
        self._numbers: np.ndarray | range | None
        self._offsets: np.ndarray | None
        self._numbers, self._offsets = self._load_index()
        self._find_images()
        if self._numbers is not None:
            self.num_examples = len(self._numbers)

    def _examples(self) -> Iterator[tuple[str, bytes, list[int]]]:
        with open(self.path, "rb") as stream:
            for number, offset, payload in self._records(stream):
                _, labels, image = unpack_image(payload, self.path, offset)
                if not image:
                    raise record_error(self.path, offset, f"record {number} has no image")
                label = labels[0]
                limit = self.num_labels or 2**31
                if not (0 <= label < limit and label == int(label)):
                    raise DataError(
                        f"the label id {label} is not one of 0 to {limit - 1:,}",
                        where=f"{self.path}: byte {offset}",
                        fix="correct the label, or the number of classes in the file property",
                    )
                yield f"{self.path.name}[{number}]", image, [int(label)]

    def _records(self, stream: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
        """Yields ``(number, offset, payload)`` of the image records."""
        if self._offsets is not None and self._numbers is not None:
            for number, offset in zip(self._numbers, self._offsets.tolist(), strict=True):
                yield number, offset, self._record(stream, offset, number)
            return
        images = self._numbers
        assert not isinstance(images, np.ndarray), "those of an index have offsets"
        for number in itertools.count() if images is None else range(images.stop):
            offset = stream.tell()
            payload = read_record(stream, self.path, offset)
            if payload is None and images is None:
                return
            if payload is None:
                raise self._early_end(offset, number)
            if images is None or number >= images.start:
                yield number, offset, payload

    def _find_images(self) -> None:
        """Leaves the records that are not images out of the numbers and offsets."""
        first = 0 if self._offsets is None else int(self._offsets[0])
        with open(self.path, "rb") as stream:
            payload = self._record(stream, first, 0)
        flag, labels, _ = unpack_image(payload, self.path, first)
        if flag != _OVERVIEW_FLAG:
            return
        if not 1 <= labels[0] < 2**31:
            raise record_error(
                self.path,
                first,
                f"the first record has {labels[0]} instead of the number of the last image + 1",
            )
        images = range(1, int(labels[0]))
        if self._offsets is not None:
            numbers = np.asarray(self._numbers)
            inside = (numbers >= 1) & (numbers < images.stop)
            self._offsets = self._offsets[inside]
            if len(self._offsets) != len(images):
                raise DataError(
                    f"the index lists only {len(self._offsets):,} of the records 1 to "
                    f"{images.stop - 1:,}",
                    where=self._index_path,
                    fix="copy or download it again, or delete it to read without it",
                )
        self._numbers = images

    def _record(self, stream: BinaryIO, offset: int, number: int) -> bytes:
        stream.seek(offset)
        payload = read_record(stream, self.path, offset)
        if payload is None:
            raise self._early_end(offset, number)
        return payload

    def _early_end(self, offset: int, number: int) -> DataError:
        return record_error(self.path, offset, f"the file ends before record {number}")

    @property
    def _index_path(self) -> Path:
        return self.path.with_suffix(".idx")

    def _load_index(self) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """Returns numbers and offsets of the records, by number; (None, None) where there is no
        index.
        """
        if not os.path.lexists(self._index_path):
            return None, None
        blocks = [np.zeros((0, 2), np.int64)]
        for first, lines in Lines(self._index_path).blocks(_INDEX_LINES):
            rows = [line.split() for line in lines]
            for place, row in enumerate(rows, start=first):
                if len(row) != 2 or not (row[0].isdigit() and row[1].isdigit()):
                    line = lines[place - first][:60]
                    raise self._index_error(f"{line!r} is not 'number offset'", place)
            blocks.append(np.array(rows, dtype="S20").astype(np.int64))
        numbers, offsets = np.concatenate(blocks).T
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        offsets = offsets[order]
        if not len(numbers):
            raise self._index_error("the file is empty", 1)
        twice = np.flatnonzero(numbers[1:] == numbers[:-1])
        if twice.size:
            line = max(order[twice[0]], order[twice[0] + 1]) + 1
            raise self._index_error(f"record {numbers[twice[0]]} occurs twice", line)
        return numbers, offsets

    def _index_error(self, problem: str, line: int) -> DataError:
        return DataError(
            problem,
            where=f"{self._index_path}:{line}",
            fix="copy or download it again, or delete it to read without it",
        )
