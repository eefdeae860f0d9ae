"""Beam search through a tree of clusters, in the graph."""

import tensorflow as tf

from tfxc.heads.base import Head
from tfxc.heads.bases.digits import log_probabilities
from tfxc.ops.search.k_best import top_k_lowest_id
from tfxc.ops.search.tiled_softmax import log_sum_and_top_k
from tfxc.ops.search.top_k import read_once, rows_between, tiled_top_k

_TILE = 131_072  # labels scored at a time in an exhaustive top_k


class TreeSearch(Head):
    """Base of the head over a tree: what one needs to find labels.

    Attributes:
        shape: ``LevelShape`` of each level.
        kernels, biases: {level: weight} (nodes, dim) and (nodes,).
        parents: {level: int32 weight (nodes,)} for levels from 1 on.
        children: {level: int32 weight (nodes above, most children)}, -1 where there are fewer.
        level: the only level, or None for all.
        link, beam, negatives: see ``Tree``.
    """

    @property
    def joint(self) -> bool:
        """Whether the children of several nodes share a softmax."""
        return self.link == "softmax" and "man" in self.negatives and self.level is None

    def node_scores(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns float32 scores of nodes of one family, (..., nodes), by their logits."""
        return log_probabilities(logits, self.link or "sigmoid")

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the best k labels, or nodes of the only level; exact if the beam holds all nodes
        above.
        """
        self.check_k(k)
        if not self.built:
            self.build(features.shape)
        features = tf.cast(features, tf.float32)
        first = self.level or 0
        logits = self.logits_of_all(features, first)
        last = self.level is not None or len(self.shape) == 1
        scores = logits if last and self.link == "hinge" else self.node_scores(logits)
        if last:
            scores, nodes = tf.math.top_k(scores, k)
            return nodes, scores
        nodes = None
        for level, width in enumerate(self._widths(k), start=1):
            if nodes is not None or width < self.shape[level - 1].nodes:
                scores, nodes = self._children_of_best(features, level, scores, nodes, width)
            elif level == len(self.shape) - 1:
                return self._best_of_all(features, level, scores, k)
            else:
                scores = self._tiles(features, level, scores)(0, self.shape[level].nodes)
        ids, best = top_k_lowest_id(scores, tf.where(nodes >= 0, nodes, tf.int32.max), k)
        return ids, best - tf.reduce_logsumexp(scores, 1, True) if self.joint else best

    def logits_of_all(self, features: tf.Tensor, level: int) -> tf.Tensor:
        """Returns the logits of all nodes of a level, (batch, nodes)."""
        kernel = self.kernels[level].value
        bias = self.biases[level].value
        kernel, bias = (tf.cast(weight, features.dtype) for weight in (kernel, bias))
        return tf.matmul(features, kernel, transpose_b=True) + bias

    def logits_of(self, features: tf.Tensor, level: int, nodes: tf.Tensor) -> tf.Tensor:
        """Returns the logits of chosen nodes (batch, n), none of them -1."""
        kernel = self.kernels[level].value
        bias = self.biases[level].value
        vectors = tf.cast(tf.gather(kernel, nodes), features.dtype)
        return tf.linalg.matvec(vectors, features) + tf.cast(tf.gather(bias, nodes), features.dtype)

    def _widths(self, k):
        """Returns how many nodes are kept from each level to the next, so many that k labels are
        found.
        """
        widths = []
        needed = k
        for level in reversed(range(1, len(self.shape))):
            above = self.shape[level - 1].nodes
            needed = min(-(-needed // self.shape[level].min_children), above)
            widths.append(above if self.beam is None else min(max(self.beam, needed), above))
        return widths[::-1]

    def _children_of_best(self, features, level, scores, nodes, width):
        """Returns scores and nodes (batch, width * most) of the children of the best nodes."""
        above, columns = tf.math.top_k(scores, min(width, scores.shape[1]))
        parents = columns if nodes is None else tf.gather(nodes, columns, batch_dims=1)
        table = self.children[level].value

        def family(parent):
            """Returns the logits of one node's children per example: all at once need beam times
            the memory.
            """
            rows = tf.maximum(tf.gather(table, tf.maximum(parent, 0)), 0)
            return self.logits_of(features, level, rows)

        one = tf.TensorSpec([features.shape[0], table.shape[1]], tf.float32)
        logits = tf.map_fn(
            family, tf.transpose(parents), fn_output_signature=one, parallel_iterations=1
        )
        logits = tf.transpose(logits, [1, 0, 2])
        nodes = tf.where(parents[:, :, None] >= 0, tf.gather(table, tf.maximum(parents, 0)), -1)
        scores = self.with_parents(level, tf.where(nodes >= 0, logits, float("-inf")), above)
        slots = parents.shape[1] * table.shape[1]
        return tf.reshape(scores, [-1, slots]), tf.reshape(nodes, [-1, slots])

    def with_parents(self, level: int, logits: tf.Tensor, above: tf.Tensor) -> tf.Tensor:
        """Returns scores (batch, parents, most) of children by their logits and their parents'
        scores.
        """
        exists = (above[:, :, None] > float("-inf")) & (logits > float("-inf"))
        if self.link == "hinge" and level == len(self.shape) - 1:
            scores = logits
        else:
            scores = (logits if self.joint else self.node_scores(logits)) + above[:, :, None]
        # A node without children has no log-softmax.
        return tf.where(exists, scores, float("-inf"))

    def _best_of_all(self, features, level, above, k):
        """Returns the best k nodes of the last level."""
        score = self._tiles(features, level, above)
        nodes = self.shape[level].nodes
        if not self.joint:
            return tiled_top_k(score, nodes, k, _TILE)
        ids, scores, log_sum = log_sum_and_top_k(score, nodes, tf.shape(features)[0], k, _TILE)
        return ids, scores - log_sum[:, None]

    def _tiles(self, features, level, above):
        """Returns a function (begin, end) -> scores (batch, end - begin) of consecutive nodes."""
        normalisers = None
        if self.link == "softmax" and not self.joint:
            # Logarithm of the sum over each node's children, (batch, nodes above).
            table = self.children[level].value
            every = tf.gather(self.logits_of_all(features, level), tf.maximum(table, 0), axis=1)
            every = tf.where(table >= 0, every, float("-inf"))
            normalisers = tf.reduce_logsumexp(every, axis=2)
        kernel, bias, parents = (
            read_once(weights[level].value) for weights in (self.kernels, self.biases, self.parents)
        )

        def score(begin, end):
            rows = rows_between(kernel, begin, end)
            logits = tf.matmul(features, rows, transpose_b=True) + bias[begin:end]
            if self.link == "hinge" and level == len(self.shape) - 1:
                return logits
            own = parents[begin:end]
            if normalisers is not None:
                return logits - tf.gather(normalisers, own, axis=1) + tf.gather(above, own, axis=1)
            scores = logits if self.joint else self.node_scores(logits)
            return scores + tf.gather(above, own, axis=1)

        return score
