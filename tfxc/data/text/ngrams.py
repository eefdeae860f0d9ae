"""Texts to words with hashed n-grams of words and characters, as fastText reads a text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.arguments import COUNT, Integer, checked
from tfxc.core.errors import ConfigError
from tfxc.data.text.tokens import UNKNOWN, TokenRows, WordTokens
from tfxc.ops.csr import bounds_of
from tfxc.ops.text.token_patterns import WORDS

if TYPE_CHECKING:
    from tfxc.ops.text.ngrams import TextNgrams

FNV_OFFSET, FNV_PRIME = 2166136261, 16777619
WORD_FACTOR = 116049371
_REMEMBERED = 1 << 20  # words


class FastTextTokens(WordTokens):
    """Words, and n-grams of words and of the characters of each word, for encoder ``fasttext``.

    A text becomes the ids of its words that are in the vocabulary, then the n-grams of characters
    of all its words, then the n-grams of words: a bag, not a sequence. Unknown words have their
    n-grams only. N-grams have no vocabulary: their hash is one of ``buckets`` ids after it, with
    the hash functions of fastText. fastText also counts the end of a line as a word.

    Args:
        max_length: words of a text beyond that many are cut off.
        min_count, lowercase: see ``TokenFeatures``.
        token_pattern, stop_words, segmenter, dictionary: see ``WordTokens``.
        word_ngrams: words of the longest n-gram of words; 1 for none.
        min_chars, max_chars: characters of the n-grams of a word between ``<`` and ``>``; 0 for
            none.
        buckets: number of ids of n-grams.

    Raises:
        ConfigError: an argument has an impossible value.

    Example:
        >>> found = FastTextTokens(min_count=1, buckets=100).fit([["red fox"]])
        >>> found.vocabulary(), found.num_features
        (['[PAD]', 'fox', 'red', '[UNK]'], 104)
        >>> found.transform(["red hen"]).tokens.tolist()  # red, then "red hen"
        [2, 24]

    Reference: Bojanowski et al. 2017 (arXiv 1607.04606); Joulin et al. 2017 (arXiv 1607.01759).
    """

    name = "fasttext"

    @checked(
        word_ngrams=COUNT, min_chars=Integer(0), max_chars=Integer(0), buckets=Integer(1, 2**30)
    )
    def __init__(
        self,
        max_length: int = 256,
        min_count: int = 2,
        lowercase: bool = True,
        token_pattern: str = WORDS,
        stop_words: Sequence[str] = (),
        segmenter: str | None = None,
        dictionary: Sequence[str] = (),
        word_ngrams: int = 2,
        min_chars: int = 0,
        max_chars: int = 0,
        buckets: int = 200_000,
    ) -> None:
        super().__init__(
            max_length, min_count, lowercase, token_pattern, stop_words, segmenter, dictionary
        )
        if (min_chars == 0) != (max_chars == 0) or min_chars > max_chars:
            raise ConfigError(
                "min_chars and max_chars, the first not above the second, or 0 for both, expected, "
                f"found {min_chars} and {max_chars}",
                where="max_chars",
                fix="e.g. 3 and 6",
            )
        own = {"word_ngrams": word_ngrams, "min_chars": min_chars, "max_chars": max_chars}
        self._settings |= {**own, "buckets": buckets}
        del self._settings["fill"]
        self._known: dict[str, tuple[int, np.ndarray]] = {}

    @property
    def cuts_once(self) -> bool:
        """False: the n-grams are those of the words themselves, not of their ids."""
        return False

    def transform(self, texts: Sequence[str]) -> TokenRows:
        """``TokenRows`` of a list of texts, see the class.

        Raises:
            ConfigError: ``fit`` has not been called.
        """
        if self.num_features is None:
            raise ConfigError("the text features have not been fitted", fix="call fit first")
        found = self._words_of([self._prepared(text) for text in texts])
        rows = [self._row(words) for words in found]
        indptr = bounds_of(np.fromiter(map(len, rows), np.int64, len(rows)))
        tokens = np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32)
        return TokenRows(indptr, tokens, self.num_features)

    def graph(self, folder: Path) -> "TextNgrams":
        """What turns texts into the same features in a graph; see ``TextFeatures.graph``."""
        from tfxc.ops.text.ngrams import TextNgrams

        assert self._vocabulary is not None, "fit comes first"
        return TextNgrams(self.settings(), folder / "vocabulary.txt", len(self._vocabulary))

    def _row(self, words):
        """The ids of one text."""
        most, table = self._settings["max_length"], self._table
        self.num_truncated += len(words) > most
        words = words[:most]
        ids = np.array([table[word] for word in words if word in table], np.int32)
        hashes, subwords = [], [ids]
        for word in words:
            number, ngrams = self._hashed(word)
            hashes.append(number)
            subwords.append(ngrams)
        hashes, longest = np.array(hashes, np.uint32), self._settings["word_ngrams"]
        ngrams = word_ngrams(hashes, longest) % np.uint64(self._settings["buckets"])
        first = len(self._vocabulary or ())
        return np.concatenate([*subwords, first + ngrams.astype(np.int32)])

    def _hashed(self, word):
        """A word's hash, and the ids of its n-grams of characters; words come again."""
        if word not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            least, most = self._settings["min_chars"], self._settings["max_chars"]
            hashes = np.array(subword_hashes(word, least, most), np.uint32)
            ids = len(self._vocabulary or ()) + (hashes % self._settings["buckets"]).astype(
                np.int64
            )
            self._known[word] = fnv1a(word.encode("utf-8", "replace")), ids.astype(np.int32)
        return self._known[word]

    @property
    def _after(self):
        return [UNKNOWN]

    def _take(self, tokens):
        super()._take(tokens)
        self.num_features = len(tokens) + self._settings["buckets"]
        self._known.clear()


