"""Files that appear whole or not at all, and text files in any compression."""

import contextlib
import errno
import gzip
import hashlib
import lzma
import os
import shutil
import tempfile
from pathlib import Path

from tfxc.errors import DataError, MachineError, UserError

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}


def open_text(path):
    """Opens a text file for reading as UTF-8: plain, ``.gz`` or ``.xz`` by its ending.

    Raises:
        DataError: the file does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file", where=path, fix="check the path")
    return _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8")


def checksum(path):
    """SHA-256 of a file as a hexadecimal string, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def atomic_file(path, mode="w"):
    """Opens a temporary neighbour of ``path`` and renames it there on success.

    On any error, a full disk and Ctrl-C included, the neighbour is removed and ``path`` is as it
    was before.

    Raises:
        UserError: the disk is full, the folder cannot be written to, or ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise _in_the_way(path, expected="file", found="folder")
    encoding = None if "b" in mode else "utf-8"
    with _made_parent(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with write_errors(path), os.fdopen(handle, mode, encoding=encoding) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        with write_errors(path):
            os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def npy_rows(path, dtype):
    """Yields a function that appends arrays (n, dim) to a ``.npy`` file; their sum need not fit.

    The file appears on success, as with ``atomic_file``.

    Args:
        path: file to write.
        dtype: of the arrays.

    Raises:
        UserError: as ``atomic_file``.

    Example:
        >>> with npy_rows("/tmp/vectors.npy", "float32") as write:   # doctest: +SKIP
        ...     write(np.zeros((3, 8), np.float32))
    """
    import numpy as np

    description = np.lib.format.dtype_to_descr(np.dtype(dtype))
    shape = None

    def write(array):
        nonlocal shape
        if shape is None:
            shape = (0, *array.shape[1:])
            header()
        shape = (shape[0] + len(array), *shape[1:])
        stream.write(np.ascontiguousarray(array, dtype).data)

    def header():
        # NumPy leaves room in it for the first side of an array to grow.
        entries = {"descr": description, "fortran_order": False, "shape": shape or (0,)}
        np.lib.format.write_array_header_1_0(stream, entries)

    with atomic_file(path, "wb") as stream:
        yield write
        stream.seek(0)
        header()


@contextlib.contextmanager
def atomic_folder(path):
    """Yields a temporary neighbour folder that becomes ``path`` on success.

    An existing ``path`` is replaced only once the new one is complete.

    Raises:
        UserError: the disk is full, the folder cannot be written to, or ``path`` is a file.
    """
    path = Path(path)
    if path.is_file():
        raise _in_the_way(path, expected="folder", found="file")
    with _made_parent(path):
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with write_errors(path):
            yield scratch
        os.chmod(scratch, 0o755)
        with write_errors(path):
            _swap_in(scratch, path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _swap_in(scratch, path):
    if not path.exists():
        os.replace(scratch, path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    try:
        os.replace(path, old / path.name)
        os.replace(scratch, path)
    except BaseException:
        if not path.exists():
            os.replace(old / path.name, path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _made_parent(path):
    """Makes the folder of ``path``; what goes wrong then or inside is a ``UserError``."""
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise _in_the_way(path.parent, expected="folder", found="file") from None
        yield


def _in_the_way(path, *, expected, found):
    return UserError(
        f"a {expected} expected, a {found} is in its place",
        where=path,
        fix=f"choose another name or move the {found} away",
    )


@contextlib.contextmanager
def write_errors(path):
    """Turns a full disk or a refused write into a ``MachineError`` that names the folder."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: ("the disk is full", "free some space or choose another folder"),
            errno.EDQUOT: ("the disk quota is used up", "free some space or choose another folder"),
            errno.EACCES: ("permission to write is refused", "choose a folder you may write to"),
            errno.EROFS: ("the file system is read-only", "choose a folder you may write to"),
            errno.EPERM: ("the system does not permit it", "choose a folder you may write to"),
            errno.EFBIG: ("the file would be too large", "raise `ulimit -f`, or use another disk"),
            errno.EIO: ("the disk reports an error", "check the disk, or choose another one"),
        }
        if error.errno not in reasons:
            raise
        problem, fix = reasons[error.errno]
        raise MachineError(f"cannot write: {problem}", where=path, fix=fix) from error
