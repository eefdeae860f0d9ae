"""Texts to words with hashed n-grams of words and characters, as fastText reads a text."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from tfxc.core.declared import Count, Natural
from tfxc.core.errors import ConfigError
from tfxc.data.examples.lists import gather_lists
from tfxc.data.text.base import check_fitted
from tfxc.data.text.terms import first_of_each
from tfxc.data.text.tokens import UNKNOWN, TokenRows, WordTokens
from tfxc.ops.csr import bounds_of
from tfxc.ops.text.token_patterns import WORDS

if TYPE_CHECKING:
    from tfxc.ops.text.ngrams import TextNgrams

FNV_OFFSET = 2166136261
FNV_PRIME = 16777619
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
        >>> tokens = FastTextTokens(min_count=1, buckets=100).fit([["red fox"]])
        >>> tokens.vocabulary(), tokens.num_features
        (['[PAD]', 'fox', 'red', '[UNK]'], 104)
        >>> tokens.transform(["red hen"]).tokens.tolist()  # red, then "red hen"
        [2, 24]

    Reference: Bojanowski et al. 2017 (arXiv 1607.04606); Joulin et al. 2017 (arXiv 1607.01759).
    """

    name = "fasttext"

    def __init__(
        self,
        max_length: Count = 256,
        min_count: Count = 2,
        lowercase: bool = True,
        token_pattern: str = WORDS,
        stop_words: str | Sequence[str] = (),
        segmenter: Literal["jieba"] | None = None,
        dictionary: str | Sequence[str] = (),
        word_ngrams: Count = 2,
        min_chars: Natural = 0,
        max_chars: Natural = 0,
        buckets: Annotated[int, Ge(1), Le(2**30)] = 200_000,
    ) -> None:
        super().__init__(
            max_length, min_count, lowercase, token_pattern, stop_words, segmenter, dictionary
        )
        if (min_chars == 0) != (max_chars == 0) or min_chars > max_chars:
            raise ConfigError(
                f"min_chars {min_chars} and max_chars {max_chars} are not a range",
                where="max_chars",
                fix="give a range such as 3 and 6, or 0 for both",
            )
        self._known: dict[str, tuple[int, np.ndarray]] = {}

    @property
    def cuts_once(self) -> bool:
        """False: the n-grams are those of the words themselves, not of their ids."""
        return False

    def transform(self, texts: Sequence[str]) -> TokenRows:
        num_features = check_fitted(self.num_features)
        first = len(self._vocabulary or ())
        bounds, numbers, words = self._words.cut([self._prepared(text) for text in texts])
        bounds, numbers, truncated = first_of_each(bounds, numbers, self._settings["max_length"])
        self.num_truncated += truncated
        # Of each of the different words: its id or -1, its hash, the ids of its n-grams.
        ids = np.array([self._table.get(word, -1) for word in words], np.int32)
        known = [self._hashed(word) for word in words]
        hashes = np.array([word_hash for word_hash, _ in known], np.uint32)
        lists = [subword_ids for _, subword_ids in known]
        list_bounds = bounds_of([len(subword_ids) for subword_ids in lists])
        subwords = np.concatenate([np.zeros(0, np.int32), *lists])
        parts = [np.zeros(0, np.int32)]
        lengths = []
        for start, stop in itertools.pairwise(bounds.tolist()):
            row = numbers[start:stop]
            of_words = ids[row]
            of_words = of_words[of_words >= 0]
            _, of_characters = gather_lists(list_bounds, row, subwords)
            ngrams = word_ngrams(hashes[row], self._settings["word_ngrams"])
            ngrams = first + (ngrams % np.uint64(self._settings["buckets"])).astype(np.int32)
            parts += [of_words, of_characters, ngrams]
            lengths.append(len(of_words) + len(of_characters) + len(ngrams))
        return TokenRows(bounds_of(lengths), np.concatenate(parts).astype(np.int32), num_features)

    def graph(self, folder: Path) -> "TextNgrams":
        from tfxc.ops.text.ngrams import TextNgrams

        assert self._vocabulary is not None, "fit comes first"
        return TextNgrams(self.settings(), folder / "vocabulary.txt", len(self._vocabulary))

    def _make_table(self, tokens: Sequence[str]) -> dict[str, int]:
        return {token: number for number, token in enumerate(tokens, 1)}

    def _hashed(self, word: str) -> tuple[int, np.ndarray]:
        """Returns a word's hash, and the ids of its n-grams of characters; words come again."""
        if word not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            hashes = subword_hashes(word, self._settings["min_chars"], self._settings["max_chars"])
            places = np.array(hashes, np.uint32) % self._settings["buckets"]
            ids = len(self._vocabulary or ()) + places.astype(np.int64)
            self._known[word] = (fnv1a(word.encode("utf-8", "replace")), ids.astype(np.int32))
        return self._known[word]

    @property
    def _after(self) -> list[str]:
        return [UNKNOWN]

    def _take(self, tokens: list[str]) -> None:
        super()._take(tokens)
        self.num_features = len(tokens) + self._settings["buckets"]
        self._known.clear()


def fnv1a(text: bytes, state: int = FNV_OFFSET) -> int:
    """Returns fastText's 32-bit FNV-1a hash, in which bytes from 128 on count as negative numbers.

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
    """Returns the hashes of the n-grams of a word between ``<`` and ``>``, the shorter ones first.

    ``<`` and ``>`` alone are left out.

    Args:
        word: the word.
        least, most: characters of an n-gram; 0 for none.

    Example:
        >>> subword_hashes("ab", 3, 3) == [fnv1a(b"<ab"), fnv1a(b"ab>")]
        True
    """
    parts = [character.encode("utf-8", "replace") for character in f"<{word}>"]
    hashes = []
    for start in range(len(parts) if most else 0):
        state = FNV_OFFSET
        for length, part in enumerate(parts[start : start + most], 1):
            state = fnv1a(part, state)
            mark = length == 1 and start in (0, len(parts) - 1)
            if length >= least and not mark:
                hashes.append((length, start, state))
    return [state for _, _, state in sorted(hashes)]


def word_ngrams(hashes: np.ndarray, longest: int) -> np.ndarray:
    """Returns fastText's 64-bit hashes of the n-grams of words, the shorter ones first.

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
    state = signed
    ngrams = [signed[:0]]
    for length in range(1, longest):
        with np.errstate(over="ignore"):
            state = state[: max(len(signed) - length, 0)] * np.uint64(WORD_FACTOR)
            state = state + signed[length : length + len(state)]
        ngrams.append(state)
    return np.concatenate(ngrams)
