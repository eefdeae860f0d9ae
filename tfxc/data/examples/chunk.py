"""The unit in which examples travel from a reader to the record writer."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy.sparse


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
