"""Texts to sparse rows: TF-IDF and hashed bags of n-grams, the same as by scikit-learn.

Unlike scikit-learn's own, the TF-IDF vectoriser is fitted on a stream, so that only its vocabulary
has to fit in memory; and it is saved without pickle.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy.sparse
from annotated_types import Ge, Le

from tfxc.core.declared import Count, Share
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.text.base import BagFeatures, Norm, TfidfBag, read_terms
from tfxc.data.text.terms import TermCounts, WordTerms, select_terms
from tfxc.ops.csr import unit_rows
from tfxc.ops.text.token_patterns import WORDS


class TfidfFeatures(TfidfBag):
    """TF-IDF weighted n-grams of words; with these arguments those of scikit-learn's vectoriser.

    Words are all runs of word characters; scikit-learn's own pattern, which leaves out words of one
    letter or digit, is ``r"\\b\\w\\w+\\b"``. scikit-learn cuts words at marks, such as the vowel
    signs of Hindi; here they stay whole, see ``ops.text.token_patterns``.

    A row holds, per term of the vocabulary, its count (with ``sublinear_tf`` 1 + ln(count)) times
    idf = 1 + ln((1 + documents) / (1 + documents with the term)), then divided by the row's norm.

    With ``characters`` there are n-grams of characters next to those of words: first the columns
    of words, then those of characters, in whose names in the vocabulary a space comes first. Each
    part is divided by its norm, and the row by its norm again. So a row is that of scikit-learn's
    ``FeatureUnion`` of a ``TfidfVectorizer`` of words and one of ``analyzer="char_wb"``, scaled to
    norm 1. The bounds on terms hold for each part.

    Args:
        ngram_range: smallest and largest n of the n-grams, whose words are joined by a space.
        min_df: terms found in fewer documents are left out; a float is a share of the documents.
        max_df: terms found in more documents are left out; a float is a share of the documents.
        max_features: keep only this many terms, the most frequent ones in total; None = all.
        sublinear_tf: whether to damp the counts.
        lowercase: whether to lower the case first.
        token_pattern: regular expression of a word.
        norm: ``"l2"``, ``"l1"`` or None.
        use_idf: whether to weight by idf.
        characters: smallest and largest n of n-grams of the characters of what is between blanks,
            a space before and after it, as scikit-learn's ``char_wb`` has them; None = none.

    Raises:
        ConfigError: an argument has an impossible value.

    Example:
        >>> features = TfidfFeatures(min_df=2).fit([["red fox", "red hen"], ["a hen"]])
        >>> features.vocabulary(), features.transform(["hen, a"]).toarray().tolist()
        (['hen', 'red'], [[1.0, 0.0]])
        >>> TfidfFeatures(characters=(3, 3)).fit([["red"]]).vocabulary()
        ['red', '  re', ' ed ', ' red']
    """

    name = "tfidf"

    def __init__(
        self,
        ngram_range: Sequence[Count] = (1, 1),
        min_df: Count | Share = 1,
        max_df: Count | Share = 1.0,
        max_features: Count | None = None,
        sublinear_tf: bool = True,
        lowercase: bool = True,
        token_pattern: str = WORDS,
        norm: Norm = "l2",
        use_idf: bool = True,
        characters: Sequence[Count] | None = None,
    ) -> None:
        super().__init__()

    def _choose(self, counts: TermCounts) -> np.ndarray:
        settings = self._settings
        bounds = (settings["min_df"], settings["max_df"], settings["max_features"])
        of_characters = self._of_characters(counts.terms)
        parts = [select_terms(counts, part, *bounds) for part in (~of_characters, of_characters)]
        places = np.concatenate(parts)
        if not places.size:
            raise DataError(
                f"none of {len(counts.terms):,} terms in {counts.num_texts:,} texts is left",
                fix="lower min_df, raise max_df or change token_pattern",
            )
        vocabulary = [counts.terms[index] for index in places]
        if any("\n" in term for term in vocabulary):
            raise ConfigError(
                "a term contains a line break, at which the saved vocabulary would split it",
                where="token_pattern",
                fix="change the pattern so that no word contains one",
            )
        idf = np.log((counts.num_texts + 1) / (counts.documents[places] + 1)) + 1
        self._take(vocabulary, idf)
        return places

    def _of_characters(self, terms: Sequence[str]) -> np.ndarray:
        """Tells which terms are n-grams of characters."""
        if self._settings["characters"] is None:  # a word may begin with a space
            return np.zeros(len(terms), bool)
        return np.fromiter((term[:1] == " " for term in terms), bool, len(terms))

    def _take(self, vocabulary: list[str], idf: np.ndarray | None) -> None:
        super()._take(vocabulary, idf)
        if self._settings["characters"] is not None:
            self.blocks = [int((~self._of_characters(vocabulary)).sum())]

    def _terms(self, learning: bool) -> WordTerms:
        return _word_terms(self._settings)

    def _load(self, folder: Path) -> None:
        self._take(*read_terms(folder, self._settings["use_idf"]))


class HashingFeatures(BagFeatures):
    """Bags of n-grams hashed to a fixed number of columns, as ``HashingVectorizer`` returns.

    The column of a term is |h| mod ``num_features`` with h the signed 32-bit MurmurHash3 of its
    UTF-8 bytes, seed 0; a space comes before those of characters. There is nothing to fit.

    Args:
        num_features: number of columns.
        ngram_range, lowercase, token_pattern, characters: see ``TfidfFeatures``.
        alternate_sign: whether a term counts as the sign of h, so that collisions cancel out.
        norm: ``"l2"``, ``"l1"`` or None, of the row as a whole.

    Raises:
        ConfigError: an argument has an impossible value.

    Example:
        >>> HashingFeatures(num_features=16).transform(["red fox", ""]).shape
        (2, 16)
    """

    name = "hashing"

    def __init__(
        self,
        num_features: Annotated[int, Ge(1), Le(2**31 - 1)] = 2**18,
        ngram_range: Sequence[Count] = (1, 1),
        lowercase: bool = True,
        token_pattern: str = WORDS,
        alternate_sign: bool = False,
        norm: Norm = "l2",
        characters: Sequence[Count] | None = None,
    ) -> None:
        super().__init__()
        self.num_features = self._settings["num_features"]

    def learner(self) -> None:
        """Returns None: the texts are not read."""
        return None

    def _build_vectorizer(self) -> Callable[[Sequence[str]], scipy.sparse.csr_matrix]:
        settings = self.settings()
        terms = _word_terms(settings)
        if terms.tree() is not None:
            return functools.partial(self._hashed, terms)
        from sklearn.feature_extraction.text import HashingVectorizer

        return HashingVectorizer(
            n_features=settings["num_features"],
            analyzer=terms,
            alternate_sign=settings["alternate_sign"],
            norm=settings["norm"],
            dtype=np.float32,
        ).transform

    def _hashed(self, terms: WordTerms, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        """Makes rows of texts that are cut in C."""
        from tfxc.ops.text._terms import murmur_hashes

        cut = terms.cut(texts)
        hashes = murmur_hashes(cut.terms).astype(np.int64)
        columns = np.abs(hashes) % self._settings["num_features"]
        values = cut.values
        if self._settings["alternate_sign"]:
            values = values * np.where(hashes < 0, -1, 1)[cut.ids]
        arrays = (values, columns[cut.ids], cut.indptr)
        shape = (len(texts), self._settings["num_features"])
        rows = scipy.sparse.csr_matrix(arrays, shape, np.float32)
        rows.sum_duplicates()
        norm = self._settings["norm"]
        return unit_rows(rows, norm) if norm else rows

    def _load(self, folder: Path) -> None:
        """Does nothing: there is only what the settings say."""


def _word_terms(settings: Mapping[str, Any]) -> WordTerms:
    return WordTerms(
        settings["token_pattern"],
        settings["ngram_range"],
        settings["lowercase"],
        settings["characters"],
    )
