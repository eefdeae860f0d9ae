"""Numbered lines of a plain or compressed file, with errors that name file and line."""

import codecs
import contextlib
import io
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.core.storage.compression import compression_of, decompressed
from tfxc.core.storage.reading import archive_errors, existing_file, read_errors

T = TypeVar("T")

UTF_8 = "utf-8"
_LINE_FEED = b"\n"
# Lines that are held at a time, whatever their number.
BLOCK_BYTES = 64 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Those of UTF-32 begin as those of UTF-16 do.
_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    BYTE_ORDER_MARK: UTF_8,
}
# Bytes in which UTF-8 is told from another encoding, and characters beyond ASCII that prove it:
# two bytes of Chinese happen to be one of UTF-8 in one of ten cases.
_LOOKED_AT = 8192
_PROOF = 4
# What stands for a byte that a codec refuses: line ends are found in front of the error.
_REFUSED = "tfxc.refused"
_LONE_SURROGATES = 0xDC00
# Texts are shown in these where they are not UTF-8, this far around the first such byte.
_LIKELY = ("cp1252", "cp1251", "gb18030", "shift_jis")
_SHOWN = 8

codecs.register_error(
    _REFUSED,
    lambda error: (chr(_LONE_SURROGATES + error.object[error.start]), error.end),  # type: ignore[attr-defined]
)


