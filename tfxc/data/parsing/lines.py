"""Numbered lines of a plain, ``.gz`` or ``.xz`` file, with errors that name file and line."""

import contextlib
import gzip
import io
import lzma
from collections.abc import Generator, Iterator
from pathlib import Path

from tfxc.core.errors import DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.core.storage.reading import archive_errors, damaged_archive, existing_file, read_errors

_DECOMPRESSORS = {".gz": gzip.open, ".xz": lzma.open}
#: Endings of compressed files that are read as they are.
COMPRESSED = tuple(_DECOMPRESSORS)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # its byte order marks
# Lines that are held at a time, whatever their number.
BLOCK_BYTES = 64 << 20


class Lines:
    """The lines of a file; ``\\n`` and ``\\r\\n`` end a line.

    Args:
        path: the file; ``.gz`` and ``.xz`` are decompressed.
        max_line_bytes: a longer line is refused; no more of it is read or decompressed.
        universal_newlines: whether a lone ``\\r`` ends a line as well, as Python reads texts.

    Attributes:
        bytes_read: bytes of the (compressed) file read so far by the latest iteration.
    """

    def __init__(
        self,
        path: str | Path,
        max_line_bytes: int = MAX_LINE_BYTES,
        universal_newlines: bool = False,
    ) -> None:
        self.path, self.max_line_bytes = Path(path), max_line_bytes
        self._universal = universal_newlines
        self.bytes_read = 0

    def blocks(self, size: int) -> Generator[tuple[int, list[bytes]], None, None]:
        """Yields ``(number of the first line, [at most size lines as bytes, without ending])``.

        A byte order mark at the beginning is dropped. A block ends early once it holds 64 MB.

        Raises:
            DataError: the compressed file is truncated or damaged, a line is too long, or the file
                is UTF-16.
        """
        first = 1
        with read_errors(self.path):
            file = open(existing_file(self.path), "rb")  # noqa: SIM115 (closed below)
        with file as raw, self._decompressed(raw) as stream:
            readline = self._readline_of(stream)
            while True:
                with archive_errors(self.path):
                    lines = self._read_lines(readline, size, first)
                self.bytes_read = raw.tell()
                if not lines:
                    return
                if first == 1:
                    self._refuse_utf_16(lines[0])
                    lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
                yield first, [line.rstrip(b"\r\n") for line in lines]
                first += len(lines)

    def _readline_of(self, stream):
        """Function of a number of bytes -> the next line, at most so much of it."""
        if not self._universal:
            return stream.readline
        # A character for each byte, so that errors of UTF-8 are found line by line.
        characters = io.TextIOWrapper(stream, "latin-1", newline=None)
        return lambda limit: characters.readline(limit).encode("latin-1")

    def _read_lines(self, readline, size, first):
        lines, held, limit = [], 0, self.max_line_bytes
        while len(lines) < size and held < BLOCK_BYTES:
            line = readline(limit + 1)
            if len(line) > limit:
                raise line_too_long(f"{self.path}:{first + len(lines)}", limit)
            if not line:
                break
            lines.append(line)
            held += len(line)
        return lines

    def _refuse_utf_16(self, line):
        if line.startswith(_UTF_16):
            raise DataError(
                "UTF-8 text expected, found the byte order mark of UTF-16",
                where=f"{self.path}:1",
                fix="convert the file, e.g. with iconv -f UTF-16 -t UTF-8",
            )

    def texts(self) -> Iterator[tuple[int, str]]:
        """Yields ``(line number, line as str)``.

        Raises:
            DataError: a line is not UTF-8, or the compressed file is damaged.
        """
        for first, lines in self.blocks(1024):
            for number, line in enumerate(lines, start=first):
                yield number, self._decoded(line, number)

    def first(self) -> bytes | None:
        """The first line as bytes, or None of an empty file."""
        with contextlib.closing(self.blocks(1)) as blocks:
            return next((lines[0] for _, lines in blocks), None)

    def _decompressed(self, raw):
        decompressor = _DECOMPRESSORS.get(self.path.suffix)
        if decompressor is None:
            return contextlib.nullcontext(raw)
        if self.path.stat().st_size == 0:
            raise damaged_archive(self.path, "it is empty")
        return decompressor(raw)

    def _decoded(self, line, number):
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"UTF-8 text expected, found byte 0x{line[error.start]:02x} at column "
                f"{error.start + 1}",
                where=f"{self.path}:{number}",
                fix="convert the file, e.g. with iconv -f LATIN1 -t UTF-8",
            ) from None


def line_too_long(where: str, limit: int, what: str = "line") -> DataError:
    """The DataError of a line, or a row of a matrix, of more than ``limit`` bytes."""
    return DataError(
        f"a {what} of at most {limit:,} bytes expected, found a longer one",
        where=where,
        fix="check the file; if it is right, raise data.max_line_bytes (for a single file "
        "--reader-option max_line_bytes=...)",
    )