def fnv1a(text: bytes, state: int = FNV_OFFSET) -> int:
    """fastText's 32-bit FNV-1a hash, in which bytes from 128 on count as negative numbers.

    Args:
        text: bytes, of UTF-8.
        state: the hash of what is before them.

    Example:
        >>> fnv1a(b"a"), fnv1a("é".encode())
        (3826002220, 1023043777)
    """
    for byte in text:
        signed = byte if byte < 128 else byte | 0xFFFFFF00
        state = (state ^ signed) * FNV_PRIME & 0xFFFFFFFF
    return state


def subword_hashes(word: str, least: int, most: int) -> list[int]:
    """Hashes of the n-grams of a word between ``<`` and ``>``, the shorter ones first.

    ``<`` and ``>`` alone are left out.

    Args:
        word: the word.
        least, most: characters of an n-gram; 0 for none.

    Example:
        >>> subword_hashes("ab", 3, 3) == [fnv1a(b"<ab"), fnv1a(b"ab>")]
        True
    """
    parts = [character.encode("utf-8", "replace") for character in f"<{word}>"]
    found = []
    for start in range(len(parts) if most else 0):
        state = FNV_OFFSET
        for length, part in enumerate(parts[start : start + most], 1):
            state = fnv1a(part, state)
            mark = length == 1 and start in (0, len(parts) - 1)
            if length >= least and not mark:
                found.append((length, start, state))
    return [state for _, _, state in sorted(found)]


def word_ngrams(hashes: np.ndarray, longest: int) -> np.ndarray:
    """fastText's 64-bit hashes of the n-grams of words, the shorter ones first.

    Args:
        hashes: uint32 (n,), the hash of each word; they count as signed numbers.
        longest: words of the longest n-gram.

    Returns:
        uint64, n - 1 of pairs, n - 2 of triples, ...

    Example:
        >>> word_ngrams(np.array([1, 2, 3], np.uint32), 2).tolist() == [
        ...     116049371 + 2, 2 * 116049371 + 3]
        True
    """
    signed = hashes.astype(np.uint32).view(np.int32).astype(np.int64).view(np.uint64)
    state, found = signed, [signed[:0]]
    for length in range(1, longest):
        with np.errstate(over="ignore"):
            state = state[: max(len(signed) - length, 0)] * np.uint64(WORD_FACTOR)
            state = state + signed[length : length + len(state)]
        found.append(state)
    return np.concatenate(found)
