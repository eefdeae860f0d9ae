"""Features without labels: one matrix in a file of its own."""

from pathlib import Path

import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.data.array_files import load_embeddings
from tfxc.data.chunk import Chunk
from tfxc.data.formats.arrays import array_names
from tfxc.data.formats.base import Reader
from tfxc.data.sources.matrices import load_matrix

_OF_SPARSE = {"format", "shape", "data"}


def is_matrix_file(path):
    """Whether a file is one that ``MatrixFile`` reads, by its name and its arrays' names.

    Example:
        >>> is_matrix_file("texts.txt")
        False
    """
    path = Path(path)
    if path.suffix == ".npy":
        return path.is_file()
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        return _OF_SPARSE.issubset(array_names(path))
    except DataError:
        return False  # whoever reads it says what is wrong with it


class MatrixFile(Reader):
    """Reads a matrix with a row for each example, which have no labels.

    A dense one stays on the disk, a sparse one is held in memory.

    Args:
        path: ``.npz`` of ``scipy.sparse.save_npz``, or ``.npy`` with two dimensions.

    Raises:
        DataError: the file is damaged, or holds no matrix of numbers.

    Example:
        >>> MatrixFile("X.tst.npz").num_examples    # doctest: +SKIP
        3865
    """

    def __init__(self, path):
        super().__init__(path)
        if self.path.suffix == ".npz":
            self._matrix = load_matrix(self.path)
        else:
            self._matrix, _ = load_embeddings(self.path)
        self.num_examples, self.num_features = self._matrix.shape

    def _read(self, size):
        for start in range(0, self.num_examples, size):
            features = self._matrix[start : start + size]
            if not scipy.sparse.issparse(features):
                features = features.astype("float32")
            yield Chunk(labels=[[] for _ in range(features.shape[0])], features=features)
