"""Tar archives read strictly, and the files that a pattern of shards stands for."""

import contextlib
import glob
import itertools
import re
import tarfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Self

from tfxc.core.errors import DataError
from tfxc.core.storage.compression import COMPRESSED, decompressed
from tfxc.core.storage.reading import archive_errors

#: Endings of the names of tar archives.
TAR_SUFFIXES = (".tar", *(f".tar{ending}" for ending in COMPRESSED), ".tgz", ".txz", ".tbz2")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_DRAIN_BYTES = 1 << 20
# The largest file of an archive that is read; the largest of CIFAR's takes 160 MB.
_MAX_BYTES = 512 << 20


class _StrictTarInfo(tarfile.TarInfo):
    """Python takes a cut or damaged header for the end of the archive; here it is an error."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


@contextlib.contextmanager
def open_tar(path: str | Path) -> Iterator[tarfile.TarFile]:
    """Opens a tar archive, plain or compressed; yields a ``tarfile.TarFile``.

    Raises:
        DataError: the archive is truncated or damaged, also while it is open.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(archive_errors(path))
        stream = stack.enter_context(decompressed(stack.enter_context(open(path, "rb")), path))
        yield stack.enter_context(tarfile.open(fileobj=stream, mode="r:", tarinfo=_StrictTarInfo))


def tar_members(
    path: str | Path,
) -> Generator[tuple[tarfile.TarInfo, Callable[[], bytes]], None, None]:
    """Yields ``(member, read)`` of the regular files of an archive, in order and constant memory.

    ``read()`` returns the content as bytes; it must be called before the next member is taken.

    Raises:
        DataError: the archive is truncated or damaged, or ``read`` is called for a file of more
            than 512 MB.
    """
    with open_tar(path) as archive:

        def read() -> bytes:
            assert member is not None, "it is the one that was yielded"
            if member.size > _MAX_BYTES:
                raise DataError(
                    f"{member.name} has {member.size:,} bytes, more than the {_MAX_BYTES:,} that "
                    "are read of a file",
                    where=path,
                    fix="leave it out, or unpack the archive",
                )
            with archive_errors(path):
                content = archive.extractfile(member)
                assert content is not None, "it is a regular file"
                return content.read()

        while (member := archive.next()) is not None:
            # It remembers every member.
            archive.members.clear()  # type: ignore[attr-defined]  # not in the types of tarfile
            if member.isfile():
                yield member, read
        # The checksum of a compressed file follows its content.
        assert archive.fileobj is not None, "it is open"
        while archive.fileobj.read(_DRAIN_BYTES):
            pass


def is_tar(path: str | Path) -> bool:
    """Tells whether the name ends as that of a tar archive does."""
    return str(path).lower().endswith(TAR_SUFFIXES)


def is_shard_pattern(path: str | Path) -> bool:
    """Tells whether ``path`` is a pattern of tar shards, by ``*``, ``?``, ``[`` or ``{``."""
    return is_tar(path) and not Path(path).exists() and any(sign in str(path) for sign in "*?[{")


def shard_files(path: str | Path) -> list[Path]:
    """Returns the files that ``path`` stands for.

    Args:
        path: a file; a folder, of which all tar archives are taken; a pattern with ``*``, ``?``
            or ``[...]``; a range ``{000..123}`` of numbers, as many of them as there are.

    Returns:
        list of ``Path``, sorted by name, the numbers of a range in order.

    Raises:
        DataError: there is no such file, or one of a range is missing.
    """
    if Path(path).is_dir():
        files = sorted(file for file in Path(path).iterdir() if is_tar(file.name))
    elif Path(path).exists():
        files = [Path(path)]
    else:
        files = []
        for name in _numbered(str(path)):
            if any(sign in name for sign in "*?["):
                files += sorted(map(Path, glob.glob(name)))
            elif Path(name).exists():
                files.append(Path(name))
            else:
                raise _missing(name)
    if not files:
        raise _missing(path)
    return files


def _numbered(pattern: str) -> Iterator[str]:
    """Yields all strings of a pattern with ranges of numbers."""
    parts = _RANGE.split(pattern)
    ranges = [
        [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        for first, last in zip(parts[1::3], parts[2::3], strict=True)
    ]
    for numbers in itertools.product(*ranges):
        pairs = itertools.zip_longest(parts[::3], numbers, fillvalue="")
        yield "".join(itertools.chain.from_iterable(pairs))


def _missing(path: str | Path) -> DataError:
    return DataError("no such file", where=path, fix="check the path")
