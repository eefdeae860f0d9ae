"""Texts to the mean of their tokens' vectors, next to a bag of terms, as TensorFlow ops."""

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from tfxc.ops.text.bags import TextBag


class StaticBag(tf.Module):
    """Turns texts into the rows of text features ``static``.

    Args:
        tokens: function of texts -> int32 (batch, length), rows of the table.
        table: float32 (rows, dim), with zeros for padding and unknown tokens.
        weight: length of the vectors.
        terms: function of texts -> dict ``ids``, ``weights``, ``row_splits``; None for no terms.
        first: the first column of the vectors.
    """

    def __init__(
        self,
        tokens: tf.Module,
        table: np.ndarray,
        weight: float,
        terms: "TextBag | None",
        first: int,
    ) -> None:
        super().__init__()
        self._tokens = tokens
        self._table = tf.Variable(table, trainable=False, dtype=tf.float32)
        self._weight = weight
        self._terms = terms
        self._first = first

    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the rows of texts (batch,): dict ids int32, weights float32, row_splits int64."""
        sums = tf.reduce_sum(tf.gather(self._table, self._tokens(texts)), 1)
        norms = tf.norm(sums, axis=1, keepdims=True)
        vectors = tf.math.divide_no_nan(self._weight * sums, norms)
        places = tf.where(vectors != 0)
        rows = places[:, 0]
        ids = tf.cast(places[:, 1], tf.int32) + self._first
        ragged = tf.RaggedTensor.from_value_rowids
        count = tf.shape(texts, tf.int64)[0]
        all_ids = ragged(ids, rows, count)
        weights = ragged(tf.gather_nd(vectors, places), rows, count)
        if self._terms is not None:
            bag = self._terms(texts)
            splits = tf.RaggedTensor.from_row_splits
            all_ids = tf.concat([splits(bag["ids"], bag["row_splits"]), all_ids], 1)
            weights = tf.concat([splits(bag["weights"], bag["row_splits"]), weights], 1)
        return {
            "ids": all_ids.flat_values,
            "weights": weights.flat_values,
            "row_splits": all_ids.row_splits,
        }
