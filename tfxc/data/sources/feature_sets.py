"""Batches straight from a feature set: no copy of it, no more of it in memory than the budget."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.progress import Progress
from tfxc.data.examples.kinds import DENSE
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.parsing.feature_set import FeatureSet
from tfxc.data.reading.source_files import source_path
from tfxc.data.sources.windowed import WINDOWS_IN_MEMORY, WindowSource
from tfxc.data.store.manifest import Manifest

# Reads of this size are as fast as larger ones, on disks and over networks.
_BLOCK_BYTES = 2 << 20
# A window holds at least this many blocks, however small the budget.
_BLOCKS_OF_A_WINDOW = 64
# In addition to the vector: label, its place, row number, position in the permutation.
_ROW_BYTES = 4 + 8 + 8 + 4


class FeatureSource(WindowSource):
    """A feature set as a source of batches.

    Its blocks are consecutive rows. In order (``sequential``) it is read block by block, unless it
    is in memory for training.

    Args:
        features: ``FeatureSet``.
        memory_bytes: how much memory the rows may take.
        block_rows: rows of a block; None means 2 MB, or fewer where a window would have fewer than
            64 blocks.

    Raises:
        DataError: while batches are made: a value is NaN or infinite; the row is named.

    Example:
        >>> source = FeatureSource(FeatureSet("features/train"))     # doctest: +SKIP
        >>> source.batch(seed=0, step=0, batch_size=128)["features"].shape   # doctest: +SKIP
        (128, 512)
    """

    def __init__(
        self, features: FeatureSet, memory_bytes: int, block_rows: int | None = None
    ) -> None:
        self.set = features
        row_bytes = 4 * features.num_features + _ROW_BYTES
        if block_rows is None:
            window_rows = memory_bytes // WINDOWS_IN_MEMORY // row_bytes
            block_rows = min(_BLOCK_BYTES // row_bytes, window_rows // _BLOCKS_OF_A_WINDOW)
        self.block_rows = max(1, block_rows)
        firsts = range(0, features.num_examples, self.block_rows)
        counts = [min(self.block_rows, features.num_examples - first) for first in firsts]
        super().__init__(
            features.num_examples,
            features.num_features,
            features.num_labels,
            DENSE,
            name=str(features.folder),
            counts=counts,
            sizes=[count * row_bytes for count in counts],
            memory_bytes=memory_bytes,
        )

    def label_counts(self) -> np.ndarray:
        """Returns the examples of each label, int64 (num_labels,)."""
        return self.set.label_counts()

    def _load(self, numbers: Sequence[int], progress: Progress | None = None) -> Rows:
        stops = np.cumsum([self._firsts[number + 1] - self._firsts[number] for number in numbers])
        matrix = np.empty((stops[-1], self.num_features), np.float32)
        labels = np.empty(stops[-1], np.int32)
        start = 0
        for number, stop in zip(numbers, stops.tolist(), strict=True):
            first = int(self._firsts[number])
            self.set.read(first, matrix[start:stop])
            labels[start:stop] = self.set.read_labels(first, first + stop - start)
            if progress is not None:
                progress.advance(stop - start)
            start = stop
        return Rows(
            DENSE,
            {"matrix": matrix},
            label_ids=labels,
            label_indptr=np.arange(len(labels) + 1),
            num_features=self.num_features,
        )


def open_feature_split(folder: str | Path, split: str, memory_bytes: int) -> "FeatureSource":
    """Returns the ``FeatureSource`` of a split of a prepared folder that names feature sets.

    Raises:
        DataError: there is no such split, its set cannot be read, or is not the one it was.
    """
    manifest = Manifest.load(folder)
    manifest.split(split)
    source = manifest.sources[split]
    features = FeatureSet(source_path(source.path))
    if features.identity != source.sha256:
        raise DataError(
            "this feature set has been replaced by another one",
            where=features.folder,
            fix=f"delete {folder}",
        )
    return FeatureSource(features, memory_bytes)
