"""TF-IDF as PECOS builds it, whose tokens, weights and columns are not scikit-learn's.

Also reads a vectoriser that PECOS has trained and saved.
"""

import functools
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse

from tfxc.core.arguments import OneOf
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.reading import read_json, read_text
from tfxc.data.text.base import (
    Learner,
    TextFeatures,
    check_ngram_range,
    known_terms,
    read_terms,
)
from tfxc.data.text.terms import CutTexts, TermCounter, TermMatrix, cut_bags
from tfxc.ops.csr import unit_rows

_LINE_BREAKS = re.compile(r"[\r\n]")
# Of saved vectorisers.
_ANALYZERS = {10: "word", 20: "char", 30: "char_wb"}
_SHARED = ("binary", "sublinear_tf", "max_length", "norm_p")
_SINGLE = "one vectoriser, or several of the same settings over n-grams of different lengths"
_COPY = "copy the whole vectoriser"


class PecosTfidfFeatures(TextFeatures):
    """TF-IDF weighted n-grams of words or characters, as by the ``tfidf`` vectoriser of libpecos.

    A word is what is between spaces, case and punctuation kept; a line break counts as a
    space, as PECOS reads one document per line. idf = max(ln(documents / (documents with the term +
    1)), 0). Columns are sorted by ascending document frequency, then by length of the n-gram, then
    by its words or characters. In the vocabulary a space precedes each n-gram of characters, which
    tells it from words.

    Args:
        analyzer: what n-grams are made of, for all ranges or one for each: ``"word"``; ``"char"``
            (characters, spaces among them); ``"char_wb"``, which learns n-grams of single words
            with a space before and after, and then finds them in a text as it stands, without
            spaces around it, as libpecos does.
        ngram_range: smallest and largest n of the n-grams; or several such ranges, which do not
            overlap if they are of words or of characters both: one vectoriser each, whose rows are
            scaled, joined and scaled again.
        min_df: terms found in fewer documents are left out; a float is a share of the documents,
            rounded.
        max_df: terms found in more documents are left out; a float is a share, rounded.
        max_features: keep only this many terms of each range, those in most documents; None = all.
        keep_frequent: False keeps those in fewest documents instead.
        binary: whether a term counts once however often it occurs.
        sublinear_tf: whether to damp the counts to 1 + ln(count).
        use_idf: whether to weight by idf.
        smooth_idf: whether a term counts as found in one document more.
        add_one_idf: whether to add 1 to each idf.
        norm: ``"l2"``, ``"l1"`` or None.
        max_length: words or characters of a text beyond that many are cut off; None = none.
            (libpecos, while it learns ``"char_wb"``, cuts single words instead.)

    Raises:
        ConfigError: an argument has an impossible value.

    Reference: Yu et al., "PECOS: Prediction for Enormous and Correlated Output Spaces", JMLR 2022.

    Example:
        >>> features = PecosTfidfFeatures().fit([["red Red fox", "a red", "a hen", "no"]])
        >>> features.vocabulary(), features.transform(["Red Red foxes"]).indices.tolist()
        (['Red', 'fox', 'hen', 'no', 'a', 'red'], [0])
        >>> PecosTfidfFeatures(analyzer="char_wb", ngram_range=(3, 3)).fit([["ab a"]]).vocabulary()
        ['  a ', '  ab', ' ab ']
    """

    name = "pecos_tfidf"

    def __init__(
        self,
        analyzer: str | Sequence[str] = "word",
        ngram_range: Sequence[int | Sequence[int]] = (1, 1),
        min_df: float = 1,
        max_df: float = 1.0,
        max_features: int | None = None,
        keep_frequent: bool = True,
        binary: bool = False,
        sublinear_tf: bool = False,
        use_idf: bool = True,
        smooth_idf: bool = True,
        add_one_idf: bool = False,
        norm: str | None = "l2",
        max_length: int | None = None,
    ) -> None:
        super().__init__(
            analyzer=analyzer, ngram_range=ngram_range, min_df=min_df, max_df=max_df,
            max_features=max_features, keep_frequent=keep_frequent, binary=binary,
            sublinear_tf=sublinear_tf, use_idf=use_idf, smooth_idf=smooth_idf,
            add_one_idf=add_one_idf, norm=norm, max_length=max_length,
        )  # fmt: skip
        self._check_analyzers()
        self._vocabulary: list[str] | None = None
        self._idf: np.ndarray | None = None

    def learner(self) -> Learner:
        """Learns the vocabulary and the idf weights.

        Raises:
            DataError: at its end, no term is left.
        """
        counter = TermCounter()

        def finish():
            self._take(counter.counts())
            return counter.ids(self._vocabulary, first=0, missing=-1)

        return Learner(counter.add, finish)

    @property
    def cuts_once(self) -> bool:
        """See ``TextFeatures``; ``"char_wb"`` finds other n-grams than it learns."""
        return all(analyzer != "char_wb" for _, analyzer in self._blocks())

    def cut(self, texts: Sequence[str]) -> CutTexts:
        return cut_bags(map(self._terms(learning=True), texts))

    def rows_of(
        self, indptr: np.ndarray, ids: np.ndarray, values: np.ndarray
    ) -> scipy.sparse.csr_matrix:
        assert self.num_features is not None, "fit comes first"
        return self._weighted(known_terms(indptr, ids, values, self.num_features))

    def _take(self, counts):
        settings = self._settings
        kept = [self._select(counts, *block) for block in self._blocks()]
        kept = np.concatenate(kept).astype(np.int64)
        if not kept.size:
            raise DataError(
                f"none of {len(counts.terms):,} terms in {counts.num_texts:,} texts is left",
                fix="lower min_df or raise max_df",
            )
        documents = counts.documents[kept] + settings["smooth_idf"]
        idf = np.maximum(np.log(counts.num_texts / documents), 0) + settings["add_one_idf"]
        self.set_vocabulary([counts.terms[index] for index in kept], idf)

    def set_vocabulary(self, terms: Sequence[str], idf: np.ndarray | None) -> "PecosTfidfFeatures":
        """Takes a vocabulary and weights that were learned elsewhere; the columns keep their order.

        Args:
            terms: list of distinct terms, words joined by a space or characters after a space;
                those of a range are adjacent, ranges in their order.
            idf: float64 (terms,), or None with ``use_idf`` False.

        Returns:
            ``self``.

        Raises:
            DataError: a term is there twice, or its n-gram is of no range or of an earlier one.
        """
        if len(set(terms)) < len(terms):
            raise DataError("distinct terms expected, found one twice")
        lengths = np.fromiter(map(_length, terms), np.int64, len(terms))
        of_characters = np.fromiter((term[:1] == " " for term in terms), bool, len(terms))
        blocks = np.full(len(terms), -1)
        for block, ((least, most), analyzer) in enumerate(self._blocks()):
            alike = of_characters == (analyzer != "word")
            blocks[alike & (lengths >= least) & (lengths <= most)] = block
        if (blocks < 0).any() or (np.diff(blocks) < 0).any():
            raise DataError("terms in the order of the ranges of ngram_range expected")
        self.blocks = np.searchsorted(blocks, range(1, len(self._blocks()))).tolist()
        self._vocabulary, self._idf = list(terms), idf if self._settings["use_idf"] else None
        self.num_features = len(terms)
        self._cached_vectorizer = None
        return self

    def vocabulary(self) -> list[str] | None:
        return self._vocabulary

    @property
    def idf(self) -> np.ndarray | None:
        return self._idf

    def _checked_range(self, value):
        if not all(isinstance(part, (list, tuple)) for part in value) or not len(value):
            return check_ngram_range(value)
        return tuple(map(check_ngram_range, value))

    def _check_analyzers(self):
        """Refuses unknown analyzers, too many of them, and ranges that overlap."""
        given, ranges = self._settings["analyzer"], self._settings["ngram_range"]
        several = isinstance(ranges[0], tuple)
        if not isinstance(given, str):
            self._settings["analyzer"] = given = tuple(given)
            if not several or len(given) != len(ranges):
                raise ConfigError(
                    "one name, or one for each of several ranges of ngram_range, expected, found "
                    f"{len(given)} for {len(ranges) if several else 1}",
                    where="analyzer",
                )
        for name in [given] if isinstance(given, str) else given:
            OneOf(*_ANALYZERS.values()).check("analyzer", name)
        for (one, first), (other, second) in itertools.combinations(self._blocks(), 2):
            alike = (first == "word") == (second == "word")
            if alike and one[0] <= other[1] and other[0] <= one[1]:
                raise ConfigError(
                    f"ranges that do not overlap expected, found {one} and {other}",
                    where="ngram_range",
                )

    def _blocks(self):
        """``((least, most), analyzer)`` of each block of columns."""
        ranges, given = self._settings["ngram_range"], self._settings["analyzer"]
        ranges = ranges if isinstance(ranges[0], tuple) else (ranges,)
        names = [given] * len(ranges) if isinstance(given, str) else given
        return list(zip(ranges, names, strict=True))

    def _select(self, counts, lengths, analyzer):
        """Indices of the terms of one block in the order of their columns."""
        lowest, highest = (
            _rounded(self._settings[key], counts.num_texts) for key in ("min_df", "max_df")
        )
        known = np.flatnonzero((counts.documents >= lowest) & (counts.documents <= highest))
        found = []
        for index in known.tolist():
            term = counts.terms[index]
            length = _length(term)
            if lengths[0] <= length <= lengths[1] and (term[0] == " ") == (analyzer != "word"):
                # Words are compared one by one: a space would count as a character of the first.
                tokens = term if term[0] == " " else term.split(" ")
                found.append((counts.documents[index], length, tokens, index))
        found.sort()
        most = self._settings["max_features"] or len(found)
        found = found[-most:] if self._settings["keep_frequent"] else found[:most]
        return [index for *_, index in found]

    def _terms(self, learning):
        return functools.partial(
            _terms, blocks=self._blocks(), most=self._settings["max_length"], learning=learning
        )

    def _build_vectorizer(self):
        return TermMatrix(self._vocabulary, self._terms(learning=False))

    def _rows(self, texts):
        return self._weighted(super()._rows(texts))

    def _weighted(self, rows):
        if self._settings["binary"]:
            rows.data[:] = 1
        elif self._settings["sublinear_tf"]:
            rows.data = np.log(rows.data) + 1
        if self._idf is not None:
            rows.data *= self._idf[rows.indices]
        norm = self._settings["norm"]
        if norm and self.blocks:
            parts = itertools.pairwise([0, *self.blocks, self.num_features])
            parts = [unit_rows(rows[:, begin:end], norm) for begin, end in parts]
            rows = scipy.sparse.hstack(parts, format="csr")
        return unit_rows(rows, norm) if norm else rows

    def _load(self, folder):
        self.set_vocabulary(*read_terms(folder, self._settings["use_idf"]))


