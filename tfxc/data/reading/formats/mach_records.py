"""The TFRecords that the original code of MACH writes and trains on."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from tfxc.core.declared import Count
from tfxc.core.errors import DataError
from tfxc.core.progress import Progress
from tfxc.data.examples.chunk import Chunk, of_size
from tfxc.data.examples.lists import LabelLists
from tfxc.data.reading.formats.base import Reader

if TYPE_CHECKING:
    from tfxc.data.examples.rows import Rows

_AGAIN = "write the file again with the original code, or copy it again"


class MachRecords(Reader):
    """Reads ``NAME.tfrecords`` of the original MACH code, one ``tf.train.Example`` per example.

    Each has ``labels`` and ``input_idxs`` (int64), ``label_vals`` (1 each) and ``input_vals``
    (float), with the ids of the raw files: it is the training that hashes them. Examples may have
    no labels or no features. Rows come sorted by feature id.

    Unless ``num_features`` is given, the constructor reads the file once to find it (and
    ``num_examples``). Each split of a data set should be given the same number.

    Args:
        path: uncompressed ``.tfrecords`` file.
        num_features: number of features; None takes as many as the highest id needs.

    Raises:
        ConfigError: ``num_features`` is out of range.
        DataError: the file is damaged or holds other records; or, naming the example, a feature is
            given twice, or a value is NaN or infinite.

    Example:
        >>> reader = MachRecords("amz_670k_train.tfrecords", num_features=135_909)  # doctest: +SKIP
        >>> next(reader.chunks(100)).features.shape                               # doctest: +SKIP
        (100, 135909)

    Reference: https://github.com/Tharun24/MACH
    """

    suffixes = (".tfrecords",)

    def __init__(self, path: str | Path, *, num_features: Count | None = None) -> None:
        super().__init__(path)
        self._bytes_read = 0
        self.num_features = num_features
        if num_features is None:
            self._scan()

    @property
    def bytes_read(self) -> int:
        return self._bytes_read

    def _scan(self) -> None:
        width = 0
        num_examples = 0
        with Progress(f"scanning {self.path.name}", self.total_bytes, unit="bytes") as progress:
            for rows in self._parts():
                width = max(width, rows.num_features)
                num_examples += len(rows)
                progress.advance(self.bytes_read - progress.done)
        self.num_features = width
        self.num_examples = num_examples

    def _read(self, size: int) -> Iterator[Chunk]:
        return of_size(self._checked(size), size)

    def _checked(self, size: int) -> Iterator[Chunk]:
        """Yields chunks of at most ``size`` examples."""
        first = 0
        for rows in self._parts():
            for start in range(0, len(rows), size):
                part = _chunk(rows.slice(start, start + size), self.num_features)
                _check(part.features, self.path, first)
                first += len(part)
                yield part

    def _parts(self) -> "Iterator[Rows]":
        """Yields ``Rows``, some thousand at a time."""
        from tfxc.data.reading.parsing.tfrecord import read_chunks

        self._bytes_read = 0
        try:
            for rows in read_chunks(self.path, "examples", num_features=self.num_features):
                num_bytes = len(rows) + len(rows.label_ids) + 12 * len(rows.indices)
                self._bytes_read = min(self._bytes_read + num_bytes, self.total_bytes or 0)
                yield rows
            self._bytes_read = self.total_bytes or 0
        except DataError as error:
            problem = error.problem.replace("this shard", "the file")
            raise DataError(problem, where=self.path, fix=_AGAIN) from error


def _chunk(rows: "Rows", num_features: int | None) -> Chunk:
    matrix = scipy.sparse.csr_matrix(
        (rows.values, rows.indices, rows.indptr - rows.indptr[0]), shape=(len(rows), num_features)
    )
    labels = LabelLists(rows.label_indptr, rows.label_ids).distinct()
    return Chunk(labels=labels, features=matrix)


def _check(matrix: scipy.sparse.csr_matrix, path: Path, first: int) -> None:
    """Sorts the rows; refuses values that are not finite, and features given twice."""
    matrix.sort_indices()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    twice = (np.diff(matrix.indices) == 0) & (np.diff(rows) == 0)
    for wrong, problem in (
        (~np.isfinite(matrix.data), "the value {value} of feature {feature} is not finite"),
        (np.append(twice, False), "feature {feature} is given twice"),
    ):
        if wrong[: len(rows)].any():
            place = int(np.argmax(wrong))
            problem = problem.format(value=matrix.data[place], feature=matrix.indices[place])
            raise DataError(f"example {first + rows[place] + 1}: {problem}", where=path, fix=_AGAIN)
