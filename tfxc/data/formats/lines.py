"""Numbered lines of a plain, ``.gz`` or ``.xz`` file, with errors that name file and line."""

import contextlib
import gzip
import itertools
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path

from tfxc.errors import DataError

_DECOMPRESSORS = {".gz": gzip.open, ".xz": lzma.open}
_DAMAGES = (
    EOFError, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error
)  # fmt: skip
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines:
    """The lines of a file; only ``\\n`` and ``\\r\\n`` end a line.

    Args:
        path: the file; ``.gz`` and ``.xz`` are decompressed.

    Attributes:
        bytes_read: bytes of the (compressed) file read so far by the latest iteration.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.bytes_read = 0

    def blocks(self, size):
        """Yields ``(number of the first line, [at most size lines as bytes, without ending])``.

        A byte order mark at the beginning is dropped.

        Raises:
            DataError: the compressed file is truncated or damaged.
        """
        first = 1
        with open(self.path, "rb") as raw, self._decompressed(raw) as stream:
            while True:
                with reading_errors(self.path):
                    lines = list(itertools.islice(stream, size))
                self.bytes_read = raw.tell()
                if not lines:
                    return
                if first == 1:
                    lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
                yield first, [line.rstrip(b"\r\n") for line in lines]
                first += len(lines)

    def texts(self):
        """Yields ``(line number, line as str)``.

        Raises:
            DataError: a line is not UTF-8, or the compressed file is damaged.
        """
        for first, lines in self.blocks(1024):
            for number, line in enumerate(lines, start=first):
                yield number, self._decoded(line, number)

    def first(self):
        """The first line as bytes, or None of an empty file."""
        with contextlib.closing(self.blocks(1)) as blocks:
            return next((lines[0] for _, lines in blocks), None)

    def _decompressed(self, raw):
        decompressor = _DECOMPRESSORS.get(self.path.suffix)
        if decompressor is None:
            return contextlib.nullcontext(raw)
        if self.path.stat().st_size == 0:
            raise _damaged(self.path, "it is empty")
        return decompressor(raw)

    def _decoded(self, line, number):
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"UTF-8 text is expected, found byte 0x{line[error.start]:02x} at column "
                f"{error.start + 1}",
                where=f"{self.path}:{number}",
                fix="convert the file, e.g. with iconv -t UTF-8",
            ) from None


@contextlib.contextmanager
def reading_errors(path):
    """Turns what a damaged ``.gz``, ``.xz``, ``.npz`` or ``.tar`` raises into a DataError.

    Raises:
        DataError: naming ``path``.
    """
    try:
        yield
    except _DAMAGES as error:
        raise _damaged(path, str(error)) from error


def _damaged(path, reason):
    return DataError(
        f"the compressed file is truncated or damaged ({reason})",
        where=path,
        fix="copy or download it again",
    )
