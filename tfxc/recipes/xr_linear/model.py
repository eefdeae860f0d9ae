"""A trained linear ranker as the model of a run: searched outside TensorFlow, exported inside."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.declared import Count, check
from tfxc.core.errors import CheckpointError
from tfxc.decision.fitted import FittedDecision
from tfxc.inference.protocol import RankerModel
from tfxc.ranker.post_processors import post_processor as rule_of
from tfxc.ranker.search import Ranker

if TYPE_CHECKING:
    import tensorflow as tf


class LinearModel(RankerModel):
    """A linear ranker over a run's features.

    Args:
        folder: run folder, with ``ranker/``.
        threads: of the search, at most this many; None means all cores.

    Attributes:
        ranker: ``Ranker``.
        num_labels: L.

    Raises:
        CheckpointError: the ranker is not trained to its end.
        DataError: its files are damaged.

    Example:
        >>> model = LinearModel("runs/xr_linear_quickstart")  # doctest: +SKIP
        >>> ids, scores = model.find_top_k(features, 5)  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        folder = Path(folder)
        if not os.path.lexists(folder / "ranker" / "param.json"):
            raise CheckpointError(
                "there is no trained ranker", where=folder, fix="finish training first"
            )
        self.ranker = Ranker.load(folder)
        self._folder = folder
        self._threads = threads
        self._beam: int | None = None
        self._post_processor: str | None = None
        self._graphs: dict[int, Any] = {}

    @property
    def num_labels(self) -> int:
        """Number of labels that the ranker finds."""
        return self.ranker.num_labels

    def searching_with(
        self, beam: int | None = None, post_processor: str | None = None
    ) -> "LinearModel":
        """See ``RankerModel.searching_with``."""
        check(Count | None, "--beam", beam)
        if post_processor is not None:
            rule_of(post_processor, where="--post-processor")
        model = copy.copy(self)
        if post_processor is not None:
            model.decision = FittedDecision()  # it was learned of other scores
        model._beam = beam
        model._post_processor = post_processor
        model._graphs = {}
        return model

    def search_settings(self) -> list[tuple[str, int]]:
        """See ``RankerModel.search_settings``."""
        ranker = self.ranker
        beams = ranker.only_topk if self._beam is None else [self._beam] * len(ranker.sizes)
        rules = ranker.post_processors
        if self._post_processor is not None:
            rules = [rule_of(self._post_processor)] * len(rules)
        return [(rule.name, beam) for rule, beam in zip(rules, beams, strict=True)]

    def find_top_k(
        self,
        features: Mapping[str, Any] | np.ndarray,
        k: int,
        probabilities: bool = False,
        method: str | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the best labels of a batch by the native search, see ``RunModel.find_top_k``.

        Args:
            features: arrays ``ids``, ``weights`` and ``row_splits`` in a dict (others in it do not
                count), or a dense one (batch, num_features).
            k: number of labels.
            probabilities: False, as the model has none of its own.
            method: None, there is one search.
        """
        return self.ranker.predict(
            self._matrix(features),
            k,
            beam_size=self._beam,
            post_processor=self._post_processor,
            threads=self._threads,
        )

    def similar_labels(self, label: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds labels for an example whose features are a label's own weights, with their scores.

        See ``RunModel.similar_labels``; none for a label without weights, as one without examples.
        """
        weights = self.ranker.weights_of(label)
        length = np.linalg.norm(weights.data)
        if not length:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        ids, scores = self.ranker.predict(
            weights / length,
            min(k + 1, self.num_labels),
            beam_size=self._beam,
            post_processor=self._post_processor,
            threads=self._threads,
        )
        is_other_label = (ids[0] >= 0) & (ids[0] != label)
        return ids[0, is_other_label][:k], scores[0, is_other_label][:k]

    def score_pairs(
        self,
        features: Mapping[str, Any] | np.ndarray,
        pairs: scipy.sparse.csr_matrix,
    ) -> scipy.sparse.csr_matrix:
        """See ``RankerModel.score_pairs``."""
        return self.ranker.score_pairs(
            self._matrix(features),
            pairs,
            post_processor=self._post_processor,
            threads=self._threads,
        )

    def top_k(
        self, features: "Mapping[str, tf.Tensor]", k: int, probabilities: bool = False
    ) -> "tuple[tf.Tensor, tf.Tensor]":
        """Does the same in TensorFlow's graph, with the same features as tensors."""
        from tfxc.recipes.xr_linear.graph import LinearGraph

        if k not in self._graphs:
            depth = len(self.ranker.sizes)
            rules = self.ranker.post_processors
            if self._post_processor is not None:
                rules = [rule_of(self._post_processor)] * depth
            inner = self.ranker.only_topk[:-1] if self._beam is None else [self._beam] * (depth - 1)
            options = {"only_topk": [*inner, k], "post_processors": rules}
            self._graphs[k] = LinearGraph(self._folder, self.ranker, options)
        return self._graphs[k].top_k(features)

    def _matrix(
        self, features: Mapping[str, Any] | np.ndarray
    ) -> np.ndarray | scipy.sparse.csr_matrix:
        if not isinstance(features, dict):
            return np.asarray(features, np.float32)
        parts = tuple(np.asarray(features[name]) for name in ("weights", "ids", "row_splits"))
        shape = (len(parts[2]) - 1, self.ranker.num_features)
        return scipy.sparse.csr_matrix(parts, shape, dtype=np.float32)
