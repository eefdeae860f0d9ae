"""Multi-head cascade: each digit of the label chooses among the children of the digits before."""

from collections.abc import Sequence
from typing import Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, Share
from tfxc.core.errors import ConfigError
from tfxc.heads.base import rare_label_bias
from tfxc.heads.bases.digits import DigitHead, LabelOrder, Link, log_probabilities
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.losses import distinct_positives
from tfxc.ops.search.candidates import best_columns, children_with_positives, find, take
from tfxc.ops.search.tiled_softmax import log_sum_and_top_k
from tfxc.ops.search.top_k import read_once, rows_between, tiled_top_k

_EACH_BY_ITSELF = ("sigmoid", "hinge")
_TILE = 131_072  # labels scored at a time in an exhaustive top_k


@keras.saving.register_keras_serializable("tfxc")
class MHC(DigitHead):
    """A tree with one level per digit; the nodes of a level are scored by a low-rank classifier.

    Level 0 is a dense layer over the ``C_0`` groups. Level h projects the features to
    ``projection_dim`` numbers and has one row of as many numbers per node; the children of node n
    are ``n·C_h .. n·C_h + C_h − 1``. In training a level sees the children of
    ``num_candidate_groups`` nodes per example only: the true ones first, then those the head
    itself finds best. A positive outside of them replaces the first candidate that is not true,
    so every positive takes part.

    ``top_k`` is a beam search: exact with ``beam=None`` or a beam of at least as many nodes as
    there are above the labels, else it may miss labels. It ranks by what was trained:

    * Link ``"softmax"`` with one candidate group, as published for one label per example: the
      children of each node form a softmax, and a label's score is the sum of the
      log-probabilities on its path.
    * Link ``"softmax"`` with more candidate groups: all candidates c of a level are in one
      softmax, over ``z_c = l_c + log p(parent of c)`` with the logit l_c and the parent's
      log-probability on its own level. Gradients of each level reach those above. A label's score
      is z_c minus the logarithm of the sum of ``exp(z)`` over all labels that were scored: the
      label's log-probability among them.
    * Links ``"sigmoid"`` and ``"hinge"``: a node is trained by itself, and a label's score is its
      log-probability plus ``parent_weight`` times its parent's score; with 1 the sum of the
      log-probabilities on its path, as published. A node is also trained as a wrong one of other
      groups' examples, so its own probability already contains some of its parent's, which a
      weight of 1 counts again.

    Args:
        num_labels: number of labels N (from the data).
        heads: number of values C_h of each digit, the most significant first; their product is at
            least N.
        projection_dim: length of the nodes' vectors below level 0.
        beam: nodes of a level whose children are scored in ``top_k``, more where these might
            have fewer than k labels; None means all. 1 is the greedy descent for k = 1.
        num_candidate_groups: nodes of a level whose children are scored in training. 1 with one
            label per example is teacher forcing, as published for classification; more is the
            authors' way with many labels per example. With link ``"softmax"`` and more than one
            label per example, take more than one.
        parent_weight: how much a node's score counts in those of its children, 0 to 1; only with
            links ``"sigmoid"`` and ``"hinge"``.
        link: how logits become probabilities, ``"softmax"`` over the children of a node or
            ``"sigmoid"``, or ``"hinge"`` for margins; None means the objective's.
        label_order: which label gets which code: ``"given"``, ``"random"`` (from ``seed``),
            ``"clusters"`` (similar labels share leading digits) or ``"product"`` (any digits).
        label_codes: the code of each label for the last two (from the data).
        initial_std: standard deviation of the truncated normal initialisation of the dense kernels;
            None takes 1 / sqrt(dim). The nodes' vectors start Xavier-uniform.
        seed: seed of the initial weights.

    Input: float (batch, dim). Output of ``call``: logits of level 0.

    Raises:
        ValueError: too few codes, with sizes that suffice; a count out of its range.

    Example:
        >>> head = MHC(num_labels=1000, heads=[40, 25], projection_dim=16)
        >>> ids, scores = head.top_k(tf.ones((2, 8)), k=5)
        >>> ids.shape
        TensorShape([2, 5])

    Reference: Liang et al., "Multi-Head Encoding", TPAMI 2024, arXiv 2412.10182.
    """

    log_scores = True

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        heads: Sequence[Count],
        projection_dim: Count = 256,
        beam: Count | None = 10,
        num_candidate_groups: Count = 1,
        parent_weight: Share = 1.0,
        link: Link = None,
        label_order: LabelOrder = "given",
        label_codes: FromData[Sequence[int] | np.ndarray | None] = None,
        initial_std: Positive | None = None,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(
            num_labels,
            heads,
            label_order=label_order,
            label_codes=label_codes,
            initial_std=initial_std,
            seed=seed,
            autocast=False,
            **kwargs,
        )
        if num_candidate_groups > self.nodes[0]:
            raise ConfigError(
                f"must be at most {self.nodes[0]}, as many as there are groups, not "
                f"{num_candidate_groups}",
                where="num_candidate_groups",
            )
        if parent_weight != 1 and link not in _EACH_BY_ITSELF:
            # A softmax over children is conditional: their log-probabilities add up.
            raise ConfigError(
                f"must be 1 with link {link or 'softmax'!r}, not {parent_weight:g}",
                where="parent_weight",
                fix="leave it out, or take an objective with link 'sigmoid' or 'hinge'",
            )
        self.projection_dim = projection_dim
        self.beam = beam
        self.num_candidate_groups = num_candidate_groups
        self.parent_weight = parent_weight
        self.link = link

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel and bias of level 0, and projection, its bias and the table of others."""
        self.build_order()
        groups = self.nodes[0]
        dim = input_shape[-1]
        std = self.initial_std or dim**-0.5
        start = _starts(std, self.seed * 1000)
        self.kernel = self.add_weight((dim, groups), next(start), name="kernel")
        bias = keras.initializers.Constant(rare_label_bias(groups))
        self.bias = self.add_weight((groups,), bias, name="bias")
        self.projections: list = [None]
        self.tables: list = [None]
        for level in range(1, len(self.heads)):
            shape = (dim, self.projection_dim)
            kernel = self.add_weight(shape, next(start), name=f"projection_{level}")
            bias = self.add_weight(shape[1:], "zeros", name=f"projection_bias_{level}")
            self.projections.append((kernel, bias))
            # All children of each node: the last group may have more rows than there are nodes.
            shape = (self.nodes[level - 1] * self.heads[level], self.projection_dim)
            uniform = keras.initializers.GlorotUniform(seed=self.seed * 1000 + 500 + level)
            self.tables.append(self.add_weight(shape, uniform, name=f"table_{level}"))

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the logits of the groups of level 0."""
        features = tf.cast(features, self.compute_dtype)
        return self.as_logits(_linear(features, self.kernel, self.bias))

    @property
    def num_groups(self) -> int:
        """One per level."""
        return len(self.heads)

    @property
    def training_columns(self) -> int:
        """The groups, and the candidates of each lower level."""
        return self.nodes[0] + self._candidates

    @property
    def _candidates(self):
        """Candidates of an example over all levels."""
        above = zip(self.heads[1:], self.nodes, strict=False)
        return sum(size * min(self.num_candidate_groups, nodes) for size, nodes in above)

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """Returns one group per level."""
        return self.groups_of_passes([features], labels)[0]

    def groups_of_passes(
        self, passes: Sequence[tf.Tensor], labels: np.ndarray | tf.Tensor
    ) -> list[tuple[LogitGroup, ...]]:
        """Returns groups of all passes, which see the candidates of the first."""
        chosen: list = []
        levels = [self.training_levels(features, labels, chosen) for features in passes]
        return [tuple(group for group, _ in level) for level in levels]

    def training_levels(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor, chosen: list | None = None
    ) -> list[tuple[LogitGroup, tf.Tensor]]:
        """Returns group and candidates of each level; ``chosen`` lists the choices of an earlier
        pass.

        Returns:
            List of (``LogitGroup``, int64 (batch, columns) nodes of the columns, -1 where empty).
        """
        codes = self.codes_of(labels)
        logits = self(features)
        chosen = [] if chosen is None else chosen
        group = LogitGroup(logits, distinct_positives(codes // self.strides[0]))
        nodes = tf.broadcast_to(tf.range(self.nodes[0], dtype=codes.dtype), tf.shape(logits))
        scores = self._scores(logits)
        levels = [(group, nodes)]
        for level in range(1, len(self.heads)):
            count = min(self.num_candidate_groups, self.nodes[level - 1])
            if len(chosen) < level:
                keys = tf.stop_gradient(scores)
                chosen.append(best_columns(keys, group.positives, count))
            parents = take(nodes, chosen[level - 1], -1)
            positives = distinct_positives(codes // self.strides[level])
            sizes = self.heads[level], self.nodes[level]
            candidates = children_with_positives(parents, positives, *sizes)
            of_parents = take(scores, chosen[level - 1], 0.0)
            above = self._scores_above(level, candidates, positives, of_parents, nodes, scores)
            # Empty slots borrow a row of the same example: no other row gets a gradient of zeros.
            rows = tf.where(candidates.valid, candidates.nodes, candidates.nodes[:, :1])
            vectors = tf.cast(tf.gather(self.tables[level].value, rows), self.compute_dtype)
            logits = tf.linalg.matvec(vectors, self._projected(features, level))
            if self._joint:
                logits = tf.cast(logits, tf.float32) + above
            group = LogitGroup(logits, candidates.positives, candidates.valid)
            nodes = tf.where(candidates.valid, candidates.nodes, -1)
            levels.append((group, nodes))
            if level < len(self.heads) - 1:
                # At most 0: by them the candidates of the next level go.
                of_valid = tf.where(group.valid, tf.cast(group.logits, tf.float32), float("-inf"))
                scores = self._scores(of_valid)
                if not self._joint:
                    below = scores + self.parent_weight * above
                    scores = tf.where(group.valid, below, float("-inf"))
        return levels

    @property
    def _joint(self):
        """Whether the children of several nodes share a softmax."""
        return self.num_candidate_groups > 1 and self.link not in _EACH_BY_ITSELF

    def _scores_above(self, level, candidates, positives, of_parents, nodes, scores):
        """Returns scores (batch, slots) of the candidates' parents.

        Args:
            level: of the candidates.
            candidates: the ``Candidates``.
            positives: int64 (batch, max_positives), the true nodes of the level.
            of_parents: float32 (batch, parents), scores of the parents that were chosen.
            nodes, scores: (batch, columns), all of the level above.
        """
        above = tf.repeat(of_parents, self.heads[level], axis=1)
        above = tf.pad(above, [[0, 0], [0, tf.shape(candidates.nodes)[1] - tf.shape(above)[1]]])
        # A positive may be in a slot of another parent. Its own parent is a column above.
        true = positives >= 0
        parents = tf.maximum(positives // self.heads[level], 0)
        columns = parents if level == 1 else find(parents, nodes, true)[0]
        values = tf.boolean_mask(tf.gather(scores, columns, batch_dims=1), true)
        slots = tf.boolean_mask(candidates.positives, true)
        places = tf.stack([tf.cast(tf.where(true)[:, 0], slots.dtype), slots], axis=1)
        return tf.tensor_scatter_nd_update(above, places, values)

    def _family_scores(self, logits, level, above):
        """Returns scores (batch, n·C_h) of nodes by their logits and the (batch, n) of parents."""
        shape = [-1, above.shape[1] or tf.shape(above)[1], self.heads[level]]
        scores = tf.reshape(logits, shape)
        scores = scores if self._joint else self._scores(scores)
        scores += self.parent_weight * above[:, :, None]
        # A node without children has no log-softmax.
        scores = tf.where(above[:, :, None] > float("-inf"), scores, float("-inf"))
        return tf.reshape(scores, tf.shape(logits))

    def _scores(self, logits):
        return log_probabilities(logits, self.link)

    def _projected(self, features, level):
        return _linear(tf.cast(features, self.compute_dtype), *self.projections[level])

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the best k labels; exact if the beam holds all nodes above the labels."""
        self.check_k(k)
        if not self.built:
            self.build(features.shape)
        features = tf.cast(features, tf.float32)
        scores = self._scores(_linear(features, self.kernel, self.bias))
        nodes = None
        for level, width in enumerate(self._widths(k), start=1):
            projected = _linear(features, *self.projections[level])
            if nodes is not None or width < self.nodes[level - 1]:
                scores, nodes = self._beam_level(projected, level, scores, nodes, width)
            elif level == len(self.heads) - 1:
                return self._best_of_all(projected, level, scores, k)
            else:
                scores = self._tiles(projected, level, scores)(0, self.nodes[level])
        best, codes = tf.math.top_k(scores, k)
        if nodes is not None:
            codes = tf.gather(nodes, codes, batch_dims=1)
        ids, best = self.labels_of(codes, best)
        return ids, best - tf.reduce_logsumexp(scores, 1, True) if self._joint else best

    def _widths(self, k):
        """Returns how many nodes are kept from each level to the next, so many that k labels are
        found.
        """
        widths = []
        needed = k
        for level in reversed(range(1, len(self.heads))):
            size = self.heads[level]
            parents = self.nodes[level - 1]
            lacking = parents * size - self.nodes[level]  # children that the last parent lacks
            needed = min(-(-(needed + lacking) // size), parents)
            widths.append(parents if self.beam is None else min(max(self.beam, needed), parents))
        return widths[::-1]

    def _beam_level(self, projected, level, scores, nodes, width):
        """Returns scores and nodes (batch, width·C_h) of the children of the best nodes."""
        size = self.heads[level]
        above, columns = tf.math.top_k(scores, min(width, scores.shape[1]))
        parents = columns if nodes is None else tf.gather(nodes, columns, batch_dims=1)

        def family(parent):
            """Returns the logits of one node's children per example: all at once need beam times
            the memory.
            """
            rows = tf.maximum(parent, 0)[:, None] * size + tf.range(size)
            return tf.linalg.matvec(tf.gather(self.tables[level].value, rows), projected)

        one = tf.TensorSpec([projected.shape[0], size], tf.float32)
        logits = tf.map_fn(
            family, tf.transpose(parents), fn_output_signature=one, parallel_iterations=1
        )
        nodes = tf.maximum(parents, 0)[:, :, None] * size + tf.range(size)
        exists = (parents >= 0)[:, :, None] & (nodes < self.nodes[level])
        logits = tf.where(exists, tf.transpose(logits, [1, 0, 2]), float("-inf"))
        slots = parents.shape[1] * size
        scores = self._family_scores(tf.reshape(logits, [-1, slots]), level, above)
        return scores, tf.reshape(tf.where(exists, nodes, -1), [-1, slots])

    def _best_of_all(self, projected, level, above, k):
        """Returns the best k labels, where all of them are scored."""
        tile = max(1, _TILE // self.heads[level]) * self.heads[level]
        nodes = self.nodes[level]
        score = self._tiles(projected, level, above)
        if not self._joint:
            return self.labels_of(*tiled_top_k(score, nodes, k, tile))
        codes, scores, log_sum = log_sum_and_top_k(score, nodes, tf.shape(projected)[0], k, tile)
        ids, scores = self.labels_of(codes, scores)
        return ids, scores - log_sum[:, None]

    def _tiles(self, projected, level, above):
        """Returns a function (begin, end) -> scores of consecutive nodes, from the first child of a
        node.
        """
        size = self.heads[level]
        table = read_once(self.tables[level].value)

        def score(begin, end):
            first = begin // size
            last = (end + size - 1) // size
            rows = rows_between(table, first * size, last * size)
            logits = tf.matmul(projected, rows, transpose_b=True)
            exists = tf.range(first * size, last * size) < self.nodes[level]
            logits = tf.where(exists, logits, float("-inf"))
            return self._family_scores(logits, level, above[:, first:last])[:, : end - begin]

        return score


def _starts(std, seed):
    """Initialisers with one seed each."""
    while True:
        yield keras.initializers.TruncatedNormal(stddev=std, seed=seed)
        seed += 1


def _linear(features, kernel, bias):
    kernel, bias = (tf.cast(weight.value, features.dtype) for weight in (kernel, bias))
    return tf.matmul(features, kernel) + bias
