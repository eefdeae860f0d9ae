"""CIFAR-10 and CIFAR-100 in the files of their authors, packed or unpacked."""

import dataclasses
import functools
import io
import tempfile
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.pickles import load_plain
from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.formats.base import PixelReader
from tfxc.data.reading.parsing.archives import tar_members
from tfxc.data.reading.parsing.label_checks import check_label_names
from tfxc.data.reading.parsing.path_probe import PathProbe

# The folders in the archives.
_FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python", "cifar-100-binary")

_SIDE = 32
_CHANNELS = 3
_PIXELS = _SIDE * _SIDE * _CHANNELS
_TEN = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
_HUNDRED = {"train": ["train"], "test": ["test"]}


@dataclasses.dataclass(frozen=True)
class _Layout:
    """One of the four sets: its files, and where a file keeps which labels.

    ``labels`` maps the labelling to (file of the names, their key in it, key of the labels in a
    pickle or column of the byte in a binary row).
    """

    files: dict[str, list[str]]
    labels: dict[str, tuple[str, str | None, Any]]
    label_bytes: int = 0  # per row; 0 = pickles


# By the file that only this layout has.
_LAYOUTS = {
    "batches.meta": _Layout(_TEN, {"fine": ("batches.meta", "label_names", "labels")}),
    "meta": _Layout(
        _HUNDRED,
        {kind: ("meta", f"{kind}_label_names", f"{kind}_labels") for kind in ("fine", "coarse")},
    ),
    "batches.meta.txt": _Layout(_TEN, {"fine": ("batches.meta.txt", None, 0)}, 1),
    "fine_label_names.txt": _Layout(
        _HUNDRED,
        {"coarse": ("coarse_label_names.txt", None, 0), "fine": ("fine_label_names.txt", None, 1)},
        2,
    ),
}


