"""Texts to sparse rows: TF-IDF and hashed bags of n-grams, the same as by scikit-learn.

Unlike scikit-learn's own, the TF-IDF vectoriser is fitted on a stream, so that only its vocabulary
has to fit in memory; and it is saved without pickle.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError
from tfxc.data.text.base import TOKEN_PATTERN, Learner, TextFeatures, known_terms, read_terms
from tfxc.data.text.terms import (
    CutTexts,
    TermCounter,
    TermMatrix,
    WordTerms,
    cut_bags,
    select_terms,
)
from tfxc.ops.csr import unit_rows
from tfxc.ops.text.token_patterns import TokenPattern

_ANALYSIS = ("token_pattern", "ngram_range", "lowercase")


class TfidfFeatures(TextFeatures):
    """TF-IDF weighted n-grams of words; with these arguments those of scikit-learn's vectoriser.

    scikit-learn cuts words at marks, such as the vowel signs of Hindi; here they stay whole, see
    ``ops.text.token_patterns``.

    A row holds, per term of the vocabulary, its count (with ``sublinear_tf`` 1 + ln(count)) times
    idf = 1 + ln((1 + documents) / (1 + documents with the term)), then divided by the row's norm.

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

    Raises:
        ConfigError: an argument has an impossible value.

    Example:
        >>> features = TfidfFeatures(min_df=2).fit([["red fox", "red hen"], ["a hen"]])
        >>> features.vocabulary(), features.transform(["hen, hen"]).toarray().tolist()
        (['hen', 'red'], [[1.0, 0.0]])
    """

    name = "tfidf"

    def __init__(
        self,
        ngram_range: Sequence[int] = (1, 1),
        min_df: float = 1,
        max_df: float = 1.0,
        max_features: int | None = None,
        sublinear_tf: bool = True,
        lowercase: bool = True,
        token_pattern: str = TOKEN_PATTERN,
        norm: str | None = "l2",
        use_idf: bool = True,
    ) -> None:
        super().__init__(
            ngram_range=ngram_range,
            min_df=min_df,
            max_df=max_df,
            max_features=max_features,
            sublinear_tf=sublinear_tf,
            lowercase=lowercase,
            token_pattern=token_pattern,
            norm=norm,
            use_idf=use_idf,
        )
        self._vocabulary: list[str] | None = None
        self._idf: np.ndarray | None = None

    def learner(self) -> Learner:
        """Learns the vocabulary and the idf weights.

        Raises:
            DataError: at its end, no term is left, or ``max_df`` means fewer documents than
                ``min_df``.
        """
        counter = TermCounter()

        def finish():
            self._take(counter.counts())
            return counter.ids(self._vocabulary, first=0, missing=-1)

        return Learner(counter.add, finish)

    def cut(self, texts: Sequence[str]) -> CutTexts:
        return cut_bags(map(self._terms(), texts))

    def rows_of(
        self, indptr: np.ndarray, ids: np.ndarray, values: np.ndarray
    ) -> scipy.sparse.csr_matrix:
        assert self.num_features is not None, "fit comes first"
        return self._weighted(known_terms(indptr, ids, values, self.num_features))

    def _take(self, counts):
        pruning = {key: self._settings[key] for key in ("min_df", "max_df", "max_features")}
        kept = select_terms(counts, **pruning)
        self._vocabulary = [counts.terms[index] for index in kept]
        if any("\n" in term for term in self._vocabulary):
            raise ConfigError(
                "terms without line breaks expected, found one", where="token_pattern"
            )
        self._idf = np.log((counts.num_texts + 1) / (counts.documents[kept] + 1)) + 1
        self.num_features = len(kept)
        self._cached_vectorizer = None

    def vocabulary(self) -> list[str] | None:
        return self._vocabulary

    @property
    def idf(self) -> np.ndarray | None:
        return self._idf if self._settings["use_idf"] else None

    def _terms(self):
        return WordTerms(*(self._settings[key] for key in _ANALYSIS))

    def _build_vectorizer(self):
        return TermMatrix(self._vocabulary, self._terms())

    def _rows(self, texts):
        return self._weighted(super()._rows(texts))

    def _weighted(self, rows):
        if self._settings["sublinear_tf"]:
            rows.data = np.log(rows.data) + 1
        if self.idf is not None:
            rows.data *= self.idf[rows.indices]
        return unit_rows(rows, self._settings["norm"]) if self._settings["norm"] else rows

    def _load(self, folder):
        self._vocabulary, self._idf = read_terms(folder, self._settings["use_idf"])
        self.num_features = len(self._vocabulary)


class HashingFeatures(TextFeatures):
    """Bags of n-grams hashed to a fixed number of columns, as ``HashingVectorizer`` returns.

    The column of a term is |h| mod ``num_features`` with h the signed 32-bit MurmurHash3 of its
    UTF-8 bytes, seed 0. There is nothing to fit.

    Args:
        num_features: number of columns.
        ngram_range, lowercase, token_pattern, norm: see ``TfidfFeatures``.
        alternate_sign: whether a term counts as the sign of h, so that collisions cancel out.

    Raises:
        ConfigError: an argument has an impossible value.

    Example:
        >>> HashingFeatures(num_features=16).transform(["red fox", ""]).shape
        (2, 16)
    """

    name = "hashing"

    def __init__(
        self,
        num_features: int = 2**18,
        ngram_range: Sequence[int] = (1, 1),
        lowercase: bool = True,
        token_pattern: str = TOKEN_PATTERN,
        alternate_sign: bool = False,
        norm: str | None = "l2",
    ) -> None:
        super().__init__(
            num_features=num_features,
            ngram_range=ngram_range,
            lowercase=lowercase,
            token_pattern=token_pattern,
            alternate_sign=alternate_sign,
            norm=norm,
        )
        self.num_features = num_features

    def learner(self) -> None:
        """None: the texts are not read."""
        return None

    def _build_vectorizer(self):
        from sklearn.feature_extraction.text import HashingVectorizer

        settings = self.settings()
        settings |= {
            "tokenizer": TokenPattern(settings["token_pattern"]),
            "token_pattern": None,
        }
        return HashingVectorizer(
            n_features=settings.pop("num_features"), dtype=np.float32, **settings
        ).transform

    def _load(self, folder):
        """There is nothing but the settings."""
