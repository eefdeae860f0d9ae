"""Byte pair encoding in the graph."""

from collections.abc import Sequence
from types import ModuleType

import tensorflow as tf

# What Unicode calls white space.
_BLANK = r"\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
_MARK = r"\x{10ffff}"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+"
_WORDS += rf"| ?[^{_BLANK}\p{{L}}\p{{N}}{_MARK}]+|[{_BLANK}]+"
_LONGEST_WORD = 1024  # bytes; the rest is left out


class BytePairs(tf.Module):
    """Joins the bytes of each word, the pair of best rank first, until no pair is known.

    All different words of a batch are joined side by side.

    Args:
        pieces: list of pieces by id, their bytes written as ``byte_letters`` has them.
        merges: list of ``"left right"``, best first.
        text: the module ``tensorflow_text``.

    Reference: Radford et al. 2019, Language Models are Unsupervised Multitask Learners; Sennrich
    et al. 2016, arXiv 1508.07909.
    """

    def __init__(self, pieces: Sequence[str], merges: Sequence[str], text: ModuleType) -> None:
        super().__init__()
        self._regex_split = text.regex_split
        number = {piece: place for place, piece in enumerate(pieces)}
        self._of_byte = [number[letter] for letter in byte_letters()]
        self._size = len(pieces)
        self._num_merges = len(merges)
        pairs = [merge.split(" ") for merge in merges]
        self._joined = [number[left + right] for left, right in pairs]
        keys = [number[left] * self._size + number[right] for left, right in pairs]
        ranks = tf.lookup.KeyValueTensorInitializer(
            tf.constant(keys, tf.int64), tf.range(len(keys), dtype=tf.int64)
        )
        self._ranks = tf.lookup.StaticHashTable(ranks, default_value=len(keys))

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns ids, an int32 ``RaggedTensor`` (batch, pieces)."""
        # The last space of several belongs to the word after it.
        texts = tf.strings.regex_replace(texts, rf"{_MARK}|\x00", "")
        texts = tf.strings.regex_replace(
            texts, f"([{_BLANK}]+)([{_BLANK}][^{_BLANK}])", "\\1\U0010ffff\\2"
        )
        words = self._regex_split(texts, f"{_WORDS}|{_MARK}", _WORDS)
        different, places = tf.unique(words.flat_values)
        pieces = self._join(different)
        return words.with_flat_values(tf.gather(pieces, places)).merge_dims(1, 2)

    def _join(self, words: tf.Tensor) -> tf.RaggedTensor:
        words = tf.strings.substr(words, 0, _LONGEST_WORD)
        lengths = tf.strings.length(words)
        width = tf.maximum(tf.reduce_max(tf.concat([lengths, [0]], 0)), 2)
        bytes_ = tf.io.decode_raw(words, tf.uint8, fixed_length=width)
        inside = tf.range(width) < lengths[:, None]
        ids = tf.where(inside, tf.gather(self._of_byte, tf.cast(bytes_, tf.int32)), -1)
        _, ids = tf.while_loop(
            lambda more, _: more,
            self._join_once,
            (tf.size(words) > 0, ids),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
        )
        return tf.RaggedTensor.from_tensor(ids, tf.math.count_nonzero(ids >= 0, axis=1))

    def _join_once(self, _more: tf.Tensor, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        left = tf.cast(ids[:, :-1], tf.int64)
        right = tf.cast(ids[:, 1:], tf.int64)
        keys = tf.where(right >= 0, left * self._size + right, -1)
        ranks = self._ranks.lookup(keys)
        best = tf.reduce_min(ranks, axis=1)
        place = tf.argmin(ranks, axis=1, output_type=tf.int32)
        known = best < self._num_merges
        place = tf.where(known, place, tf.shape(ids)[1])[:, None]
        joined = tf.gather(self._joined, tf.minimum(best, self._num_merges - 1))[:, None]
        column = tf.range(tf.shape(ids)[1])
        moved = tf.concat([ids[:, 1:], tf.fill([tf.shape(ids)[0], 1], -1)], axis=1)
        ids = tf.where(column < place, ids, tf.where(column == place, joined, moved))
        return tf.reduce_any(known), ids


def byte_letters() -> list[str]:
    """Returns the letter that stands for each of the 256 bytes, in order.

    Example:
        >>> byte_letters()[32], byte_letters()[97]
        ('Ġ', 'a')
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
