r"""Patterns of words, in one dialect for Python and for the graph.

A pattern is a regular expression of RE2, the library in TensorFlow. Whatever the pattern, a match
is found in time that grows in proportion to the text, and so all of them in at most its square;
what would need more (looking ahead, back-references) RE2 does not have. ``\d`` and ``\s`` mean what
they mean in Python, digits and white space of all scripts. ``\w`` is a letter, a digit or ``_``, as
in Python, or a mark: vowel signs of Indic scripts, points of Arabic and Hebrew, accents of their
own (Unicode's Mn and Mc). Variation selectors 1 to 16 are left out: they follow emoji. ``\b`` is
refused, as RE2's knows ASCII only, but at the ends of a run of word characters (``\b\w\w+\b``),
where it changes nothing. Within a run, the zero-width joiner and non-joiner are part of the word,
as in Unicode's rules of word boundaries (UAX 29): Sinhala, Malayalam and Persian spell words with
them. Elsewhere they separate, like the spaces that they look like in text copied from the web.

Such runs are what Python's own ``re`` finds fastest, and without going back, and single characters
other than blanks (``\S``) need no search; everything else is left to TensorFlow's operation in
Python, too.
"""

import functools
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.core.storage.files import captured_standard_error

if TYPE_CHECKING:
    import tensorflow as tf


_RUNS = re.compile(r"(?:\(\?u\))?(\\b)?(?:(?P<each>(?:\\w)+)\+|\\w\{(?P<least>\d+),\})(\\b)?")
# Around each match. Texts have it replaced by a space, as U+0000: neither is a character of text.
MARK = "\uffff"
WORD = r"\w"
BLANK = r"\s"
#: All runs of word characters, single ones too.
WORDS = r"\w+"
#: All characters but blanks, one by one.
SYMBOLS = r"\S"
_JOINERS = "\u200c\u200d"
# Planes of Unicode that hold marks; to ask of all characters takes ten times as long.
_MARK_PLANES = (range(0x300, 0x20000), range(0xE0000, 0xE1000))
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)
_MAX = 1000  # repetitions, as RE2 has it
_REPLACEMENT = rf"{MARK}\1{MARK}"
_TRANSLATED = "wWdDsS"
_REFUSED = {"b": "word boundaries", "B": "word boundaries", "C": "single bytes", "Q": "quoting"}


def shortest_run(pattern: str) -> int | None:
    r"""Returns the length of the shortest word of a pattern that finds runs of word characters,
    else None.

    Example:
        >>> shortest_run(r"(?u)\b\w\w+\b"), shortest_run("[a-z]+")
        (2, None)
    """
    match = _RUNS.fullmatch(pattern)
    least = int(match["least"]) if match and match["least"] else 0
    least = len(match["each"]) // 2 if match and match["each"] else least
    return least if 1 <= least <= _MAX else None


def compiled_tokens(pattern: str) -> tuple[str, int] | None:
    r"""Returns what the tokens of a pattern are called in C, and the characters of the shortest
    one; None if only Python can find them.

    Example:
        >>> compiled_tokens(r"\w\w+"), compiled_tokens(r"\S"), compiled_tokens("[a-z]+")
        (('runs', 2), ('symbols', 1), None)
    """
    if pattern == SYMBOLS:
        return "symbols", 1
    shortest = shortest_run(pattern)
    return None if shortest is None else ("runs", shortest)


@functools.cache
def combining_marks() -> frozenset[str]:
    """Returns the marks that belong to words, as this Python's tables of Unicode have them."""
    return frozenset(
        chr(point)
        for points in _MARK_PLANES
        for point in points
        if unicodedata.category(chr(point)) in ("Mn", "Mc") and point not in _VARIATION_SELECTORS
    )


@functools.cache
def _torn_by_python() -> frozenset[str]:
    """Returns the characters that are part of words here, but not to Python's ``re``."""
    return combining_marks().union(_JOINERS)


@functools.cache
def character_class(escape: str) -> str:
    r"""Returns what ``\w``, ``\d``, ``\s`` or their opposites match, inside of RE2's ``[...]``."""
    ranges = _ranges(escape)
    return "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in ranges)


