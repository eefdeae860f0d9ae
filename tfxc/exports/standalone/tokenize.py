"""Texts to the inputs of an exported model, as in training. Needs NumPy and no other package.

    from text_features.tokenize import load
    inputs = load("text_features")(["some text"])

For subwords of a pretrained model it needs the package tokenizers. This file stays in a folder of
its own: next to a program it would replace Python's own module ``tokenize``.
"""

import collections
import itertools
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Inputs = dict[str, np.ndarray]

_SURROGATES = re.compile("[\ud800-\udfff]")
_NO_TEXT = re.compile("[\0\uffff]")
_LINE_BREAK = re.compile(r"[\r\n]")
_WORD_HASHES = 1 << 16  # words that are remembered
_MULTIPLE = 8  # of the length of lists of tokens


def load(folder: str | Path) -> Callable[[Sequence[str]], Inputs]:
    """Returns a function of a list of texts -> the model's inputs by name.

    Args:
        folder: holds ``features.json`` and what it names.

    Raises:
        ValueError: the texts are cut in a way that this program does not know.
    """
    folder = Path(folder)
    head = json.loads((folder / "features.json").read_text(encoding="utf-8"))
    if head["name"] not in KINDS:
        raise ValueError(
            f"this program does not know text features {head['name']!r}, only {', '.join(KINDS)}"
        )
    known = head.get("unicode", unicodedata.unidata_version)
    if known != unicodedata.unidata_version:
        print(
            f"the training texts were cut with the tables of Unicode {known}, this Python has "
            f"{unicodedata.unidata_version}: new letters may be read differently",
            file=sys.stderr,
        )
    more = {name: head.get(name) for name in ("word", "first")}
    return KINDS[head["name"]](folder, {**head["settings"], **more})


class Characters:
    """A token per character, see ``characters`` in tfxc.

    Args:
        folder: holds ``vocabulary.txt``.
        settings: those in ``features.json``.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        names = read_lines(folder / "vocabulary.txt")
        special = 2 if settings.get("fill") else 1
        self._settings = settings
        self._unknown = len(names) - 1
        self._table = {token: number for number, token in enumerate(names[1:-special], 1)}
        self._find = finder(settings["word"] or "")

    def __call__(self, texts: Sequence[str]) -> Inputs:
        """Returns ``tokens``: int32 (texts, length), padded with 0."""
        most = self._settings["max_length"]
        rows = []
        for text in texts:
            tokens = itertools.islice(self._tokens(text), most)
            row = [self._table.get(token, self._unknown) for token in tokens]
            if self._settings.get("fill"):
                row += [self._unknown - 1] * (most - len(row))
            rows.append(row)
        return {"tokens": padded(rows)}

    def _tokens(self, text: str) -> Iterable[str]:
        settings = self._settings
        text = text.lower() if settings["lowercase"] else text
        if settings["raw"]:
            return text.replace("\0", " ")
        if settings["letters_only"]:
            return " ".join(self._find(text.replace("_", " ")))
        return " ".join(text.replace("\0", " ").split())


class Words(Characters):
    """A token per word, see ``words`` in tfxc."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        if settings["segmenter"] is not None:
            raise ValueError(f"this program does not have the segmenter {settings['segmenter']!r}")
        super().__init__(folder, settings)
        self._stop_words = frozenset(settings["stop_words"])

    def _tokens(self, text: str) -> list[str]:
        text = text.lower() if self._settings["lowercase"] else text
        return [word for word in self._find(text) if word not in self._stop_words]


class FastText(Words):
    """Words, and hashed n-grams of characters and of words, see ``fasttext`` in tfxc."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        self._first = self._unknown + 1
        self._known: dict[str, tuple[int, list[int]]] = {}

    def __call__(self, texts: Sequence[str]) -> Inputs:
        return {"tokens": padded([self._row(text) for text in texts])}

    def _row(self, text: str) -> list[int]:
        settings = self._settings
        words = self._tokens(text)[: settings["max_length"]]
        ids = [self._table[word] for word in words if word in self._table]
        hashes = []
        for word in words:
            number, ngrams = self._hashed(word)
            hashes.append(number - (number >> 31 << 32))  # as a signed number
            ids += [self._first + ngram % settings["buckets"] for ngram in ngrams]
        state = hashes
        for length in range(1, settings["word_ngrams"]):
            pairs = zip(state, hashes[length:], strict=False)
            state = [(before * 116049371 + last) % 2**64 for before, last in pairs]
            ids += [self._first + ngram % settings["buckets"] for ngram in state]
        return ids

    def _hashed(self, word: str) -> tuple[int, list[int]]:
        """Returns a word's hash, and those of its n-grams of characters."""
        if word not in self._known:
            if len(self._known) >= _WORD_HASHES:
                self._known.clear()
            least = self._settings["min_chars"]
            most = self._settings["max_chars"]
            parts = [character.encode("utf-8", "replace") for character in f"<{word}>"]
            lengths = range(least, most + 1) if most else ()
            spans = ((start, n) for n in lengths for start in range(len(parts) - n + 1))
            edges = (0, len(parts) - 1)
            ngrams = [
                fnv1a(b"".join(parts[start : start + n]))
                for start, n in spans
                if n > 1 or start not in edges
            ]
            self._known[word] = fnv1a(word.encode("utf-8", "replace")), ngrams
        return self._known[word]


