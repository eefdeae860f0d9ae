"""Feature sets, as a stream of chunks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.lists import LabelLists
from tfxc.data.reading.formats.base import Reader
from tfxc.data.reading.parsing.feature_set import FeatureSet, is_feature_set
from tfxc.data.reading.parsing.path_probe import PathProbe


class FeatureSetReader(Reader):
    """Reads a folder that ``tfxc features extract`` has written; see ``docs/features.md``.

    Labels are names where the set has ``labels.txt``, else ids.

    Args:
        path: the folder.

    Raises:
        DataError: no feature set, half-written or damaged; NaN or infinity, naming the row.

    Example:
        >>> next(FeatureSetReader("features/val").chunks(8)).features.shape   # doctest: +SKIP
        (8, 512)
    """

    summary = "a feature set"
    specificity = 50

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return probe.is_folder and is_feature_set(probe.path)

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._set = FeatureSet(path)
        self.num_examples = self._set.num_examples
        self.num_features = self._set.num_features
        self.num_labels = self._set.num_labels
        self.label_names = self._set.label_names

    def _read(self, size: int) -> Iterator[Chunk]:
        names = None if self.label_names is None else np.array(self.label_names, object)
        for _, features, labels in self._set.blocks(size):
            ids = LabelLists(np.arange(len(labels) + 1), labels, names)
            yield Chunk(labels=ids, features=features)
