"""Chunks of a reader in a file, for a task that takes them from there."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import DENSE, SPARSE, kind_of_features
from tfxc.data.examples.lists import LabelLists, joined_files
from tfxc.data.store.blocks.array_file import ArrayFile, write_arrays
from tfxc.data.store.blocks.texts import text_arrays, texts_of

_LABELS = "labels."
_NAMES = "names."
_TEXTS = "texts."
_FEATURES = "features."
_EXAMPLES = "examples."
_IMAGES = "images."


def write_chunk(path: str | Path, chunk: Chunk) -> None:
    """Writes a chunk.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    write_chunks(path, [chunk])


def read_chunk(path: str | Path) -> Chunk:
    """Returns the chunk that ``write_chunk`` has written."""
    (chunk,) = read_chunks(path)
    return chunk


def write_chunks(path: str | Path, chunks: Sequence[Chunk]) -> None:
    """Writes chunks into one file.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    arrays: dict[str, np.ndarray] = {}
    for number, chunk in enumerate(chunks):
        for name, array in _arrays_of(chunk, path).items():
            arrays[f"{number}:{name}"] = array
    write_arrays(path, arrays)


def read_chunks(path: str | Path) -> Iterator[Chunk]:
    """Yields the chunks that ``write_chunks`` has written, in their order, one in memory."""
    file = ArrayFile(path)
    for number, names in itertools.groupby(file.names, lambda name: name.partition(":")[0]):
        yield _chunk_of({name.removeprefix(f"{number}:"): file.read(name) for name in names})


def _arrays_of(chunk: Chunk, where: str | Path) -> dict[str, np.ndarray]:
    """Returns all that a chunk holds as arrays."""
    labels = LabelLists.of(chunk.labels)
    arrays = {_LABELS + "indptr": labels.indptr, _LABELS + "ids": labels.ids}
    if labels.names is not None:
        used, places = np.unique(labels.ids, return_inverse=True)
        arrays[_LABELS + "ids"] = places
        arrays |= text_arrays(_NAMES, labels.names[used].tolist())
    if chunk.names is not None:
        arrays |= text_arrays(_EXAMPLES, chunk.names)
    if chunk.texts is not None:
        arrays |= text_arrays(_TEXTS, chunk.texts)
    if chunk.images is not None:
        images = chunk.images
        if isinstance(images, np.ndarray):
            arrays[_IMAGES + "pixels"] = images
        else:
            # The bytes of each, and the shapes of arrays; that of an encoded file is three zeros.
            files = [image if isinstance(image, bytes) else image.tobytes() for image in images]
            shapes = [(0, 0, 0) if isinstance(image, bytes) else image.shape for image in images]
            arrays |= {_IMAGES + name: array for name, array in joined_files(files).items()}
            arrays[_IMAGES + "shapes"] = np.array(shapes, np.int64).reshape(-1, 3)
    if chunk.features is not None:
        kind = kind_of_features(chunk.features, where)
        features = kind.arrays_of(chunk.features)
        arrays |= {_FEATURES + name: array for name, array in features.items()}
        arrays[_FEATURES + "width"] = np.array([chunk.features.shape[1]])
    return arrays


def _chunk_of(arrays: dict[str, np.ndarray]) -> Chunk:
    names = None
    if _NAMES + "indptr" in arrays:
        label_names = texts_of(arrays, _NAMES)
        names = np.empty(len(label_names), object)
        names[:] = label_names
    chunk = Chunk(LabelLists(arrays[_LABELS + "indptr"], arrays[_LABELS + "ids"], names))
    if _EXAMPLES + "indptr" in arrays:
        chunk.names = texts_of(arrays, _EXAMPLES)
    if _TEXTS + "indptr" in arrays:
        chunk.texts = texts_of(arrays, _TEXTS)
    chunk.images = _images_of(arrays)
    if _FEATURES + "width" in arrays:
        width = int(arrays[_FEATURES + "width"][0])
        features = {name.removeprefix(_FEATURES): array for name, array in arrays.items()}
        if DENSE.arrays.keys() <= features.keys():
            chunk.features = features["matrix"]
        else:
            chunk.features = SPARSE.matrix_of(features, width)
    return chunk


def _images_of(arrays: dict[str, np.ndarray]) -> np.ndarray | list[Any] | None:
    """Returns ``Chunk.images`` from the arrays of ``_arrays_of``; None if there are none."""
    if _IMAGES + "pixels" in arrays:
        return arrays[_IMAGES + "pixels"]
    if _IMAGES + "shapes" not in arrays:
        return None
    bounds = arrays[_IMAGES + "indptr"]
    content = arrays[_IMAGES + "content"]
    pieces = (content[start:stop] for start, stop in itertools.pairwise(bounds.tolist()))
    shapes = arrays[_IMAGES + "shapes"]
    return [
        piece.reshape(shape) if shape.any() else piece.tobytes()
        for piece, shape in zip(pieces, shapes, strict=True)
    ]
