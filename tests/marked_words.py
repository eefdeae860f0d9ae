"""Words with their marks, found by Python's ``re`` in texts where letters stand for marks."""

import re
import sys
import unicodedata

_JOINERS = "\u200c\u200d"
_MARKS = [
    chr(point)
    for point in range(sys.maxunicode + 1)
    if unicodedata.category(chr(point)) in ("Mn", "Mc") and not 0xFE00 <= point <= 0xFE0F
]
# Letters of a script that no test uses.
_LETTERS = {ord(mark): chr(0x30000 + place) for place, mark in enumerate([*_MARKS, *_JOINERS])}
_BACK = {ord(letter): chr(mark) for mark, letter in _LETTERS.items()}
_OF_MARKS = {ord(mark): _LETTERS[ord(mark)] for mark in _MARKS}


def find_words(pattern, text):
    r"""The words that a pattern finds; joiners belong to runs of ``\w`` that they are within."""
    text = text.translate(_OF_MARKS)
    if re.fullmatch(r"(\(\?u\))?(\\b)?((\\w)+\+|\\w\{\d+,\})(\\b)?", pattern):
        inside = rf"(?<=\w)[{_JOINERS}]+(?=\w)"
        text = re.sub(inside, lambda match: match.group().translate(_LETTERS), text)
    return [word.translate(_BACK) for word in re.findall(pattern, text) if word]


def without_marks(text):
    """A text that has nothing that Python's ``re`` does not count among words."""
    return "".join(c for c in text if ord(c) not in _LETTERS)
