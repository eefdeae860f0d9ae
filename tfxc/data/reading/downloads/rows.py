"""What the makers of downloaded sets share: rows of the files, and files of Debian packages."""

import contextlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import archive_errors

Row = dict[str, str | list[str]]
_AR = b"!<arch>\n"  # how an archive begins
_AR_HEADER = 60  # bytes; a member starts at an even place


def example(text: str, labels: Sequence[str]) -> Row:
    """Returns a line of a file of examples."""
    return {"text": text, "labels": list(labels)}


def label_text(label: str, text: str) -> Row:
    """Returns a line of ``data.label_texts``."""
    return {"label": label, "text": text}


def joined_words(text: str) -> str:
    """Returns ``text`` with one blank for all between two words."""
    return " ".join(text.split())


def another_form(path: Path, reason: str) -> DataError:
    """Returns the error of a file that is read in vain."""
    return DataError(
        f"the file is not as the authors of the set describe it ({reason})",
        where=path,
        fix="remove the file to download it again",
    )


@contextlib.contextmanager
def opened_in_deb(path: Path, ending: str) -> Iterator[IO[bytes]]:
    """Opens the file of a Debian package whose name ends so.

    Raises:
        DataError: there is none, or the package is damaged.
    """
    with archive_errors(path), tarfile.open(fileobj=io.BytesIO(_data_of_deb(path))) as archive:
        member = next((m for m in archive if m.isfile() and m.name.endswith(ending)), None)
        if member is None:
            raise another_form(path, f"no {ending}")
        stream = archive.extractfile(member)
        assert stream is not None, "a file"
        yield stream


def _data_of_deb(path: Path) -> bytes:
    """Returns the member ``data.tar.*`` of the archive by ``ar`` that a Debian package is."""
    content = path.read_bytes()
    if not content.startswith(_AR):
        raise another_form(path, "no package of Debian")
    start = len(_AR)
    while header := content[start : start + _AR_HEADER]:
        size = int(header[48:58])
        start += _AR_HEADER
        if header.startswith(b"data.tar"):
            return content[start : start + size]
        start += size + size % 2
    raise another_form(path, "no data.tar")
