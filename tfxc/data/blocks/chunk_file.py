"""A chunk of a reader in a file, for a task that takes it from there."""

from pathlib import Path

import numpy as np

from tfxc.data.blocks.array_file import ArrayFile, write_arrays
from tfxc.data.blocks.texts import text_arrays, texts_of
from tfxc.data.chunk import Chunk
from tfxc.data.kinds import DENSE, SPARSE, kind_of_features
from tfxc.data.lists import LabelLists

_LABELS, _NAMES, _TEXTS, _FEATURES = "labels.", "names.", "texts.", "features."


def write_chunk(path: str | Path, chunk: Chunk) -> None:
    """Writes labels, texts and features of a chunk; it has no images.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    labels = LabelLists.of(chunk.labels)
    arrays = {_LABELS + "indptr": labels.indptr, _LABELS + "ids": labels.ids}
    if labels.names is not None:
        used, places = np.unique(labels.ids, return_inverse=True)
        arrays[_LABELS + "ids"] = places
        arrays |= text_arrays(_NAMES, labels.names[used].tolist())
    if chunk.texts is not None:
        arrays |= text_arrays(_TEXTS, chunk.texts)
    if chunk.features is not None:
        kind = kind_of_features(chunk.features, path)
        found = kind.arrays_of(chunk.features)
        arrays |= {_FEATURES + name: array for name, array in found.items()}
        arrays[_FEATURES + "width"] = np.array([chunk.features.shape[1]])
    write_arrays(path, arrays)


def read_chunk(path: str | Path) -> Chunk:
    """The chunk that ``write_chunk`` has written."""
    arrays = ArrayFile(path).read_all()
    names = None
    if _NAMES + "indptr" in arrays:
        found = texts_of(arrays, _NAMES)
        names = np.empty(len(found), object)
        names[:] = found
    chunk = Chunk(LabelLists(arrays[_LABELS + "indptr"], arrays[_LABELS + "ids"], names))
    if _TEXTS + "indptr" in arrays:
        chunk.texts = texts_of(arrays, _TEXTS)
    if _FEATURES + "width" in arrays:
        width = int(arrays[_FEATURES + "width"][0])
        own = {name.removeprefix(_FEATURES): array for name, array in arrays.items()}
        if DENSE.arrays.keys() <= own.keys():
            chunk.features = own["matrix"]
        else:
            chunk.features = SPARSE.matrix_of(own, width)
    return chunk
