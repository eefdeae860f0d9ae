r"""Patterns of words, in one dialect for Python and for the graph.

A pattern is a regular expression of RE2, the library in TensorFlow. Whatever the pattern, a match
is found in time that grows in proportion to the text, and so all of them in at most its square;
what would need more (looking ahead, back-references) RE2 does not have. ``\w``, ``\d`` and ``\s``
mean what they mean in Python, letters, digits and white space of all scripts. ``\b`` is refused, as
RE2's knows ASCII only, but at the ends of a run of word characters (``\b\w\w+\b``), where it
changes nothing.

Such runs are what Python's own ``re`` finds fastest, and without going back; everything else is
left to TensorFlow's operation in Python, too.
"""

import functools
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import ConfigError
from tfxc.core.storage.files import captured_standard_error

if TYPE_CHECKING:
    import tensorflow as tf


_RUNS = re.compile(r"(?:\(\?u\))?(\\b)?(?:(?P<each>(?:\\w)+)\+|\\w\{(?P<least>\d+),\})(\\b)?")
# Around each match. Texts have it replaced by a space, as U+0000: neither is a character of text.
MARK = "\uffff"
WORD, BLANK = r"\w", r"\s"
_MAX = 1000  # repetitions, as RE2 has it
_REPLACEMENT = rf"{MARK}\1{MARK}"
_TRANSLATED = "wWdDsS"
_REFUSED = {"b": "word boundaries", "B": "word boundaries", "C": "single bytes", "Q": "quoting"}


def shortest_run(pattern: str) -> int | None:
    r"""Length of the shortest word of a pattern that finds runs of word characters, else None.

    Example:
        >>> shortest_run(r"(?u)\b\w\w+\b"), shortest_run("[a-z]+")
        (2, None)
    """
    match = _RUNS.fullmatch(pattern)
    least = int(match["least"]) if match and match["least"] else 0
    least = len(match["each"]) // 2 if match and match["each"] else least
    return least if 1 <= least <= _MAX else None


@functools.cache
def character_class(escape: str) -> str:
    r"""What Python's ``\w``, ``\d``, ``\s`` or their opposites match, inside of RE2's ``[...]``."""
    surrogates = range(0xD800, 0xE000)
    everything = "".join(chr(c) for c in range(sys.maxunicode + 1) if c not in surrogates)
    runs = (match.group() for match in re.finditer(f"{escape}+", everything))
    return "".join(f"\\x{{{ord(run[0]):x}}}-\\x{{{ord(run[-1]):x}}}" for run in runs)


@functools.cache
def re2_pattern(pattern: str) -> str:
    r"""A pattern for RE2 whose first group is the word.

    Args:
        pattern: see the module.

    Raises:
        ConfigError: RE2 has no such pattern, or it has more than one group.

    Example:
        >>> re2_pattern("[a-z]+")
        '([a-z]+)'
    """
    parts, groups = _parts(pattern.removeprefix("(?u)"))
    if groups > 1:
        raise ConfigError(
            f"at most one group expected, found {groups}",
            where="token_pattern",
            fix="write (?:...) for groups that are not the word",
        )
    translated = "".join(parts)
    _check(pattern, translated)
    return translated if groups else f"({translated})"


def _parts(pattern):
    """The pattern's pieces in RE2's words, and its number of groups."""
    parts, groups, in_class, place = [], 0, False, 0
    while place < len(pattern):
        piece = pattern[place : place + 2] if pattern[place] == "\\" else pattern[place]
        rest = pattern[place + 1 :]
        if piece[0] == "\\":
            piece = _escape(piece, in_class, pattern)
            place += 1
        elif in_class:
            end = rest.find(":]") if piece == "[" and rest.startswith(":") else -1
            if end >= 0:  # [:alpha:]
                piece += rest[: end + 2]
                place += end + 2
            in_class = piece != "]"
        elif piece == "[":
            in_class, opening = True, re.match(r"\^?\]?", rest).group()
            piece += opening
            place += len(opening)
        elif piece == "(":
            groups += not rest.startswith("?") or rest.startswith(("?P<", "?<"))
        parts.append(piece)
        place += 1
    return parts, groups


def _escape(escape, in_class, pattern):
    if escape[1:] in _REFUSED:
        raise ConfigError(
            f"{escape} ({_REFUSED[escape[1:]]}) cannot be used, found in {pattern!r}",
            where="token_pattern",
            fix=r"leave it out: matches are as long as they can be; \b\w\w+\b is allowed",
        )
    if escape[1:] and escape[1] in _TRANSLATED:
        found = character_class(escape)
        return found if in_class else f"[{found}]"
    return escape


def _check(pattern, translated):
    import tensorflow as tf

    try:
        with captured_standard_error():  # RE2 writes its own line there
            tf.strings.regex_replace(tf.constant([""]), translated, "")
    except tf.errors.InvalidArgumentError as error:
        reason = error.message.rpartition("error: ")[2].partition(" [Op:")[0]
        reason = reason.replace(translated, "the pattern")
        raise ConfigError(
            f"a regular expression of RE2 expected, found {pattern!r}: {reason[:200]}",
            where="token_pattern",
            fix='see docs/data.md, "Patterns of words"',
        ) from None


def marked(texts: "tf.Tensor", pattern: str) -> "tf.Tensor":
    """The texts with each match replaced by its group, between two ``MARK``.

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
            raise ConfigError(
                f"a regular expression expected, found {pattern!r}", where="token_pattern"
            )
        self.pattern, least = pattern, shortest_run(pattern)
        # Without \b each letter of a run that is too short would be tried as its first one.
        self._run = None if least is None else rf"(?u)\b\w{{{least},}}"
        if self._run is None:
            re2_pattern(pattern)

    def __call__(self, text: str) -> list[str]:
        """The words of a text, in order."""
        return self.of([text])[0]

    def of(self, texts: Sequence[str]) -> list[list[str]]:
        """Lists of the words of texts."""
        if self._run:
            return [re.findall(self._run, text) for text in texts]
        import tensorflow as tf

        given = tf.constant([_utf8(text) for text in texts], tf.string)
        found = tf.strings.regex_replace(given, re2_pattern(self.pattern), _REPLACEMENT)
        parts = (text.decode("utf-8").split(MARK)[1::2] for text in found.numpy())
        return [[word for word in words if word] for words in parts]

    def analysis(self) -> dict[str, Any]:
        """The arguments of scikit-learn's vectorisers that cut texts so."""
        if self._run:
            return {"token_pattern": self._run}
        return {"tokenizer": self, "token_pattern": None}


def _utf8(text):
    """A text as ``marked`` has it, in bytes."""
    text = text.replace("\0", " ").replace(MARK, " ")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # single halves of surrogate pairs, as JSON may hold them
        return re.sub("[\ud800-\udfff]", "\ufffd", text).encode("utf-8")
