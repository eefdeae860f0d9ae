"""NumPy files of numbers, never of Python objects."""

import zipfile
from pathlib import Path

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.memory import require_memory
from tfxc.core.reading import existing_file, read_array, read_errors


def matrix(path: str | Path, name: str, values: np.ndarray) -> np.ndarray:
    """The array ``values`` called ``name``, if it is a matrix of numbers.

    Raises:
        DataError: it is not.
    """
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise DataError(
            f"{name}: numbers (m, dim) expected, found {values.dtype} {values.shape}", where=path
        )
    return values


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """``{name: array}`` of an ``.npz`` file; Python objects are refused.

    Raises:
        DataError: the file is missing or damaged, or holds Python objects.
    """
    with read_errors(path):
        existing_file(path)
        with zipfile.ZipFile(path) as archive:
            require_memory(sum(member.file_size for member in archive.infolist()), path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def load_embeddings(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Embeddings (m, dim) of an ``.npy`` file or the array ``embeddings`` of an ``.npz`` file.

    An ``.npy`` file stays on the disk and is read in blocks.

    Returns:
        ``(embeddings, names)``; names (m,) are the ``.npz`` file's array of that name, or None.

    Raises:
        DataError: the file is missing, damaged or of another shape.
    """
    names = None
    if Path(path).suffix == ".npz":
        arrays = read_arrays(path)
        if "embeddings" not in arrays:
            raise DataError(
                f"an array 'embeddings' expected, found {', '.join(arrays)}", where=path
            )
        values, names = arrays["embeddings"], arrays.get("names")
        if names is not None and names.shape != (len(values),):
            raise DataError(f"{len(values)} names expected, found {names.shape}", where=path)
    else:
        values = read_array(path, mapped=True)
    return matrix(path, "embeddings", values), names