def split_at_blanks(text: str, most: int | None = None) -> list[str]:
    """The words of a text as PECOS cuts it.

    Example:
        >>> split_at_blanks("A hen,  two", most=2)
        ['A', 'hen,']
    """
    words = [word for word in _LINE_BREAKS.sub(" ", text).split(" ") if word]
    return words[:most]


def _terms(text, blocks, most, learning):
    """The terms of a text, block by block.

    Args:
        text: string.
        blocks: list of ``((least, most), analyzer)``.
        most: words or characters to look at, or None.
        learning: whether ``"char_wb"`` takes single words with spaces around instead of the text.
    """
    words, characters = split_at_blanks(text, most), _LINE_BREAKS.sub(" ", text)[:most]
    found = []
    for (shortest, longest), analyzer in blocks:
        for n in range(shortest, longest + 1):
            if analyzer == "word":
                starts = range(len(words) - n + 1)
                found += words if n == 1 else [" ".join(words[i : i + n]) for i in starts]
                continue
            alone = learning and analyzer == "char_wb"
            parts = (
                [f" {word} " for word in characters.split(" ") if word] if alone else [characters]
            )
            found += [f" {part[i : i + n]}" for part in parts for i in range(len(part) - n + 1)]
    return found


def _length(term):
    """Words or characters of a term."""
    return len(term) - 1 if term[:1] == " " else term.count(" ") + 1


