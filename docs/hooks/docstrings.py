"""Docstrings of this package as Markdown."""

import inspect
import re
from typing import NamedTuple

# Sections whose entries are "name: text"; any other section is text.
TABLES = ("Args", "Attributes", "Class attributes", "Raises")
_SECTIONS = (*TABLES, "Example", "Examples", "Reference", "References", "Returns", "Yields")
_HEADING = re.compile(rf"({'|'.join(_SECTIONS)}):(?:\s|$)")
_ENTRY = re.compile(r"(\*{0,2}\w[\w.]*(?:, \*{0,2}\w[\w.]*)*): (.*)")


class Docstring(NamedTuple):
    """A docstring taken apart.

    Attributes:
        text: Markdown before the first section.
        sections: {heading: {name: text} or Markdown}, in the order of the docstring.
    """

    text: str
    sections: dict


def parse(text):
    """Takes a docstring apart.

    Args:
        text: as in the source; None counts as an empty one.

    Example:
        >>> parse("Adds.\\n\\nArgs:\\n    a, b: numbers.").sections["Args"]
        {'a': 'numbers.', 'b': 'numbers.'}
    """
    found, heading = {None: []}, None
    for line in inspect.cleandoc(text or "").splitlines():
        match = _HEADING.match(line)
        if match:
            heading = match[1]
            found[heading] = [line[match.end() :]]
        elif line and not line.startswith(" ") and heading in (*TABLES, "Example", "Examples"):
            heading = None  # the section has ended
            found[None] += ["", line]
        else:
            found[heading].append(line)
    plain = markdown(found.pop(None))
    sections = {
        heading: _entries(lines) if heading in TABLES else markdown(_dedent(lines))
        for heading, lines in found.items()
    }
    return Docstring(plain, sections)


def _dedent(lines):
    """Lines of a section, whose first one may follow the heading."""
    first, *rest = lines
    return [first.strip(), *inspect.cleandoc("\n" + "\n".join(rest)).splitlines()]


def _entries(lines):
    """{name: text} of a section of names."""
    found, names = {}, ()
    for line in _dedent(lines):
        match = _ENTRY.match(line)
        if match:
            names = match[1].split(", ")
            found |= dict.fromkeys(names, match[2])
        elif line.strip():
            for name in names:
                found[name] += " " + line.strip()
    return {name: inline(text) for name, text in found.items()}


def markdown(lines):
    """Markdown of lines of reStructuredText as used here; doctests become blocks of code."""
    result, code = [], False
    for line in lines:
        is_code = line.startswith((">>>", "...")) or (code and line.strip() != "")
        if is_code != code:
            result += ["```", ""] if code else ["", "```pycon"]
            code = is_code
        result.append(line.replace("  # doctest: +SKIP", "").rstrip() if code else inline(line))
    return "\n".join([*result, "```"] if code else result).strip()


def inline(text):
    """One piece of text: literals, and characters that mean something to HTML."""
    pieces = re.split(r"(``.*?``)", text)
    return "".join(
        f"`{piece.strip('`')}`" if piece.startswith("``") else piece.replace("<", "&lt;")
        for piece in pieces
    )


def cell(text):
    """Text as a cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
