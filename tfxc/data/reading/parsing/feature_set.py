"""Feature sets: folders with one vector and one label per example, made to be mapped into memory.

A feature set holds ``features.npy`` (float32 or float16, (n, dim)), ``labels.npy`` (int32 (n,)),
``features.json`` (sizes, number of labels, what the vectors were made from) and, where the labels
have names, ``labels.txt``; when it is finished also ``checksums.json`` of these files. While it is
being written, ``features.npy`` is not there yet but under another name, see
``tfxc.data.store.row_writer.RowWriter``.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import DataError, MachineError
from tfxc.core.storage import checksums
from tfxc.core.storage.reading import existing_file, read_errors
from tfxc.data.reading.parsing.row_file import read_progress, unfinished_files

FEATURES = "features.npy"
LABELS = "labels.npy"
SETTINGS = "features.json"
NAMES = "labels.txt"
FORMAT_VERSION = 1
TYPES = ("float32", "float16")
_BLOCK_BYTES = 8 << 20
_AGAIN = "extract, split or import it again"


class FeatureSet:
    """A finished feature set. Nothing is read but the small files until rows are requested.

    Args:
        folder: the set's folder.

    Attributes:
        num_examples, num_features, num_labels: sizes.
        dtype: of the stored features.
        settings: dict of ``features.json``.
        features: memory map (n, dim), read only.
        labels: memory map int32 (n,), read only.

    Raises:
        DataError: no such folder, no feature set, a file is missing, damaged, shorter or longer
            than it should be, of another shape or type, or rows are missing; the message says how
            many and how to resume.

    Example:
        >>> FeatureSet("features/train").features.shape     # doctest: +SKIP
        (17091657, 512)
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.settings = load_settings(self.folder)
        self.num_examples = self.settings["num_examples"]
        self.num_features = self.settings["num_features"]
        self.num_labels = self.settings["num_labels"]
        self.dtype = np.dtype(self.settings["dtype"])
        if not is_finished(self.folder, self.settings):
            _, done = read_progress(self.folder / FEATURES)
            if done is None:
                problem = "incomplete, and the record of its finished rows is missing or damaged"
                raise DataError(problem, where=self.folder, fix=_AGAIN)
            missing = self.num_examples - int(np.count_nonzero(done))
            raise DataError(
                f"incomplete: {missing:,} of {self.num_examples:,} rows are missing, the first is "
                f"row {int(np.argmin(done))}",
                where=self.folder,
                fix="run the command that was writing it again; it resumes where it stopped",
            )
        shape = (self.num_examples, self.num_features)
        self._offset = check_array(self.folder / FEATURES, shape, self.dtype)
        check_array(self.folder / LABELS, shape[:1], np.dtype(np.int32))
        checksums.check(self.folder, _AGAIN)
        self.features = np.load(self.folder / FEATURES, mmap_mode="r")
        self.labels = np.load(self.folder / LABELS, mmap_mode="r")

    @property
    def identity(self) -> str:
        """SHA-256 of all files: two sets with the same one hold the same."""
        return checksums.identity(self.folder, _AGAIN)

    def verify(self) -> None:
        """Compares all files with their checksums; small ones were compared when it was opened.

        Raises:
            DataError: names the first file that differs.
        """
        checksums.check(self.folder, _AGAIN, all_files=True)

    @property
    def label_names(self) -> list[str] | None:
        """Names of the labels in the order of their ids, or None.

        Raises:
            DataError: their file is damaged, or has another number of names.
        """
        from tfxc.labels.vocabulary import LabelVocabulary

        path = self.folder / NAMES
        if not os.path.lexists(path):
            return None
        names = LabelVocabulary.load(path).names
        if len(names) != self.num_labels:
            raise DataError(
                f"there are {len(names):,} names, but {SETTINGS} says {self.num_labels:,} labels",
                where=path,
                fix=_AGAIN,
            )
        return names

    @property
    def block_rows(self) -> int:
        """Rows that are read at a time where all are read."""
        return max(1, _BLOCK_BYTES // (self.num_features * self.dtype.itemsize))

    def read(self, start: int, out: np.ndarray) -> None:
        """Reads the rows from ``start`` on into ``out``, float32 (rows, dim).

        The file is read, not mapped: a large sequential read, no page of which stays in this
        process.

        Raises:
            DataError: the file ends early, or a value is NaN or infinite; the row is named.
        """
        plain = out if self.dtype == out.dtype else np.empty(out.shape, self.dtype)
        view = plain.reshape(-1).view(np.uint8).data
        place = self._offset + start * self.num_features * self.dtype.itemsize
        with open(self.folder / FEATURES, "rb", buffering=0) as stream:
            stream.seek(place)
            while len(view):
                count = stream.readinto(view)
                if not count:
                    raise DataError("unexpected end of file", where=stream.name, fix=_AGAIN)
                view = view[count:]
        if plain is not out:
            out[...] = plain
        check_finite(out, start, self.folder / FEATURES)

    def blocks(self, size: int | None = None) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yields ``(first row, float32 (rows, dim), int32 (rows,))`` of all rows in order."""
        size = size or self.block_rows
        for start in range(0, self.num_examples, size):
            stop = min(start + size, self.num_examples)
            block = np.empty((stop - start, self.num_features), np.float32)
            self.read(start, block)
            yield start, block, self.read_labels(start, stop)

    def read_labels(self, start: int, stop: int) -> np.ndarray:
        """Returns the labels of the rows ``start`` to ``stop``, int32.

        Raises:
            DataError: a label is outside 0 to ``num_labels - 1``; the row is named.
        """
        labels = np.array(self.labels[start:stop])
        check_labels(labels, self.num_labels, self.folder / LABELS, start)
        return labels

    def label_counts(self) -> np.ndarray:
        """Returns the examples of each label, int64 (num_labels,).

        Raises:
            DataError: a label is outside 0 to ``num_labels - 1``; the row is named.
        """
        total = np.zeros(self.num_labels, np.int64)
        for start in range(0, self.num_examples, _BLOCK_BYTES):
            part = self.read_labels(start, min(start + _BLOCK_BYTES, self.num_examples))
            total += np.bincount(part, minlength=self.num_labels)
        return total


def is_feature_set(path: str | Path) -> bool:
    """Tells whether a path is the folder of a feature set, finished or not."""
    return (Path(path) / SETTINGS).is_file()


def load_settings(folder: str | Path) -> dict[str, Any]:
    """Returns the checked content of ``features.json``.

    Raises:
        DataError: there is none, or it is damaged.
    """
    folder = Path(folder)
    path = folder / SETTINGS
    if not path.is_file():
        if folder.is_file():
            state = "it is a file"
        elif not folder.is_dir():
            state = "there is no such folder"
        elif any(folder.iterdir()):
            state = f"it has no {SETTINGS}"
        else:
            state = "it is empty"
        raise DataError(
            f"this is not a feature set, a folder with {FEATURES}, {LABELS} and {SETTINGS}: "
            f"{state}",
            where=folder,
            fix="make one with tfxc features extract or tfxc features import",
        )
    try:
        with read_errors(path, fix=_AGAIN):
            settings = json.loads(existing_file(path, fix=_AGAIN).read_bytes())
        sizes = [settings[f"num_{name}"] for name in ("examples", "features", "labels")]
        whole = all(type(size) is int and size > 0 for size in sizes)
        whole &= settings["dtype"] in TYPES and type(settings["finished"]) is bool
        version = settings["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, MachineError):
            raise
        whole = False
        version = FORMAT_VERSION
    if not whole:
        raise DataError("this description of a feature set is damaged", where=path, fix=_AGAIN)
    if version != FORMAT_VERSION:
        raise DataError(
            f"the feature set has format {version}, but this tfxc reads format {FORMAT_VERSION}",
            where=path,
            fix=_AGAIN,
        )
    return settings


def check_array(path: Path, shape: tuple[int, ...], dtype: np.dtype, fix: str = _AGAIN) -> int:
    """Checks an ``.npy`` file's header and length against what they must be.

    Args:
        fix: what the messages recommend.

    Returns:
        Where the values begin, in bytes.

    Raises:
        DataError: missing, another shape or type, or another length than the header says.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, fix=fix)
    with read_errors(path, fix=fix), open(path, "rb") as stream:
        try:
            if np.lib.format.read_magic(stream) == (1, 0):
                header = np.lib.format.read_array_header_1_0(stream)
            else:
                header = np.lib.format.read_array_header_2_0(stream)
        except (ValueError, SyntaxError, TypeError):
            header = None
        offset = stream.tell()
    wanted = f"{dtype} {tuple(shape)} as {SETTINGS} says"
    if header is None:
        raise DataError(f"this is not an array of {wanted}", where=path, fix=fix)
    if header != (tuple(shape), False, dtype):
        array_shape, is_fortran, array_dtype = header
        order = " in Fortran order" if is_fortran else ""
        raise DataError(
            f"the array is {array_dtype} {array_shape}{order} instead of {wanted}",
            where=path,
            fix=fix,
        )
    whole_size = offset + int(np.prod(shape)) * dtype.itemsize
    size = os.path.getsize(path)
    if size != whole_size:
        raise DataError(
            f"the file has {size:,} bytes instead of {whole_size:,} as its header says",
            where=path,
            fix=fix,
        )
    return offset


