"""Top-k labels of many examples with a trained model."""

import tensorflow as tf

from tfxc.errors import ConfigError
from tfxc.progress import Progress


class Searcher:
    """Finds the best k labels, by the head's native search where it has one.

    Args:
        model: an ``XCModel``.
        k: number of labels.
        method: one of the head's ``search_methods``; None takes the first.

    Raises:
        ConfigError: the head has no such search.

    Example:
        >>> ids, scores = Searcher(model, 5)(batch)  # doctest: +SKIP
    """

    def __init__(self, model, k, method=None):
        model.head.check_k(k)
        known = model.head.search_methods
        if method is not None and method not in known:
            raise ConfigError(
                f"the head {type(model.head).__name__} has no search {method!r}",
                where="--search",
                fix=f"choose one of: {', '.join(known)}" if known else "leave it out",
            )
        self.model, self.k = model, k
        self._native = bool(known)
        self._method = method or next(iter(known), None)
        self._function = None

    def __call__(self, batch):
        """NumPy (ids int32, scores float32), both (batch, k)."""
        if self._function is None:
            self._function = self._make(tf.nest.map_structure(_open_spec, batch["features"]))
        result = self._function(batch["features"])
        if self._native:
            return self.model.head.search_top_k(result.numpy(), self.k, self._method)
        return result[0].numpy(), result[1].numpy()

    def _make(self, specification):
        def scores(features):
            vectors = self.model.encoder(features, training=False)
            if self._native:
                return self.model.head.search_scores(vectors)
            return self.model.head.top_k(vectors, self.k)

        return tf.function(scores, input_signature=[specification])

    def over_rows(self, rows, batch_size, title=None):
        """Yields NumPy (ids, scores, labels) of examples in order, with a progress line.

        Args:
            rows: a ``Source``, or an iterator of ``Rows`` (constant memory).
        """
        progress = Progress(title, getattr(rows, "num_examples", None), "examples")
        for batch in _batches(rows, batch_size):
            ids, scores = self({"features": tf.nest.map_structure(tf.constant, batch["features"])})
            yield ids, scores, batch["labels"]
            if title:
                progress.advance(len(ids))
        if title:
            progress.close()


def _batches(rows, batch_size):
    """NumPy batches of a ``Source`` or of an iterator of ``Rows``."""
    if hasattr(rows, "sequential"):
        yield from rows.sequential(batch_size)
        return
    for block in rows:
        for start in range(0, len(block), batch_size):
            yield block.slice(start, min(start + batch_size, len(block))).batch()


def _open_spec(tensor):
    """A signature that fits every batch: the first dimension is open."""
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def evaluate_source(searcher, source, metrics, batch_size, title=None):
    """Updates ``metrics`` with every example of ``source`` and returns their results."""
    for ids, scores, labels in searcher.over_rows(source, batch_size, title):
        metrics.update(ids, scores, labels)
    return metrics.result()
