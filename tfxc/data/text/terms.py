"""Cuts texts into terms, counts them and chooses a vocabulary, as scikit-learn would.

scikit-learn itself is not imported: that takes longer than a prediction of some hundred texts.
"""

import array
import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.ops.csr import bounds_of
from tfxc.ops.text.token_patterns import TokenPattern
from tfxc.parallel import map_ordered

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


class WordTerms:
    """Cuts a text into n-grams of words.

    Args:
        token_pattern: regular expression of a word, see ``ops.text.token_patterns``.
        ngram_range: smallest and largest n of the n-grams, whose words are joined by a space.
        lowercase: whether to lower the case first.

    Example:
        >>> WordTerms("[a-z]+", (1, 2))("A red fox")
        ['a', 'red', 'fox', 'a red', 'red fox']
    """

    def __init__(
        self, token_pattern: str, ngram_range: tuple[int, int] = (1, 1), lowercase: bool = True
    ) -> None:
        self._words, self._range = TokenPattern(token_pattern), ngram_range
        self._lowercase = lowercase

    def __call__(self, text: str) -> list[str]:
        """The terms of a text, as often as they occur."""
        words = self._words(text.lower() if self._lowercase else text)
        least, most = self._range
        terms = list(words) if least == 1 else []
        for n in range(max(least, 2), most + 1):
            terms += [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        return terms


class TermMatrix:
    """Counts the terms of a vocabulary in texts.

    Args:
        terms: distinct terms, by column.
        analyse: cuts a text into terms.

    Example:
        >>> TermMatrix(["fox", "red"], str.split)(["red red hen"]).toarray().tolist()
        [[0.0, 2.0]]
    """

    def __init__(self, terms: Sequence[str], analyse: Callable[[str], list[str]]) -> None:
        self._columns = {term: column for column, term in enumerate(terms)}
        self._analyse = analyse

    def __call__(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        """Float32 CSR (texts, terms) with sorted indices."""
        known, lengths = self._columns, []
        columns, values = array.array("i"), array.array("f")
        for text in texts:
            found = (known[term] for term in self._analyse(text) if term in known)
            counts = collections.Counter(found)
            columns.extend(counts)
            values.extend(counts.values())
            lengths.append(len(counts))
        arrays = np.array(values), np.array(columns), bounds_of(lengths)
        found = scipy.sparse.csr_matrix(arrays, (len(lengths), len(known)))
        found.sort_indices()
        return found


class TermCounter:
    """Counts the terms of texts.

    Args:
        analyse: cuts a text into terms; it can be sent to other processes.
        jobs: processes to use at most; the result does not depend on it.
        with_totals: whether to count occurrences too, for twice the memory.

    Example:
        >>> counter = TermCounter(WordTerms("[a-z]+"))
        >>> counter.add([["a b b"], ["b"]])
        >>> counts = counter.counts()
        >>> counts.terms, counts.documents.tolist(), counts.totals.tolist(), counts.num_texts
        (['a', 'b'], [1, 2], [1, 3], 2)
    """

    def __init__(
        self, analyse: Callable[[str], list[str]], jobs: int = 1, with_totals: bool = True
    ) -> None:
        self._analyse, self._jobs, self._with_totals = analyse, jobs, with_totals
        self._documents: collections.Counter[str] = collections.Counter()
        self._totals: collections.Counter[str] = collections.Counter()
        self._num_texts = 0

    def add(self, text_lists: Sequence[Sequence[str]]) -> None:
        """Counts a list of lists of texts, a list per process."""
        tasks = [(texts, self._analyse, self._with_totals) for texts in text_lists]
        characters = sum(len(text) for texts in text_lists for text in texts)
        jobs = self._jobs if characters >= _MIN_CHARACTERS else 1
        for in_documents, in_total in map_ordered(_count_list, tasks, jobs):
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


def _count_list(texts, analyse, with_totals):
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
