"""Compressed files, recognised by their first bytes, whatever they are called."""

import bz2
import contextlib
import gzip
import importlib
import io
import lzma
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tfxc.core.errors import DataError, missing_package
from tfxc.core.storage.reading import damaged_archive, read_errors

#: Endings of compressed files that are read, which stand behind the ending of their format.
COMPRESSED = (".gz", ".xz", ".bz2", ".zst")
_HEAD_BYTES = 16


class Compression(NamedTuple):
    """How a file is compressed.

    Attributes:
        name: what a file is, as the end of a sentence.
        opener: function of a stream that returns its content; None where there is none.
        fix: how to unpack it.
    """

    name: str
    opener: Any
    fix: str


def _open_zstandard(raw: BinaryIO) -> Any:
    """Opens a stream by what there is: Python 3.14, or pyarrow."""
    if sys.version_info >= (3, 14):
        return importlib.import_module("compression.zstd").open(raw)
    with missing_package("parquet", otherwise="decompress the file with unzstd"):
        import pyarrow
    return io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"))


_KINDS = {
    rb"\x1f\x8b": Compression("compressed by gzip", gzip.open, "decompress it with gunzip"),
    rb"\xfd7zXZ\x00": Compression("compressed by xz", lzma.open, "decompress it with unxz"),
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": Compression(
        "compressed by bzip2", bz2.open, "decompress it with bunzip2"
    ),
    rb"\x28\xb5\x2f\xfd": Compression(
        "compressed by Zstandard", _open_zstandard, "decompress it with unzstd"
    ),
    rb"PK\x03\x04": Compression(
        "a ZIP archive, as workbooks of Excel are",
        None,
        "unpack it with unzip; give a workbook the ending .xlsx",
    ),
    rb"\xd0\xcf\x11\xe0": Compression(
        "an old workbook of Excel", None, "save it as .xlsx or as CSV UTF-8"
    ),
    rb"7z\xbc\xaf\x27\x1c": Compression("a 7-Zip archive", None, "unpack it with 7z x"),
}


def compression_of(head: bytes) -> Compression | None:
    """Returns how a file with these first bytes is compressed; None of a plain one.

    Example:
        >>> compression_of(b"\\x1f\\x8b\\x08").name, compression_of(b"text,label")
        ('compressed by gzip', None)
    """
    return next((kind for mark, kind in _KINDS.items() if re.match(mark, head)), None)


@contextlib.contextmanager
def decompressed(raw: BinaryIO, path: str | Path) -> Iterator[Any]:
    """The content of an open file, decompressed where it is gzip, xz, bzip2 or Zstandard.

    Args:
        raw: the file, at its beginning.
        path: its path, for messages.

    Yields:
        a binary stream with ``readline`` and ``peek``.

    Raises:
        ConfigError: the package for Zstandard is not installed.
        DataError: the file is compressed in another way, or is empty and its name ends as that of
            a compressed one.
    """
    with read_errors(path):
        head = raw.read(_HEAD_BYTES)
        raw.seek(0)
    if not head and Path(path).suffix.lower() in COMPRESSED:
        raise damaged_archive(path, "it is empty")
    kind = compression_of(head)
    if kind is None:
        yield raw
    elif kind.opener is None:
        raise DataError(f"the file is {kind.name}", where=path, fix=kind.fix)
    else:
        with kind.opener(raw) as stream:
            yield stream


def ending_of(path: str | Path) -> str:
    """Returns the ending that shows a file's format, in lower case: what stands before one such as
    ``.gz``.

    Example:
        >>> ending_of("Train.CSV.GZ"), ending_of("train.txt"), ending_of("train")
        ('.csv', '.txt', '')
    """
    name = Path(Path(path).name.lower())
    return Path(name.stem).suffix if name.suffix in COMPRESSED else name.suffix
