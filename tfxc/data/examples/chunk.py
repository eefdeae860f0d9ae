"""The unit in which examples travel from a reader to the record writer."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy.sparse

from tfxc.data.examples.lists import LabelLists


class ChunkSource(Protocol):
    """What yields chunks: a reader, or what looks like one."""

    path: Path

    def chunks(self, size: int) -> "Iterator[Chunk]":
        """Yields ``Chunk``s of at most ``size`` examples."""


@dataclasses.dataclass
class Chunk:
    """A few thousand examples: texts, features or images, or texts with features.

    Attributes:
        labels: one list per example, of label names (``str``) or label ids (``int``); as lists, or
            in CSR form (``tfxc.data.examples.lists.LabelLists``), which large sets need.
        texts: one string per example, or None.
        features: sparse (n, num_features) CSR or dense (n, dim) matrix, float32, or None; what a
            ``tfxc.data.examples.kinds.Given`` recognises.
        images: uint8 (n, height, width, channels), or a list whose items are uint8 (height, width,
            channels) or ``bytes``, an encoded JPEG, PNG, BMP or GIF file; 1 or 3 channels. Or None.
        names: one name per example, for messages and answers, or None: of an image e.g. its file's
            path inside the source, of a text what the reader's ``id_field`` names.
    """

    labels: Sequence[list[Any]]
    texts: list[str] | None = None
    features: scipy.sparse.csr_matrix | np.ndarray | None = None
    images: np.ndarray | list[Any] | None = None
    names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def columns(self) -> dict[str, list[str]]:
        """Returns what can be repeated of each example: its ``name`` and its ``text``, if it has
        any.
        """
        columns = {"name": self.names, "text": self.texts}
        return {name: values for name, values in columns.items() if values is not None}

    @classmethod
    def joined(cls, chunks: "Sequence[Chunk]") -> "Chunk":
        """Returns the examples of several chunks, one after the other.

        Example:
            >>> Chunk.joined([Chunk([[]], texts=["a"]), Chunk([[]], texts=["b"])]).texts
            ['a', 'b']
        """
        if len(chunks) == 1:
            return chunks[0]
        return _chunk(lambda name: _concatenated([getattr(chunk, name) for chunk in chunks]))

    def slice(self, start: int, stop: int) -> "Chunk":
        """Returns examples ``start`` to ``stop`` (exclusive); arrays are views, not copies."""
        if start == 0 and stop >= len(self):
            return self
        return _chunk(lambda name: _rows(getattr(self, name), slice(start, stop)))

    def select(self, places: np.ndarray) -> "Chunk":
        """Returns the given examples, in the given order."""
        return _chunk(lambda name: _rows(getattr(self, name), places))


def of_size(chunks: Iterable[Chunk], size: int) -> Iterator[Chunk]:
    """Yields the examples of chunks of any size as chunks of ``size`` examples, the last smaller.

    Example:
        >>> chunks = [Chunk([[]] * 2, texts=["a", "b"]), Chunk([[]] * 3, texts=["c", "d", "e"])]
        >>> [chunk.texts for chunk in of_size(chunks, 3)]
        [['a', 'b', 'c'], ['d', 'e']]
    """
    waiting: list[Chunk] = []
    missing = size
    for chunk in chunks:
        start = 0
        while len(chunk) - start >= missing:
            yield Chunk.joined([*waiting, chunk.slice(start, start + missing)])
            start += missing
            waiting = []
            missing = size
        if start < len(chunk):
            waiting.append(chunk.slice(start, len(chunk)))
            missing -= len(chunk) - start
    if waiting:
        yield Chunk.joined(waiting)


def _chunk(value_of: Callable[[str], Any]) -> Chunk:
    return Chunk(**{field.name: value_of(field.name) for field in dataclasses.fields(Chunk)})


def _rows(values: Any, places: np.ndarray | slice) -> Any:
    """Returns a part of what a field of a chunk holds."""
    if values is None:
        return None
    if isinstance(places, np.ndarray):
        if isinstance(values, LabelLists):
            return values.select(places)
        if isinstance(values, list):
            return [values[place] for place in places]
    return values[places]


def _concatenated(parts: Sequence[Any]) -> Any:
    """Returns what a field of several chunks holds as that of one."""
    if parts[0] is None:
        return None
    if scipy.sparse.issparse(parts[0]):
        return scipy.sparse.vstack(parts, format="csr")
    if isinstance(parts[0], LabelLists):
        return LabelLists.joined(parts)
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return list(itertools.chain.from_iterable(parts))
