"""Labels that are hard to tell from the true ones, found by searching the training examples."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.core.progress import Progress
from tfxc.data.sources.base import Source
from tfxc.inference.searcher import Searcher
from tfxc.metrics.base import distinct_labels, hits
from tfxc.techniques.base import Technique
from tfxc.training.negatives.refresh_times import MINED, RefreshTimes

if TYPE_CHECKING:
    from tfxc.model import XCModel

_FIRST = -4.0  # a penalty with which labels of training come before all others


class MinedLabels(Technique):
    """Keeps a list of hard labels for each training example, which head ``label_text`` draws from.

    From the epoch ``mine_from`` on, and every ``refresh`` epochs, all labels are encoded and the
    training split is searched. Labels that are true, that have the text of a true one, or that have
    no training example are left out.

    Args:
        source: the training split.
        times: when labels are mined.
        batch_size: examples that are searched at a time.

    Attributes:
        candidates: int32 (examples, mined_candidates), best first, padded with -1.
    """

    setting = "head.mined"

    def __init__(self, source: Source, times: RefreshTimes, batch_size: int) -> None:
        self._source = source
        self._times = times
        self._batch_size = batch_size
        self._mined_at: int | None = None

    def on_train_begin(self, steps_per_epoch: float, total_steps: int) -> None:
        """Checks that labels are mined at all.

        Raises:
            ConfigError: the training ends before the first search.
        """
        self._times.check(total_steps, *MINED)

    def build(self, model: "XCModel", strategy: tf.distribute.Strategy) -> None:
        """Makes the lists, which are empty at first."""
        self._model = model
        head = _head_of(model)
        shape = (self._source.num_examples, head.mined_candidates)
        kind = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.candidates = tf.Variable(
            tf.fill(shape, -1), dtype=tf.int32, trainable=False, aggregation=kind, name="candidates"
        )
        self.variables_to_save = [self.candidates]
        head.candidates = functools.partial(tf.gather, self.candidates)

    def before_step(self, step: int) -> None:
        """Searches where it is due."""
        if step == self._mined_at or not self._times.is_due(step):
            return
        self._mined_at = step
        head = _head_of(self._model)
        self._model.refresh()
        penalty = float(head.penalty.numpy())
        head.penalty.assign(_FIRST)
        candidates = np.full(self.candidates.shape, -1, np.int32)
        try:
            with Progress("mining labels", len(candidates), "examples") as progress:
                for batch in self._source.sequential(self._batch_size):
                    lists = self._batch_candidates(batch["features"], np.asarray(batch["labels"]))
                    candidates[batch["example_index"]] = lists
                    progress.advance(len(lists))
        finally:
            head.penalty.assign(penalty)
        self.candidates.assign(candidates)

    def _batch_candidates(
        self, features: Mapping[str, Any] | np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        head = _head_of(self._model)
        labels = np.where(labels < head.num_labels, labels, -1)
        groups, sizes = head.text_groups
        true = np.where(labels >= 0, groups[np.maximum(labels, 0)], -1)
        true = distinct_labels(true)
        most = int(np.where(true >= 0, sizes[np.maximum(true, 0)], 0).sum(axis=1).max())
        # Few different depths: each is a compilation.
        depth = min(head.num_trained, head.mined_candidates + (1 << max(0, most - 1).bit_length()))
        ids, _ = Searcher(self._model, depth)({"features": features})
        left_out = hits(groups[ids], true)
        order = np.argsort(left_out, axis=1, kind="stable")[:, : head.mined_candidates]
        ids = np.take_along_axis(ids, order, 1)
        left_out = np.take_along_axis(left_out, order, 1)
        candidates = np.full((len(ids), head.mined_candidates), -1, np.int32)
        candidates[:, : ids.shape[1]] = np.where(left_out, -1, ids)
        return candidates


def _head_of(model: "XCModel") -> Any:
    return model.head
