"""Features without labels: one matrix in its own file."""

from pathlib import Path
from typing import TYPE_CHECKING

import scipy.sparse

from tfxc.data.array_files import load_embeddings
from tfxc.data.chunk import Chunk
from tfxc.data.formats.base import Reader
from tfxc.data.sources.matrices import load_matrix

if TYPE_CHECKING:
    from tfxc.data.parsing.candidate import Candidate


_OF_SPARSE = {"format", "shape", "data"}


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

    summary = "a matrix alone (.npz of SciPy, .npy)"
    specificity = 10
    has_labels = False

    @classmethod
    def recognises(cls, candidate: "Candidate") -> bool:
        return candidate.suffix() == ".npy" or _OF_SPARSE.issubset(candidate.arrays)

    def __init__(self, path: str | Path) -> None:
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
