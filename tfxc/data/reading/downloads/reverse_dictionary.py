"""Definitions of a dictionary of 1913 with their words, and those of WordNet to find them by.

The training split are Webster's definitions in GCIDE, of 3 to 80 words, without those that came
from WordNet. The dev split are 5,000 definitions of WordNet whose words Webster has; which of them
is a list (``wordnet_rows``), because they were drawn in a way that is not known.
"""

import collections
import gzip
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tfxc.data.reading.downloads.rows import Row, example, joined_words, opened_in_deb
from tfxc.data.reading.downloads.wordnet_rows import dev_rows

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_WORD = re.compile("[a-z][a-z-]{2,}")
_REMARK = re.compile(r"\[[^\]]*\]")  # etymology, usage, and whose the definition is
_SENSE = re.compile(r"\n\s*(?:\d+\.|\(\w\))\s")
_PARAGRAPH = re.compile(r"\n\s*\n|\n\s*--")  # or the author of a quotation
_FROM_WORDNET = "\0"


def definitions(files: Mapping[str, Path]) -> dict[str, list[Row]]:
    """Returns definitions, the word itself replaced by ``_``, and the word."""
    gcide, wordnet = sorted(files.values())
    pairs = dict.fromkeys(
        (word, text) for word, entry in _entries(gcide) for text in _senses(word, entry)
    )
    known = {word for word, _ in pairs}
    words_of = collections.defaultdict(set)
    for text, words in _glosses(wordnet, known):
        words_of[text].update(words)
    glosses = [example(text, sorted(words)) for text, words in words_of.items()]
    return {
        "train.jsonl.xz": [
            example(text, [word]) for word, text in sorted(pairs, key=operator.itemgetter(0))
        ],
        "dev.jsonl.xz": [glosses[row] for row in dev_rows(len(glosses))],
    }


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the first word of each entry of a dictionary of dictd, and the entry."""
    with opened_in_deb(path, "/gcide.dict.dz") as packed, gzip.open(packed) as stream:
        content = stream.read()
    listed = set()
    for line in _lines(path, "/gcide.index"):
        head, place, length = line.split("\t")
        listed.add((_number(place), _number(length), head.lower()))
    for start, size in sorted({place[:2] for place in listed}):
        entry = content[start : start + size].decode("utf-8", "replace")
        word = re.sub("[^a-z-]", "", entry.partition(" \\")[0].lower())
        if _WORD.fullmatch(word) and (start, size, word) in listed:
            yield word, entry


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * len(_DIGITS) + _DIGITS.index(digit)
    return number


def _lines(path: Path, ending: str) -> list[str]:
    with opened_in_deb(path, ending) as stream:
        return stream.read().decode("utf-8").split("\n")[:-1]


def _senses(word: str, entry: str) -> Iterator[str]:
    marked = _REMARK.sub(lambda m: _FROM_WORDNET if "WordNet" in m[0] else " ", entry)
    _, _, body = marked.partition("\n")  # pronunciation and part of speech come first
    for sense in _SENSE.split(body):
        first = _PARAGRAPH.split(sense.strip())[0].translate({ord("{"): None, ord("}"): None})
        text = _without([word], joined_words(first))
        if _FROM_WORDNET not in sense and 3 <= len(text.split()) <= 80:
            yield text


def _glosses(path: Path, known: set[str]) -> Iterator[tuple[str, set[str]]]:
    """Yields the definition of each set of synonyms, and those of these that are known."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in _lines(path, f"/data.{part}"):
            if line.startswith("  "):
                continue  # the licence
            fields, _, gloss = line.partition(" | ")
            words = fields.split()
            synonyms = words[4 : 4 + 2 * int(words[3], 16) : 2]
            found = {re.sub(r"\(.*\)$", "", synonym).lower() for synonym in synonyms} & known
            if found:
                text = re.split(r';\s*"', gloss)[0].strip(" ;")
                yield _without(sorted(found), text), found


def _without(words: Sequence[str], text: str) -> str:
    for word in words:
        text = re.sub(rf"\b{re.escape(word)}\w*\b", "_", text, flags=re.IGNORECASE)
    return text