def _rounded(bound, num_texts):
    """A number of documents; PECOS holds shares in single precision and rounds halves up."""
    if not isinstance(bound, float):
        return bound
    return math.floor(float(np.float32(bound)) * num_texts + 0.5)


def load_pecos_vectorizer(folder: str | Path) -> "PecosTfidfFeatures":
    """Text features ``pecos_tfidf`` that equal those of a saved PECOS vectoriser.

    The folder holds ``meta.json`` (number of base vectorisers, norm of the joined rows) and per
    base vectoriser ``N.base/tokenizer/`` (``config.json`` with the kind of tokens, ``vocab.txt``:
    id, tab, word) and ``N.base/vectorizer/`` (``config.json`` with the settings,
    ``tfidf-model.txt``: column, idf, length of the n-gram and word ids, tabs between). Weights have
    six digits there, so a vectoriser that PECOS has loaded differs by as much from the one it
    saved.

    Args:
        folder: what ``Vectorizer.save`` of libpecos wrote, or the folder of a preprocessor.

    Returns:
        ``PecosTfidfFeatures``; ``save`` writes them in tfxc's form.

    Raises:
        DataError: no such folder, damaged, or of a kind that has no equivalent here: base
            vectorisers of different settings, or with n-grams of the same length of the same kind.

    Example:
        >>> features = load_pecos_vectorizer("pecos/vectorizer")      # doctest: +SKIP
        >>> features.transform(["some text"]).shape                   # doctest: +SKIP
        (1, 29443)
    """
    folder = Path(folder)
    meta = _read(folder / "meta.json", "kwargs")
    count = meta.get("num_base_vect")
    if not isinstance(count, int) or count < 1:
        raise DataError("the key num_base_vect expected, found none", where=folder / "meta.json")
    bases = [folder / f"{number}.base" for number in range(count)]
    settings = [_read(base / "vectorizer" / "config.json", "kwargs") for base in bases]
    ranges = [found.get("ngram_range") for found in settings]
    first = settings[0] | {"norm_p": f"l{meta.get('norm_p')}"}
    for base, found in zip(bases, settings, strict=True):
        compared = found if count > 1 else first
        if any(compared.get(key) != first.get(key) for key in _SHARED):
            raise DataError(f"{_SINGLE} expected, found others", where=base / "vectorizer")
    analyzers = [_analyzer_of(base / "tokenizer" / "config.json") for base in bases]
    terms, weights = [], []
    for base, analyzer in zip(bases, analyzers, strict=True):
        found, idf = _columns(base, analyzer)
        terms += found
        weights += idf
    try:
        features = PecosTfidfFeatures(
            analyzer=analyzers if len(set(analyzers)) > 1 else analyzers[0],
            ngram_range=ranges if count > 1 else ranges[0],
            binary=first["binary"],
            sublinear_tf=first["sublinear_tf"],
            max_length=first["max_length"] if first["max_length"] > 0 else None,
            norm=first["norm_p"],
        )
        return features.set_vocabulary(terms, np.array(weights))
    except (ConfigError, DataError, KeyError, TypeError) as error:
        raise DataError(f"{_SINGLE} expected: {error}", where=folder) from error


