"""Texts to the mean of their tokens' vectors, next to a bag of terms."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse

from tfxc.core.declared import Count, Positive
from tfxc.core.errors import DataError, missing_package
from tfxc.core.escaping import json_text
from tfxc.core.storage.files import write_array, write_json
from tfxc.core.storage.reading import read_array, read_json
from tfxc.data.examples.kinds import SPARSE, FeatureKind
from tfxc.data.text.base import (
    COPY_AGAIN,
    Learner,
    TextFeatures,
    build_of,
    check_fitted,
    load_of,
    saving,
)
from tfxc.data.text.names import BAGS, TOKENS
from tfxc.data.text.terms import CutTexts
from tfxc.data.text.tokens import WordTokens
from tfxc.ops.csr import bounds_of
from tfxc.pretrained.static_tables import StaticTable, read_static_table

if TYPE_CHECKING:
    import tokenizers

    from tfxc.ops.text.static import StaticBag

_WHERE = "data.text_features.table"
_WORDS = "words"  # folder of the words, where there is no tokenizer
_TERMS = "terms"
_TABLE = "table.npy"
_TOKENIZER = "tokenizer.json"
_WHOLE_TEXT = 1 << 30
_ZIPF = 1e-4


class StaticFeatures(TextFeatures):
    """The mean of the vectors that a static table has of a text's tokens, of length ``weight``.

    The table knows words that no training text has. Its columns come behind those of ``terms``,
    whose rows have length 1. Tokens that the table lacks are left out; a text of such tokens alone
    has no vector. The table is read once and saved with the features.

    A table of words is looked up by runs of word characters; in lower case, unless a word of it has
    a capital letter. A text that spells a special token, as ``[SEP]``, is cut as any other.

    Args:
        table: ``"wordllama"`` (extra ``static``), a folder of Model2Vec or one that ``tfxc distill
            --to static`` has written, or a file of word vectors, see
            ``tfxc.pretrained.static_tables``.
        terms: config section of ``tfidf``, ``pecos_tfidf`` or ``hashing``; None for none.
        weight: length of the vectors.
        pooling: ``"mean"``, or ``"zipf"``, in which the token of rank r counts a / (a + p) with
            p = 1 / r, scaled to sum 1, and a = 0.0001. Files of words begin with the most frequent,
            most tokenizers, too. Folders of Model2Vec are weighted already.
        max_words: words that are read of a file of word vectors, the first ones.

    Raises:
        ConfigError: an argument has an impossible value; from ``fit``, the table cannot be read.

    Example:
        >>> features = StaticFeatures("wiki.vec", {"name": "tfidf"})  # doctest: +SKIP
        >>> features.fit([["red fox"]]).transform(["red hen"]).shape  # doctest: +SKIP
        (1, 302)

    Reference: Arora et al., ICLR 2017 (the weights); Tulkens and van Dongen, Model2Vec, 2024.
    """

    name = "static"
    kind: FeatureKind = SPARSE

    def __init__(
        self,
        table: str,
        terms: Mapping[str, Any] | None = None,
        weight: Positive = 1.0,
        pooling: Literal["mean", "zipf"] = "mean",
        max_words: Count = 200_000,
    ) -> None:
        super().__init__()
        self.terms = None if terms is None else build_of(BAGS, terms, "data.text_features.terms")
        self.words: WordTokens | None = None
        self._lookup: _Lookup | None = None

    @classmethod
    def of_table(cls, table: str, where: str) -> "StaticFeatures":
        """Returns fitted features of a table alone.

        Args:
            table: see the class.
            where: config key that names it, for messages.

        Raises:
            ConfigError: the table cannot be read.
        """
        features = cls(table)
        features._take(read_static_table(table, features._settings["max_words"], where), where)
        return features

    @property
    def nested(self) -> dict[str, TextFeatures]:
        """The text features that it is made of, by the names of their folders."""
        parts = {_TERMS: self.terms, _WORDS: self.words}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def num_features(self) -> int | None:  # type: ignore[override]
        """See ``TextFeatures``."""
        if self._lookup is None or (self.terms is not None and self.terms.num_features is None):
            return None
        return self.first + self._lookup.table.vectors.shape[1]

    @property
    def first(self) -> int:
        """The first column of the vectors."""
        return 0 if self.terms is None else self.terms.num_features or 0

    @property
    def blocks(self) -> list[int]:
        """Where blocks of columns that are scaled on their own begin, except the first."""
        return [] if self.terms is None else [*self.terms.blocks, self.first]

    def vocabulary(self) -> list[str] | None:
        """Returns the terms; the columns of the vectors have no names."""
        return None if self.terms is None else self.terms.vocabulary()

    def learner(self) -> Learner | None:
        """Reads the table; returns the ``Learner`` of the terms."""
        settings = self._settings
        self._take(read_static_table(settings["table"], settings["max_words"], _WHERE))
        return None if self.terms is None else self.terms.learner()

    @property
    def cuts_once(self) -> bool:
        """False: the tokens are cut apart from the terms."""
        return False

    def cut(self, texts: Sequence[str]) -> CutTexts:
        """Cuts texts into terms."""
        assert self.terms is not None, "they learn"
        return self.terms.cut(texts)

    def transform(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        """Returns one row per text, float32: the terms, then the vector.

        Raises:
            ConfigError: ``fit`` has not been called.
        """
        num_features = check_fitted(self.num_features)
        if not texts:
            return scipy.sparse.csr_matrix((0, num_features), dtype=np.float32)
        vectors = scipy.sparse.csr_matrix(self._vectors(texts))
        if self.terms is None:
            return vectors
        return scipy.sparse.hstack([self.terms.transform(texts), vectors], format="csr")

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        assert self._lookup is not None, "fit comes first"
        bounds, ids = self._tokens(texts, self._lookup)
        shape = (len(texts), len(self._lookup.weighted))
        counts = scipy.sparse.csr_matrix((np.ones(len(ids), np.float32), ids, bounds), shape)
        sums = counts @ self._lookup.weighted
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        scale = np.float32(self._settings["weight"])
        return np.divide(scale * sums, lengths, out=np.zeros_like(sums), where=lengths > 0)

    def _tokens(self, texts: Sequence[str], lookup: "_Lookup") -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of the table that texts read: bounds of each text, and rows."""
        size = len(lookup.weighted)
        if self.words is not None:
            rows = self.words.transform(texts)
            bounds, ids = rows.indptr, rows.tokens - 1
        else:
            texts = [text.encode("utf-8", "replace").decode() for text in texts]
            cut = lookup.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            bounds = bounds_of([len(text) for text in cut])
            ids = np.array([number for text in cut for number in text.ids], np.int64)
            ids[ids == lookup.unknown] = size
        known = ids < size
        kept = np.concatenate([[0], np.cumsum(known)])
        return kept[bounds], ids[known]

    def graph(self, folder: Path) -> "StaticBag":
        # Like TensorFlow, protobuf is not there in every installation.
        from tfxc.ops.text.static import StaticBag
        from tfxc.ops.text.subwords import SubwordIds
        from tfxc.pretrained.tokenizer_json import subwords_of_json

        check_fitted(self.num_features)
        lookup = self._lookup
        assert lookup is not None, "it is fitted"
        if self.words is not None:
            tokens: Any = self.words.graph(folder / _WORDS)
            # Id 0 is padding, the last one an unknown word.
            table = np.pad(lookup.weighted, ((1, 1), (0, 0)))
        else:
            assert lookup.table.tokenizer is not None, "there are no words"
            cut = subwords_of_json(lookup.table.tokenizer, _WHERE)
            tokens = SubwordIds(cut.settings, cut.pieces, _WHOLE_TEXT, model=cut.model)
            table = lookup.weighted.copy()
            table[[0, lookup.unknown or 0]] = 0
        terms = None if self.terms is None else self.terms.graph(folder / _TERMS)
        return StaticBag(tokens, table, self._settings["weight"], terms, self.first)

    def save(self, folder: str | Path) -> None:
        """Writes ``features.json``, ``table.npy``, ``tokenizer.json`` or the words, and the
        terms.
        """
        check_fitted(self.num_features)
        assert self._lookup is not None, "it is fitted"
        table = self._lookup.table
        with saving(folder, self.name, self.settings()) as scratch:
            write_array(scratch / _TABLE, table.vectors)
            if table.tokenizer is not None:
                write_json(scratch / _TOKENIZER, table.tokenizer, indent=None)
            for name, part in self.nested.items():
                part.save(scratch / name)

    def _load(self, folder: Path) -> None:
        vectors = read_array(folder / _TABLE, fix=COPY_AGAIN)
        if vectors.dtype != np.float16 or vectors.ndim != 2:
            raise DataError("this is not a table of vectors", where=folder / _TABLE, fix=COPY_AGAIN)
        if self.terms is not None:
            self.terms = load_of(BAGS, folder / _TERMS)
        if (folder / _TOKENIZER).exists():
            content = read_json(folder / _TOKENIZER, fix=COPY_AGAIN)
            self._take(StaticTable(vectors, content))
        else:
            words = load_of(TOKENS, folder / _WORDS)
            self._take(StaticTable(vectors, words=words.vocabulary()[1:-1]))

    def _take(self, table: StaticTable, where: str = _WHERE) -> None:
        self._lookup = _Lookup(table, self._settings["pooling"], where)
        if table.words is not None:
            lowercase = not any(word != word.lower() for word in table.words)
            self.words = WordTokens(_WHOLE_TEXT, lowercase=lowercase)
            self.words.use_vocabulary(table.words)


