"""Texts to sparse rows in the graph: what scikit-learn's text vectorisers do, as TensorFlow ops.

A served model takes raw strings with nothing but TensorFlow around it. Core ops only, so a server
needs no other op library.

Known difference to Python: capital letters that Unicode 14 and later brought (Vithkuqi, and single
Latin and Glagolitic ones) are not lower-cased, as TensorFlow's own Unicode tables are older.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfxc.ops.text.token_patterns import (
    BLANK,
    MARK,
    character_class,
    marked,
    separators,
    shortest_run,
)

# Letters whose lower case depends on the server's locale in TensorFlow (Turkish, Lithuanian).
_BY_LOCALE = "IJİĮÌÍĨ"


def lower(texts: tf.Tensor) -> tf.Tensor:
    """Lowers the case as ``str.lower`` does, whatever the server's locale.

    Args:
        texts: string tensor; NUL characters must be replaced before.
    """
    for capital in _BY_LOCALE:
        texts = tf.strings.regex_replace(texts, capital, capital.lower())
    return tf.strings.lower(texts, encoding="utf-8")


def words(texts: tf.Tensor, token_pattern: str, lowercase: bool = True) -> tf.RaggedTensor:
    """Returns the words of each text, in order.

    Args:
        texts: string (batch,); bytes that are not UTF-8 count as U+FFFD.
        token_pattern: see ``ops.text.token_patterns``.
        lowercase: whether to lower the case first.

    Returns:
        string ``RaggedTensor`` (batch, words).

    Example:
        >>> words(tf.constant(["A Red fox!"]), r"\\b\\w\\w+\\b").to_list()
        [[b'red', b'fox']]
    """
    least = shortest_run(token_pattern)
    texts = _readable(texts, lowercase)
    if least is None:
        parts = tf.strings.split(marked(texts, token_pattern), MARK)[:, 1::2]
        return tf.ragged.boolean_mask(parts, tf.strings.length(parts) > 0)
    parts = tf.strings.split(tf.strings.regex_replace(texts, separators(), " "), " ")
    return tf.ragged.boolean_mask(parts, tf.strings.length(parts, "UTF8_CHAR") >= least)


def _readable(texts: tf.Tensor, lowercase: bool) -> tf.Tensor:
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8")
    texts = tf.strings.regex_replace(texts, "\0", " ")  # tf.strings.lower would end the text there
    return lower(texts) if lowercase else texts


def words_between_blanks(texts: tf.Tensor, most: int | None = None) -> tf.RaggedTensor:
    """Returns the words of each text as PECOS cuts it, see ``tfxc.data.text.pecos``.

    Args:
        texts: string (batch,); bytes that are not UTF-8 count as U+FFFD.
        most: words beyond that many are cut off; None = none.

    Returns:
        string ``RaggedTensor`` (batch, words).

    Example:
        >>> words_between_blanks(tf.constant(["A  hen, two"]), most=2).to_list()
        [[b'A', b'hen,']]
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8")
    parts = tf.strings.split(tf.strings.regex_replace(texts, "[\r\n]", " "), " ")
    return tf.ragged.boolean_mask(parts, tf.strings.length(parts) > 0)[:, :most]