def _ranges(escape: str) -> list[tuple[int, int]]:
    """Returns the first and last code points of the ranges of characters that an escape matches."""
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    matched = np.zeros(sys.maxunicode + 2, bool)  # the last one ends a range
    for run in re.finditer(f"{escape.lower()}+", everything):
        matched[run.start() : run.end()] = True
    if escape.lower() == WORD:
        matched[[ord(mark) for mark in combining_marks()]] = True
    if escape.isupper():
        matched[:-1] = ~matched[:-1]
    matched[0xD800:0xE000] = False  # halves of surrogate pairs are no characters
    edges = np.flatnonzero(np.diff(matched, prepend=False))
    return [(first, end - 1) for first, end in edges.reshape(-1, 2).tolist()]


@functools.cache
def separators() -> str:
    r"""Returns what lies between runs of ``\w``, as a pattern of RE2.

    A joiner separates where a word character is missing on one of its sides.
    """
    word = character_class(WORD)
    joiners = f"[{_JOINERS}]"
    return f"{joiners}*[^{word}{_JOINERS}][^{word}]*|^{joiners}+|{joiners}+$"


@functools.cache
def python_pattern(pattern: str) -> str:
    r"""Returns a pattern for Python's ``re``, which finds the same words if it knows the pattern at
    all.

    Args:
        pattern: see the module.

    Example:
        >>> import re
        >>> re.findall(python_pattern(r"\w+"), "हिन्दी 中文")
        ['हिन्दी', '中文']
    """
    least = shortest_run(pattern)
    if least is None:
        return "".join(_parts(pattern.removeprefix("(?u)"), _python_class)[0])
    word = f"[{_python_class(WORD)}]"
    long_enough = f"(?=[{_python_class(WORD)}{_JOINERS}]{{{least - 1}}}[{_JOINERS}]*{word})"
    return f"{long_enough}{word}+(?:[{_JOINERS}]+{word}+)*"


@functools.cache
def _python_class(escape: str) -> str:
    r"""Returns what ``\w``, ``\d``, ``\s`` or their opposites match, inside of ``[...]`` of
    Python's re.
    """
    if escape == WORD:
        return WORD + "".join(sorted(combining_marks()))
    if escape != WORD.upper():
        return escape
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in _ranges(escape))


@functools.cache
def re2_pattern(pattern: str) -> str:
    r"""Returns a pattern for RE2 whose first group is the word.

    Args:
        pattern: see the module.

    Raises:
        ConfigError: RE2 has no such pattern, or it has more than one group.

    Example:
        >>> re2_pattern("[a-z]+")
        '([a-z]+)'
    """
    parts, groups = _parts(pattern.removeprefix("(?u)"), character_class)
    if groups > 1:
        raise ConfigError(
            f"{pattern!r} has {groups} groups, of which only one can be the word",
            where="token_pattern",
            fix="write (?:...) for groups that are not the word",
        )
    translated = "".join(parts)
    _check(pattern, translated)
    return translated if groups else f"({translated})"


def _parts(pattern: str, class_of: Callable[[str], str]) -> tuple[list[str], int]:
    """Returns the pattern's pieces, and its groups; ``class_of`` writes out an escape inside
    ``[...]``.
    """
    parts = []
    groups = 0
    in_class = False
    place = 0
    while place < len(pattern):
        piece = pattern[place : place + 2] if pattern[place] == "\\" else pattern[place]
        rest = pattern[place + 1 :]
        if piece[0] == "\\":
            piece = _escape(piece, in_class, pattern, class_of)
            place += 1
        elif in_class:
            end = rest.find(":]") if piece == "[" and rest.startswith(":") else -1
            if end >= 0:  # [:alpha:]
                piece += rest[: end + 2]
                place += end + 2
            in_class = piece != "]"
        elif piece == "[":
            in_class = True
            length = int(rest.startswith("^"))
            length += rest.startswith("]", length)  # at this place it does not end the class
            piece += rest[:length]
            place += length
        elif piece == "(":
            groups += not rest.startswith("?") or rest.startswith(("?P<", "?<"))
        parts.append(piece)
        place += 1
    return parts, groups


