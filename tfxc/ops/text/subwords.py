"""Texts to the subword ids of a pretrained model, in the graph, by tensorflow-text.

Known differences to the models' own tokenisers: special tokens spelled in a text are cut as any
other word; characters younger than TensorFlow's Unicode tables may be classified as letters or
controls where they are none; NUL is left out. ALBERT and XLNet are as the original, slow tokeniser
has them, except digits in front of a comma, which it cuts once more.
"""

import functools
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfxc.core.errors import missing_package
from tfxc.ops.text.bags import lower
from tfxc.ops.text.subwords_bpe import BytePairs
from tfxc.ops.text.tokens import padded

_CHINESE = (
    r"\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{20000}-\x{2a6df}\x{2a700}-\x{2b73f}\x{2b740}-\x{2b81f}"
    r"\x{2b820}-\x{2ceaf}\x{f900}-\x{faff}\x{2f800}-\x{2fa1f}"
)
_PUNCTUATION = r"!-/:-@\[-`{-~\p{P}"
_LONGEST_WORD = 100  # characters; longer ones are unknown, as the models were trained


class SubwordIds(tf.Module):
    """Turns texts into padded ids, with the special ids of the model around each text.

    Ids are those of the model's own files, except padding: its id and 0 change places, so that 0
    is padding whatever the model.

    Args:
        settings: dict of ``tfxc.pretrained.tokenizer_files.Subwords``; with ``kept``, the ids that
            stay, these are renumbered and all others are unknown.
        pieces: list of the pieces by the files' ids.
        max_length: a text has at most this many ids, special ones included.
        model: bytes of a SentencePiece model, None for the other kinds.
        merges: list of ``"left right"``, the merges of byte pairs, best first.

    Raises:
        ConfigError: tensorflow-text is not installed.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        pieces: Sequence[str],
        max_length: int,
        model: bytes | None = None,
        merges: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self._settings = dict(settings)
        self._max_length = max_length
        self._cut: WordPieces | SentencePieces | BytePairs
        if settings["kind"] == "wordpiece":
            self._cut = WordPieces(settings, pieces)
        elif settings["kind"] == "sentencepiece":
            assert model is not None
            self._cut = SentencePieces(settings, model)
        else:
            assert merges is not None
            self._cut = BytePairs(pieces, merges, require_text())
        self._renumbered = None
        if "kept" in settings:
            self._renumbered = tf.constant(_renumbered(settings, len(pieces)), tf.int32)

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns ids of texts (batch,): int32 (batch, length), 0-padded to a multiple of 8."""
        ragged, _ = self.ragged(texts)
        return padded(ragged)

    def ragged(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Returns ids of texts (batch,), an int32 ``RaggedTensor``, and how many texts were cut."""
        settings = self._settings
        pieces = self._cut(tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8"))
        prefix = settings["prefix"]
        suffix = settings["suffix"]
        most = self._max_length - len(prefix) - len(suffix)
        num_truncated = tf.math.count_nonzero(pieces.row_lengths() > most)
        pieces = pieces[:, :most]
        padding = settings["padding"]
        unknown = settings["unknown"]
        pieces = pieces.with_flat_values(
            tf.where(pieces.flat_values == padding, unknown, pieces.flat_values)
        )
        count = tf.shape(texts)[0]
        around = [tf.tile(tf.constant([ids], tf.int32), [count, 1]) for ids in (prefix, suffix)]
        ids = tf.concat([around[0], pieces, around[1]], axis=1)
        flat = ids.flat_values
        flat = tf.where(flat == 0, padding, flat)
        if self._renumbered is not None:
            flat = tf.gather(self._renumbered, flat)
        return ids.with_flat_values(flat), num_truncated


class WordPieces(tf.Module):
    """Cuts words at white space and punctuation, then each into the longest pieces there are.

    Args:
        settings: ``lowercase``, ``strip_accents``, ``split_chinese``, ``unknown``.
        pieces: list of pieces by id.

    Reference: Devlin et al. 2019, arXiv 1810.04805; Song et al. 2021, arXiv 2012.15524.
    """

    def __init__(self, settings: Mapping[str, Any], pieces: Sequence[str]) -> None:
        super().__init__()
        self._settings = dict(settings)
        self._pieces = require_text().FastWordpieceTokenizer(
            vocab=pieces,
            unknown_token=pieces[settings["unknown"]],
            max_bytes_per_word=4 * _LONGEST_WORD,
            token_out_type=tf.int32,
            no_pretokenization=True,
        )

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns ids, an int32 ``RaggedTensor`` (batch, pieces)."""
        words = tf.strings.split(self._prepared(texts))
        long = tf.strings.length(words.flat_values, "UTF8_CHAR") > _LONGEST_WORD
        unknown = tf.constant("x" * (4 * _LONGEST_WORD + 1))
        words = words.with_flat_values(tf.where(long, unknown, words.flat_values))
        return self._pieces.tokenize(words).merge_dims(1, 2)

    def _prepared(self, texts: tf.Tensor) -> tf.Tensor:
        texts = tf.strings.regex_replace(texts, r"[\t\n\r\p{Z}]", " ")
        texts = tf.strings.regex_replace(texts, r"[\p{Cc}\p{Cf}\p{Co}\x{fffd}]", "")
        if self._settings["split_chinese"]:
            texts = tf.strings.regex_replace(texts, f"([{_CHINESE}])", r" \1 ")
        if self._settings["strip_accents"]:
            texts = require_text().normalize_utf8(texts, "NFD")
            texts = tf.strings.regex_replace(texts, r"\p{Mn}", "")
        if self._settings["lowercase"]:
            texts = _lower_each(texts)
        return tf.strings.regex_replace(texts, f"([{_PUNCTUATION}])", r" \1 ")


class SentencePieces(tf.Module):
    """Cuts texts by a SentencePiece model.

    Args:
        settings: ``lowercase``, ``strip_accents``, ``plain_quotes``; ``offset``, added to each of
            the model's ids, of which ``model_unknown`` becomes ``unknown``.
        model: bytes of the model.

    Reference: Kudo and Richardson 2018, arXiv 1808.06226.
    """

    def __init__(self, settings: Mapping[str, Any], model: bytes) -> None:
        super().__init__()
        self._settings = dict(settings)
        self._pieces = require_text().SentencepieceTokenizer(model=model, out_type=tf.int32)

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns ids, an int32 ``RaggedTensor`` (batch, pieces)."""
        settings = self._settings
        if settings["plain_quotes"]:
            texts = tf.strings.regex_replace(texts, "``|''", '"')
        if settings["strip_accents"]:
            texts = require_text().normalize_utf8(texts, "NFKD")
            texts = tf.strings.regex_replace(texts, f"[{_accents()}]", "")
        if settings["lowercase"]:
            texts = _lower_each(tf.strings.regex_replace(texts, "\0", ""))
        pieces = self._pieces.tokenize(texts)
        ids = pieces.flat_values
        moved = tf.where(
            ids == settings["model_unknown"], settings["unknown"], ids + settings["offset"]
        )
        return pieces.with_flat_values(moved)


def _renumbered(settings: Mapping[str, Any], size: int) -> np.ndarray:
    """Returns the new id of each id of the whole vocabulary."""
    swapped = {0: settings["padding"], settings["padding"]: 0}
    unknown = swapped.get(settings["unknown"], settings["unknown"])
    numbers = np.full(size, settings["kept"].index(unknown))
    numbers[settings["kept"]] = np.arange(len(settings["kept"]))
    return numbers


def _lower_each(texts: tf.Tensor) -> tf.Tensor:
    """Lowers the case letter by letter: sigma at the end of a word is as any other."""
    return lower(tf.strings.regex_replace(texts, "\u03a3", "\u03c3"))


@functools.cache
def _accents() -> str:
    """Characters that combine with the one before, as an RE2 character class."""
    points = (c for c in range(sys.maxunicode + 1) if unicodedata.combining(chr(c)))
    return "".join(f"\\x{{{point:x}}}" for point in points)


def require_text() -> Any:
    """Returns the module ``tensorflow_text``.

    Raises:
        ConfigError: it is not installed.
    """
    with missing_package("hub", where="data.text_features"):
        import tensorflow_text
    return tensorflow_text