def characters(texts: tf.Tensor, most: int | None = None) -> tf.RaggedTensor:
    """Returns the characters of each text, a line break counted as a space.

    Args:
        texts: string (batch,); bytes that are not UTF-8 count as U+FFFD.
        most: characters beyond that many are cut off; None = none.

    Returns:
        string ``RaggedTensor`` (batch, characters).

    Example:
        >>> characters(tf.constant(["a b"])).to_list()
        [[b'a', b' ', b'b']]
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8")
    texts = tf.strings.regex_replace(texts, "[\r\n]", " ")
    return tf.strings.unicode_split(texts, "UTF-8")[:, :most]


def character_ngrams(
    texts: tf.Tensor, lengths: Sequence[int], lowercase: bool = True
) -> tf.RaggedTensor:
    """Returns the n-grams of the characters of what is between blanks, see ``WordTerms``.

    Args:
        texts: string (batch,); bytes that are not UTF-8 count as U+FFFD.
        lengths: smallest and largest n.
        lowercase: whether to lower the case first.

    Returns:
        string ``RaggedTensor`` (batch, n-grams), without the space that precedes terms.

    Example:
        >>> character_ngrams(tf.constant(["A Hen"]), (4, 4)).to_list()
        [[b' a ', b' hen', b'hen ']]
    """
    blanks = f"[{character_class(BLANK)}{MARK}]+"
    texts = tf.strings.regex_replace(_readable(texts, lowercase), blanks, " ")
    parts = tf.strings.split(texts)
    padded = parts.with_flat_values(tf.strings.join([" ", parts.flat_values, " "]))
    grams = tf.strings.ngrams(
        tf.strings.unicode_split(padded, "UTF-8"),
        tuple(range(lengths[0], lengths[1] + 1)),
        separator="",
        preserve_short_sequences=True,
    )
    return grams.merge_dims(1, 2)


def terms(texts: tf.Tensor, settings: Mapping[str, Any]) -> tf.RaggedTensor:
    """Returns the n-grams of each text: words joined by a space, or characters after a space.

    Args:
        texts: string (batch,).
        settings: dict with ngram_range, one range or several, and with token_pattern, lowercase and
            maybe characters; or, as PECOS cuts texts, with analyzer (``tfxc.data.text.pecos``) and
            max_length.

    Returns:
        string ``RaggedTensor`` (batch, terms).
    """
    ranges = settings["ngram_range"]
    ranges = ranges if isinstance(ranges[0], (list, tuple)) else [ranges]
    if "token_pattern" in settings:
        of_words = _ngrams(words(texts, settings["token_pattern"], settings["lowercase"]), ranges)
        if settings.get("characters") is None:
            return of_words
        grams = character_ngrams(texts, settings["characters"], settings["lowercase"])
        return tf.concat([of_words, tf.strings.join([" ", grams])], 1)
    analyzer = settings["analyzer"]
    most = settings["max_length"]
    kinds = [analyzer] * len(ranges) if isinstance(analyzer, str) else analyzer
    spans_of_words = [span for span, kind in zip(ranges, kinds, strict=True) if kind == "word"]
    of_characters = [span for span, kind in zip(ranges, kinds, strict=True) if kind != "word"]
    parts = []
    if spans_of_words:
        parts.append(_ngrams(words_between_blanks(texts, most), spans_of_words))
    if of_characters:
        grams = _ngrams(characters(texts, most), of_characters, between="")
        parts.append(tf.strings.join([" ", grams]))
    return tf.concat(parts, 1) if len(parts) > 1 else parts[0]


def _ngrams(
    tokens: tf.RaggedTensor, ranges: Sequence[Sequence[int]], between: str = " "
) -> tf.RaggedTensor:
    lengths = tuple(n for smallest, largest in ranges for n in range(smallest, largest + 1))
    return tokens if lengths == (1,) else tf.strings.ngrams(tokens, lengths, separator=between)


def murmurhash3_32(texts: tf.Tensor) -> tf.Tensor:
    """Returns the signed 32-bit MurmurHash3 of the UTF-8 bytes, seed 0.

    Args:
        texts: string (n,).

    Returns:
        int32 (n,).

    Example:
        >>> murmurhash3_32(tf.constant(["hello"])).numpy().tolist()
        [613153351]

    Reference: A. Appleby, MurmurHash3 (public domain), x86_32 variant.
    """
    lengths = tf.strings.length(texts)
    # All texts' bytes, each text padded with zeros to whole blocks. They are cut out of a longer
    # constant: TensorFlow drops the NULs at the end of a string constant.
    filling = tf.fill(tf.shape(texts), b"\0\0\0.")
    zeros = tf.strings.substr(filling, tf.zeros_like(lengths), -lengths % 4)
    joined = tf.strings.reduce_join(tf.strings.join([texts, zeros]), axis=0)
    blocks = tf.bitcast(tf.io.decode_raw(joined, tf.int32), tf.uint32)
    starts = tf.cumsum(-(-lengths // 4), exclusive=True)
    whole = lengths // 4

    def mix_block(number: tf.Tensor, hashes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        longer = tf.where(whole > number)[:, 0]
        block = _scramble(tf.gather(blocks, tf.gather(starts, longer) + number))
        mixed = _rotate(tf.bitwise.bitwise_xor(tf.gather(hashes, longer), block), 13)
        mixed = mixed * _u32(5) + _u32(0xE6546B64)
        return number + 1, tf.tensor_scatter_nd_update(hashes, longer[:, None], mixed)

    last = tf.reduce_max(tf.concat([whole, [0]], 0))
    hashes = tf.zeros(tf.shape(lengths), tf.uint32)
    _, hashes = tf.while_loop(lambda number, _: number < last, mix_block, (0, hashes))
    rest = tf.where(lengths % 4 > 0)
    tail = _scramble(tf.gather(blocks, tf.gather_nd(starts + whole, rest)))
    tail = tf.bitwise.bitwise_xor(tf.gather_nd(hashes, rest), tail)
    hashes = tf.tensor_scatter_nd_update(hashes, rest, tail)
    hashes = tf.bitwise.bitwise_xor(hashes, tf.cast(lengths, tf.uint32))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        shifted = tf.bitwise.right_shift(hashes, _u32(shift))
        hashes = tf.bitwise.bitwise_xor(hashes, shifted) * _u32(factor)
    return tf.bitcast(hashes, tf.int32)


def _scramble(block: tf.Tensor) -> tf.Tensor:
    return _rotate(block * _u32(0xCC9E2D51), 15) * _u32(0x1B873593)


def _rotate(values: tf.Tensor, bits: int) -> tf.Tensor:
    left = tf.bitwise.left_shift(values, _u32(bits))
    return tf.bitwise.bitwise_or(left, tf.bitwise.right_shift(values, _u32(32 - bits)))


def _u32(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)


class TextBag(tf.Module):
    """Turns texts into the sparse rows of fitted text features.

    Args:
        settings: the text features' settings: norm and those of ``terms``; for a vocabulary
            sublinear_tf and maybe binary, for hashing alternate_sign.
        num_features: columns.
        vocabulary_file: one term per line, the line number is the column; None hashes terms.
        idf: (num_features,) weights of the columns, or None.
        blocks: where blocks of columns that are scaled on their own begin, except the first.

    Example:
        >>> settings = {"token_pattern": r"\\w+", "lowercase": True, "ngram_range": (1, 1),
        ...             "norm": None, "alternate_sign": False}
        >>> bag = TextBag(settings, num_features=8)(tf.constant(["red red fox", ""]))
        >>> bag["row_splits"].numpy().tolist(), sorted(bag["weights"].numpy().tolist())
        ([0, 2, 2], [1.0, 2.0])
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        num_features: int,
        vocabulary_file: str | Path | None = None,
        idf: np.ndarray | None = None,
        blocks: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self._settings = dict(settings)
        self._num_features = num_features
        self._blocks = [int(first) for first in blocks]
        self._idf = None if idf is None else tf.Variable(idf, trainable=False, dtype=tf.float64)
        self._vocabulary = None
        if vocabulary_file is not None:
            lines = tf.lookup.TextFileInitializer(
                str(vocabulary_file),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self._vocabulary = tf.lookup.StaticHashTable(lines, default_value=-1)

    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the rows of texts (batch,): dict ids int32, weights float32, row_splits int64."""
        terms_of_texts = terms(texts, self._settings)
        # Row, column and value of every occurrence of a term that has a column.
        rows = terms_of_texts.value_rowids()
        if self._vocabulary is not None:
            ids = self._vocabulary.lookup(terms_of_texts.flat_values)
            known = tf.where(ids >= 0)
            rows = tf.gather_nd(rows, known)
            ids = tf.gather_nd(ids, known)
            values = tf.ones_like(ids, tf.float64)
        else:
            hashes = tf.cast(murmurhash3_32(terms_of_texts.flat_values), tf.int64)
            ids = tf.abs(hashes) % self._num_features
            values = tf.ones_like(hashes, tf.float64)
            if self._settings["alternate_sign"]:
                values = tf.where(hashes < 0, -values, values)
        # Sorted by row, then column, as the training data is: equal rows give equal scores.
        keys, places = tf.unique(rows * self._num_features + ids)
        order = tf.argsort(keys)
        keys = tf.gather(keys, order)
        sums = tf.math.unsorted_segment_sum(values, places, tf.size(places))
        rows = keys // self._num_features
        ids = keys % self._num_features
        batch = tf.shape(texts, tf.int64)[0]
        weights = self._weighted(tf.gather(sums, order), rows, ids, batch)
        lengths = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, batch)
        return {
            "ids": tf.cast(ids, tf.int32),
            "weights": tf.cast(weights, tf.float32),
            "row_splits": tf.concat([[0], tf.cumsum(lengths)], 0),
        }

    def _weighted(
        self, values: tf.Tensor, rows: tf.Tensor, ids: tf.Tensor, batch: tf.Tensor
    ) -> tf.Tensor:
        if self._settings.get("binary"):
            values = tf.ones_like(values)
        elif self._settings.get("sublinear_tf"):
            values = tf.math.log(values) + 1
        if self._idf is not None:
            values *= tf.gather(self._idf, ids)
        if self._settings["norm"] is None:
            return values
        if self._blocks:
            block = tf.searchsorted(tf.constant(self._blocks, tf.int64), ids, "right", tf.int64)
            count = len(self._blocks) + 1
            values = self._scaled(values, rows * count + block, batch * count)
        return self._scaled(values, rows, batch)

    def _scaled(self, values: tf.Tensor, groups: tf.Tensor, num_groups: tf.Tensor) -> tf.Tensor:
        squared = self._settings["norm"] == "l2"
        sizes = tf.square(values) if squared else tf.abs(values)
        norms = tf.math.unsorted_segment_sum(sizes, groups, num_groups)
        norms = tf.gather(tf.sqrt(norms) if squared else norms, groups)
        return tf.math.divide_no_nan(values, norms)
