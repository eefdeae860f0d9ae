"""Files of one trained layer, written block by block so that a killed training run resumes."""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.sparse

from tfxc.core.escaping import json_text
from tfxc.core.messages import NOTES
from tfxc.core.storage import checksums
from tfxc.core.storage.files import write_array, write_errors, write_json
from tfxc.core.storage.reading import read_json
from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer

PARAMETERS = "param.json"
RESTORE = "copy it again, or delete its folder and train again"
_HEADER_BYTES = 128
_GROWING = {
    "rows": np.int32,
    "row_splits": np.int64,
    "entry_splits": np.int64,
    "columns": np.uint16,
    "values": np.float32,
}


class LayerWriter:
    """Appends the blocks of a layer, parent by parent, and makes the layer's folder of them.

    What is written is in a neighbour of the folder, with a journal of the finished blocks. A
    writer of the same training run that is opened later resumes after the last of them; what
    belongs to another training run is discarded.

    Args:
        folder: the layer's folder, made by ``finish``.
        children, child_splits: see ``tfxc.ops.search.beam_search.chunked_layer.ChunkedLayer``.
        fingerprint: text that changes with whatever the weights depend on.

    Attributes:
        blocks: finished blocks, i.e. the parent whose block is to be appended next.
        fingerprint: as given.
        notes: dict that is kept from block to block, e.g. counts for a report.

    Raises:
        UserError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> from tfxc.ranker.search import load_layer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "layer-0"
        ...     writer = LayerWriter(path, np.arange(2), np.array([0, 2]), "first")
        ...     writer.append([5], [2], [0, 1], [0.5, -0.5])
        ...     writer.finish(np.ones(2, bool))
        ...     load_layer(path).values.tolist()
        [0.5, -0.5]
    """

    def __init__(
        self, folder: str | Path, children: np.ndarray, child_splits: np.ndarray, fingerprint: str
    ) -> None:
        self.folder = Path(folder)
        self._scratch = self.folder.with_name(f".{self.folder.name}.unfinished")
        self._fixed: dict[str, np.ndarray] = {
            "children": np.asarray(children, np.int32),
            "child_splits": np.asarray(child_splits, np.int64),
        }
        widest = int(np.diff(child_splits).max(initial=0))
        self._types: dict[str, type] = {
            **_GROWING,
            "columns": np.uint16 if widest <= 1 << 16 else np.int32,
        }
        self.fingerprint = fingerprint
        self.blocks = 0
        self._rows = 0
        self._entries = 0
        self.notes: dict[str, Any] = {}
        with write_errors(self.folder), contextlib.ExitStack() as files:
            if not self._resumed():
                shutil.rmtree(self._scratch, ignore_errors=True)
                self._scratch.mkdir(parents=True)
                (self._scratch / "fingerprint").write_text(fingerprint, encoding="utf-8")
            lengths = self._lengths()
            self._files: dict[str, IO[bytes]] = {}
            for name in self._types:
                path = self._scratch / f"{name}.npy"
                mode = "r+b" if path.exists() else "w+b"
                stream = files.enter_context(open(path, mode, buffering=0))
                if not self.blocks:
                    # The first split.
                    start: np.ndarray = np.zeros(lengths[name], self._types[name])
                    stream.truncate(0)
                    stream.seek(0)
                    _write(stream, _header(self._types[name], 0) + start.tobytes())
                # What is after the last finished block is cut off.
                stream.truncate(self._size(name, lengths[name]))
                stream.seek(self._size(name, lengths[name]))
                self._files[name] = stream
            self._journal = files.enter_context(open(self._scratch / "journal", "ab", buffering=0))
            self._opened = files.pop_all()

    def append(
        self, rows: np.ndarray, counts: np.ndarray, columns: np.ndarray, values: np.ndarray
    ) -> None:
        """Adds the next parent's block; for the arguments see ``tfxc.ops.linear.block.Block``.

        Raises:
            UserError: the disk is full.
        """
        counts = np.asarray(counts, np.int64)
        self.blocks += 1
        self._rows += len(rows)
        content = {
            "rows": rows,
            "row_splits": [self._rows],
            "entry_splits": self._entries + np.cumsum(counts),
            "columns": columns,
            "values": values,
        }
        self._entries += len(values)
        with write_errors(self.folder):
            for name, numbers in content.items():
                array: np.ndarray = np.ascontiguousarray(numbers, self._types[name])
                _write(self._files[name], array.view(np.uint8).data)
            state = [self.blocks, self._rows, self._entries, self.notes]
            _write(self._journal, json_text(state).encode() + b"\n")

    def finish(self, trained: np.ndarray) -> None:
        """Completes the files and puts the folder into its place.

        Args:
            trained: bool (K,), by node: False for nodes that are never predicted.

        Raises:
            UserError: the folder cannot be written.
        """
        assert self.blocks == len(self._fixed["child_splits"]) - 1, "blocks are missing"
        fixed = {**self._fixed, "trained": np.asarray(trained, bool)}
        with write_errors(self.folder):
            for name, length in self._lengths().items():
                self._files[name].seek(0)
                _write(self._files[name], _header(self._types[name], length))
                os.fsync(self._files[name].fileno())
            self.close()
            for name, numbers in fixed.items():
                write_array(self._scratch / f"{name}.npy", numbers)
            (self._scratch / "journal").unlink()
            write_json(self._scratch / "notes.json", self.notes, indent=None)
            checksums.record(self._scratch)
            shutil.rmtree(self.folder, ignore_errors=True)
            os.replace(self._scratch, self.folder)

    def close(self) -> None:
        """Closes the files; what is journalled stays for the next writer."""
        self._opened.close()

    def _resumed(self) -> bool:
        try:
            fingerprint = (self._scratch / "fingerprint").read_text(encoding="utf-8")
            lines = (self._scratch / "journal").read_text(encoding="utf-8").splitlines(True)
        except FileNotFoundError:
            return False
        if fingerprint != self.fingerprint:
            NOTES.info(f"{self.folder}: starting over, with other data or settings")
            return False
        whole = [line for line in lines if line.endswith("\n")]
        if whole:
            try:
                self.blocks, self._rows, self._entries, self.notes = json.loads(whole[-1])
            except (ValueError, TypeError):
                NOTES.info(f"{self.folder}: starting over, its journal is damaged")
                return False
        for name, count in self._lengths().items():
            path = self._scratch / f"{name}.npy"
            if not path.exists() or path.stat().st_size < self._size(name, count):
                self.blocks = 0
                self._rows = 0
                self._entries = 0
                self.notes = {}
                return False
        (self._scratch / "journal").write_text("".join(whole), encoding="utf-8")
        return True

    def _lengths(self) -> dict[str, int]:
        return {
            "rows": self._rows,
            "row_splits": self.blocks + 1,
            "entry_splits": self._rows + 1,
            "columns": self._entries,
            "values": self._entries,
        }

    def _size(self, name: str, length: int) -> int:
        return _HEADER_BYTES + length * np.dtype(self._types[name]).itemsize