def _read(path, key=None):
    try:
        content = read_json(path, fix=_COPY)
        content = content[key] if key else content
        if isinstance(content, dict):
            return content
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
    raise DataError("a vectoriser saved by PECOS expected", where=path)


def _analyzer_of(path):
    """What the tokens of a base vectoriser are."""
    kind = _read(path).get("token_type")
    if kind not in _ANALYZERS:
        raise DataError(
            f"words, characters or characters of words as tokens expected, found {kind!r}",
            where=path,
            fix=_COPY,
        )
    return _ANALYZERS[kind]


def _columns(base, analyzer):
    """Terms and weights of a base vectoriser, by column."""
    start, between = ("", " ") if analyzer == "word" else (" ", "")
    path = base / "tokenizer" / "vocab.txt"
    words = {number: word for _, (number, word) in _lines(path, parts=2)}
    path = base / "vectorizer" / "tfidf-model.txt"
    found = {}
    for line, (column, idf, length, ids) in _lines(path, parts=4):
        numbers = ids.split(" ")
        if length != str(len(numbers)) or not all(number in words for number in numbers):
            raise DataError(f"{length} words of vocab.txt expected", where=f"{path}:{line}")
        term = start + between.join(words[number] for number in numbers)
        try:
            found[int(column)] = term, float(idf)
        except ValueError as error:
            raise DataError("a column and its weight expected", where=f"{path}:{line}") from error
    if sorted(found) != list(range(len(found))):
        raise DataError("columns without gaps expected", where=path)
    columns = [found[column] for column in range(len(found))]
    return [term for term, _ in columns], [idf for _, idf in columns]


def _lines(path, parts):
    """Number and parts of each line; the first line says how many follow."""
    content = read_text(path, fix=_COPY)
    head, *lines = content.split("\n")[:-1] or [""]
    if not head.isdecimal() or int(head) != len(lines):
        raise DataError(f"{head or 'some'} lines expected, found {len(lines)}", where=path)
    for number, line in enumerate(lines, 2):
        found = line.split("\t", parts - 1)
        if len(found) != parts:
            raise DataError(f"{parts} parts with tabs between expected", where=f"{path}:{number}")
        yield number, found
