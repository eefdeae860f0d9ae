"""Cuts texts into terms, counts them and chooses a vocabulary, as scikit-learn would.

scikit-learn itself is not imported: that takes longer than a prediction of some hundred texts.
Where the extension is built, C cuts and counts what it can (``TermCutter.tree``), the same terms
and numbers as Python, which does all else.
"""

import abc
import array
import collections
import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.ops.csr import bounds_of
from tfxc.ops.text.token_patterns import TokenPattern, compiled_tokens, without_controls

try:
    from tfxc.ops.text import _terms
except ImportError:  # not built: Python cuts texts
    _terms = None  # type: ignore[assignment]


@dataclasses.dataclass
class TermCounts:
    """What was counted.

    Attributes:
        terms: all terms, as they first occurred.
        documents: int64, per term the number of texts that hold it.
        totals: int64, per term its number of occurrences.
        num_texts: number of texts.
    """

    terms: list[str]
    documents: np.ndarray
    totals: np.ndarray
    num_texts: int


class TermCutter(abc.ABC):
    """Base of what cuts texts into terms."""

    @abc.abstractmethod
    def __call__(self, text: str) -> list[str]:
        """Returns the terms of a text, as often as they occur."""

    @abc.abstractmethod
    def tree(self, terms: Sequence[str] | None = None) -> "_terms.TermTree | None":
        """Makes what finds the same terms in ``prepared`` texts; None where only Python can.

        Args:
            terms: distinct terms, the only ones to find, or None for all.
        """

    def prepared(self, texts: Iterable[str]) -> Iterable[str]:
        """Yields the texts as a ``tree`` reads them."""
        return texts

    def cut(self, texts: Sequence[str]) -> "CutTexts":
        """Cuts texts into bags of terms."""
        tree = self.tree()
        if tree is None:
            return cut_bags(map(self, texts))
        indptr, ids, values = tree.bags(self.prepared(texts))
        terms = tree.names()
        documents = np.bincount(ids, minlength=len(terms))
        totals = np.bincount(ids, values, len(terms)).astype(np.int64)
        return CutTexts(indptr, ids, values, terms, documents, totals)


def term_tree(
    blocks: Sequence[tuple[str, int, int]],
    shortest: int = 1,
    most: int | None = None,
    terms: Sequence[str] | None = None,
    left_out: Iterable[str] = (),
) -> "_terms.TermTree | None":
    """Makes what cuts texts in C, see ``tfxc.ops.text._terms``; None where it is not built."""
    return None if _terms is None else _terms.TermTree(blocks, shortest, most, terms, left_out)


