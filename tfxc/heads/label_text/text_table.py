"""Features of many texts, of which a step takes some rows in the graph."""

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.data.examples.kinds import SPARSE, TOKENS
from tfxc.data.label_texts.prepared import shortened

if TYPE_CHECKING:
    from tfxc.data.examples.rows import Rows

_TOKENS = 8  # lists of tokens are padded to a multiple of it, as in batches of examples


class TextTable:
    """The features of texts by their numbers, as constants that a graph refers to.

    Args:
        rows: ``Rows`` of sparse features, of tokens, or of both.
        length: tokens of a text that are kept; None for all.

    Example:
        >>> import numpy as np, scipy.sparse
        >>> from tfxc.data.examples.rows import Rows
        >>> table = TextTable(Rows.from_csr(scipy.sparse.csr_matrix(np.eye(3)), [[]] * 3))
        >>> table(tf.constant([2, 0]))["ids"].numpy().tolist()
        [2, 0]
    """

    def __init__(self, rows: "Rows", length: int | None = None) -> None:
        self.kind = rows.kind
        rows = shortened(rows, length)
        self._bag: tuple[tf.Tensor, ...] | None = None
        self._tokens: tuple[tf.Tensor, tf.Tensor] | None = None
        with tf.init_scope(), tf.device("CPU"):
            if self.kind.holds(SPARSE):
                bag = rows.indptr, rows.indices, rows.values
                self._bag = tuple(map(tf.constant, bag))
            if self.kind.holds(TOKENS):
                bounds = rows.indptr if self.kind is TOKENS else rows.token_indptr
                longest = int(np.diff(bounds).max(initial=1))
                self._width = -(-max(longest, 1) // _TOKENS) * _TOKENS
                # One more, so that there is something to gather where no text has a token.
                tokens = np.append(rows.tokens, np.int32(0))
                self._tokens = tf.constant(bounds), tf.constant(tokens)
        assert self._bag or self._tokens, "texts are bags or tokens"

    def __call__(self, numbers: tf.Tensor) -> Any:
        """Returns the features of a batch of these texts.

        Args:
            numbers: int (n,).
        """
        columns: dict[str, tf.Tensor] = {}
        if self._bag is not None:
            bounds, ids, weights = self._bag
            starts, lengths = _lists(bounds, numbers)
            splits = tf.concat([tf.zeros([1], tf.int64), tf.cumsum(lengths)], axis=0)
            places = tf.repeat(starts - splits[:-1], lengths) + tf.range(splits[-1])
            columns = {"ids": tf.gather(ids, places), "weights": tf.gather(weights, places)}
            columns["row_splits"] = splits
        if self._tokens is not None:
            columns["tokens"] = self._padded(*self._tokens, numbers)
        return self.kind.pack(columns)

    def _padded(self, bounds, tokens, numbers):
        """Returns an int32 matrix padded with 0, of a length that is a multiple of 8."""
        starts, lengths = _lists(bounds, numbers)
        places = tf.range(self._width, dtype=tf.int64)[None, :]
        exists = places < lengths[:, None]
        padded = tf.gather(tokens, tf.where(exists, starts[:, None] + places, 0))
        longest = tf.maximum(tf.reduce_max(lengths), 1)
        width = (longest + _TOKENS - 1) // _TOKENS * _TOKENS
        return tf.where(exists, padded, 0)[:, :width]


def _lists(bounds, numbers):
    """Returns where lists begin, and how long they are."""
    starts = tf.gather(bounds, numbers)
    return starts, tf.gather(bounds, numbers + 1) - starts
