"""TF-IDF as PECOS builds it, whose tokens, weights and columns are not scikit-learn's.

Also reads a vectoriser that PECOS has trained and saved.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse

from tfxc.core.declared import Count, Share
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.reading import read_json, read_text
from tfxc.data.text.base import Norm, TfidfBag, read_terms
from tfxc.data.text.terms import TermCounts, TermCutter, term_tree

if TYPE_CHECKING:
    from tfxc.ops.text._terms import TermTree

Analyzer = Literal["word", "char", "char_wb"]
#: A range of lengths of n-grams, and what these are made of.
Block = tuple[list[int], Analyzer]

_LINE_BREAKS = re.compile(r"[\r\n]")
# Of saved vectorisers.
_ANALYZERS: dict[int, Analyzer] = {10: "word", 20: "char", 30: "char_wb"}
_SHARED = ("binary", "sublinear_tf", "max_length", "norm_p")
_COPY = "copy the whole vectoriser"


class PecosTfidfFeatures(TfidfBag):
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
        analyzer: Analyzer | Sequence[Analyzer] = "word",
        ngram_range: Sequence[Count] | Sequence[Sequence[Count]] = (1, 1),
        min_df: Count | Share = 1,
        max_df: Count | Share = 1.0,
        max_features: Count | None = None,
        keep_frequent: bool = True,
        binary: bool = False,
        sublinear_tf: bool = False,
        use_idf: bool = True,
        smooth_idf: bool = True,
        add_one_idf: bool = False,
        norm: Norm = "l2",
        max_length: Count | None = None,
    ) -> None:
        super().__init__()
        names = self._settings["analyzer"]
        ranges = self._settings["ngram_range"]
        several = isinstance(ranges[0], list)
        if not isinstance(names, str) and (not several or len(names) != len(ranges)):
            raise ConfigError(
                f"a list needs a range in ngram_range for each of its {len(names)} names",
                where="analyzer",
                fix="give one name, or one for each of several ranges",
            )
        for (first, first_name), (second, second_name) in itertools.combinations(self._blocks(), 2):
            alike = (first_name == "word") == (second_name == "word")
            if alike and first[0] <= second[1] and second[0] <= first[1]:
                raise ConfigError(
                    f"the ranges {first} and {second} overlap",
                    where="ngram_range",
                    fix="give ranges without common lengths",
                )

    @property
    def cuts_once(self) -> bool:
        """See ``TextFeatures``; ``"char_wb"`` finds other n-grams than it learns."""
        return all(analyzer != "char_wb" for _, analyzer in self._blocks())

    def _choose(self, counts: TermCounts) -> np.ndarray:
        selected = [self._select(counts, *block) for block in self._blocks()]
        columns = np.concatenate(selected).astype(np.int64)
        if not columns.size:
            raise DataError(
                f"none of {len(counts.terms):,} terms in {counts.num_texts:,} texts is left",
                fix="lower min_df or raise max_df",
            )
        documents = counts.documents[columns] + self._settings["smooth_idf"]
        idf = np.maximum(np.log(counts.num_texts / documents), 0) + self._settings["add_one_idf"]
        self.set_vocabulary([counts.terms[index] for index in columns], idf)
        return columns

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
            raise DataError("the vocabulary contains a term twice")
        lengths = np.fromiter(map(_length, terms), np.int64, len(terms))
        of_characters = np.fromiter((term[:1] == " " for term in terms), bool, len(terms))
        blocks = np.full(len(terms), -1)
        for block, ((least, most), analyzer) in enumerate(self._blocks()):
            alike = of_characters == (analyzer != "word")
            blocks[alike & (lengths >= least) & (lengths <= most)] = block
        if (blocks < 0).any() or (np.diff(blocks) < 0).any():
            raise DataError("the terms are not in the order of the ranges of ngram_range")
        self.blocks = np.searchsorted(blocks, range(1, len(self._blocks()))).tolist()
        self._take(list(terms), idf)
        return self

    def _blocks(self) -> list[Block]:
        """Returns the blocks of columns."""
        names = self._settings["analyzer"]
        names = [names] * len(self._ranges) if isinstance(names, str) else names
        return list(zip(self._ranges, names, strict=True))

    def _select(self, counts: TermCounts, lengths: Sequence[int], analyzer: Analyzer) -> list[int]:
        """Returns the indices of the terms of one block in the order of their columns."""
        bounds = []
        for key in ("min_df", "max_df"):
            bound = self._settings[key]
            if isinstance(bound, float):  # PECOS holds shares in single precision, rounds halves up
                bound = math.floor(float(np.float32(bound)) * counts.num_texts + 0.5)
            bounds.append(bound)
        within = (counts.documents >= bounds[0]) & (counts.documents <= bounds[1])
        terms = []
        for index in np.flatnonzero(within).tolist():
            term = counts.terms[index]
            length = _length(term)
            if lengths[0] <= length <= lengths[1] and (term[0] == " ") == (analyzer != "word"):
                # Words are compared one by one: a space would count as a character of the first.
                tokens = term if term[0] == " " else term.split(" ")
                terms.append((counts.documents[index], length, tokens, index))
        terms.sort()
        most = self._settings["max_features"] or len(terms)
        terms = terms[-most:] if self._settings["keep_frequent"] else terms[:most]
        return [index for *_, index in terms]

    def _terms(self, learning: bool) -> "PecosTerms":
        return PecosTerms(self._blocks(), self._settings["max_length"], learning)

    def _weighted(self, rows: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        if self._settings["binary"]:
            rows.data[:] = 1
        return super()._weighted(rows)

    def _load(self, folder: Path) -> None:
        self.set_vocabulary(*read_terms(folder, self._settings["use_idf"]))


def split_at_blanks(text: str, most: int | None = None) -> list[str]:
    """Returns the words of a text as PECOS cuts it.

    Example:
        >>> split_at_blanks("A hen,  two", most=2)
        ['A', 'hen,']
    """
    words = [word for word in _LINE_BREAKS.sub(" ", text).split(" ") if word]
    return words[:most]


class PecosTerms(TermCutter):
    """Cuts a text into terms, block by block.

    Args:
        blocks: ranges and what their n-grams are made of.
        most: words or characters to look at, or None.
        learning: whether ``"char_wb"`` takes single words with spaces around instead of the text.

    Example:
        >>> PecosTerms([([2, 2], "word"), ([3, 3], "char")], None, learning=True)("a hen")
        ['a hen', ' a h', '  he', ' hen']
    """

    def __init__(self, blocks: Sequence[Block], most: int | None, learning: bool) -> None:
        self._blocks = blocks
        self._most = most
        self._learning = learning

    def __call__(self, text: str) -> list[str]:
        words = split_at_blanks(text, self._most)
        characters = _LINE_BREAKS.sub(" ", text)[: self._most]
        terms = []
        for (shortest, longest), analyzer in self._blocks:
            parts = [characters]
            if self._learning and analyzer == "char_wb":
                parts = [f" {word} " for word in characters.split(" ") if word]
            for n in range(shortest, longest + 1):
                if analyzer != "word":
                    terms += [
                        f" {part[i : i + n]}" for part in parts for i in range(len(part) - n + 1)
                    ]
                elif n == 1:
                    terms += words
                else:
                    terms += [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        return terms

    def tree(self, terms: Sequence[str] | None = None) -> "TermTree | None":
        blocks = [
            ("char" if name == "char_wb" and not self._learning else name, shortest, longest)
            for (shortest, longest), name in self._blocks
        ]
        return term_tree(blocks, most=self._most, terms=terms)


def _length(term: str) -> int:
    """Returns the number of words or characters of a term."""
    return len(term) - 1 if term[:1] == " " else term.count(" ") + 1


def load_pecos_vectorizer(folder: str | Path) -> "PecosTfidfFeatures":
    """Returns text features ``pecos_tfidf`` that equal those of a saved PECOS vectoriser.

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
    meta = _read_section(folder / "meta.json", "kwargs")
    count = meta.get("num_base_vect")
    if not isinstance(count, int) or count < 1:
        raise DataError(
            "num_base_vect is not a number of vectorisers", where=folder / "meta.json", fix=_COPY
        )
    bases = [folder / f"{number}.base" for number in range(count)]
    settings = [_read_section(base / "vectorizer" / "config.json", "kwargs") for base in bases]
    ranges = [of_base.get("ngram_range", ()) for of_base in settings]
    first = settings[0] | {"norm_p": f"l{meta.get('norm_p')}"}
    for base, of_base in zip(bases, settings, strict=True):
        compared = of_base if count > 1 else first
        differing = [key for key in _SHARED if compared.get(key) != first.get(key)]
        if differing:
            raise DataError(
                f"this vectoriser has other settings than the first ({', '.join(differing)}), "
                "which tfxc cannot represent",
                where=base / "vectorizer",
                fix="train vectorisers that differ in analyzer and ngram_range only",
            )
    analyzers = []
    terms = []
    weights = []
    for base in bases:
        path = base / "tokenizer" / "config.json"
        kind = _read_section(path).get("token_type")
        if not isinstance(kind, int) or kind not in _ANALYZERS:
            raise DataError(
                f"token_type must be 10 (words), 20 (characters) or 30 (characters of words), "
                f"not {kind!r}",
                where=path,
                fix=_COPY,
            )
        analyzers.append(_ANALYZERS[kind])
        for term, weight in _columns(base, _ANALYZERS[kind]):
            terms.append(term)
            weights.append(weight)
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
        raise DataError(
            f"tfxc cannot represent this vectoriser ({error})",
            where=folder,
            fix="train one, or several of the same settings over n-grams of different lengths",
        ) from error


