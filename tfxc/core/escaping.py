"""Text that others wrote, made safe to show: label names, texts, file names, config values.

Such text may hold anything. On a terminal control characters move the cursor, change the title or
reorder what is read; in Markdown and HTML it becomes markup; a cell of a spreadsheet that begins
with ``=`` is a formula. There is one function for each place where text is shown, and none changes
what programs read: JSON stays exact.
"""

import bisect
import contextlib
import html
import itertools
import json
import math
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

# Control characters (C0, DEL, C1), line and paragraph separators, the controls that reorder text,
# and halves of surrogate pairs, which no encoding can write.
_UNSAFE = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROLS = re.compile(f"[\x00-\x1f{_UNSAFE}]")
_CONTROLS_BUT_LAYOUT = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSAFE}]")
_BEYOND_JSON = re.compile(f"[{_UNSAFE}]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MARKUP = re.compile(r"[\\`*_\[\]|~$#]|^[-+=]|(?<=^\d)[.)]|(?<=^\d\d)[.)]")
_NUMBERS = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?(; [-+]?[0-9.]+(e[-+]?[0-9]+)?)*", re.IGNORECASE)
_FORMULA = re.compile("^(?=[\t\n])|(^|[;\t\n]\\s*)(?=[-=+@\uff1d\uff0b\uff0d\uff20])")


def one_line(text: object) -> str:
    """Returns ``text`` without control characters: each is written as its escape.

    Example:
        >>> print(one_line("red\\x1b[31m\\nowl"))
        red\\x1b[31m\\nowl
    """
    return _CONTROLS.sub(_escape, str(text))


def clipped(line: str, width: int) -> str:
    """Returns a line that takes at most ``width`` columns of a terminal, "…" where it was cut.

    Example:
        >>> clipped("a long line", 6), clipped("狐狸狐狸", 6)
        ('a lon…', '狐狸…')
    """
    widths = [
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in line
    ]
    if sum(widths) <= width:
        return line
    ends = list(itertools.accumulate(widths))
    return line[: bisect.bisect_right(ends, width - 1)] + "…"


def several_lines(text: object) -> str:
    """As ``one_line``, with line breaks and tabs kept."""
    return _CONTROLS_BUT_LAYOUT.sub(_escape, str(text))


def json_text(value: object, **options: Any) -> str:
    """Returns ``value`` as JSON that can be printed: exact, other scripts readable, controls
    escaped.

    NaN and infinity, which JSON has not, become null.

    Args:
        options: of ``json.dumps``.

    Example:
        >>> print(json_text("owl \\x9b日本"))
        "owl \\u009b日本"
    """
    options = {"ensure_ascii": False, "allow_nan": False, **options}
    try:
        text = json.dumps(value, **options)
    except ValueError:
        text = json.dumps(_finite(value), **options)
    if text.isascii() and "\x7f" not in text:  # much faster than to search
        return text
    return _BEYOND_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def markdown_text(text: object) -> str:
    """Returns ``text`` for a line or a table cell of Markdown, shown as it is.

    Example:
        >>> print(markdown_text("<b>a|b</b> [x](y)"))
        &lt;b&gt;a\\|b&lt;/b&gt; \\[x\\](y)
    """
    return html.escape(_MARKUP.sub(r"\\\g<0>", one_line(text)), quote=False)


def html_text(text: object) -> str:
    """Returns ``text`` for a page or an attribute of HTML."""
    return html.escape(one_line(text))


def csv_cell(value: object) -> Any:
    """Returns a cell of a table that spreadsheets open; numbers, and texts that are numbers, stay.

    What a spreadsheet could take for a formula gets an apostrophe in front, also after what it
    could take for a separator or the end of a row. Control characters but line breaks and tabs are
    written as their escapes.

    Example:
        >>> [csv_cell(value) for value in ("=1+1", "a;=1", "-1", "a-b", -1)]
        ["'=1+1", "a;'=1", '-1', 'a-b', -1]
    """
    if not isinstance(value, str):
        return value
    return value if _NUMBERS.fullmatch(value) else _FORMULA.sub(r"\g<0>'", several_lines(value))


class SafeStream:
    """A text stream that writes control characters, but line breaks and tabs, as their escapes.

    Args:
        stream: the stream it wraps, whose other methods it has.
        change: applied to each text before it is escaped.

    Attributes:
        unescaped: the stream it wraps, for tfxc's own control sequences.
    """

    def __init__(self, stream: TextIO, change: Callable[[str], str] = str) -> None:
        self.unescaped = stream
        self._change = change

    def write(self, text: str) -> int:
        """Writes the escaped text; returns the number of characters given."""
        self.unescaped.write(several_lines(self._change(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name):
        return getattr(self.unescaped, name)


@contextlib.contextmanager
def safe_output(change: Callable[[str], str] = str) -> Iterator[None]:
    """Makes standard output and standard error ``SafeStream``s for as long as it is open.

    So no command has to think of control characters in what it prints. What the encoding of the
    terminal lacks is written as an escape as well.

    Args:
        change: applied to each text before it is escaped.
    """
    with contextlib.ExitStack() as stack:
        for stream, redirect in (
            (sys.stdout, contextlib.redirect_stdout),
            (sys.stderr, contextlib.redirect_stderr),
        ):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
            stack.enter_context(redirect(SafeStream(stream, change)))
        yield


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