class WordTerms(TermCutter):
    """Cuts a text into n-grams of words, and of the characters of words.

    Args:
        token_pattern: regular expression of a word, see ``ops.text.token_patterns``.
        ngram_range: smallest and largest n of the n-grams, whose words are joined by a space.
        lowercase: whether to lower the case first.
        characters: smallest and largest n of the n-grams of the characters of what is between
            blanks, a space before and after it; if that has fewer than the smallest n, it is one
            n-gram. A space precedes each of them. None = no such n-grams.

    Example:
        >>> WordTerms("[a-z]+", (1, 2))("A red fox")
        ['a', 'red', 'fox', 'a red', 'red fox']
        >>> WordTerms("[a-z]+", characters=(4, 4))("A red")
        ['a', 'red', '  a ', '  red', ' red ']
    """

    def __init__(
        self,
        token_pattern: str,
        ngram_range: Sequence[int] = (1, 1),
        lowercase: bool = True,
        characters: Sequence[int] | None = None,
    ) -> None:
        self._words = TokenPattern(token_pattern)
        self._range = ngram_range
        self._lowercase = lowercase
        self._characters = characters

    def __call__(self, text: str) -> list[str]:
        text = text.lower() if self._lowercase else text
        words = self._words(text)
        least, most = self._range
        terms = list(words) if least == 1 else []
        for n in range(max(least, 2), most + 1):
            terms += [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        if self._characters is not None:
            shortest, longest = self._characters
            for part in without_controls(text).split():
                padded = f" {part} "
                for n in range(min(shortest, len(padded)), min(longest, len(padded)) + 1):
                    terms += [f" {padded[i : i + n]}" for i in range(len(padded) - n + 1)]
        return terms

    def tree(self, terms: Sequence[str] | None = None) -> "_terms.TermTree | None":
        tokens = compiled_tokens(self._words.pattern)
        if tokens is None:
            return None
        name, shortest = tokens
        least, most = self._range
        blocks = [(name, least, most)]
        if self._characters is not None:
            least, most = self._characters
            blocks.append(("in_words", least, most))
        return term_tree(blocks, shortest, terms=terms)

    def prepared(self, texts: Iterable[str]) -> Iterable[str]:
        return map(str.lower, texts) if self._lowercase else texts


class TermMatrix:
    """Counts the terms of a vocabulary in texts.

    Args:
        terms: distinct terms, by column.
        cutter: cuts texts into terms.

    Example:
        >>> TermMatrix(["fox", "red"], WordTerms("[a-z]+"))(["red red hen"]).toarray().tolist()
        [[0.0, 2.0]]
    """

    def __init__(self, terms: Sequence[str], cutter: TermCutter) -> None:
        self._width = len(terms)
        self._cutter = cutter
        self._tree = cutter.tree(terms)
        self._columns: dict[str, int] = {}
        if self._tree is None:
            self._columns = {term: column for column, term in enumerate(terms)}

    def __call__(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        """Float32 CSR (texts, terms) with sorted indices."""
        shape = (len(texts), self._width)
        if self._tree is not None:
            indptr, ids, counts = self._tree.bags(self._cutter.prepared(texts))
            return scipy.sparse.csr_matrix((counts, ids, indptr), shape)
        known = self._columns
        lengths = []
        columns = array.array("i")
        values = array.array("f")
        for text in texts:
            in_text = collections.Counter(
                known[term] for term in self._cutter(text) if term in known
            )
            columns.extend(in_text)
            values.extend(in_text.values())
            lengths.append(len(in_text))
        arrays = (np.array(values), np.array(columns), bounds_of(lengths))
        rows = scipy.sparse.csr_matrix(arrays, shape)
        rows.sort_indices()
        return rows


@dataclasses.dataclass
class CutTexts:
    """Some texts cut into terms, which are numbered as they first occur.

    Attributes:
        indptr: int64 (n + 1,), bounds of each text in ``ids``.
        ids: int32: of a bag the distinct terms of a text, ascending; else its terms in order.
        values: float32, how often each term of a bag occurs; None for terms in order.
        terms: names of the terms by number.
        documents: int64 (terms,), the number of texts that hold each; None for terms in order.
        totals: int64 (terms,), the number of occurrences of each.
        truncated: texts that were cut off.
    """

    indptr: np.ndarray
    ids: np.ndarray
    values: np.ndarray | None
    terms: list[str]
    documents: np.ndarray | None
    totals: np.ndarray
    truncated: int = 0

    def without_texts(self) -> "CutTexts":
        """Returns what a ``TermCounter`` needs: everything but the terms of each text."""
        return dataclasses.replace(self, ids=self.ids[:0], values=None)


def cut_bags(term_lists: Iterable[Sequence[str]]) -> CutTexts:
    """Returns texts as bags of terms.

    Args:
        term_lists: the terms of each text, as often as they occur.

    Example:
        >>> cut = cut_bags([["b", "a", "b"], ["a"]])
        >>> cut.terms, cut.ids.tolist(), cut.values.tolist(), cut.totals.tolist()
        (['b', 'a'], [0, 1, 1], [2.0, 1.0, 1.0], [2, 2])
    """
    indptr, ids, terms = _numbered(term_lists)
    totals = np.bincount(ids, minlength=len(terms))  # the matrix changes its arrays in place
    bags = scipy.sparse.csr_matrix(
        (np.ones(len(ids), np.float32), ids, indptr), (len(indptr) - 1, max(1, len(terms)))
    )
    bags.sum_duplicates()
    documents = np.bincount(bags.indices, minlength=len(terms))
    return CutTexts(bags.indptr.astype(np.int64), bags.indices, bags.data, terms, documents, totals)


class WordSequences:
    """Cuts texts into their words in order.

    Args:
        token_pattern: regular expression of a word, see ``ops.text.token_patterns``.
        left_out: words that are passed over.

    Example:
        >>> words = WordSequences("[a-z]+", frozenset(["the"]))
        >>> words(["the red fox", "fox"])
        [['red', 'fox'], ['fox']]
        >>> [part.tolist() for part in words.cut(["the red fox", "fox"])[:2]]
        [[0, 2, 3], [0, 1, 1]]
    """

    def __init__(self, token_pattern: str, left_out: frozenset[str] = frozenset()) -> None:
        self._pattern = TokenPattern(token_pattern)
        self._left_out = left_out

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """Returns the words of each text."""
        word_lists = self._pattern.of(texts)
        if not self._left_out:
            return word_lists
        return [[word for word in words if word not in self._left_out] for words in word_lists]

    def cut(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Cuts texts into words, which are numbered as they first occur.

        Returns:
            int64 (n + 1,) bounds of each text in the next; int32 numbers; the distinct words.
        """
        tree = self.tree()
        if tree is None:
            return _numbered(self(texts))
        return *tree.sequences(texts), tree.names()

    def tree(self, words: Sequence[str] | None = None) -> "_terms.TermTree | None":
        """Does what ``TermCutter.tree`` does."""
        tokens = compiled_tokens(self._pattern.pattern)
        if tokens is None:
            return None
        name, shortest = tokens
        return term_tree([(name, 1, 1)], shortest, terms=words, left_out=self._left_out)


def cut_numbers(indptr: np.ndarray, ids: np.ndarray, terms: list[str], most: int) -> CutTexts:
    """Returns texts as their terms in order.

    Args:
        indptr, ids, terms: see ``CutTexts``.
        most: terms of a text that are kept; those beyond are only counted.

    Example:
        >>> cut = cut_numbers(np.array([0, 3, 4]), np.array([0, 1, 0, 1]), ["b", "a"], most=2)
        >>> cut.ids.tolist(), cut.totals.tolist(), cut.truncated
        ([0, 1, 1], [2, 2], 1)
    """
    totals = np.bincount(ids, minlength=len(terms))
    indptr, ids, truncated = first_of_each(indptr, ids, most)
    return CutTexts(indptr, ids, None, terms, None, totals, truncated)


def first_of_each(
    indptr: np.ndarray, ids: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the first ``most`` entries of each list: bounds, entries, and how many lists were
    cut.
    """
    lengths = np.diff(indptr)
    within = np.arange(len(ids)) - np.repeat(indptr[:-1], lengths) < most
    return bounds_of(np.minimum(lengths, most)), ids[within], int((lengths > most).sum())


def _numbered(term_lists: Iterable[Sequence[str]]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Bounds, numbers (int32) and distinct terms of texts."""
    numbers = _numbers()
    ids = array.array("i")
    lengths = []
    for terms in term_lists:
        ids.extend(map(numbers.__getitem__, terms))
        lengths.append(len(terms))
    return bounds_of(lengths), np.array(ids, np.int32), list(numbers)


def known_terms(
    indptr: np.ndarray, ids: np.ndarray, values: np.ndarray, num_features: int
) -> scipy.sparse.csr_matrix:
    """Returns bags of terms without those whose id is -1, as float32 CSR with sorted indices.

    Args:
        indptr, ids, values: CSR arrays (n, num_features).
    """
    if _terms is not None:
        indptr, ids, values = _terms.sorted_rows(indptr, ids, values, num_features)
        return scipy.sparse.csr_matrix((values, ids, indptr), (len(indptr) - 1, num_features))
    known = ids >= 0
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))[known]
    bounds = bounds_of(np.bincount(rows, minlength=len(indptr) - 1))
    arrays = (values[known], ids[known], bounds)
    bags = scipy.sparse.csr_matrix(arrays, (len(indptr) - 1, num_features), dtype=np.float32)
    bags.sort_indices()
    return bags


def _numbers() -> collections.defaultdict[str, int]:
    """Makes a dict that gives each new term the next number."""
    return collections.defaultdict(itertools.count().__next__)


class TermCounter:
    """Counts the terms of texts, and numbers them as they first occur.

    Example:
        >>> counter = TermCounter()
        >>> counter.add(cut_bags([["a", "b", "b"], ["b"]])).tolist()
        [0, 1]
        >>> counts = counter.counts()
        >>> counts.terms, counts.documents.tolist(), counts.totals.tolist(), counts.num_texts
        (['a', 'b'], [1, 2], [1, 3], 2)
    """

    def __init__(self) -> None:
        self._numbers = _numbers()
        self._documents = np.zeros(0, np.int64)
        self._totals = np.zeros(0, np.int64)
        self._num_texts = 0

    def add(self, cut: CutTexts) -> np.ndarray:
        """Counts texts; returns int32 (terms,), the number of each of their terms among all."""
        known = self._numbers
        numbers = np.fromiter(map(known.__getitem__, cut.terms), np.int32, len(cut.terms))
        self._totals = _added(self._totals, numbers, cut.totals, len(known))
        if cut.documents is not None:
            self._documents = _added(self._documents, numbers, cut.documents, len(known))
        self._num_texts += len(cut.indptr) - 1
        return numbers

    def counts(self) -> "TermCounts":
        """``TermCounts`` of all texts so far."""
        size = len(self._numbers)
        documents = self._documents[:size] if len(self._documents) else np.zeros(size, np.int64)
        return TermCounts(list(self._numbers), documents, self._totals[:size], self._num_texts)

    def ids(self, places: Sequence[int] | np.ndarray, first: int, missing: int) -> np.ndarray:
        """The ids of all terms by their numbers, int32.

        Args:
            places: among the terms of ``counts``, those that have ids: ``first``, ``first + 1``, …
            first: id of the first one.
            missing: id of those that are not among them.
        """
        ids = np.full(len(self._numbers), missing, np.int32)
        ids[places] = np.arange(first, first + len(places))
        return ids


def _added(totals: np.ndarray, numbers: np.ndarray, counts: np.ndarray, size: int) -> np.ndarray:
    """Returns ``totals`` with counts added at distinct numbers; grown, with room to grow, if
    needed.
    """
    if size > len(totals):
        totals = np.concatenate([totals, np.zeros(size + size // 4 - len(totals), np.int64)])
    totals[numbers] += counts
    return totals


def select_terms(
    counts: TermCounts,
    among: np.ndarray,
    min_df: float = 1,
    max_df: float = 1.0,
    max_features: int | None = None,
) -> np.ndarray:
    """Indices of the terms to keep, those in alphabetical order.

    Args:
        counts: ``TermCounts``.
        among: bool (terms,), which of them there are to choose from.
        min_df, max_df: bounds on the number of texts with the term; a float is a share of them.
        max_features: keep this many, those that occur most; among equals the choice is
            scikit-learn's. None = all.

    Returns:
        int64 (kept,).

    Raises:
        DataError: ``max_df`` means fewer texts than ``min_df``.
    """
    lowest, highest = (
        bound * counts.num_texts if isinstance(bound, float) else bound
        for bound in (min_df, max_df)
    )
    if highest < lowest:
        raise DataError(
            f"max_df means {highest:g} texts, fewer than min_df ({lowest:g} texts)",
            fix="lower min_df or raise max_df",
        )
    within = (counts.documents >= lowest) & (counts.documents <= highest)
    kept = np.flatnonzero(among & within)
    kept = np.array(sorted(kept.tolist(), key=counts.terms.__getitem__), np.int64)
    if max_features is not None and kept.size > max_features:
        # The same unstable sort of the same array as scikit-learn's, so that ties fall alike.
        order = (-counts.totals[kept].astype(np.float64)).argsort()
        kept = kept[np.sort(order[:max_features])]
    return kept
