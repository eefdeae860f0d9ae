"""The folds of a run, of which one at a time is in memory."""

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.data.sources.folds import Fold
from tfxc.encoders.precomputed import Precomputed
from tfxc.heads.base import Head
from tfxc.inference.streamed import StreamedModel
from tfxc.model import XCModel, build_model
from tfxc.ops.batch_function import BatchFunction
from tfxc.ops.tables.large_weights import without_starts
from tfxc.recipes.kfold.averaged_head import Averaged

if TYPE_CHECKING:
    from tfxc.runs.folder import RunFolder
    from tfxc.runs.loaded import LoadedRun


class StreamedFolds(StreamedModel):
    """Averages the scores of each fold's model, as the model of all of them does.

    Args:
        loaded: the whole run.
        folders: of the folds, whose weights were checked.
    """

    def __init__(self, loaded: "LoadedRun", folders: "Sequence[RunFolder]") -> None:
        self._config = loaded.config
        self._sizes = loaded.dimensions
        self._folders = list(folders)
        self._build(self._num_examples(0))
        num_labels = self.network.num_labels
        # Scores are float32 whatever the precision of the network.
        scores = Precomputed(num_labels, dtype="float32")
        heads = [GivenScores(num_labels) for _ in self._folders]
        whole = XCModel(scores, Averaged(heads), self.network.objective)
        super().__init__(whole, len(self._folders), "fold")

    def _num_examples(self, number: int) -> int:
        """Counts the examples that a fold's model has learned from."""
        return Fold(number, len(self._folders)).num_outside(self._sizes["num_examples"])

    def _build(self, num_examples: int) -> None:
        self._built_for = num_examples
        with without_starts():
            sizes = {**self._sizes, "num_examples": num_examples}
            self.network = build_model(self._config, **sizes)
        self._all_scores = BatchFunction(self._scores)

    def _scores(self, features: Mapping[str, tf.Tensor] | tf.Tensor) -> tf.Tensor:
        return self.network.head.all_scores(self.network.encoder(features, training=False))

    def load(self, number: int) -> None:
        """Loads a fold's weights; into another network where it has learned from more examples.

        The state of an objective may have an entry for each.
        """
        if self._num_examples(number) != self._built_for:
            del self.network, self._all_scores
            gc.collect()
            self._build(self._num_examples(number))
        self._folders[number].load_weights(self.network, check=False)

    def scores_of(self, features: Mapping[str, Any] | np.ndarray) -> np.ndarray:
        """Returns float32 (batch, num_labels)."""
        return self._all_scores(features)

    def joined(self, scores: list[np.ndarray]) -> np.ndarray:
        """Returns float32 (batch, folds, num_labels)."""
        return np.stack(scores, axis=1)

    def find_in_scores(
        self, scores: np.ndarray, k: int, probabilities: bool, method: str | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Searches as the averaged heads do."""
        return self._whole.find_top_k(scores, k, probabilities, method)


class GivenScores(Head):
    """Labels whose scores are the features."""

    full_softmax = True

    def __init__(self, num_labels: int) -> None:
        super().__init__(autocast=False, dtype="float32")
        self.num_labels = num_labels

    def tile_scores(self, features: tf.Tensor) -> Callable[..., tf.Tensor]:
        """Returns the features of a range of labels."""
        return lambda begin, end: features[:, begin:end]