def is_complete(folder: str | Path, fingerprint: str) -> bool:
    """Says whether a layer's folder was finished by a training run with this fingerprint.

    Raises:
        DataError: it was, and one of its files is missing or damaged.
    """
    path = Path(folder) / "fingerprint"
    if not path.is_file() or path.read_bytes() != fingerprint.encode():
        return False
    checksums.check(folder, RESTORE)
    return True


def notes_of(folder: str | Path) -> dict[str, Any]:
    """Returns the ``notes`` of the writer that finished the folder."""
    return read_json(Path(folder) / "notes.json", fix="delete the layer's folder and train again")


def write_layer(layer: ChunkedLayer, folder: Path) -> None:
    """Writes the arrays of a ``ChunkedLayer`` as ``.npy`` files, with their checksums."""
    folder.mkdir(parents=True)
    for name in ChunkedLayer._fields:
        write_array(folder / f"{name}.npy", getattr(layer, name))
    checksums.record(folder)


def write_parameters(folder: Path, content: Mapping[str, Any]) -> None:
    """Completes the folder of a ranker whose layers are written: ``param.json`` and checksums.

    Args:
        folder: with the folders ``layer-0``, ``layer-1``, ...
        content: what ``tfxc.ranker.search.Ranker.load`` reads in addition to them.
    """
    write_json(folder / PARAMETERS, content)
    layers = [f"layer-{number}/{checksums.FILE}" for number in range(content["layers"])]
    checksums.record(folder, [PARAMETERS, *layers])


def weight_matrix(layer: ChunkedLayer, num_features: int) -> scipy.sparse.csc_matrix:
    """Returns a layer's weights as one matrix; the inverse of ``chunked_layer.chunks_of``.

    Args:
        layer: ``ChunkedLayer``.
        num_features: D.

    Returns:
        float32 CSC (D + 1, K); the last row is the bias.
    """
    entries = np.diff(layer.entry_splits)
    rows = np.repeat(layer.rows, entries)
    starts = np.repeat(layer.child_splits[:-1], np.diff(layer.row_splits))
    columns = layer.children[np.repeat(starts, entries) + layer.columns]
    shape = (num_features + 1, len(layer.children))
    return scipy.sparse.csc_matrix((layer.values, (rows, columns)), shape)


def _write(stream: IO[bytes], content: bytes | memoryview) -> None:
    """Writes all of it; what a buffer holds on a full disk would fail once more when closed."""
    view = memoryview(content)
    while len(view):
        view = view[stream.write(view) :]


def _header(kind: type, length: int) -> bytes:
    """Returns the header of an .npy file, always of the same length: the shape is known last."""
    fields = f"{{'descr': '{np.dtype(kind).str}', 'fortran_order': False, 'shape': ({length},), }}"
    size = _HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + f"{fields:<{size - 1}}\n".encode()
