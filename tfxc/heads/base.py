"""What every head shares."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import Declared, check_k
from tfxc.ops.randomness import drawn_again, draws
from tfxc.ops.search.tiled_softmax import mean_cross_entropy, tiled_softmax
from tfxc.ops.search.top_k import tiled_top_k
from tfxc.ops.sparse import for_other_runtimes
from tfxc.ops.tables.large_weights import LargeWeights

if TYPE_CHECKING:
    from tfxc.ops.distributed.sharded_table import ShardedTable
    from tfxc.ops.fused.logit_chunks import ChunkUpdate
    from tfxc.ops.logit_group import LogitGroup
    from tfxc.ops.search.nearest import InnerProducts


TILE = 131_072  # labels scored at a time in top_k, or more: 128 MB of scores
_TILE_EXAMPLES = 256  # of which this many examples have TILE labels, and fewer have more
_LOSS_TILE = 16_384  # the same in top_k_and_loss: 16 MB at batch 256
_RANK_TILE = 4096  # the same in label_ranks: 4 MB for each label of an example


class Head(Declared, LargeWeights):
    """Turns feature vectors into scores of labels.

    * ``call(features)`` returns the raw scores the head works with, float32 under mixed precision.
    * ``training_groups(features, labels)`` returns the ``LogitGroup``s of one batch; labels are
      int32 (batch, max_labels) padded with -1.
    * ``top_k(features, k)`` returns (ids int32, scores float32), both (batch, k), sorted by
      descending score, ties by ascending id; in the graph, exact unless a head's docstring says
      otherwise. Heads that have a ``full_softmax`` need not define it.
    * ``search_top_k(scores, k, method)`` does the same outside the graph from what
      ``search_scores`` returned, for heads that list ``search_methods``, the usual one first.
    * ``tile_scores(features)`` returns a function (begin, end) -> float32 scores (batch,
      end - begin) of the labels with these numbers, for heads that have a ``full_softmax``.

    Class attributes:
        providers: functions that find such arguments in the training split, by argument, where
            ``data.sources.providers.PROVIDERS`` has none or another; see there.
        sharded: whether its weights are sharded over replicas where there are any.
        sharded_tables: ``ops.distributed.sharded_table.ShardedTable``s of a head whose weights are
            sharded over replicas, once it is built.
        has_inner_products: whether these scores are those of ``inner_products``, so that there is
            an approximate search.
        full_softmax: whether the head has one score per label, and so a softmax over all.
        tile: labels that are scored at a time where the weights are in parts of this many; the
            search is a loop over tiles of a usual size where it is None.
        fused_variables: Keras variables, or shards, that ``fused_step`` updates itself, without a
            gradient of their size; the optimizer leaves them alone.
        fused_learning_rate: their learning rate, times the schedule; None for the optimizer's.
        log_scores: whether the scores of ``top_k`` are logarithms of probabilities.
        trunk: ``"separate"`` where each of its ``num_repetitions`` reads its own encoder.
        num_repetitions, first_repetition: how many, and the number of the first of them.
        reads_label_texts: whether its columns are vectors that the encoder makes of labels' texts;
            it then has ``columns_of``, ``label_features``, ``vectors_of`` and ``refresh`` of
            ``heads.label_text``.
        data_statistics: attributes that hold weights counted in the training split, not learned: a
            training that begins with another run's weights keeps its own.
    """

    providers: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    sharded: bool = False
    sharded_tables: "Sequence[ShardedTable]" = ()
    search_methods: tuple[str, ...] = ()
    has_inner_products: bool = False
    full_softmax = False
    tile: int | None = None
    fused_variables: "Sequence[keras.Variable | tf.Variable]" = ()
    fused_learning_rate: float | None = None
    log_scores = False
    trunk = "shared"
    num_repetitions = 1
    first_repetition = 0
    data_statistics: tuple[str, ...] = ()
    reads_label_texts = False

    @classmethod
    def resolved(cls, section: Mapping[str, Any], num_labels: int) -> dict[str, Any]:
        """Returns the arguments that a config leaves to a rule over the number of labels, by name.

        They are what the constructor would choose; a run's config shows them.

        Args:
            section: the config's section, without what it does not set.
            num_labels: number of labels.
        """
        return {}

    @property
    def hash_seeds(self) -> list[int]:
        """Seeds of hashes, without which equally shaped weights are not of the same labels."""
        return []

    @property
    def num_choices(self) -> int:
        """How many labels, or what else it finds, ``top_k`` chooses from."""
        return self.num_labels

    @property
    def columns_are_labels(self) -> bool:
        """Whether the columns of ``training_groups`` are the labels, all of them, in order."""
        return False

    @property
    def num_groups(self) -> int:
        """How many groups ``training_groups`` returns."""
        return 1

    @property
    def training_columns(self) -> int:
        """Logits of one example in training over all groups, for estimates of memory."""
        return self.num_labels

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> "tuple[LogitGroup, ...]":
        """Returns logit groups of a batch."""
        raise TypeError(f"{type(self).__name__} must define training_groups(features, labels)")

    def fused_step(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        update: "ChunkUpdate",
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Updates ``fused_variables`` by gradient descent, a chunk of columns at a time.

        Args:
            features: float (batch, dim).
            labels: int32 (batch, max_labels) padded with -1.
            update: the loss and the rates.

        Returns:
            losses float32 (batch,), without their factors; gradient of the sum with respect to
            the features, float32 (batch, dim).
        """
        raise TypeError(f"{type(self).__name__} must define fused_step(features, labels, update)")

    def as_logits(self, products: tf.Tensor) -> tf.Tensor:
        """Products in the dtype of the weights, float32 under mixed precision as losses need it."""
        return keras.ops.cast(products, self.variable_dtype)

    def groups_of_passes(
        self, passes: Sequence[tf.Tensor], labels: np.ndarray | tf.Tensor
    ) -> "list[tuple[LogitGroup, ...]]":
        """Returns logit groups of several passes over the same examples, all with the same columns.

        Args:
            passes: list of features, e.g. of different dropout masks.
            labels: of the examples.

        Returns:
            List of what ``training_groups`` returns, one for each pass.
        """
        drawn = draws()
        groups = []
        for features in passes:
            with drawn_again(drawn):
                groups.append(self.training_groups(features, labels))
        return groups

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the best k labels of each example; with a ``full_softmax``, exact by tiles of
        labels.
        """
        if not self.full_softmax:
            raise TypeError(f"{type(self).__name__} must define top_k(features, k)")
        self.check_k(k)
        if not self.built:
            self.build(features.shape)
        score = self.tile_scores(features)
        tile = self.tile or TILE
        unrolled = self.tile is not None
        if not unrolled and self.num_labels > TILE and not for_other_runtimes():
            # A tile is cut out of the weights by a copy, which takes a small batch longer than its
            # product: as many labels at once as the memory of the scores allows.
            examples = tf.maximum(tf.shape(features)[0], 1)
            tile = tf.maximum(TILE, TILE * _TILE_EXAMPLES // examples)
        return tiled_top_k(score, self.num_labels, k, tile, unrolled)

    def tile_scores(self, features: tf.Tensor) -> Callable[..., tf.Tensor]:
        """Returns a function that scores a range of labels."""
        raise TypeError(f"{type(self).__name__} has no scores of single labels")

    def all_scores(self, features: tf.Tensor) -> tf.Tensor:
        """Returns float32 (batch, num_labels), scored by the tiles of ``top_k``: they round
        alike.
        """
        score = self.tile_scores(features)
        size = self.tile or TILE
        starts = range(0, self.num_labels, size)
        return tf.concat([score(at, min(at + size, self.num_labels)) for at in starts], 1)

    def inner_products(self) -> "InnerProducts":
        """Returns the scores as inner products, where ``has_inner_products``."""
        raise NotImplementedError(f"{type(self).__name__} has no inner products")

    def label_similarities(self, label: int) -> np.ndarray | None:
        """Returns how alike the weights of a label and those of every label are.

        Args:
            label: an id.

        Returns:
            float32 (num_labels,), cosines, or means of them where a label's score is made of
            several parts; None where labels have no weights of this kind.
        """
        return None

    def top_k_and_loss(
        self, features: tf.Tensor, labels: tf.Tensor, k: int
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns ``top_k``, and the cross-entropy of the softmax over all labels, from one pass.

        Scores are those of ``top_k``, without a margin. Several true labels share the target
        evenly, as in the objective ``softmax``.

        Args:
            features: float (batch, dim).
            labels: int32 (batch, max_labels) padded with -1; ids of labels never seen in training
                count as padding.
            k: Python int.

        Returns:
            ids int32 (batch, k), scores float32 (batch, k), losses float32 (batch,), NaN for an
            example without a label seen in training.
        """
        self.check_k(k)
        if not self.built:
            self.build(features.shape)
        labels = tf.cast(seen_labels(labels, self.num_labels), tf.int32)
        score = self.tile_scores(features)
        count = self.num_labels
        tile = self.tile or _LOSS_TILE
        unrolled = self.tile is not None
        ids, scores, log_sum, of_true = tiled_softmax(score, count, labels, k, tile, unrolled)
        return ids, scores, mean_cross_entropy(log_sum, of_true, labels >= 0)

    def label_ranks(self, features: tf.Tensor, labels: tf.Tensor, excluded: tf.Tensor) -> tf.Tensor:
        """Returns the rank of each true label among all, with a ``full_softmax``.

        See ``tfxc.ops.search.ranks.tiled_ranks``.

        Args:
            features: float (batch, dim).
            labels: int32 (batch, max_labels), distinct in a row, padded with -1.
            excluded: int32 (batch, any), labels that do not count, none of them true, padded
                with -1.
        """
        from tfxc.ops.search.ranks import tiled_ranks

        tile = self.tile or _RANK_TILE
        unrolled = self.tile is not None
        score = self.tile_scores(features)
        return tiled_ranks(score, self.num_labels, labels, excluded, tile, unrolled)

    def check_k(self, k: int) -> None:
        """Raises a ``ValueError`` if more labels are requested than there are."""
        check_k(k, self.num_choices)


def rare_label_bias(columns: int) -> float:
    """Returns the start of the biases: the logit of a column that is true for one example in
    ``columns``.

    From 0 the first thousand steps would only push every column down, and through the hidden
    layer, which leaves ReLU units dead. A softmax does not see a common constant.
    """
    return -math.log(max(columns - 1, 1))


def seen_labels(labels: np.ndarray | tf.Tensor, num_labels: int) -> tf.Tensor:
    """Replaces ids beyond ``num_labels`` (labels never seen in training) by -1; int64.

    TensorFlow compares and adds 32-bit integers on the host, also where a GPU holds them.
    """
    labels = tf.cast(labels, tf.int64)
    return tf.where(labels < num_labels, labels, tf.constant(-1, tf.int64))