def _read_section(path: Path, key: str | None = None) -> dict[str, Any]:
    content = read_json(path, fix=_COPY)
    if key and isinstance(content, dict):
        content = content.get(key)
    if not isinstance(content, dict):
        raise DataError("this is not a file of a PECOS vectoriser", where=path, fix=_COPY)
    return content


def _columns(base: Path, analyzer: Analyzer) -> list[tuple[str, float]]:
    """Returns terms and weights of a base vectoriser, by column."""
    start, between = ("", " ") if analyzer == "word" else (" ", "")
    path = base / "tokenizer" / "vocab.txt"
    words = {number: word for _, (number, word) in _lines(path, parts=2)}
    path = base / "vectorizer" / "tfidf-model.txt"
    columns = {}
    for line, (column, idf, length, ids) in _lines(path, parts=4):
        numbers = ids.split(" ")
        if length != str(len(numbers)) or not all(number in words for number in numbers):
            raise DataError(
                f"the n-gram {ids!r} is not of {length} words of vocab.txt",
                where=f"{path}:{line}",
                fix=_COPY,
            )
        term = start + between.join(words[number] for number in numbers)
        try:
            columns[int(column)] = (term, float(idf))
        except ValueError as error:
            raise DataError(
                f"the column {column!r} or its weight {idf!r} is not a number",
                where=f"{path}:{line}",
                fix=_COPY,
            ) from error
    if sorted(columns) != list(range(len(columns))):
        raise DataError("columns are missing", where=path, fix=_COPY)
    return [columns[column] for column in range(len(columns))]


def _lines(path: Path, parts: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and parts of each line; the first line says how many follow."""
    content = read_text(path, fix=_COPY)
    head, *lines = content.split("\n")[:-1] or [""]
    if not head.isdecimal() or int(head) != len(lines):
        raise DataError(
            f"the first line announces {head or 'no'} lines, but {len(lines)} follow",
            where=path,
            fix=_COPY,
        )
    for number, line in enumerate(lines, 2):
        cells = line.split("\t", parts - 1)
        if len(cells) != parts:
            raise DataError(
                f"the line has {len(cells)} parts with tabs between instead of {parts}",
                where=f"{path}:{number}",
                fix=_COPY,
            )
        yield number, cells
