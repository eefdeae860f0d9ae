"""Features of many texts, of which a step takes some rows in the graph."""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.data.kinds import SPARSE, TOKENS
from tfxc.data.label_texts.prepared import shortened

if TYPE_CHECKING:
    from tfxc.data.rows import Rows

_TOKENS = 8  # lists of tokens are padded to a multiple of it, as in batches of examples


class TextTable:
    """The features of texts by their numbers, as constants that a graph refers to.

    Args:
        rows: ``Rows`` of sparse features, of tokens, or of both.
        length: tokens of a text that are kept; None for all.

    Example:
        >>> import numpy as np, scipy.sparse
        >>> from tfxc.data.rows import Rows
        >>> table = TextTable(Rows.from_csr(scipy.sparse.csr_matrix(np.eye(3)), [[]] * 3))
        >>> table(tf.constant([2, 0]))["ids"].numpy().tolist()
        [2, 0]
    """

    def __init__(self, rows: "Rows", length: int | None = None) -> None:
        rows, self.kind = shortened(rows, length), rows.kind
        self._lists: list[tuple[str, tf.Tensor, dict[str, tf.Tensor]]] = []
        with tf.init_scope(), tf.device("CPU"):
            if self.kind.holds(SPARSE):
                lists = {"ids": rows.indices, "weights": rows.values}
                self._add("row_splits", rows.indptr, lists)
            if self.kind.holds(TOKENS):
                bounds = rows.indptr if self.kind is TOKENS else rows.token_indptr
                self._add("tokens", bounds, {"tokens": rows.tokens})
        assert self._lists, "texts are bags or tokens"

    def _add(self, name, bounds, lists):
        constants = {key: tf.constant(values) for key, values in lists.items()}
        self._lists.append((name, tf.constant(bounds, tf.int64), constants))

    def __call__(self, numbers: tf.Tensor) -> Any:
        """The features of a batch of these texts.

        Args:
            numbers: int (n,).
        """
        found: dict[str, tf.Tensor] = {}
        for name, bounds, lists in self._lists:
            starts = tf.gather(bounds, numbers)
            lengths = tf.gather(bounds, numbers + 1) - starts
            splits = tf.concat([tf.zeros([1], tf.int64), tf.cumsum(lengths)], axis=0)
            places = tf.repeat(starts - splits[:-1], lengths) + tf.range(splits[-1])
            values = {key: tf.gather(constant, places) for key, constant in lists.items()}
            if name == "tokens":
                values = {"tokens": _padded(values["tokens"], splits, lengths)}
                found |= values
            else:
                found |= {**values, name: splits}
        return self.kind.pack(found)


def _padded(tokens, splits, lengths):
    """An int32 matrix padded with 0, of a length that is a multiple of 8."""
    found = tf.RaggedTensor.from_row_splits(tokens, splits, validate=False).to_tensor(0)
    longest = tf.cast(tf.maximum(tf.reduce_max(lengths), 1), tf.int32)
    width = (longest + _TOKENS - 1) // _TOKENS * _TOKENS
    return tf.pad(tf.cast(found, tf.int32), [[0, 0], [0, width - tf.shape(found)[1]]])