def check_finite(rows: np.ndarray, first: int, where: str | Path) -> None:
    """Refuses NaN and infinity in ``rows``, the rows from ``first`` on.

    Raises:
        DataError: names the first such row.
    """
    # A sum is a single pass without a temporary; only where it is not finite is more done.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(rows.sum(dtype=np.float32)):
            return
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if wrong.size:
        raise DataError(
            f"row {first + wrong[0]} (counted from 0) has a feature that is NaN or infinite",
            where=where,
            fix="correct or leave out that example",
        )


def check_labels(labels: np.ndarray, num_labels: int, where: str | Path, first: int = 0) -> None:
    """Refuses labels outside 0 to ``num_labels - 1``.

    Raises:
        DataError: names the first such row.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= num_labels))
    if wrong.size:
        raise DataError(
            f"row {first + wrong[0]} (counted from 0) has label {labels[wrong[0]]}, but the labels "
            f"go from 0 to {num_labels - 1:,} ({num_labels:,} are declared)",
            where=where,
            fix="correct the label or the number of labels",
        )


def is_finished(folder: str | Path, settings: Mapping[str, Any]) -> bool:
    """Tells whether all rows of a set are in place.

    Args:
        folder: of the set.
        settings: what ``load_settings`` returns.
    """
    unfinished, _ = unfinished_files(Path(folder) / FEATURES)
    return settings["finished"] and not unfinished.exists()  # the features get their name last
