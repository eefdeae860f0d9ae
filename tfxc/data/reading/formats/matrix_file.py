"""Features without labels: one matrix in its own file."""

from collections.abc import Iterator
from pathlib import Path

from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.formats.base import Reader
from tfxc.data.reading.parsing.feature_file import FeatureFile
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.sparse_file import is_array_folder

_SPARSE_ARRAYS = {"format", "shape", "data"}


class MatrixFile(Reader):
    """Reads a matrix with a row for each example, which have no labels.

    Args:
        path: see ``FeatureFile``.

    Raises:
        DataError: the file is damaged, or holds no matrix of numbers.

    Example:
        >>> MatrixFile("X.tst.npz").num_examples    # doctest: +SKIP
        3865
    """

    summary = "a matrix alone (.npz of SciPy, .npy, a folder of its CSR arrays)"
    specificity = 10
    has_labels = False

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        if probe.is_folder:
            return is_array_folder(probe.path)
        return probe.suffix() == ".npy" or _SPARSE_ARRAYS.issubset(probe.arrays)

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._file = FeatureFile(self.path)
        self.num_examples = self._file.num_examples
        self.num_features = self._file.num_features

    def _read(self, size: int) -> Iterator[Chunk]:
        rows = self._file.open()
        for start in range(0, self._file.num_examples, size):
            features = rows(start, start + size)
            yield Chunk(labels=[[] for _ in range(features.shape[0])], features=features)
