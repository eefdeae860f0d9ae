"""Texts to token ids in the graph: what ``tfxc.data.text.tokens`` does, as TensorFlow ops."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.ops.text.bags import lower, words
from tfxc.ops.text.token_patterns import BLANK, WORDS, character_class


class TextTokens(tf.Module):
    """Turns texts into the padded token ids of fitted token features.

    Args:
        name: ``"characters"`` or ``"words"``.
        settings: the token features' settings.
        vocabulary_file: one token per line, by id.
        size: number of lines; the last is that of unknown tokens.

    Raises:
        ConfigError: the graph cannot cut texts that way: Chinese segmentation.

    Example:
        >>> import tempfile
        >>> file = tempfile.NamedTemporaryFile("w", suffix=".txt")
        >>> _ = file.write("[PAD]\\na\\nb\\n[UNK]\\n"), file.flush()
        >>> settings = {"lowercase": True, "letters_only": False, "raw": False, "fill": False,
        ...             "max_length": 8}
        >>> tokens = TextTokens("characters", settings, file.name, 4)
        >>> tokens(tf.constant(["Abc"])).numpy().tolist()
        [[1, 2, 3, 0, 0, 0, 0, 0]]
    """

    def __init__(
        self, name: str, settings: Mapping[str, Any], vocabulary_file: str | Path, size: int
    ) -> None:
        super().__init__()
        self._cut = {"characters": self._characters, "words": self._words}[name]
        self._settings = dict(settings)
        if name == "words":
            if settings["segmenter"] is not None:
                raise ConfigError(
                    f"the segmenter {settings['segmenter']!r} does not work in a served model",
                    where="data.text_features.segmenter",
                    fix="predict from the run with tfxc predict, or train on characters",
                )
            left_out = tf.constant(settings["stop_words"] or [""])
            pairs = tf.lookup.KeyValueTensorInitializer(left_out, tf.ones_like(left_out, tf.int32))
            self._stop_words = tf.lookup.StaticHashTable(pairs, 0)
        lines = tf.lookup.TextFileInitializer(
            str(vocabulary_file),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self._size = size
        self._fill = size - 2 if settings.get("fill") else 0
        self._vocabulary = tf.lookup.StaticHashTable(lines, default_value=size - 1)

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns ids of texts (batch,): int32 (batch, length), 0-padded to a multiple of 8."""
        ragged = self.ids_of(self.tokens_of(texts))
        if self._fill:
            shape = tf.stack([tf.shape(texts)[0], self._settings["max_length"]])
            filled = ragged.to_tensor(self._fill, shape=shape)
            return tf.pad(filled, [[0, 0], [0, -self._settings["max_length"] % 8]])
        return padded(ragged)

    def tokens_of(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the tokens of texts (batch,), cut off: a string ``RaggedTensor``."""
        tokens = self._cut(tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8"))
        return tokens[:, : self._settings["max_length"]]

    def ids_of(self, tokens: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns ids of tokens, an int32 ``RaggedTensor``."""
        ids = tf.cast(self._vocabulary.lookup(tokens.flat_values), tf.int32)
        # A text may spell a name that stands for no token.
        ids = tf.where((ids == 0) | (ids == self._fill), self._size - 1, ids)
        return tokens.with_flat_values(ids)

    def _characters(self, texts: tf.Tensor) -> tf.RaggedTensor:
        texts = tf.strings.regex_replace(texts, "\0", " ")
        if self._settings["lowercase"]:
            texts = lower(texts)
        if self._settings["raw"]:
            return tf.strings.unicode_split(texts, "UTF-8")
        if self._settings["letters_only"]:
            letters = words(tf.strings.regex_replace(texts, "_", " "), WORDS, lowercase=False)
            return tf.strings.unicode_split(
                tf.strings.reduce_join(letters, axis=1, separator=" "), "UTF-8"
            )
        texts = tf.strings.regex_replace(texts, f"[{character_class(BLANK)}]+", " ")
        texts = tf.strings.regex_replace(texts, "^ | $", "")
        return tf.strings.unicode_split(texts, "UTF-8")

    def _words(self, texts: tf.Tensor) -> tf.RaggedTensor:
        settings = self._settings
        tokens = words(texts, settings["token_pattern"], settings["lowercase"])
        counts = self._stop_words.lookup(tokens.flat_values) == 0
        return tf.ragged.boolean_mask(tokens, tokens.with_flat_values(counts))


def padded(ids: tf.RaggedTensor) -> tf.Tensor:
    """Returns lists of ids as a batch has them: int32, padded with 0 to a multiple of 8.

    Example:
        >>> padded(tf.ragged.constant([[3], []])).shape
        TensorShape([2, 8])
    """
    longest = tf.cast(ids.bounding_shape(axis=1), tf.int32)
    width = tf.maximum(1, -(-longest // 8)) * 8
    return ids.to_tensor(0, shape=tf.stack([tf.cast(ids.nrows(), tf.int32), width]))