class Bags:
    """What bags of weighted terms share.

    Args:
        folder: holds ``vocabulary.txt`` and ``idf.npy``, where there are any.
        settings: those in ``features.json``.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._idf = np.load(folder / "idf.npy") if settings.get("use_idf") else None
        # Of each column, the number of the part of a row that it is scaled with, if there are any.
        self._parts: np.ndarray | None = None

    def __call__(self, texts: Sequence[str]) -> Inputs:
        """Returns ``ids`` int32 (nnz,), ``weights`` float32 (nnz,), ``row_splits`` int64 (texts +
        1,).
        """
        ids = [np.zeros(0, np.int32)]
        weights = [np.zeros(0, np.float32)]
        for text in texts:
            counts = self._counts(text)
            columns = np.array(sorted(counts), np.int32)
            values = np.array([counts[column] for column in columns.tolist()], np.float32)
            ids.append(columns)
            weights.append(self._weights(columns, values))
        splits = np.cumsum([len(row) for row in ids]).astype(np.int64)
        return {
            "ids": np.concatenate(ids),
            "weights": np.concatenate(weights),
            "row_splits": splits,
        }

    def _counts(self, text: str) -> Mapping[int, int]:
        """Returns how often each column occurs in a text, or with which sign."""
        raise NotImplementedError

    def _weights(self, columns: np.ndarray, counts: np.ndarray) -> np.ndarray:
        if self._settings.get("binary"):
            counts = np.ones_like(counts)
        elif self._settings.get("sublinear_tf"):
            counts = np.log(counts) + 1
        if self._idf is not None:
            counts = (counts * self._idf[columns]).astype(np.float32)
        if self._parts is not None:
            parts = self._parts[columns]
            for part in np.unique(parts):
                counts[parts == part] = unit(counts[parts == part], self._settings["norm"])
        return unit(counts, self._settings["norm"])


class Tfidf(Bags):
    """TF-IDF weights, see ``tfidf`` in tfxc."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        terms = read_lines(folder / "vocabulary.txt")
        self._columns = {term: column for column, term in enumerate(terms)}
        self._find = finder(settings["word"])
        if settings["characters"] is not None:
            self._parts = np.array([term[:1] == " " for term in terms])

    def _counts(self, text: str) -> Mapping[int, int]:
        known = self._columns
        return collections.Counter(
            known[term] for term in ngrams(text, self._find, self._settings) if term in known
        )


