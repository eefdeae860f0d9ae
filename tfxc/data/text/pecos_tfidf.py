"""TF-IDF as PECOS builds it, whose tokens, weights and columns are not scikit-learn's."""

import functools
import itertools
import math
import re

import numpy as np
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.text.base import (
    TextFeatures,
    check_ngram_range,
    read_terms,
)
from tfxc.data.text.learning import Learner
from tfxc.data.text.terms import TermCounter

_LINE_BREAKS = re.compile(r"[\r\n]")


class PecosTfidfFeatures(TextFeatures):
    """TF-IDF weighted n-grams of words, the same as the ``tfidf`` vectoriser of libpecos gives.

    A word is what stands between blanks, case and punctuation kept; a line break counts as a
    blank, as PECOS reads a document a line. idf = max(ln(documents / (documents with the term +
    1)), 0). Columns stand by rising document frequency, then by length of the n-gram, then by its
    words.

    Args:
        ngram_range: smallest and largest n of the n-grams; or several such ranges that do not
            overlap: one vectoriser each, whose rows are scaled, joined and scaled again.
        min_df: terms found in fewer documents are left out; a float is a share of the documents,
            rounded.
        max_df: terms found in more documents are left out; a float is a share, rounded.
        max_features: keep only so many terms of each range, those in most documents; None = all.
        keep_frequent: False keeps those in fewest documents instead.
        binary: whether a term counts once however often it occurs.
        sublinear_tf: whether to damp the counts to 1 + ln(count).
        use_idf: whether to weight by idf.
        smooth_idf: whether a term counts as found in one document more.
        add_one_idf: whether to add 1 to each idf.
        norm: ``"l2"``, ``"l1"`` or None.
        max_length: words of a text beyond that many are cut off; None = none.

    Raises:
        ConfigError: an argument has an impossible value.

    Reference: Yu et al., "PECOS: Prediction for Enormous and Correlated Output Spaces", JMLR 2022.

    Example:
        >>> features = PecosTfidfFeatures().fit([["red Red fox", "a red", "a hen", "no"]])
        >>> features.vocabulary(), features.transform(["Red Red foxes"]).indices.tolist()
        (['Red', 'fox', 'hen', 'no', 'a', 'red'], [0])
    """

    name = "pecos_tfidf"

    def __init__(
        self,
        ngram_range=(1, 1),
        min_df=1,
        max_df=1.0,
        max_features=None,
        keep_frequent=True,
        binary=False,
        sublinear_tf=False,
        use_idf=True,
        smooth_idf=True,
        add_one_idf=False,
        norm="l2",
        max_length=None,
    ):
        super().__init__(
            ngram_range=ngram_range, min_df=min_df, max_df=max_df, max_features=max_features,
            keep_frequent=keep_frequent, binary=binary, sublinear_tf=sublinear_tf,
            use_idf=use_idf, smooth_idf=smooth_idf, add_one_idf=add_one_idf, norm=norm,
            max_length=max_length,
        )  # fmt: skip
        self._vocabulary = self._idf = None

    def learner(self, jobs=1):
        """Learns the vocabulary and the idf weights.

        Raises:
            DataError: at its end, no term is left.
        """
        counter = TermCounter(self._analysis(), jobs, with_totals=False)
        return Learner(counter.add, lambda: self._take(counter.counts()))

    def _take(self, counts):
        settings = self._settings
        kept = [self._select(counts, words) for words in self._ranges()]
        kept = np.concatenate(kept).astype(np.int64)
        if not kept.size:
            raise DataError(
                f"none of {len(counts.terms):,} terms in {counts.num_texts:,} texts is left",
                fix="lower min_df or raise max_df",
            )
        documents = counts.documents[kept] + settings["smooth_idf"]
        idf = np.maximum(np.log(counts.num_texts / documents), 0) + settings["add_one_idf"]
        self.assume([counts.terms[index] for index in kept], idf)

    def assume(self, terms, idf):
        """Takes a vocabulary and weights that were learnt elsewhere; the columns keep their order.

        Args:
            terms: list of distinct terms, words joined by a blank; those of a range stand together,
                ranges in their order.
            idf: float64 (terms,), or None with ``use_idf`` False.

        Returns:
            ``self``.

        Raises:
            DataError: a term is there twice, or its n-gram is of no range or of an earlier one.
        """
        if len(set(terms)) < len(terms):
            raise DataError("distinct terms are expected, found one twice")
        lengths = np.fromiter((term.count(" ") + 1 for term in terms), np.int64, len(terms))
        blocks = np.full(len(terms), -1)
        for block, words in enumerate(self._ranges()):
            blocks[(lengths >= words[0]) & (lengths <= words[1])] = block
        if (blocks < 0).any() or (np.diff(blocks) < 0).any():
            raise DataError("terms in the order of the ranges of ngram_range are expected")
        self.blocks = np.searchsorted(blocks, range(1, len(self._ranges()))).tolist()
        self._vocabulary, self._idf = list(terms), idf if self._settings["use_idf"] else None
        self.num_features = len(terms)
        self._cached_vectorizer = None
        return self

    def vocabulary(self):
        return self._vocabulary

    @property
    def idf(self):
        return self._idf

    def _checked_range(self, value):
        if not all(isinstance(part, (list, tuple)) for part in value) or not len(value):
            return check_ngram_range(value)
        ranges = tuple(map(check_ngram_range, value))
        for one, other in itertools.combinations(ranges, 2):
            if one[0] <= other[1] and other[0] <= one[1]:
                raise ConfigError(
                    f"ranges that do not overlap are expected, found {one} and {other}",
                    where="ngram_range",
                )
        return ranges

    def _ranges(self):
        found = self._settings["ngram_range"]
        return found if isinstance(found[0], tuple) else (found,)

    def _select(self, counts, words):
        """Indices of the terms of one range in the order of their columns."""
        lowest, highest = (
            _rounded(self._settings[key], counts.num_texts) for key in ("min_df", "max_df")
        )
        known = np.flatnonzero((counts.documents >= lowest) & (counts.documents <= highest))
        keys = ((counts.documents[i], counts.terms[i].split(" "), i) for i in known.tolist())
        found = sorted(
            (documents, len(tokens), tokens, index)
            for documents, tokens, index in keys
            if words[0] <= len(tokens) <= words[1]
        )
        most = self._settings["max_features"] or len(found)
        found = found[-most:] if self._settings["keep_frequent"] else found[:most]
        return [index for *_, index in found]

    def _analysis(self):
        ranges = np.array(self._ranges())
        return {
            "ngram_range": (int(ranges[:, 0].min()), int(ranges[:, 1].max())),
            "tokenizer": functools.partial(split_at_blanks, most=self._settings["max_length"]),
            "token_pattern": None,
            "lowercase": False,
        }

    def _build_vectorizer(self):
        return CountVectorizer(vocabulary=self._vocabulary, dtype=np.float32, **self._analysis())

    def _rows(self, texts):
        rows = super()._rows(texts)
        if self._settings["binary"]:
            rows.data[:] = 1
        elif self._settings["sublinear_tf"]:
            rows.data = np.log(rows.data) + 1
        if self._idf is not None:
            rows.data *= self._idf[rows.indices]
        norm = self._settings["norm"]
        if norm and self.blocks:
            parts = itertools.pairwise([0, *self.blocks, self.num_features])
            parts = [normalize(rows[:, begin:end], norm) for begin, end in parts]
            rows = scipy.sparse.hstack(parts, format="csr")
        return normalize(rows, norm, copy=False) if norm else rows

    def _load(self, folder):
        self.assume(*read_terms(folder, self._settings["use_idf"]))


def split_at_blanks(text, most=None):
    """The words of a text as PECOS cuts it.

    Example:
        >>> split_at_blanks("A hen,  two", most=2)
        ['A', 'hen,']
    """
    words = [word for word in _LINE_BREAKS.sub(" ", text).split(" ") if word]
    return words[:most]


def _rounded(bound, num_texts):
    """A number of documents; PECOS holds shares in single precision and rounds halves up."""
    if not isinstance(bound, float):
        return bound
    return math.floor(float(np.float32(bound)) * num_texts + 0.5)
