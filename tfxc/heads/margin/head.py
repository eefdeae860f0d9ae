"""Class centres on a sphere, and a margin around the true one."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.arguments import COUNT, POSITIVE, Number, OneOf, checked
from tfxc.heads.base import Head, seen_labels
from tfxc.heads.bases.margin_checks import MARGINS, SAMPLINGS, check_sampling, labels_of_a_shard
from tfxc.heads.margin.sampling import Columns, partial, sampled_heads, true_heads
from tfxc.heads.margin.shards import Shards
from tfxc.ops.distributed.cross_replica import CrossReplica, labels_everywhere
from tfxc.ops.distributed.sharded_table import ShardedTable
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.margins import angular_margin, at_positives, least_scale, unit_rows
from tfxc.ops.search.top_k import read_once, rows_between

_TILE = 131_072  # labels scored at a time in top_k
_START_ROWS = 65_536  # centres drawn from one seed
_START_STD = 0.01


@keras.saving.register_keras_serializable("tfxc")
class Margin(Head):
    """The family of ArcFace and CosFace: scaled cosines, with a margin on the true class.

    A label's score is ``scale`` times the cosine of the angle t between the feature vector and
    the label's centre, the nearest of its ``sub_centers``. In training the true class has
    ``scale (cos(m1 t + m2) - m3)`` instead (``ops.margins``); ``call`` and ``top_k`` know no
    margin. ArcFace is ``m2=0.5``, CosFace ``m2=0, m3=0.4``. An example with several labels has the
    margin on each of them. The loss is the objective's; the papers' is ``softmax``. Everything
    is computed in float32, in any precision.

    ``sampling`` says which classes the loss of a batch runs over:

    * None: all.
    * ``"batch_heads"``: with label id = d0 · C1 + d1, all classes of the heads d0 that labels of
      the batch belong to.
    * ``"heads"``: the classes of the example's own head and of ``num_sampled_heads`` - 1 others,
      drawn per example. If its labels have more heads than that, the first of them. Each example
      gathers its centres for itself: for small heads only.
    * ``"partial"``: the classes of the batch and uniformly drawn others, ``sample_rate`` ·
      num_labels together; the batch's alone if they are more.

    With ``sharded`` and n > 1 replicas, replica r holds only the centres of the labels
    ``[r · ceil(N / n), (r + 1) · ceil(N / n))``, and scores the examples of all replicas against
    them; the softmax runs over all. Such centres are not Keras weights, but weight files hold
    them as a whole. ``sampling`` may then be ``"partial"``, each shard drawing for itself.

    A batch is what the replicas see together, a micro-batch where gradients are accumulated.
    Centres outside the sample get no gradient, and a row-sparse optimizer leaves them and their
    momenta alone.

    Args:
        num_labels: number of labels N (from the data).
        scale: the factor s of the cosines. None takes the least with which the true class can have
            probability 0.9999 (``ops.margins.least_scale``): 16.1 for 1,000 classes, 23.0 for a
            million. The papers' 64 is for sets of faces.
        m1, m2, m3: factor of the angle (at least 1), margin of the angle in radians (0 to below
            pi), margin of the cosine.
        sub_centers: centres per label (sub-center ArcFace).
        sampling: see above.
        heads: [C0, C1] with C0 · C1 >= num_labels, for ``"batch_heads"`` and ``"heads"``.
        num_sampled_heads: heads per example, 1 to C0, for ``"heads"``.
        sample_rate: in (0, 1], for ``"partial"``.
        sharded: whether the centres are sharded over the replicas; no difference without replicas.
        seed: seed of the initial centres, N(0, 0.01), and of the draws.

    Input: float (batch, dim). Output of ``call``: float32 (batch, num_labels).

    Raises:
        ValueError: an argument out of range, missing, or without effect.

    Example:
        >>> head = Margin(num_labels=5, scale=16.0)
        >>> ids, scores = head.top_k(tf.ones((2, 3)), k=2)
        >>> bool(tf.reduce_all(tf.abs(scores) <= 16))
        True

    Reference: Deng et al., CVPR 2019 (arXiv 1801.07698); Wang et al., CVPR 2018 (1801.09414); An
    et al., ICCVW 2021 (2010.05222); Liang et al., TPAMI 2024 (2412.10182).
    """

    full_softmax = True

    @checked(
        scale=POSITIVE | None,
        m1=Number(1),
        **MARGINS,
        sub_centers=COUNT,
        sampling=OneOf(*SAMPLINGS),
        sample_rate=Number(most=1, above=0) | None,
    )
    def __init__(
        self,
        num_labels: int,
        *,
        scale: float | None = None,
        m1: float = 1.0,
        m2: float = 0.5,
        m3: float = 0.0,
        sub_centers: int = 1,
        sampling: str | None = None,
        heads: Sequence[int] | None = None,
        num_sampled_heads: int | None = None,
        sample_rate: float | None = None,
        sharded: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.num_labels = num_labels
        self.scale = least_scale(num_labels) if scale is None else scale
        self.m1, self.m2, self.m3 = m1, m2, m3
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

    @classmethod
    def resolved(cls, section: Mapping[str, Any], num_labels: int) -> dict[str, Any]:
        """The scale, where the section has none."""
        return {"scale": least_scale(num_labels)} if section.get("scale") is None else {}

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the centres, (num_labels · sub_centers, dim), those of a label side by side."""
        shape = (self.num_labels * self.sub_centers, input_shape[-1])
        strategy = tf.distribute.get_strategy()
        replicas = strategy.num_replicas_in_sync
        if not self.sharded or replicas == 1:
            self.centres = self.add_weight(shape, self._start, name="centres")
            return
        self._shard_labels = labels_of_a_shard(self.num_labels, replicas)
        size = self._shard_labels * self.sub_centers
        start = functools.partial(self._start_rows, shape)
        self.sharded_table = ShardedTable(strategy, shape, size, start, name="centres")

    def _start(self, shape, dtype=None):
        return tf.cast(self._start_rows(shape, 0, shape[0]), dtype or tf.float32)

    def _start_rows(self, shape, begin, end):
        """Normal numbers, drawn in blocks of rows that do not depend on each other."""
        first = begin // _START_ROWS * _START_ROWS
        blocks = [
            tf.random.stateless_normal(
                (min(_START_ROWS, shape[0] - block), shape[1]),
                (self.seed, block),
                stddev=_START_STD,
            )
            for block in range(first, end, _START_ROWS)
        ]
        return tf.concat(blocks, axis=0)[begin - first : end - first]

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Scaled cosines to all labels."""
        features = unit_rows(features)
        if self.sharded_table is None:
            return self.scale * self._cosines(features, self.centres.value)
        found = self.sharded_table.on_every_shard(
            lambda _, centres, x: self.scale * self._cosines(x, centres), features
        )
        rows = tf.transpose(found, (1, 0, 2))
        return tf.reshape(rows, [tf.shape(features)[0], -1])[:, : self.num_labels]

    @property
    def training_columns(self) -> int:
        """The classes of ``sampling``; for ``"batch_heads"`` the most that can be."""
        if self.sampling == "heads":
            return self.num_sampled_heads * self.heads[1]
        share = self.sample_rate if self.sampling == "partial" else 1.0
        return max(1, int(share * self.num_labels))

    @property
    def training_gathers(self) -> int:
        """The centres of ``sampling="heads"``; the other samples are gathered once for all."""
        if self.sampling != "heads":
            return 0
        return self.training_columns * self.sub_centers * self.centres.shape[-1]

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """One group over the classes of ``sampling``."""
        labels = seen_labels(labels, self.num_labels)
        features = unit_rows(features)
        if self.sharded_table is not None:
            return (self._shard_group(features, labels),)
        if self.sampling is None:
            columns = Columns(None, labels)
        elif self.sampling == "heads":
            columns = sampled_heads(labels, self.heads, self.num_sampled_heads, self.seed)
        elif self.sampling == "batch_heads":
            columns = true_heads(labels, self.heads, labels_everywhere(labels))
        else:
            columns = self._partial(labels, self.num_labels, labels_everywhere(labels))
        return (self._group(features, columns, self.centres.value, self.num_labels),)

    def _shard_group(self, features, labels):
        """The group of all replicas' examples over the labels of this replica."""
        cross_replica = CrossReplica()
        features, labels = cross_replica.gather(features), cross_replica.gather_labels(labels)
        first = cross_replica.number * self._shard_labels
        known = min(self._shard_labels, self.num_labels - first)
        labels = tf.where((labels >= first) & (labels < first + known), labels - first, -1)
        columns = Columns(None, labels)
        if self.sampling == "partial":
            columns = self._partial(labels, known, tf.reshape(labels, [-1]), first)
        centres = self.sharded_table.shards[cross_replica.number]
        return self._group(features, columns, centres, known)._replace(cross_replica=cross_replica)

    def _partial(self, labels, known, flat, first=0):
        count = max(1, int(self.sample_rate * known))
        return partial(labels, known, count, self.seed, flat, first)

    def _group(self, features, columns, centres, known):
        """Logit group of the columns; of the labels that ``centres`` stand for the first count."""
        ids, labels = columns.ids, centres.shape[0] // self.sub_centers
        if ids is not None:
            rows = tf.minimum(ids, known - 1)[..., None] * self.sub_centers
            rows += tf.range(self.sub_centers)
            centres = tf.gather(centres, tf.reshape(rows, [*tf.unstack(tf.shape(ids)[:-1]), -1]))
            labels = math.prod(self.heads) if self.heads else known
        elif labels > known:
            ids = tf.range(labels)
        logits = self._with_margin(self._cosines(features, centres), columns.positives)
        valid = None if labels == known else tf.broadcast_to(ids < known, tf.shape(logits))
        return LogitGroup(logits, columns.positives, valid)

    def _with_margin(self, cosines, positives):
        def margin(true):
            return angular_margin(true, self.m1, self.m2, self.m3)

        return self.scale * at_positives(cosines, positives, margin)

    def _cosines(self, features, centres):
        """Cosines to the nearest sub-centre of each label, float32 (batch, labels).

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
        """Best k labels by cosine, exact; scores in tiles of labels."""
        if not self.built:
            self.build(features.shape)
        if self.sharded_table is None:
            return super().top_k(features, k)
        self.check_k(k)
        return Shards(self, self._shard_labels, _TILE).top_k(features, k)

    def tile_scores(
        self, features: tf.Tensor, centres: tf.Tensor | None = None
    ) -> Callable[..., tf.Tensor]:
        """Function that scores a range of labels, or of those that ``centres`` stand for."""
        features, each = unit_rows(features), self.sub_centers
        centres = read_once(self.centres.value if centres is None else centres)

        def score(begin, end):
            rows = rows_between(centres, begin * each, end * each)
            return self.scale * self._cosines(features, rows)

        return score

    def top_k_and_loss(
        self, features: tf.Tensor, labels: tf.Tensor, k: int
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """``top_k``, and the loss over all labels, without a margin."""
        if self.sharded_table is None:
            return super().top_k_and_loss(features, labels, k)
        self.check_k(k)
        labels = seen_labels(labels, self.num_labels)
        return Shards(self, self._shard_labels, _TILE).top_k_and_loss(features, labels, k)

    def save_own_variables(self, store: Any) -> None:
        """Writes the whole table, in the order of the labels."""
        if self.sharded_table is None:
            super().save_own_variables(store)
        else:
            store["0"] = self.sharded_table.whole()

    def load_own_variables(self, store: Any) -> None:
        """Reads what ``save_own_variables`` wrote, sharded or not."""
        if self.sharded_table is None:
            super().load_own_variables(store)
        else:
            self.sharded_table.assign(store["0"])

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("num_labels", "scale", "m1", "m2", "m3", "sub_centers", "sampling", "heads")
        more = ("num_sampled_heads", "sample_rate", "sharded", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in (*names, *more)}}
