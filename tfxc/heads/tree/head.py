"""A tree of label clusters: a linear classifier per node, from the top down to the labels."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Unpack

import keras
import numpy as np
import tensorflow as tf
from annotated_types import Ge

from tfxc.core.declared import Count, FromData, LayerArguments, Positive
from tfxc.heads.base import rare_label_bias, seen_labels
from tfxc.heads.bases.digits import Link
from tfxc.heads.tree.search import TreeSearch
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.tree_shape import LevelShape, built_shape, children_table, shape_of
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.randomness import current_examples
from tfxc.ops.search.candidates import children_candidates, distinct_with_counts, find, take, union

#: Which clusters are negatives: those near the true ones, those that the search finds, or both.
Negatives = Literal["tfn", "man", "tfn+man"]


@keras.saving.register_keras_serializable("tfxc")
class Tree(TreeSearch):
    """A classifier over the levels of a ``ClusterTree``, one weight vector and bias per node.

    All nodes of level 0 are scored. Below it, a training example sees the children of a few
    parents only: with ``"tfn"`` (teacher forcing) of its true ones, with ``"man"`` (matcher aware)
    of the ``num_candidate_groups`` that the head itself finds best, and always its own nodes. The
    levels are trained side by side, one logit group each; ``LogitGroup.counts`` says how many of
    an example's labels are under a node. Rows of nodes that no example of a batch sees get no
    gradient.

    ``top_k`` is a beam search: exact with ``beam=None`` or a beam of at least as many nodes as
    there are above the labels, else it may miss labels. A label's score is the sum of the
    log-probabilities on its path; with margins (link ``"hinge"``) the beam ranks by the sum of
    ``-max(0, 1 - z)^3``, and a label's score is its own margin z, as published.

    With link ``"softmax"`` and ``"tfn"`` the children of each node form a softmax. With
    ``"man"`` an example's candidates c of a level, of several parents, are in one softmax, over
    ``z_c = l_c + log p(parent of c)`` with the logit l_c and the parent's log-probability on its
    own level. Gradients of each level reach those above. The search then ranks by z_c, and a
    label's score is z_c minus the logarithm of the sum of ``exp(z)`` over all labels that were
    scored.

    The tree is built when training starts: balanced 2-means over the sums of the labels' examples
    (PIFA). It is kept with the weights.

    Args:
        num_labels: number of labels N (from the data).
        nr_splits, min_codes, max_leaf_size, spherical: of the tree, see
            ``labels.tree_building.ClusteringSettings``.
        negatives: ``"tfn"``, ``"man"`` or ``"tfn+man"``. With link ``"softmax"`` and more than one
            label per example, take one with ``"man"``.
        num_candidate_groups: parents that ``"man"`` takes on each level.
        beam: nodes of a level whose children are scored in ``top_k``, more where these might
            have fewer than k labels; None means all.
        link: how logits become scores: ``"sigmoid"``, ``"softmax"`` over the children of a node,
            or ``"hinge"``; None means the objective's.
        initial_std: standard deviation of the normal initialisation.
        seed: of the initial weights and of the tree.
        label_tree: a ``ClusterTree`` (from the data); None if it comes with the weights.
        tree_shape: nodes, largest and smallest number of children of every level where the tree
            is not the one that the arguments describe (from the data).
        level: the only level this head is about; ``top_k`` then finds its nodes, best margin or
            log-probability first (from recipe ``xr_transformer``).
        matched: int32 (examples, n), parents that ``"man"`` takes for each training example,
            padded with -1; only with ``level`` (from the recipe).

    Input: float (batch, dim). Output of ``call``: logits of level 0, or of the only level.

    Raises:
        ConfigError: an argument out of range.

    Example:
        >>> head = Tree(num_labels=1000)
        >>> ids, scores = head.top_k(tf.ones((2, 8)), k=5)
        >>> head.shape[0].nodes, ids.shape
        (16, TensorShape([2, 5]))

    Reference: Zhang et al., NeurIPS 2021, arXiv 2110.00685.
    """

    kernels: Any = ()  # of the levels, once it is built

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        nr_splits: Annotated[int, Ge(2)] = 16,
        min_codes: Count | None = None,
        max_leaf_size: Annotated[int, Ge(2)] = 100,
        spherical: bool = True,
        negatives: Negatives = "tfn+man",
        num_candidate_groups: Count = 4,
        beam: Count | None = 10,
        link: Link = None,
        initial_std: Positive = 0.02,
        seed: int = 0,
        label_tree: FromData[ClusterTree | None] = None,
        tree_shape: FromData[Sequence[Sequence[int]] | None] = None,
        level: FromData[int | None] = None,
        matched: FromData[np.ndarray | None] = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.num_labels = num_labels
        self.seed = seed
        self.initial_std = initial_std
        self.nr_splits = nr_splits
        self.min_codes = min_codes
        self.max_leaf_size = max_leaf_size
        self.spherical = spherical
        self.negatives = negatives
        self.beam = beam
        self.num_candidate_groups = num_candidate_groups
        self.link = link
        self.level = level
        self._start_tree = label_tree
        self._start_matched = matched
        if label_tree is not None:
            shape = shape_of(label_tree)
        elif tree_shape is not None:
            shape = [LevelShape(*sizes) for sizes in tree_shape]
        else:
            shape = built_shape(num_labels, nr_splits, min_codes, max_leaf_size)
        self.shape = tuple(shape)
        self.levels = range(len(shape)) if level is None else range(level, level + 1)

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernels and biases of the levels, and the tables of the tree."""
        tree = self._start_tree
        self._start_tree = None
        # By level; a level that is not the head's has no weights, the first one no parents.
        nothing: list[Any] = [None] * len(self.shape)
        self.kernels = list(nothing)
        self.biases = list(nothing)
        self.parents = list(nothing)
        self.children = list(nothing)
        self.ranks = list(nothing)
        for level in self.levels:
            seed = self.seed * 1000 + level
            nodes = self.shape[level].nodes
            normal = keras.initializers.RandomNormal(stddev=self.initial_std, seed=seed)
            shape = (nodes, input_shape[-1])
            self.kernels[level] = self.add_weight(shape, normal, name=f"kernel_{level}")
            rare = level == 0 and self.link != "hinge"
            bias = keras.initializers.Constant(rare_label_bias(nodes) if rare else 0.0)
            self.biases[level] = self.add_weight((nodes,), bias, name=f"bias_{level}")
        for level in range(1, len(self.shape)):
            nodes = self.shape[level].nodes
            above = self.shape[level - 1].nodes
            parents = None if tree is None else tree.parents[level]
            self.parents[level] = self._add_table(f"parents_{level}", (nodes,), parents)
            if level in self.levels:
                children, ranks = (None, None) if tree is None else children_table(tree, level)
                shape = (above, self.shape[level].max_children)
                self.children[level] = self._add_table(f"children_{level}", shape, children)
                self.ranks[level] = self._add_table(f"ranks_{level}", (nodes,), ranks)
        if self._start_matched is not None:
            # No weight: no one needs it after training.
            self._matched = tf.Variable(self._start_matched, trainable=False, dtype=tf.int32)

    def _add_table(self, name, shape, values):
        """Returns the numbers that are kept with the weights; zeros until they are loaded."""
        if values is None:
            values = np.zeros(shape, np.int32)

        def start(shape, dtype=None):
            return tf.reshape(tf.constant(values), shape)

        return self.add_weight(shape, start, dtype="int32", trainable=False, name=name)

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the logits of level 0, or of the only level."""
        features = tf.cast(features, self.compute_dtype)
        return self.as_logits(self.logits_of_all(features, self.level or 0))

    @property
    def num_groups(self) -> int:
        """One per level."""
        return len(self.levels)

    @property
    def log_scores(self) -> bool:  # type: ignore[override]  # nobody sets it
        """Margins are not logarithms of probabilities."""
        return self.link != "hinge"

    @property
    def training_columns(self) -> int:
        """The nodes of level 0, and the candidates of each lower level."""
        return self._candidates + (self.shape[0].nodes if 0 in self.levels else 0)

    @property
    def _candidates(self):
        """Candidates of an example with one label, over all levels."""
        matched = self._start_matched
        matches = self.num_candidate_groups if matched is None else matched.shape[1]
        parents = self.negatives.count("tfn") + matches * ("man" in self.negatives)
        return sum(self.shape[level].max_children * parents for level in self.levels if level)

    @property
    def num_choices(self) -> int:
        """The labels, or the nodes of the only level."""
        return self.num_labels if self.level is None else self.shape[self.level].nodes

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """Returns one group per level."""
        return self.groups_of_passes([features], labels)[0]

    def groups_of_passes(
        self, passes: Sequence[tf.Tensor], labels: np.ndarray | tf.Tensor
    ) -> list[tuple[LogitGroup, ...]]:
        """Returns groups of all passes, which see the candidates of the first."""
        chosen: dict = {}
        levels = [self.training_levels(features, labels, chosen) for features in passes]
        return [tuple(group for group, _ in level) for level in levels]

    def training_levels(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor, chosen: dict | None = None
    ) -> list[tuple[LogitGroup, tf.Tensor]]:
        """Returns group and nodes of each level; ``chosen`` holds the parents an earlier pass
        chose.

        Returns:
            List of (``LogitGroup``, int64 (batch, columns) nodes of the columns, -1 where empty).
        """
        features = tf.cast(features, self.compute_dtype)
        chosen = {} if chosen is None else chosen
        paths = self._ancestors(labels)
        groups = []
        nodes = None
        scores = None
        for level in self.levels:
            positives, counts = distinct_with_counts(paths[level])
            if level == 0:
                logits = self.logits_of_all(features, 0)
                group = LogitGroup(logits, positives, counts=counts)
                every = tf.range(self.shape[0].nodes, dtype=positives.dtype)
                nodes = tf.broadcast_to(every, tf.shape(logits))
                scores = self.node_scores(logits)
            else:
                if level not in chosen:
                    chosen[level] = self._chosen_parents(level, paths[level - 1], nodes, scores)
                parents = chosen[level]
                above = (nodes, scores)
                group, nodes = self._candidate_group(features, level, parents, positives, counts)
                if self.joint or level + 1 in self.levels:
                    above = self._scores_above(level, parents, nodes, *above)
                    group, scores = self._below(group, above)
            groups.append((group, nodes))
        return groups

    def _ancestors(self, labels):
        """Returns the labels' nodes on each level, int64 (batch, max_labels), -1 for none."""
        nodes = seen_labels(labels, self.num_labels)
        paths = [nodes]
        for level in reversed(range(1, len(self.shape))):
            parents = tf.gather(self.parents[level].value, tf.maximum(nodes, 0))
            nodes = tf.where(nodes >= 0, tf.cast(parents, nodes.dtype), -1)
            paths.insert(0, nodes)
        return paths

    def _chosen_parents(self, level, true, nodes, scores):
        """Returns parents whose children are scored, int64 (batch, width), distinct."""
        parts = [true] if "tfn" in self.negatives else []
        if "man" in self.negatives and self.level is None:
            count = min(self.num_candidate_groups, self.shape[level - 1].nodes)
            # There may be fewer candidates than that.
            padding = [[0, 0], [0, tf.maximum(0, count - tf.shape(scores)[1])]]
            scores = tf.pad(scores, padding, constant_values=float("-inf"))
            scores, columns = tf.math.top_k(scores, count)
            parts.append(take(nodes, tf.where(scores > float("-inf"), columns, -1), -1))
        elif "man" in self.negatives:
            index = current_examples()
            if self._start_matched is None or index is None:
                raise ValueError("negatives 'man' need matched parents and example numbers")
            parts.append(tf.cast(tf.gather(self._matched, index), tf.int64))
        return union(*parts)

    def _candidate_group(self, features, level, parents, positives, counts):
        """Returns ``LogitGroup`` and nodes of the children of these parents, positives among
        them.
        """
        tables = self.children[level].value, self.ranks[level].value
        above = tf.gather(self.parents[level].value, tf.maximum(positives, 0))
        above = tf.cast(above, positives.dtype)
        candidates = children_candidates(parents, positives, above, *tables)
        # Empty slots borrow a row of the same example: no other row gets a gradient of zeros.
        rows = tf.maximum(tf.where(candidates.valid, candidates.nodes, candidates.nodes[:, :1]), 0)
        logits = self.logits_of(features, level, rows)
        valid = candidates.valid
        if self.link not in ("sigmoid", "hinge"):
            # An example without labels has no candidates, and a softmax over nothing no gradient.
            first = tf.range(tf.shape(valid)[1])[None] == 0
            valid |= first & ~tf.reduce_any(valid, axis=1, keepdims=True)
        return LogitGroup(logits, candidates.positives, valid, counts=counts), candidates.nodes

    def _scores_above(self, level, parents, candidates, nodes, scores):
        """Returns scores (batch, columns) of the candidates' parents, 0 where there is no
        candidate.

        Args:
            level: of the candidates.
            parents: int64 (batch, n), those whose children are the first candidates.
            candidates: int64 (batch, columns), the nodes.
            nodes, scores: (batch, columns above), all of the level above.
        """
        most = self.shape[level].max_children
        width = tf.shape(parents)[1]
        behind = candidates[:, width * most :]
        of_behind = tf.gather(self.parents[level].value, tf.maximum(behind, 0))
        of_behind = tf.cast(of_behind, behind.dtype)
        wanted = tf.concat([parents, tf.where(behind >= 0, of_behind, -1)], axis=1)
        places, known = find(wanted, nodes, wanted >= 0)
        above = tf.where(known, tf.gather(scores, places, batch_dims=1), 0.0)
        return tf.concat([tf.repeat(above[:, :width], most, axis=1), above[:, width:]], axis=1)

    def _below(self, group, above):
        """Returns the group with its final logits, and the scores by which the next level chooses.

        Args:
            group: ``LogitGroup`` of the candidates' own logits.
            above: float32 (batch, columns), scores of their parents.
        """
        if self.joint:
            group = group._replace(logits=tf.cast(group.logits, tf.float32) + above)
        logits = tf.where(group.valid, tf.cast(group.logits, tf.float32), float("-inf"))
        scores = self.node_scores(logits)
        if not self.joint:
            scores = tf.where(group.valid, scores + above, float("-inf"))
        return group, scores

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "tree_shape": [list(sizes) for sizes in self.shape]}