class Hashing(Bags):
    """Hashed terms, see ``hashing`` in tfxc."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        self._find = finder(settings["word"])

    def _counts(self, text: str) -> Mapping[int, int]:
        size = self._settings["num_features"]
        counts: collections.Counter[int] = collections.Counter()
        for term in ngrams(text, self._find, self._settings):
            number = murmur3(term.encode("utf-8"))
            sign = -1 if self._settings["alternate_sign"] and number < 0 else 1
            # The smallest number has no absolute value in 32 bits; scikit-learn's rule.
            number = 2**31 - size if number == -(2**31) else abs(number)
            counts[number % size] += sign
        return counts


class PecosTfidf(Bags):
    """TF-IDF weights as PECOS has them, see ``pecos_tfidf`` in tfxc."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        ranges = settings["ngram_range"]
        kinds = settings["analyzer"]
        ranges = ranges if isinstance(ranges[0], list) else [ranges]
        kinds = [kinds] * len(ranges) if isinstance(kinds, str) else kinds
        self._blocks = list(zip(ranges, kinds, strict=True))
        terms = read_lines(folder / "vocabulary.txt")
        self._columns = {term: column for column, term in enumerate(terms)}
        if len(self._blocks) > 1:
            self._parts = np.array([self._block(term) for term in terms], np.int64)

    def _block(self, term: str) -> int:
        """Returns the number of the range a term is from."""
        of_characters = term[:1] == " "
        length = len(term) - 1 if of_characters else term.count(" ") + 1
        return next(
            number
            for number, ((least, most), kind) in enumerate(self._blocks)
            if least <= length <= most and of_characters == (kind != "word")
        )

    def _counts(self, text: str) -> Mapping[int, int]:
        known = self._columns
        most = self._settings["max_length"]
        plain = _LINE_BREAK.sub(" ", text)
        words = [word for word in plain.split(" ") if word][:most]
        plain = plain[:most]
        terms = []
        for (least, longest), kind in self._blocks:
            for n in range(least, longest + 1):
                if kind == "word":
                    terms += [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
                else:
                    terms += [f" {plain[i : i + n]}" for i in range(len(plain) - n + 1)]
        return collections.Counter(known[term] for term in terms if term in known)


class PretrainedSubwords:
    """Subwords of a pretrained model, see ``pretrained`` in tfxc; needs the package tokenizers.

    Args:
        folder: holds ``tokenizer.json``.
        settings: those in ``features.json``.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def __call__(self, texts: Sequence[str]) -> Inputs:
        """Returns ``tokens``: int32 (texts, length), padded with 0."""
        texts = [_SURROGATES.sub("?", text.replace("\0", "")) for text in texts]
        return {"tokens": padded([cut.ids for cut in self._tokenizer.encode_batch(texts)])}


class Static:
    """The mean of tokens' vectors next to a bag of terms, see ``static`` in tfxc; needs the
    package tokenizers where the table is not of words.

    Args:
        folder: holds ``table.npy``, ``tokenizer.json`` or the folder ``words``, and maybe
            ``terms``.
        settings: those in ``features.json``.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._weight = np.float32(settings["weight"])
        self._table = np.load(folder / "table.npy").astype(np.float32)
        if settings["pooling"] == "zipf":
            shares = 1 / np.arange(2, len(self._table) + 2)
            self._table *= (1e-4 / (1e-4 + shares / shares.sum())).astype(np.float32)[:, None]
        self._terms = load(folder / "terms") if (folder / "terms").is_dir() else None
        self._first = settings["first"]
        self._tokens: Callable[[Sequence[str]], Iterable[np.ndarray]]
        if (folder / "words").is_dir():
            words = load(folder / "words")
            self._tokens = lambda texts: words(texts)["tokens"] - 1
            self._unknown = len(self._table)
        else:
            from tokenizers import Tokenizer

            content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            tokenizer = Tokenizer.from_str(json.dumps(content))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            tokenizer.encode_special_tokens = True
            self._tokens = lambda texts: [
                np.array(cut.ids, np.int64)
                for cut in tokenizer.encode_batch(texts, add_special_tokens=False)
            ]
            model = content["model"]
            unknown = model.get("unk_id", tokenizer.token_to_id(model.get("unk_token") or ""))
            self._unknown = -1 if unknown is None else unknown

    def __call__(self, texts: Sequence[str]) -> Inputs:
        """Returns ``ids``, ``weights`` and ``row_splits``, see ``Bags``."""
        texts = [_SURROGATES.sub("?", text) for text in texts]
        ids = []
        weights = []
        for tokens in self._tokens(texts):
            known = (tokens >= 0) & (tokens < len(self._table)) & (tokens != self._unknown)
            vector = self._table[tokens[known]].sum(axis=0)
            columns = np.flatnonzero(vector)
            length = np.sqrt((vector * vector).sum())
            ids.append((self._first + columns).astype(np.int32))
            weights.append(self._weight * vector[columns] / length)
        splits = np.cumsum([0, *map(len, ids)])
        if self._terms is not None:
            terms = self._terms(texts)
            bounds = terms["row_splits"]
            ids = _alternating(np.split(terms["ids"], bounds[1:-1]), ids)
            weights = _alternating(np.split(terms["weights"], bounds[1:-1]), weights)
            splits += bounds
        return {
            "ids": np.concatenate([np.zeros(0, np.int32), *ids]),
            "weights": np.concatenate([np.zeros(0, np.float32), *weights]),
            "row_splits": splits.astype(np.int64),
        }


def _alternating(firsts: Sequence[np.ndarray], seconds: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [part for pair in zip(firsts, seconds, strict=False) for part in pair]


#: By ``name`` in ``features.json``.
KINDS: dict[str, Callable[[Path, Mapping[str, Any]], Callable[[Sequence[str]], Inputs]]] = {
    "characters": Characters,
    "words": Words,
    "fasttext": FastText,
    "tfidf": Tfidf,
    "hashing": Hashing,
    "pecos_tfidf": PecosTfidf,
    "pretrained": PretrainedSubwords,
    "static": Static,
}


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a file; a line feed and nothing else ends one, so that terms may hold
    U+2028.
    """
    return path.read_bytes().decode("utf-8").split("\n")[:-1]


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns the lists of ids as int32 (rows, length), padded with 0 to a multiple of 8.

    Example:
        >>> padded([[4, 5], []]).shape
        (2, 8)
    """
    longest = max(map(len, rows), default=0)
    tokens = np.zeros((len(rows), max(1, -(-longest // _MULTIPLE)) * _MULTIPLE), np.int32)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
    return tokens


def finder(pattern: str) -> Callable[[str], Iterable[str]]:
    """Returns a function of a text -> its words.

    Args:
        pattern: regular expression of a word; its group, if it has one, is the word.
    """
    find = re.compile(pattern).findall

    def words(text: str) -> list[str]:
        return [word for word in find(without_controls(text)) if word]

    return words


def without_controls(text: str) -> str:
    """Returns a text of characters of text alone."""
    return _SURROGATES.sub("\ufffd", _NO_TEXT.sub(" ", text))


def ngrams(
    text: str, find: Callable[[str], Iterable[str]], settings: Mapping[str, Any]
) -> Iterator[str]:
    """Yields the n-grams of a text's words, which are joined by a space, and those of the
    characters between blanks, which a space precedes.
    """
    text = text.lower() if settings["lowercase"] else text
    words = list(find(text))
    least, most = settings["ngram_range"]
    for n in range(least, most + 1):
        yield from (" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    if settings["characters"] is not None:
        shortest, longest = settings["characters"]
        for part in without_controls(text).split():
            padded = f" {part} "
            for n in range(min(shortest, len(padded)), min(longest, len(padded)) + 1):
                yield from (f" {padded[i : i + n]}" for i in range(len(padded) - n + 1))


def unit(weights: np.ndarray, norm: str | None) -> np.ndarray:
    """Returns float32 weights divided by their norm, ``"l1"``, ``"l2"`` or None; zeros stay.

    They are rounded where tfxc rounds them, since a last bit more moves examples in boosted trees.

    Example:
        >>> unit(np.float32([3, 4]), "l2").round(1).tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    if norm is None:
        return weights
    powers = np.abs(weights) if norm == "l1" else weights * weights
    length = powers.sum(dtype=np.float64)
    if norm == "l2":
        length = np.sqrt(length)
    if not length:
        return weights
    # NumPy 1 would divide float32 numbers by a single float64 one as float32.
    return np.divide(weights, length, dtype=np.float64).astype(np.float32)


def fnv1a(text: bytes) -> int:
    """Returns fastText's 32-bit FNV-1a hash, in which bytes from 128 on count as negative numbers.

    Example:
        >>> fnv1a(b"a")
        3826002220
    """
    state = 2166136261
    for byte in text:
        state = (state ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619 & 0xFFFFFFFF
    return state


def murmur3(text: bytes) -> int:
    """Returns the 32-bit MurmurHash3 with seed 0, as a signed number.

    Example:
        >>> murmur3(b"red")
        -347068675
    """
    state = 0
    tail = len(text) % 4
    for start in range(0, len(text) - tail, 4):
        state ^= _mixed(int.from_bytes(text[start : start + 4], "little"))
        state = (state << 13 | state >> 19) & 0xFFFFFFFF
        state = (state * 5 + 0xE6546B64) & 0xFFFFFFFF
    if tail:
        state ^= _mixed(int.from_bytes(text[-tail:], "little"))
    state ^= len(text)
    state = (state ^ state >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    state = (state ^ state >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    state ^= state >> 16
    return state - (state >> 31 << 32)


def _mixed(block: int) -> int:
    block = block * 0xCC9E2D51 & 0xFFFFFFFF
    block = (block << 15 | block >> 17) & 0xFFFFFFFF
    return block * 0x1B873593 & 0xFFFFFFFF
