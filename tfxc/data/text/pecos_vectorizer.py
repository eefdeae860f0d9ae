"""Reads a TF-IDF vectoriser that PECOS has trained and saved.

The folder holds ``meta.json`` (number of base vectorisers, norm of the joined rows) and per base
vectoriser ``N.base/tokenizer/`` (``config.json`` with the kind of tokens, ``vocab.txt``: id, tab,
word) and ``N.base/vectorizer/`` (``config.json`` with the settings, ``tfidf-model.txt``: column,
idf, length of the n-gram and word ids, tabs between). Weights have six digits there, so a
vectoriser that PECOS has loaded differs by as much from the one it saved.
"""

from pathlib import Path

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.files import read_json, read_text
from tfxc.data.text.pecos_tfidf import PecosTfidfFeatures

_KINDS = {10: "word", 20: "char", 30: "char_wb"}
_SHARED = ("binary", "sublinear_tf", "max_length", "norm_p")
_SINGLE = "one vectoriser, or several of the same settings over n-grams of different lengths"

_COPY = "copy the whole vectoriser"


def load_pecos_vectorizer(folder):
    """Text features ``pecos_tfidf`` that give what a saved PECOS vectoriser gives.

    Args:
        folder: what ``Vectorizer.save`` of libpecos wrote, or the folder of a preprocessor.

    Returns:
        ``PecosTfidfFeatures``; ``save`` writes them as ours.

    Raises:
        DataError: no such folder, damaged, or of a kind that has no equal here: tokens that are
            characters, base vectorisers of different settings or with n-grams of the same length.

    Example:
        >>> features = load_pecos_vectorizer("pecos/vectorizer")      # doctest: +SKIP
        >>> features.transform(["some text"]).shape                   # doctest: +SKIP
        (1, 29443)
    """
    folder = Path(folder)
    meta = _read(folder / "meta.json", "kwargs")
    count = meta.get("num_base_vect")
    if not isinstance(count, int) or count < 1:
        raise DataError("num_base_vect is missing", where=folder / "meta.json")
    bases = [folder / f"{number}.base" for number in range(count)]
    settings = [_read(base / "vectorizer" / "config.json", "kwargs") for base in bases]
    ranges = [found.get("ngram_range") for found in settings]
    first = settings[0] | {"norm_p": f"l{meta.get('norm_p')}"}
    for base, found in zip(bases, settings, strict=True):
        compared = found if count > 1 else first
        if any(compared.get(key) != first.get(key) for key in _SHARED):
            raise DataError(f"{_SINGLE} expected, found others", where=base / "vectorizer")
        _check_tokens(base / "tokenizer" / "config.json")
    terms, weights = [], []
    for base in bases:
        found, idf = _columns(base)
        terms += found
        weights += idf
    try:
        features = PecosTfidfFeatures(
            ngram_range=ranges if count > 1 else ranges[0],
            binary=first["binary"],
            sublinear_tf=first["sublinear_tf"],
            max_length=first["max_length"] if first["max_length"] > 0 else None,
            norm=first["norm_p"],
        )
        return features.assume(terms, np.array(weights))
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
    raise DataError("a vectoriser saved by PECOS is expected", where=path)


def _check_tokens(path):
    kind = _read(path).get("token_type")
    if kind != 10:
        raise DataError(
            f"words are expected as tokens, found {_KINDS.get(kind, kind)}",
            where=path,
            fix='train the vectoriser with "analyzer": "word"',
        )


def _columns(base):
    """Terms and weights of a base vectoriser, by column."""
    path = base / "tokenizer" / "vocab.txt"
    words = {number: word for _, (number, word) in _lines(path, parts=2)}
    path = base / "vectorizer" / "tfidf-model.txt"
    found = {}
    for line, (column, idf, length, ids) in _lines(path, parts=4):
        numbers = ids.split(" ")
        if length != str(len(numbers)) or not all(number in words for number in numbers):
            raise DataError(f"{length} words of vocab.txt are expected", where=f"{path}:{line}")
        try:
            found[int(column)] = " ".join(words[number] for number in numbers), float(idf)
        except ValueError as error:
            raise DataError(
                "a column and its weight are expected", where=f"{path}:{line}"
            ) from error
    if sorted(found) != list(range(len(found))):
        raise DataError("columns without gaps are expected", where=path)
    columns = [found[column] for column in range(len(found))]
    return [term for term, _ in columns], [idf for _, idf in columns]


def _lines(path, parts):
    """Number and parts of each line; the first line says how many follow."""
    content = read_text(path, fix=_COPY)
    head, *lines = content.split("\n")[:-1] or [""]
    if not head.isdecimal() or int(head) != len(lines):
        raise DataError(f"{head or 'some'} lines are expected, found {len(lines)}", where=path)
    for number, line in enumerate(lines, 2):
        found = line.split("\t", parts - 1)
        if len(found) != parts:
            raise DataError(
                f"{parts} parts with tabs between are expected", where=f"{path}:{number}"
            )
        yield number, found