def _escape(escape: str, in_class: bool, pattern: str, class_of: Callable[[str], str]) -> str:
    if escape[1:] in _REFUSED:
        raise ConfigError(
            f"{pattern!r} has {escape} ({_REFUSED[escape[1:]]}), which cannot be used",
            where="token_pattern",
            fix=r"leave it out: matches are as long as they can be; \b\w\w+\b is allowed",
        )
    if escape[1:] and escape[1] in _TRANSLATED:
        return class_of(escape) if in_class else f"[{class_of(escape)}]"
    return escape


def _check(pattern: str, translated: str) -> None:
    import tensorflow as tf

    try:
        with captured_standard_error():  # RE2 writes its own line there
            tf.strings.regex_replace(tf.constant([""]), translated, "")
    except tf.errors.InvalidArgumentError as error:
        reason = error.message.rpartition("error: ")[2].partition(" [Op:")[0]
        reason = reason.replace(translated, "the pattern")
        raise ConfigError(
            f"{pattern!r} is not a regular expression of RE2: {reason[:200]}",
            where="token_pattern",
            fix='see docs/data.md, "Patterns of words"',
        ) from None


def marked(texts: "tf.Tensor", pattern: str) -> "tf.Tensor":
    """Returns the texts with each match replaced by its group, between two ``MARK``.

    Args:
        texts: string tensor (n,), valid UTF-8.
        pattern: see the module.
    """
    import tensorflow as tf

    texts = tf.strings.regex_replace(texts, f"[\\x{{0}}{MARK}]", " ")
    return tf.strings.regex_replace(texts, re2_pattern(pattern), _REPLACEMENT)


class TokenPattern:
    r"""Finds the words of texts in Python, the same as ``ops.text.bags.words`` does in the graph.

    Args:
        pattern: see the module.

    Raises:
        ConfigError: RE2 has no such pattern, or it has more than one group.

    Example:
        >>> TokenPattern(r"(?u)\b\w\w+\b")("a red fox")
        ['red', 'fox']
    """

    def __init__(self, pattern: str) -> None:
        if not isinstance(pattern, str):
            raise ConfigError(f"{pattern!r} is not a regular expression", where="token_pattern")
        self.pattern = pattern
        least = shortest_run(pattern)
        # Without \b each letter of a run that is too short would be tried as its first one.
        self._run = None if least is None else rf"(?u)\b\w{{{least},}}"
        if self._run is None and pattern != SYMBOLS:
            re2_pattern(pattern)

    def __call__(self, text: str) -> list[str]:
        """Returns the words of a text, in order."""
        return self.of([text])[0]

    def of(self, texts: Sequence[str]) -> list[list[str]]:
        """Returns lists of the words of texts."""
        if self._run:
            # Most texts have no marks, and without them Python's \w is three times as fast.
            find = re.compile(self._run).findall
            torn = _torn_by_python()
            return [
                find(text)
                if text.isascii() or torn.isdisjoint(text)
                else re.findall(python_pattern(self.pattern), text)
                for text in texts
            ]
        if self.pattern == SYMBOLS:
            return [list("".join(without_controls(text).split())) for text in texts]
        import tensorflow as tf

        encoded = tf.constant([without_controls(text) for text in texts], tf.string)
        replaced = tf.strings.regex_replace(encoded, re2_pattern(self.pattern), _REPLACEMENT)
        parts = (text.decode("utf-8").split(MARK)[1::2] for text in replaced.numpy())
        return [[word for word in words if word] for words in parts]


def without_controls(text: str) -> str:
    """Returns a text as ``marked`` has it: of characters of text alone.

    Example:
        >>> without_controls("a\\0b\\ud800")
        'a b\ufffd'
    """
    text = text.replace("\0", " ").replace(MARK, " ")
    # Single halves of surrogate pairs, as JSON may hold them.
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