class _Lookup:
    """A table as texts are looked up in it; what is made of it is made when it is first used.

    Args:
        table: ``StaticTable``.
        pooling: see ``StaticFeatures``.
        where: config key that names it, for messages.
    """

    def __init__(self, table: StaticTable, pooling: str, where: str) -> None:
        self.table = table
        self._pooling = pooling
        self._where = where

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled tokenizer forgets ``encode_special_tokens``.
        return _Lookup, (self.table, self._pooling, self._where)

    @functools.cached_property
    def weighted(self) -> np.ndarray:
        """The table as it is summed up, float32."""
        vectors = self.table.vectors.astype(np.float32)
        if self._pooling == "mean":
            return vectors
        return vectors * zipf_weights(len(vectors))[:, None]

    @functools.cached_property
    def tokenizer(self) -> "tokenizers.Tokenizer":
        """That of a table without words."""
        with missing_package("static", where=self._where):
            import tokenizers
        tokenizer = tokenizers.Tokenizer.from_str(json_text(self.table.tokenizer))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        return tokenizer

    @functools.cached_property
    def unknown(self) -> int | None:
        """The id of tokens that the tokenizer lacks."""
        assert self.table.tokenizer is not None, "there are no words"
        model = self.table.tokenizer["model"]
        return model.get("unk_id", self.tokenizer.token_to_id(model.get("unk_token") or ""))


def zipf_weights(count: int) -> np.ndarray:
    """Returns the factor of each of so many tokens, the most frequent first, float32.

    Example:
        >>> (1e5 * zipf_weights(2)).round().tolist()
        [17.0, 25.0]

    Reference: Arora et al., ICLR 2017, with the probabilities of Zipf's law, as Model2Vec has it.
    """
    shares = 1 / np.arange(2, count + 2)
    shares /= shares.sum()
    return (_ZIPF / (_ZIPF + shares)).astype(np.float32)
