"""Texts to words and hashed n-grams in the graph: what ``tfxc.data.text.ngrams`` does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfxc.ops.text.tokens import TextTokens, padded

_OFFSET = 2166136261
_PRIME = 16777619
_WORD_FACTOR = 116049371


class TextNgrams(tf.Module):
    """Turns texts into the padded ids of fitted ``FastTextTokens``.

    Args:
        settings: their settings.
        vocabulary_file: a word a line, by id.
        size: number of lines; the ids of n-grams come after.

    Raises:
        ConfigError: as ``TextTokens``.

    Example:
        >>> import tempfile
        >>> file = tempfile.NamedTemporaryFile("w", suffix=".txt")
        >>> _ = file.write("[PAD]\\nfox\\nred\\n[UNK]\\n"), file.flush()
        >>> settings = {"lowercase": True, "token_pattern": r"\\w+", "stop_words": [],
        ...             "segmenter": None, "max_length": 9, "word_ngrams": 2, "min_chars": 0,
        ...             "max_chars": 0, "buckets": 100}
        >>> TextNgrams(settings, file.name, 4)(tf.constant(["red hen"])).numpy().tolist()
        [[2, 24, 0, 0, 0, 0, 0, 0]]
    """

    def __init__(self, settings: Mapping[str, Any], vocabulary_file: str | Path, size: int) -> None:
        super().__init__()
        self._settings = dict(settings)
        self._size = size
        self._words = TextTokens("words", settings, vocabulary_file, size)

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns ids of texts (batch,): int32 (batch, length), 0-padded to a multiple of 8."""
        words = self._words.tokens_of(texts)
        ids = self._words.ids_of(words)
        parts = [tf.ragged.boolean_mask(ids, ids != self._size - 1)]
        if self._settings["max_chars"]:
            parts.append(self._subwords(words))
        if self._settings["word_ngrams"] > 1:
            # The n-grams of each length.
            signed = tf.cast(tf.bitcast(fnv1a(words.flat_values), tf.int32), tf.int64)
            state = signed = tf.bitcast(signed, tf.uint64)
            rows = words.value_rowids()
            ends = tf.gather(words.row_splits, rows + 1)
            places = tf.range(tf.size(signed, tf.int64))
            for length in range(1, self._settings["word_ngrams"]):
                behind = tf.concat([signed[length:], tf.zeros_like(signed[:length])], axis=0)
                state = state * tf.constant(_WORD_FACTOR, tf.uint64) + behind
                inside = places + length < ends
                values = self._bucket(tf.boolean_mask(state, inside))
                rows_inside = tf.boolean_mask(rows, inside)
                parts.append(tf.RaggedTensor.from_value_rowids(values, rows_inside, words.nrows()))
        return padded(tf.concat(parts, axis=1))

    def _subwords(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        different, places = tf.unique(words.flat_values)
        lengths = range(self._settings["min_chars"], self._settings["max_chars"] + 1)
        parts = [tf.strings.unicode_split(different, "UTF-8")] if 1 in lengths else []
        longer = tuple(length for length in lengths if length > 1)
        if longer:
            whole = tf.strings.unicode_split(tf.strings.join(["<", different, ">"]), "UTF-8")
            parts.append(tf.strings.ngrams(whole, longer, separator=""))
        ngrams = tf.concat(parts, axis=1)
        ids = ngrams.with_flat_values(self._bucket(fnv1a(ngrams.flat_values)))
        return tf.gather(ids, words.with_flat_values(places)).merge_dims(1, 2)

    def _bucket(self, hashes: tf.Tensor) -> tf.Tensor:
        buckets = tf.constant(self._settings["buckets"], hashes.dtype)
        return self._size + tf.cast(tf.math.floormod(hashes, buckets), tf.int32)


def fnv1a(texts: tf.Tensor) -> tf.Tensor:
    """Returns fastText's 32-bit FNV-1a hash of the bytes of each text, see
    ``tfxc.data.text.ngrams.fnv1a``.

    Args:
        texts: string (n,).

    Returns:
        uint32 (n,).

    Example:
        >>> fnv1a(tf.constant(["a", "é"])).numpy().tolist()
        [3826002220, 1023043777]
    """
    lengths = tf.strings.length(texts)
    width = tf.reduce_max(tf.concat([lengths, [1]], 0))
    signed = tf.io.decode_raw(texts, tf.int8, fixed_length=width)
    numbers = tf.bitcast(tf.cast(signed, tf.int32), tf.uint32)

    def mix(place: tf.Tensor, hashes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mixed = tf.bitwise.bitwise_xor(hashes, numbers[:, place]) * tf.constant(_PRIME, tf.uint32)
        return place + 1, tf.where(place < lengths, mixed, hashes)

    start = tf.fill(tf.shape(texts), tf.constant(_OFFSET, tf.uint32))
    return tf.while_loop(lambda place, _: place < width, mix, (0, start))[1]
