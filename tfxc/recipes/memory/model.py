"""A memory, perhaps with a linear ranker, as the model of a run."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import CheckpointError, ConfigError
from tfxc.inference.protocol import RankerModel
from tfxc.ranker.fusion.fused_numpy import Rows, split_blocks
from tfxc.ranker.fusion.memory import FOLDER, ExampleMemory, MemorySettings
from tfxc.ranker.search import Ranker
from tfxc.ranker.store import PARAMETERS
from tfxc.recipes.xr_linear.model import LinearModel

if TYPE_CHECKING:
    import tensorflow as tf


class FusedModel(RankerModel):
    """Finds labels by nearest training examples, near label texts and the run's ranker if any.

    Args:
        memory: of the run.
        linear: ``LinearModel`` over the first block of features, or all of them; or None.
        threads: of the search, at most this many; None means all cores.

    Attributes:
        memory, linear: as given.
    """

    memory: ExampleMemory

    def __init__(
        self, memory: ExampleMemory, linear: LinearModel | None = None, threads: int | None = None
    ) -> None:
        self.memory = memory
        self.linear = linear
        self._fusion = memory.fusion(threads)

    @classmethod
    def load(cls, run: str | Path, threads: int | None = None) -> "FusedModel":
        """Opens the model of a run folder.

        Raises:
            CheckpointError: it is not trained to its end.
            DataError: its files are damaged.
        """
        run = Path(run)
        if not (run / FOLDER / PARAMETERS).is_file():
            raise CheckpointError("there is no memory", where=run, fix="finish training first")
        has_ranker = (run / "ranker" / PARAMETERS).is_file()
        linear = LinearModel(run, threads) if has_ranker else None
        return cls(ExampleMemory.load(run), linear, threads)

    @property
    def num_labels(self) -> int:
        """Number of labels that can be found."""
        return self.memory.labels.shape[1]

    @property
    def ranker(self) -> Ranker | None:
        """The ``Ranker``, if any."""
        return None if self.linear is None else self.linear.ranker

    def searching_with(
        self, beam: int | None = None, post_processor: str | None = None
    ) -> "FusedModel":
        """Returns a model whose ranker keeps another number of nodes.

        Raises:
            ConfigError: a post-processor, as the trees know the scores of one; or no ranker.
        """
        if post_processor is not None or self.linear is None:
            raise ConfigError(
                "a fused model is searched with the post-processor it was trained with, and a "
                "memory without a ranker has no beam",
                where="--beam" if post_processor is None else "--post-processor",
                fix="leave it out",
            )
        model = copy.copy(self)
        model.linear = self.linear.searching_with(beam)
        return model

    def search_settings(self) -> list[tuple[str, int]] | None:
        """Returns those of the ranker, as many labels as neighbours in its last layer; or None."""
        if self.linear is None:
            return None
        *inner, (rule, _) = self.linear.search_settings()
        return [*inner, (rule, _wanted(self.linear, self.memory.settings))]

    def find_top_k(
        self,
        features: Mapping[str, Any] | np.ndarray,
        k: int,
        probabilities: bool = False,
        method: str | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See ``RunModel.find_top_k``; features are ``ids``, ``weights`` and ``row_splits``."""
        assert isinstance(features, Mapping), "``check_data`` lets sparse features pass alone"
        names = ("row_splits", "ids", "weights")
        bounds, ids, weights = (np.asarray(features[name]) for name in names)
        rows = (bounds.astype(np.int64), ids.astype(np.int32), weights.astype(np.float32))
        settings = self.memory.settings
        ranked = None if self.linear is None else ranked_labels(self.linear, rows, settings)
        return self._fusion.top_k(rows, ranked, k)

    def similar_labels(self, label: int, k: int) -> None:
        """Returns None: labels have no weights."""
        return None

    def score_pairs(
        self, features: Mapping[str, Any] | np.ndarray, pairs: scipy.sparse.csr_matrix
    ) -> scipy.sparse.csr_matrix:
        """Raises a ``ConfigError``: a label is scored among all candidates of a query."""
        raise ConfigError(
            "a fused model has no scores of chosen labels", where="--pairs", fix="leave it out"
        )

    def top_k(
        self, features: "Mapping[str, tf.Tensor]", k: int, probabilities: bool = False
    ) -> "tuple[tf.Tensor, tf.Tensor]":
        """Raises a ``ConfigError``: there is no such search in TensorFlow's graph."""
        raise ConfigError(
            "a memory cannot be exported as savedmodel",
            where="--format",
            fix="choose runtime, which needs NumPy alone",
        )


def ranked_labels(
    linear: LinearModel, rows: Rows, settings: MemorySettings
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels that a ranker over the first block of features, or all of them, finds.

    Args:
        linear: ``LinearModel``.
        rows: of all blocks.
        settings: ``MemorySettings``; as many labels as neighbours are asked for.
    """
    read = split_blocks(rows, [0, linear.ranker.num_features])[0]
    features = dict(zip(("row_splits", "ids", "weights"), read, strict=True))
    return linear.find_top_k(features, _wanted(linear, settings))


def _wanted(linear: LinearModel, settings: MemorySettings) -> int:
    return min(settings.neighbours, linear.num_labels)