class Lines:
    """The lines of a file; ``\\n`` and ``\\r\\n`` end a line.

    Args:
        path: the file; gzip, xz, bzip2 and Zstandard are told by its content and decompressed.
        max_line_bytes: a longer line is refused; no more of it is read or decompressed.
        universal_newlines: whether a lone ``\\r`` ends a line as well, as Python reads texts.
        encoding: of the file, if it does not begin with a byte order mark; None = UTF-8, where
            there is no option of that name.

    Attributes:
        bytes_read: bytes of the (compressed) file read so far by the latest iteration.

    Raises:
        ConfigError: Python knows no such encoding.
    """

    def __init__(
        self,
        path: str | Path,
        max_line_bytes: int = MAX_LINE_BYTES,
        universal_newlines: bool = False,
        encoding: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.max_line_bytes = max_line_bytes
        self._universal = universal_newlines
        self._encoding: str | None = None
        if encoding is not None:
            try:
                self._encoding = codecs.lookup(encoding).name
                # Refuses codecs that are none of texts, such as base64 and idna.
                "a".encode(encoding, _REFUSED)
            except (TypeError, LookupError, ValueError):
                raise ConfigError(
                    f"unknown encoding {encoding!r}",
                    where="encoding",
                    fix="name one such as utf-8, utf-16, cp1252, gb18030 or shift_jis",
                ) from None
            if self._encoding == "utf-8-sig":
                self._encoding = UTF_8
        self._codec = self._encoding or UTF_8
        self.bytes_read = 0

    def blocks(self, size: int) -> Generator[tuple[int, list[bytes]], None, None]:
        """Yields ``(number of the first line, [at most size lines in UTF-8, without ending])``.

        A byte order mark at the beginning is dropped. A block ends early once it holds 64 MB. Lines
        of a file in UTF-8 are not checked.

        Raises:
            DataError: the compressed file is truncated or damaged, a line is too long, or the file
                is UTF-8 and another encoding was given.
        """
        first = 1
        with read_errors(self.path):
            file = open(existing_file(self.path), "rb")  # noqa: SIM115 (closed below)
        with file as raw, decompressed(raw, self.path) as stream:
            with archive_errors(self.path):
                readline = self._readline_of(stream)
            limit = self.max_line_bytes
            while True:
                lines: list[bytes] = []
                held = 0
                with archive_errors(self.path):
                    while len(lines) < size and held < BLOCK_BYTES:
                        line = readline(limit + 1)
                        if len(line) > limit:
                            raise line_too_long(f"{self.path}:{first + len(lines)}", limit)
                        if not line:
                            break
                        lines.append(line)
                        held += len(line)
                self.bytes_read = raw.tell()
                if not lines:
                    return
                if first == 1:
                    lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
                yield first, [line.rstrip(b"\r\n") for line in lines]
                first += len(lines)

    def _readline_of(self, stream: io.BufferedReader) -> Callable[[int], bytes]:
        """Returns a function of a number of bytes -> the next line in UTF-8, at most so much
        of it.
        """
        head = stream.peek(_LOOKED_AT)[:_LOOKED_AT]
        marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
        self._codec = marked or self._encoding or UTF_8
        if self._codec == UTF_8 and not self._universal:
            return stream.readline
        if self._codec == UTF_8:
            # A character for each byte, so that errors of UTF-8 are found line by line.
            characters = io.TextIOWrapper(stream, "latin-1", newline=None)
            return lambda limit: characters.readline(limit).encode("latin-1")
        if marked is None and _is_utf_8(head):
            raise DataError(
                f"the file is in UTF-8, not in {self._encoding}",
                where=self.path,
                fix=f"say so with --encoding {UTF_8} (predict and others: --reader-option "
                f"encoding={UTF_8})",
            )
        newline = None if self._universal else "\n"
        decoded = io.TextIOWrapper(stream, self._codec, _REFUSED, newline)

        def readline(limit: int) -> bytes:
            try:
                return decoded.readline(limit).encode(UTF_8, "surrogatepass")
            except UnicodeError:  # UTF-16 and UTF-32 without a byte order mark
                raise DataError(
                    f"the file is not {self._codec}, or begins with no byte order mark",
                    where=self.path,
                    fix="name its encoding as the reader's option encoding; without the mark, "
                    "UTF-16 is utf-16-le or utf-16-be",
                ) from None

        return readline

    def pieces(self, size: int = 1 << 20) -> Generator[str, None, None]:
        """Yields the text of the file, cut anywhere, for formats without lines.

        Args:
            size: number of bytes of a piece, about.

        Raises:
            DataError: as ``texts``, but for lines that are too long.
        """
        decoder = codecs.getincrementaldecoder(UTF_8)()
        number = 1
        with read_errors(self.path):
            file = open(existing_file(self.path), "rb")  # noqa: SIM115 (closed below)
        with file as raw, decompressed(raw, self.path) as stream:
            with archive_errors(self.path):
                readline = self._readline_of(stream)
            block = b"begin"
            is_first = True
            while block:
                parts: list[bytes] = []
                held = 0
                with archive_errors(self.path):
                    while held < size and (part := readline(size)):
                        parts.append(part)
                        held += len(part)
                self.bytes_read = raw.tell()
                block = b"".join(parts)
                if is_first:
                    if b"\0" in block:
                        raise _no_text(f"{self.path}:1")
                    block = block.removeprefix(BYTE_ORDER_MARK)
                    is_first = False
                pending = decoder.getstate()[0]
                try:
                    text = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    whole = pending + block
                    start = whole.rfind(_LINE_FEED, 0, error.start) + 1
                    line = whole[start:].partition(_LINE_FEED)[0]
                    where = f"{self.path}:{number + whole.count(_LINE_FEED, 0, start)}"
                    raise self._undecodable(line, error.start - start, where) from None
                number += block.count(_LINE_FEED)
                if text:
                    yield text

    def _undecodable(self, line: bytes, place: int, where: str) -> DataError:
        """Returns the error of a line that is not in the file's encoding.

        Args:
            line: in UTF-8 but for what could not be decoded.
            place: of the first such byte.
        """
        if self._codec == UTF_8:
            return not_utf_8(line, place, where, self._encoding is not None)
        # A lone surrogate stands for a refused byte.
        before = line[:place].decode(UTF_8)
        sign = line[place:].decode(UTF_8, "surrogatepass")[0]
        return DataError(
            f"the byte 0x{ord(sign) - _LONE_SURROGATES:02x} behind "
            f"{before[-_SHOWN:]!r} is not {self._codec}",
            where=where,
            fix="name the file's encoding as the reader's option encoding, or repair the line",
        )

    def texts(self) -> Iterator[tuple[int, str]]:
        """Yields ``(line number, line as str)``.

        Raises:
            DataError: as ``blocks``; or a line is not in the file's encoding.
        """
        for first, lines in self.blocks(1024):
            for number, line in enumerate(lines, start=first):
                if number == 1 and b"\0" in line:
                    raise _no_text(f"{self.path}:1")
                try:
                    text = line.decode(UTF_8)
                except UnicodeDecodeError as error:
                    where = f"{self.path}:{number}"
                    raise self._undecodable(line, error.start, where) from None
                yield number, text

    def first(self) -> bytes | None:
        """Returns the first line in UTF-8, or None of an empty file."""
        with contextlib.closing(self.blocks(1)) as blocks:
            return next((lines[0] for _, lines in blocks), None)


def has_mark(head: bytes) -> bool:
    """Tells whether a text begins with a byte order mark.

    Example:
        >>> has_mark("é".encode("utf-8-sig")), has_mark("é".encode())
        (True, False)
    """
    return head.startswith(tuple(_MARKS))


def not_utf_8(line: bytes, place: int, where: str, has_option: bool = False) -> DataError:
    """Returns the DataError of a line that is not in UTF-8.

    Args:
        line: without its ending.
        place: of the first byte that is not UTF-8.
        where: file and line.
        has_option: whether the file's reader has the option ``encoding``.

    Example:
        >>> print(not_utf_8(b"caf\\xe9", 3, "a.txt:1"))
        a.txt:1: the byte 0xe9 in column 4 is not UTF-8; the text is 'café' in cp1252, 'cafй' in \
cp1251. Convert the file with iconv -f NAME -t UTF-8.
    """
    kind = compression_of(line)
    if kind is not None:
        return DataError(f"this is {kind.name}", where=where, fix=kind.fix)
    if b"\0" in line:
        return _no_text(where)
    readings = []
    for name in _LIKELY:
        with contextlib.suppress(UnicodeDecodeError):
            before = line[:place].decode(name)
            behind = line[place:].decode(name)
            readings.append(f"{before[-_SHOWN:] + behind[:_SHOWN]!r} in {name}")
    fix = "convert the file with iconv -f NAME -t UTF-8"
    if has_option:
        fix = "name the right one with --encoding NAME (predict and others: --reader-option "
        fix += "encoding=NAME), or convert the file with iconv -f NAME -t UTF-8"
    return DataError(
        f"the byte 0x{line[place]:02x} in column {place + 1} is not UTF-8; the text is "
        + (", ".join(readings) or "in another encoding"),
        where=where,
        fix=fix,
    )


def line_too_long(where: str, limit: int, what: str = "line") -> DataError:
    """Returns the DataError of a line, or a row of a matrix, of more than ``limit`` bytes."""
    return DataError(
        f"the {what} is longer than {limit:,} bytes",
        where=where,
        fix="check the file; if it is right, raise data.max_line_bytes (for a single file "
        "--reader-option max_line_bytes=...)",
    )


def _is_utf_8(head: bytes) -> bool:
    """Tells whether the beginning of a file is UTF-8, and not by chance."""
    try:
        text = codecs.getincrementaldecoder(UTF_8)().decode(head)
    except UnicodeDecodeError:
        return False
    return sum(not character.isascii() for character in text) >= _PROOF


def _no_text(where: str) -> DataError:
    return DataError(
        "the line contains zero bytes: it is not text, or it is UTF-16 without a byte order mark",
        where=where,
        fix="check the file; if it is UTF-16, set the encoding utf-16-le or utf-16-be",
    )


def bounded(
    items: Iterable[T], size: int, bytes_of: Callable[[T], int], max_bytes: int | None = None
) -> Iterator[list[T]]:
    """Yields lists of ``size`` items, the last shorter; a list that holds many bytes ends there.

    Args:
        bytes_of: function of an item, about how many bytes it takes.
        max_bytes: what a list ends at; None = 64 MB.

    Example:
        >>> list(bounded("abcde", 2, len))
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    max_bytes = max_bytes or BLOCK_BYTES
    block: list[T] = []
    held = 0
    for item in items:
        block.append(item)
        held += bytes_of(item)
        if len(block) == size or held >= max_bytes:
            yield block
            block = []
            held = 0
    if block:
        yield block
