"""Batches of examples that are near each other, so that their labels are hard to tell apart."""

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.data.sources.base import Source
from tfxc.inference.embedder import vectors_of_texts
from tfxc.labels.tree_building import ClusteringSettings, build_tree
from tfxc.techniques.base import Technique
from tfxc.training.negatives.refresh_times import NEAR, RefreshTimes
from tfxc.training.strategies import from_all_workers

if TYPE_CHECKING:
    from tfxc.model import XCModel


class NearBatches(Technique):
    """Makes the batches of whole groups of examples whose vectors are near each other.

    At each of its times all training examples are encoded and halved by 2-means until a group has
    at most ``near_size`` of them; until the first one all batches are random. An epoch takes the
    groups in random order, and so each example once.

    Args:
        source: the training split.
        times: when the groups are made anew.
        batch_size: examples of a step, over all replicas.
        seed: of the groups.

    Attributes:
        clusters: int32 (examples,), the number of each example's group.

    Reference: Dahiya et al., "NGAME", WSDM 2023, arXiv 2207.04452.
    """

    setting = "head.batching"

    def __init__(self, source: Source, times: RefreshTimes, batch_size: int, seed: int) -> None:
        self._source = source
        self._times = times
        self._batch_size = batch_size
        self._seed = seed
        self._applied = False

    def on_train_begin(self, steps_per_epoch: float, total_steps: int) -> None:
        """Checks that there are groups at all.

        Raises:
            ConfigError: the training ends before the first ones.
        """
        self._times.check(total_steps, *NEAR)

    def build(self, model: "XCModel", strategy: tf.distribute.Strategy) -> None:
        """Puts all examples into one group.

        Raises:
            ConfigError: the training split does not fit into memory, or would be one group.
        """
        count = self._source.num_examples
        size = _head_of(model).near_size
        if size >= count:
            raise ConfigError(
                f"a group of {size:,} would contain all {count:,} training examples",
                where="head.near_size",
                fix=f"give less than {count:,}",
            )
        self._model = model
        self._strategy = strategy
        group = np.zeros(count, np.int32)
        self._source.group_near(self._batch_size, group)
        kind = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.clusters = tf.Variable(group, trainable=False, aggregation=kind, name="near_groups")
        self.variables_to_save = [self.clusters]

    def reorders(self, step: int) -> bool:
        """Makes groups where they are due, and takes those of a checkpoint."""
        due = self._times.is_due(step)
        if due:
            head = _head_of(self._model)
            rows = self._source.rows()
            vectors = vectors_of_texts(self._model, rows, "encoding examples", "examples")
            drawn = np.random.SeedSequence((self._seed, step)).generate_state(1)[0]
            settings = ClusteringSettings(
                nr_splits=2, max_leaf_size=head.near_size, seed=int(drawn)
            )
            groups = build_tree(vectors, settings).parents[-1]
            # Another machine may round differently: all take the chief's, so no example is lost.
            chiefs = from_all_workers(self._strategy, groups)[0]
            self.clusters.assign(chiefs.astype(np.int32))
        if due or not self._applied:
            self._source.group_near(self._batch_size, self.clusters.numpy())
        self._applied = True
        return due


def _head_of(model: "XCModel") -> Any:
    return model.head