class Cifar(PixelReader):
    """Reads the "python" and "binary" versions of CIFAR-10 and CIFAR-100.

    Images come as uint8 (n, 32, 32, 3), labels as their names. Pickles are read without running
    anything they name. One file of the set at a time is in memory.

    Args:
        path: ``.tar.gz`` archive as downloaded, or the folder it unpacks to.
        split: ``"train"`` or ``"test"``.
        labels: ``"fine"`` or, in CIFAR-100 only, ``"coarse"``.

    Raises:
        ConfigError: CIFAR-10 has no ``"coarse"`` labels.
        DataError: a file is missing, truncated, damaged or of another shape, a label has no name.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
    https://www.cs.toronto.edu/~kriz/cifar.html.

    Example:
        >>> reader = Cifar("cifar-100-python.tar.gz", labels="coarse")    # doctest: +SKIP
        >>> reader.num_labels                                             # doctest: +SKIP
        20
    """

    summary = "CIFAR's archives and folders"
    num_labels: int
    label_names: list[str]
    specificity = 40

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        if probe.is_folder:
            return not probe.files.isdisjoint(_LAYOUTS)
        inside = set(PurePosixPath(probe.first_member).parts)
        return not inside.isdisjoint(_FOLDERS)

    @classmethod
    def splits_of(cls, path: Path) -> list[str]:
        return ["train", "test"]

    def __init__(
        self,
        path: str | Path,
        *,
        split: Literal["train", "test"] = "train",
        labels: Literal["fine", "coarse"] = "fine",
    ) -> None:
        super().__init__(path)
        self._files = _files_of(self.path)
        marker = next((name for name in _LAYOUTS if name in self._files), None)
        if marker is None:
            raise DataError(
                f"none of {', '.join(_LAYOUTS)} of CIFAR-10 or CIFAR-100 is there, only "
                f"{', '.join(sorted(self._files)[:10]) or 'nothing'}",
                where=self.path,
                fix="give the archive or the folder it unpacks to",
            )
        self._layout = _LAYOUTS[marker]
        if labels not in self._layout.labels:
            raise ConfigError(
                f"this set has no {labels!r}",
                where="labels",
                fix=f"choose one of: {', '.join(self._layout.labels)}",
            )
        suffix = ".bin" if self._layout.label_bytes else ""
        self._batches = [f"{name}{suffix}" for name in self._layout.files[split]]
        names_file, names_key, self._labels_key = self._layout.labels[labels]
        for name in (names_file, *self._batches):
            if name not in self._files:
                names = ", ".join(sorted(self._files))
                raise self._error(name, f"there is no such file, only {names}")
        self.label_names = self._load_names(names_file, names_key)
        self.num_labels = len(self.label_names)

    def _blocks(self, size: int) -> Iterator[Chunk]:
        for name in self._batches:
            blocks = self._rows(name, size) if self._layout.label_bytes else self._batch(name)
            start = 0
            for pixels, ids in blocks:
                shape = (len(pixels), _CHANNELS, _SIDE, _SIDE)
                yield Chunk(
                    labels=[[label] for label in self._named(ids, name, start)],
                    images=pixels.reshape(shape).transpose(0, 2, 3, 1),
                    names=[f"{name}[{row}]" for row in range(start, start + len(pixels))],
                )
                start += len(pixels)

    def _batch(self, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the pixels and label ids of a pickle, as one block."""
        with self._files[name]() as stream:
            batch = _with_text_keys(load_plain(stream, self._where(name)))
        pixels = batch.get("data")
        ids: Any = batch.get(self._labels_key)
        if (
            not isinstance(pixels, np.ndarray)
            or pixels.dtype != np.uint8
            or pixels.shape[1:] != (_PIXELS,)
        ):
            shown = f"{getattr(pixels, 'dtype', type(pixels).__name__)} "
            shown += f"{getattr(pixels, 'shape', '')}"
            raise self._error(name, f"'data' is {shown.strip()} instead of uint8 (n, {_PIXELS})")
        if not _is_list_of(int, ids) or len(ids) != len(pixels):
            raise self._error(
                name,
                f"{self._labels_key!r} is {repr(ids)[:60]} instead of a list of {len(pixels)} "
                "integers",
            )
        yield pixels, np.array(ids)

    def _rows(self, name: str, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the pixels and label ids of a binary file, ``size`` rows at a time."""
        width = self._layout.label_bytes + _PIXELS
        with self._files[name]() as stream:
            while content := stream.read(size * width):
                if len(content) % width:
                    raise self._error(
                        name,
                        f"the last row has {len(content) % width} bytes instead of {width}: the "
                        "file is truncated or damaged",
                    )
                rows = np.frombuffer(content, np.uint8).reshape(-1, width)
                yield rows[:, self._layout.label_bytes :], rows[:, self._labels_key]

    def _named(self, ids: np.ndarray, name: str, start: int) -> list[str]:
        wrong = np.flatnonzero((ids < 0) | (ids >= self.num_labels))
        if wrong.size:
            raise self._error(
                f"{name}[{start + wrong[0]}]",
                f"the label {ids[wrong[0]]} is not one of 0 to {self.num_labels - 1}",
            )
        return [self.label_names[label] for label in ids.tolist()]

    def _load_names(self, name: str, key: str | None) -> list[str]:
        with self._files[name]() as stream:
            content: Any
            if key is None:
                content = stream.read().split()
            else:
                content = _with_text_keys(load_plain(stream, self._where(name))).get(key)
        if not content or not _is_list_of(str | bytes, content):
            place = "in the file" if key is None else f"under {key!r}"
            raise self._error(name, f"there is no list of label names {place}")
        names = [text.decode("latin-1") if isinstance(text, bytes) else text for text in content]
        check_label_names(names, self._where(name))
        return names

    def _where(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _error(self, name: str, problem: str) -> DataError:
        return DataError(problem, where=self._where(name), fix="copy or download it again")


def _files_of(path: Path) -> dict[str, Callable[[], BinaryIO]]:
    """Returns what opens the files of a folder or of a tar archive, by their names without folder.

    They are read in another order than they are packed in, so an archive is decompressed once, to
    a temporary file that lives as long as the functions.
    """
    if path.is_dir():

        def file_opener(file: Path) -> Callable[[], BinaryIO]:
            return lambda: file.open("rb")

        return {file.name: file_opener(file) for file in path.iterdir() if file.is_file()}
    stream = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the function below)
    places = {}
    for member, read in tar_members(path):
        content = read()
        places[PurePosixPath(member.name).name] = (stream.tell(), len(content))
        stream.write(content)

    def opened(offset: int, length: int) -> BinaryIO:
        stream.seek(offset)
        return io.BytesIO(stream.read(length))

    weakref.finalize(opened, stream.close)
    return {name: functools.partial(opened, *place) for name, place in places.items()}


def _is_list_of(kind: type | types.UnionType, values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _with_text_keys(content: object) -> dict[Any, Any]:
    """Returns a dict of Python 2 or 3 with ``str`` keys; {} of anything else."""
    if not isinstance(content, dict):
        return {}
    return {
        key.decode("latin-1") if isinstance(key, bytes) else key: value
        for key, value in content.items()
    }
