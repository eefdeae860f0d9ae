"""Counts the terms of a stream of texts and chooses a vocabulary, as scikit-learn would."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from tfxc.core.errors import DataError

# Fewer characters at a time are counted sooner than processes start.
_MIN_CHARACTERS = 500_000


@dataclasses.dataclass
class TermCounts:
    """What was counted.

    Attributes:
        terms: all terms, ascending.
        documents: int64, per term the number of texts that hold it.
        totals: int64, per term its number of occurrences, or None if not counted.
        num_texts: number of texts.
    """

    terms: list[str]
    documents: np.ndarray
    totals: np.ndarray | None
    num_texts: int


class TermCounter:
    """Counts the terms of texts.

    Args:
        analysis: ``ngram_range``, ``lowercase`` and ``token_pattern``.
        jobs: processes to use at most; the result does not depend on it.
        with_totals: whether to count occurrences too, for twice the memory.

    Example:
        >>> counter = TermCounter({"ngram_range": (1, 1), "token_pattern": "[a-z]+"})
        >>> counter.add([["a b b"], ["b"]])
        >>> counts = counter.counts()
        >>> counts.terms, counts.documents.tolist(), counts.totals.tolist(), counts.num_texts
        (['a', 'b'], [1, 2], [1, 3], 2)
    """

    def __init__(
        self, analysis: Mapping[str, Any], jobs: int = 1, with_totals: bool = True
    ) -> None:
        self._analysis, self._jobs, self._with_totals = analysis, jobs, with_totals
        self._documents: collections.Counter[str] = collections.Counter()
        self._totals: collections.Counter[str] = collections.Counter()
        self._num_texts = 0

    def add(self, text_lists: Sequence[Sequence[str]]) -> None:
        """Counts a list of lists of texts, a list per process."""
        tasks = (
            joblib.delayed(_count_list)(texts, self._analysis, self._with_totals)
            for texts in text_lists
        )
        characters = sum(len(text) for texts in text_lists for text in texts)
        jobs = self._jobs if characters >= _MIN_CHARACTERS else 1
        for in_documents, in_total in joblib.Parallel(n_jobs=jobs)(tasks):
            self._documents.update(in_documents)
            self._totals.update(in_total)
        self._num_texts += sum(map(len, text_lists))

    def counts(self) -> "TermCounts":
        """``TermCounts`` of all texts so far."""
        terms = sorted(self._documents)
        return TermCounts(
            terms,
            _values(self._documents, terms),
            _values(self._totals, terms) if self._with_totals else None,
            self._num_texts,
        )


def _values(counter, terms):
    return np.fromiter((counter[term] for term in terms), np.int64, len(terms))


def _count_list(texts, analysis, with_totals):
    analyse = CountVectorizer(**analysis).build_analyzer()
    documents, totals = collections.Counter(), collections.Counter()
    for text in texts:
        terms = analyse(text)
        documents.update(set(terms))
        if with_totals:
            totals.update(terms)
    return documents, totals


def select_terms(
    counts: TermCounts, min_df: float = 1, max_df: float = 1.0, max_features: int | None = None
) -> np.ndarray:
    """Indices of the terms to keep, ascending.

    Args:
        counts: ``TermCounts``.
        min_df, max_df: bounds on the number of texts with the term; a float is a share of them.
        max_features: keep this many, those that occur most; among equals the choice is
            scikit-learn's. None = all.

    Returns:
        int64 (kept,).

    Raises:
        DataError: no term is left, or ``max_df`` means fewer texts than ``min_df``.
    """
    lowest, highest = (
        bound * counts.num_texts if isinstance(bound, float) else bound
        for bound in (min_df, max_df)
    )
    if highest < lowest:
        raise DataError(
            f"max_df of at least min_df ({lowest:g} texts) expected, found {highest:g} texts",
            fix="lower min_df or raise max_df",
        )
    kept = np.flatnonzero((counts.documents >= lowest) & (counts.documents <= highest))
    if max_features is not None and kept.size > max_features:
        assert counts.totals is not None, "counted, as max_features is given"
        # The same unstable sort of the same array as scikit-learn's, so that ties fall alike.
        order = (-counts.totals[kept].astype(np.float64)).argsort()
        kept = np.sort(kept[order[:max_features]])
    if not kept.size:
        raise DataError(
            f"none of {len(counts.terms):,} terms in {counts.num_texts:,} texts is left",
            fix="lower min_df, raise max_df or change token_pattern",
        )
    return kept
