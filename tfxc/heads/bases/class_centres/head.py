"""Class centres on a sphere, and a margin around the true one."""

import functools
import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Unpack

import numpy as np
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, ShareAboveZero
from tfxc.heads.base import TILE, Head, seen_labels
from tfxc.heads.bases.class_centres.checks import Sampling, check_sampling, labels_of_a_shard
from tfxc.heads.bases.class_centres.sampling import Columns, partial, sampled_blocks, true_blocks
from tfxc.heads.bases.shards import ShardLayout, Shards
from tfxc.ops.distributed.cross_replica import CrossReplica, labels_everywhere
from tfxc.ops.distributed.sharded_table import ShardedTable
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.margins import at_positives, row_lengths, unit_rows
from tfxc.ops.search.similarity import cosines_to_row
from tfxc.ops.search.top_k import read_once, rows_between
from tfxc.ops.tables.row_start import RowStart

_START_STD = 0.01


class ClassCentres(Head):
    """Scaled cosines to class centres, the true one made harder: ArcFace and what followed it.

    A label's score is ``scale`` times the cosine of the angle between the feature vector and the
    label's centre, the nearest of its ``sub_centers``. In training the true class has a margin,
    which a derived class defines in ``with_margin``; ``call`` and ``top_k`` know no margin. An
    example with several labels has the margin on each of them. All is computed in float32, in any
    precision.

    Sampling, shards and what a batch is: see ``heads.margin.Margin``.

    Args:
        num_labels: number of labels N (from the data).
        scale: the factor s of the cosines.
        sub_centers: centres per label.
        sampling: which classes the loss of a batch runs over, see ``heads.margin.Margin``.
        heads, num_sampled_heads, sample_rate: of the sampling.
        sharded: whether the centres are sharded over the replicas; no difference without replicas.
        seed: seed of the initial centres, N(0, 0.01), and of the draws.

    Input: float (batch, dim). Output of ``call``: float32 (batch, num_labels).
    """

    full_softmax = True
    sharded_table: ShardedTable | None = None  # the one of ``sharded_tables``

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        scale: Positive,
        sub_centers: Count = 1,
        sampling: Sampling = None,
        heads: Sequence[Count] | None = None,
        num_sampled_heads: Count | None = None,
        sample_rate: ShareAboveZero | None = None,
        sharded: bool = False,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.num_labels = num_labels
        self.scale = scale
        self.sub_centers = sub_centers
        self.sampling = sampling
        # What a sampling needs is not None: see ``check_sampling``.
        self.heads: Any = heads
        self.num_sampled_heads: Any = num_sampled_heads
        self.sample_rate: Any = sample_rate
        self.sharded = sharded
        self.seed = seed
        check_sampling(self)
        self.heads = list(heads) if heads is not None else None

    def strength(self, lengths: tf.Tensor) -> tf.Tensor | None:
        """Returns what the margin of an example depends on besides its angle; None where on
        nothing.

        Args:
            lengths: float32 (batch,), lengths of the feature vectors, of all replicas where the
                centres are sharded.

        Returns:
            float32 (batch,), or None.
        """
        return None

    def with_margin(self, cosines: tf.Tensor, strength: tf.Tensor | None = None) -> tf.Tensor:
        """Returns what takes the place of the true class's cosine, float32 (n,).

        Args:
            cosines: float32 (n,).
            strength: of their examples, float32 (n,), see there; or None.
        """
        raise TypeError(f"{type(self).__name__} must define with_margin(cosines, strength)")

    def penalties(self, lengths: tf.Tensor) -> tf.Tensor | None:
        """Returns the losses of the vectors' lengths, float32 (batch,), or None.

        Args:
            lengths: float32 (batch,), lengths of the feature vectors of this replica.
        """
        return None

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the centres, (num_labels · sub_centers, dim), those of a label side by side."""
        shape = (self.num_labels * self.sub_centers, input_shape[-1])
        strategy = tf.distribute.get_strategy()
        replicas = strategy.num_replicas_in_sync
        start = RowStart("normal", _START_STD, self.seed)
        if not self.sharded or replicas == 1:
            self.centres = self.add_weight(shape, start, name="centres")
            return
        self._shard_labels = labels_of_a_shard(self.num_labels, replicas)
        size = self._shard_labels * self.sub_centers
        rows = functools.partial(start.rows, shape)
        self.sharded_table = ShardedTable(strategy, shape, size, rows, name="centres")
        self.sharded_tables = [self.sharded_table]

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Returns scaled cosines to all labels."""
        if self.sharded_table is None and self.num_labels > TILE:
            return self.all_scores(features)  # the lengths of all centres need as much memory again
        features = unit_rows(features)
        if self.sharded_table is None:
            return self.scale * self._cosines(features, self.centres.value)
        of_shards = self.sharded_table.on_every_shard(
            lambda _, centres, x: self.scale * self._cosines(x, centres), features
        )
        rows = tf.transpose(of_shards, (1, 0, 2))
        return tf.reshape(rows, [tf.shape(features)[0], -1])[:, : self.num_labels]

    @property
    def columns_are_labels(self) -> bool:
        """Without a sampling."""
        return self.sampling is None

    @property
    def training_columns(self) -> int:
        """The classes of ``sampling``; for ``"batch_heads"`` the most that can be."""
        if self.sampling == "heads":
            return self.num_sampled_heads * self.heads[1]
        share = self.sample_rate if self.sampling == "partial" else 1.0
        return max(1, int(share * self.num_labels))

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """Returns one group over the classes of ``sampling``."""
        labels = seen_labels(labels, self.num_labels)
        lengths = row_lengths(features)
        features = unit_rows(features)
        if self.sharded_table is not None:
            group = self._shard_group(features, labels, lengths)
        else:
            if self.sampling is None:
                columns = Columns(None, labels)
            elif self.sampling == "heads":
                columns = sampled_blocks(labels, self.heads, self.num_sampled_heads, self.seed)
            elif self.sampling == "batch_heads":
                columns = true_blocks(labels, self.heads, labels_everywhere(labels))
            else:
                columns = self._partial(labels, self.num_labels, labels_everywhere(labels))
            strength = self.strength(lengths)
            centres = self.centres.value
            group = self._group(features, columns, centres, self.num_labels, strength)
        penalties = self.penalties(lengths)
        if penalties is not None:  # an example without a label has no loss
            penalties = tf.where(tf.reduce_any(labels >= 0, axis=1), penalties, 0.0)
        return (group._replace(penalties=penalties),)

    def _shard_group(self, features, labels, lengths):
        """Returns the group of all replicas' examples over the labels of this replica."""
        cross_replica = CrossReplica()
        features = cross_replica.gather(features)
        labels = cross_replica.gather_labels(labels)
        strength = self.strength(cross_replica.gather(lengths))
        first = cross_replica.number * self._shard_labels
        known = min(self._shard_labels, self.num_labels - first)
        labels = tf.where((labels >= first) & (labels < first + known), labels - first, -1)
        columns = Columns(None, labels)
        if self.sampling == "partial":
            columns = self._partial(labels, known, tf.reshape(labels, [-1]), first)
        assert self.sharded_table is not None, "centres are sharded"
        centres = self.sharded_table.shards[cross_replica.number]
        group = self._group(features, columns, centres, known, strength)
        return group._replace(cross_replica=cross_replica)

    def _partial(self, labels, known, flat, first=0):
        count = max(1, int(self.sample_rate * known))
        return partial(labels, known, count, self.seed, flat, first)

    def _group(self, features, columns, centres, known, strength):
        """Returns logit group of the columns; of the labels that ``centres`` stand for the first
        count.
        """
        ids = columns.ids
        labels = centres.shape[0] // self.sub_centers
        if ids is not None:
            rows = tf.minimum(ids, known - 1)[..., None] * self.sub_centers
            rows += tf.range(self.sub_centers, dtype=rows.dtype)
            centres = tf.gather(centres, tf.reshape(rows, [*tf.unstack(tf.shape(ids)[:-1]), -1]))
            labels = math.prod(self.heads) if self.heads else known
        elif labels > known:
            ids = tf.range(labels)
        cosines = self._cosines(features, centres)
        of_rows = () if strength is None else (strength,)
        changed = at_positives(cosines, columns.positives, self.with_margin, *of_rows)
        logits = self.scale * changed
        valid = None if labels == known else tf.broadcast_to(ids < known, tf.shape(logits))
        return LogitGroup(logits, columns.positives, valid)

    def _cosines(self, features, centres):
        """Returns cosines to the nearest sub-centre of each label, float32 (batch, labels).

        Args:
            features: unit vectors (batch, dim).
            centres: (labels · sub_centers, dim), or (batch, labels · sub_centers, dim).
        """
        centres = unit_rows(centres)
        if len(centres.shape) == 3:
            cosines = tf.linalg.matvec(centres, features)
        else:
            cosines = tf.matmul(features, centres, transpose_b=True)
        if self.sub_centers == 1:
            return cosines
        by_label = tf.reshape(cosines, [tf.shape(cosines)[0], -1, self.sub_centers])
        return tf.reduce_max(by_label, axis=-1)

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the best k labels by cosine, exact; scores in tiles of labels."""
        if not self.built:
            self.build(features.shape)
        if self.sharded_table is None:
            return super().top_k(features, k)
        self.check_k(k)
        return self._search().top_k(features, k)

    def _search(self):
        """Returns a search over the centres of all replicas."""
        assert self.sharded_table is not None, "centres are sharded"
        layout = ShardLayout(self.num_labels, self.num_labels, self.sharded_table.count)
        return Shards(self.sharded_table, layout, self._shard_scores, TILE)

    def _shard_scores(self, number, features):
        """Returns a function that scores a range of a shard's labels; rows beyond the last come
        last.
        """
        assert self.sharded_table is not None, "centres are sharded"
        score = self.tile_scores(features, self.sharded_table.shards[number])
        known = min(self._shard_labels, self.num_labels - number * self._shard_labels)
        if known == self._shard_labels:
            return score
        return lambda begin, end: tf.where(
            tf.range(begin, end) < known, score(begin, end), float("-inf")
        )

    def tile_scores(
        self, features: tf.Tensor, centres: tf.Tensor | None = None
    ) -> Callable[..., tf.Tensor]:
        """Returns a function that scores a range of labels, or of those that ``centres`` stand
        for.
        """
        features = unit_rows(features)
        each = self.sub_centers
        centres = read_once(self.centres.value if centres is None else centres)

        def score(begin, end):
            rows = rows_between(centres, begin * each, end * each)
            return self.scale * self._cosines(features, rows)

        return score

    def label_similarities(self, label: int) -> np.ndarray | None:
        """Returns the cosines of the labels' centres, of several the means; None if they are
        sharded.
        """
        if self.sharded_table is not None:
            return None
        centres = read_once(self.centres.value)
        each = self.sub_centers

        def means(begin, end):
            rows = unit_rows(centres[begin * each : end * each])
            return tf.reduce_mean(tf.reshape(rows, [end - begin, each, -1]), axis=1)

        return cosines_to_row(means, label, self.num_labels)

    def top_k_and_loss(
        self, features: tf.Tensor, labels: tf.Tensor, k: int
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns ``top_k``, and the loss over all labels, without a margin."""
        if self.sharded_table is None:
            return super().top_k_and_loss(features, labels, k)
        self.check_k(k)
        labels = tf.cast(seen_labels(labels, self.num_labels), tf.int32)
        return self._search().top_k_and_loss(features, labels, k)

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Writes the whole table, in the order of the labels, and what else there is."""
        if self.sharded_table is None:
            super().save_own_variables(store)
            return
        store["0"] = self.sharded_table.gathered()
        for number, variable in enumerate(self._other_variables, 1):
            store[str(number)] = variable

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Reads what ``save_own_variables`` wrote, sharded or not."""
        if self.sharded_table is None:
            super().load_own_variables(store)
            return
        self.sharded_table.assign(store["0"])
        for number, variable in enumerate(self._other_variables, 1):
            variable.assign(store[str(number)])

    @property
    def _other_variables(self):
        """The weights besides the centres, in the order in which Keras saves them."""
        return [*self.trainable_variables, *self.non_trainable_variables]
