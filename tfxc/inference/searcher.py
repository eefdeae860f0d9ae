"""Top-k labels of many examples with a trained model, and the loss over all labels."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.core.progress import Progress


class Found(NamedTuple):
    """What was found for a batch of examples, as arrays.

    Attributes:
        ids: int32 (batch, k).
        scores: float32 (batch, k).
        labels: int32 (batch, max_labels), the true ones.
        losses: float32 (batch,), see ``Head.top_k_and_loss``, or None.
    """

    ids: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    losses: np.ndarray | None


class Searcher:
    """Finds the best k labels, by the head's native search where it has one.

    A model with ``find_top_k`` is searched by it, without TensorFlow's graph. Where it finds fewer
    labels than k, the rest is id -1 with score minus infinity.

    Args:
        model: an ``XCModel``, or what else a recipe assembles.
        k: number of labels.
        method: one of the head's ``search_methods``; None takes the first.
        full_loss: whether ``over_rows`` gives losses too.
        probabilities: whether a call gives probabilities in place of scores: of the softmax over
            all labels, or of each label by itself, as the objective has it.

    Raises:
        ConfigError: the head has no such search, no softmax over all labels or no probabilities.

    Example:
        >>> ids, scores = Searcher(model, 5)(batch)  # doctest: +SKIP
    """

    def __init__(self, model, k, method=None, full_loss=False, probabilities=False):
        outside = hasattr(model, "find_top_k")
        searched = model if outside else model.head
        what = "model" if outside else f"head {type(model.head).__name__}"
        searched.check_k(k)
        if probabilities:
            check_probabilities(model)
        if full_loss and (outside or not model.head.full_softmax):
            raise ConfigError(
                f"the {what} has no softmax over all labels",
                where="evaluation.full_loss",
                fix="leave it out",
            )
        known = () if outside else model.head.search_methods
        if method is not None and method not in known:
            raise ConfigError(
                f"the {what} has no search {method!r}",
                where="--search",
                fix=f"choose one of: {', '.join(known)}" if known else "leave it out",
            )
        self.model, self.k, self._outside = model, k, outside
        self._native = bool(known)
        self._method = method or next(iter(known), None)
        self.full_loss, self._probabilities = full_loss, probabilities
        self._function = self._with_loss = None

    def __call__(self, batch):
        """NumPy (ids int32, scores float32), both (batch, k)."""
        if self._outside:
            features = tf.nest.map_structure(np.asarray, batch["features"])
            return self.model.find_top_k(features, self.k, self._probabilities)
        if self._function is None:
            self._function = self._make(tf.nest.map_structure(open_spec, batch["features"]))
        result = self._function(batch["features"])
        if self._native:
            return self.model.head.search_top_k(result.numpy(), self.k, self._method)
        return result[0].numpy(), result[1].numpy()

    def _make(self, specification):
        def scores(features):
            if self._native:
                return self.model.head.search_scores(self.model.encoder(features, training=False))
            return top_k_in_graph(self.model, features, self.k, self._probabilities)

        return tf.function(scores, input_signature=[specification])

    def find(self, batch):
        """``Found`` of a batch of arrays."""
        if self._outside:
            return Found(*self(batch), batch["labels"], None)
        features = tf.nest.map_structure(tf.constant, batch["features"])
        if not self.full_loss:
            return Found(*self({"features": features}), batch["labels"], None)
        if self._with_loss is None:
            signature = [
                tf.nest.map_structure(open_spec, features),
                tf.TensorSpec([None, None], tf.int32),
            ]
            self._with_loss = tf.function(self._top_k_and_loss, input_signature=signature)
        found = self._with_loss(features, tf.constant(batch["labels"], tf.int32))
        ids, scores, losses = (part.numpy() for part in found)
        return Found(ids, scores, batch["labels"], losses)

    def _top_k_and_loss(self, features, labels):
        vectors = self.model.encoder(features, training=False)
        ids, scores, losses = self.model.head.top_k_and_loss(vectors, labels, self.k)
        if self._probabilities:
            ids, scores = _as_probabilities(self.model, vectors, ids, scores)
        return ids, scores, losses

    def over_rows(self, rows, batch_size, title=None):
        """Yields ``Found`` of examples in order, with a progress line.

        Args:
            rows: a ``Source``, or an iterator of ``Rows`` (constant memory).
        """
        progress = Progress(title, getattr(rows, "num_examples", None), "examples")
        for batch in _batches(rows, batch_size):
            found = self.find(batch)
            yield found
            if title:
                progress.advance(len(found.ids))
        if title:
            progress.close()


def top_k_in_graph(model, features, k, probabilities=False):
    """The best labels as TensorFlow operations, without a head's native search.

    Args:
        model: see ``Searcher``.
        features: tensors of a batch.
        k: number of labels.
        probabilities: as of ``Searcher``; see ``check_probabilities``.

    Returns:
        ids int32 and scores (batch, k), best first.
    """
    if hasattr(model, "find_top_k"):
        return model.top_k(features, k, probabilities)
    vectors = model.encoder(features, training=False)
    ids, scores = model.head.top_k(vectors, k)
    return _as_probabilities(model, vectors, ids, scores) if probabilities else (ids, scores)


def _as_probabilities(model, vectors, ids, scores):
    if model.head.log_scores:
        return ids, tf.exp(scores)
    if model.objective.link == "sigmoid":
        return ids, tf.sigmoid(scores)
    # The loss of the best label tells the sum over all: log sum = loss + score.
    losses = model.head.top_k_and_loss(vectors, ids[:, :1], 1)[2]
    return ids, tf.exp(scores - scores[:, :1] - losses[:, None])


def check_probabilities(model):
    """Refuses a model without probabilities.

    Raises:
        ConfigError: the reason is named.
    """
    if has_probabilities(model):
        return
    if hasattr(model, "find_top_k"):
        what, why = "model", "its scores are not calibrated, or not with this post-processor"
    else:
        what = f"head {type(model.head).__name__}"
        hinge = model.objective.link == "hinge"
        why = "its scores are margins" if hinge else "it has no softmax over all labels"
    raise ConfigError(
        f"the {what} has no probabilities: {why}", where="--probabilities", fix="take its scores"
    )


def has_probabilities(model):
    """Whether a ``Searcher`` of a model can give probabilities."""
    if hasattr(model, "find_top_k"):
        return model.has_probabilities
    if model.objective.link == "hinge":  # margins
        return False
    return model.head.full_softmax or model.head.log_scores


def decides_each_label(model):
    """Whether a model's probabilities are of each label by itself, not of one among all."""
    return hasattr(model, "find_top_k") or model.objective.link == "sigmoid"


def _batches(rows, batch_size):
    """NumPy batches of a ``Source`` or of an iterator of ``Rows``."""
    if hasattr(rows, "sequential"):
        yield from rows.sequential(batch_size)
        return
    for block in rows:
        for start in range(0, len(block), batch_size):
            yield block.slice(start, min(start + batch_size, len(block))).batch()


def open_spec(array):
    """A signature that fits every batch: the first dimension is open.

    So is the second of texts, int32 (batch, length), which are as long as the longest of a batch.
    """
    texts = tf.as_dtype(array.dtype) == tf.int32 and len(array.shape) == 2
    return tf.TensorSpec([None, None] if texts else [None, *array.shape[1:]], array.dtype)


def evaluate_source(searcher, source, metrics, batch_size, title=None):
    """Updates ``metrics`` with every example of ``source`` and returns their results."""
    for found in searcher.over_rows(source, batch_size, title):
        metrics.update(*found)
    return metrics.result()
