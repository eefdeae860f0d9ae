"""Files that appear whole or not at all, and small files read with clear errors."""

import contextlib
import errno
import gzip
import hashlib
import json
import lzma
import math
import os
import re
import shutil
import stat
import tarfile
import tempfile
import tokenize
import zipfile
import zlib
from pathlib import Path

from tfxc.errors import DataError, MachineError, UserError

# What the machine refuses, and what to do.
_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or choose another folder"),
    errno.EACCES: ("permission to write is refused", "choose a folder you may write to"),
    errno.EROFS: ("the file system is read-only", "choose a folder you may write to"),
    errno.EPERM: ("the system does not permit it", "choose a folder you may write to"),
    errno.EFBIG: ("the file would be too large", "raise `ulimit -f`, or use another disk"),
    errno.EIO: ("the disk reports an error", "check the disk, or choose another one"),
    errno.EMFILE: ("too many files are open", "raise `ulimit -n`"),
    errno.ENFILE: ("too many files are open", "close other programs"),
    errno.ENOMEM: ("the memory does not suffice", "close other programs"),
}
# A path that leads to no file is wrong input; any other failure to read is the machine's.
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR}
_MALFORMED = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RecursionError,
    SyntaxError, TypeError, ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_JSON_NAMES = {dict: "object", list: "list", int: "number"}
_DAMAGED_ARCHIVE = (
    EOFError, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def existing_file(path, *, fix="check the path", error=DataError):
    """``path`` as a ``Path``, which has to lead to a regular file (a pipe would wait for ever).

    Args:
        path: the file.
        fix: what the message recommends.
        error: the kind of ``UserError``.

    Raises:
        UserError: of that kind: there is none, or a folder or something else is in its place.
    """
    path = Path(path)
    with read_errors(path, fix=fix, error=error):
        kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:
        found = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe"}.get(kind, "a device")
        raise error(f"a file expected, found {found}", where=path, fix=fix)
    return path


@contextlib.contextmanager
def read_errors(path, *, fix="check the path", error=DataError):
    """Turns what reading and parsing a file raises into one clear line.

    Args:
        path: the file, for the message.
        fix: what the message recommends.
        error: the kind of ``UserError``.

    Raises:
        UserError: of that kind: the file is missing, or its content is damaged.
        MachineError: the file is there and cannot be read.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as problem:
        if problem.errno in _NO_FILE:
            found = os.strerror(problem.errno).lower()
            found = "no such file" if problem.errno == errno.ENOENT else found
            raise error(found, where=path, fix=fix) from problem
        if problem.errno is None:  # NumPy's and HDF5's of a malformed file
            raise _damaged(path, problem, fix, error) from problem
        raise _unreadable(path, problem) from problem
    except _MALFORMED as problem:
        raise _damaged(path, problem, fix, error) from problem


@contextlib.contextmanager
def archive_errors(path):
    """Turns what a damaged ``.gz``, ``.xz``, ``.npz`` or ``.tar`` raises into a DataError.

    Other errors pass: what is in the archive is its reader's to judge.

    Raises:
        DataError: naming ``path``.
        MachineError: the file cannot be read.
    """
    try:
        yield
    except _DAMAGED_ARCHIVE as error:
        raise damaged_archive(path, str(error)) from error
    except OSError:
        with read_errors(path):
            raise


def damaged_archive(path, reason):
    """The DataError of a damaged archive or compressed file."""
    return DataError(
        f"the compressed file is truncated or damaged ({reason})",
        where=path,
        fix="copy or download it again",
    )


def read_text(path, *, fix="check the path", error=DataError):
    """The content of a file in UTF-8.

    Args:
        path, fix, error: as of ``read_errors``.

    Raises:
        UserError, MachineError: as ``read_errors``.
    """
    with read_errors(path, fix=fix, error=error):
        return existing_file(path, fix=fix, error=error).read_text(encoding="utf-8")


def read_json(path, *, fix="check the path", error=DataError, kind=dict):
    """The value in a JSON file.

    Args:
        path, fix, error: as of ``read_errors``.
        kind: type the value has to have.

    Raises:
        UserError, MachineError: as ``read_errors``, and the value is of another type.
    """
    text = read_text(path, fix=fix, error=error)
    with read_errors(path, fix=fix, error=error):
        value = json.loads(text)
        if not isinstance(value, kind):
            name = _JSON_NAMES.get(kind, "value of another type")
            raise TypeError(f"a JSON {name} expected, found {text[:40]!r}")
        return value


def read_json_lines(path, *, fix="check the path", error=DataError):
    """Objects of a file with one on each line; a last line that a kill cut short is left out.

    Args:
        path, fix, error: as of ``read_errors``.

    Returns:
        list of dicts.

    Raises:
        UserError, MachineError: as ``read_errors``; a damaged line is named.
    """
    *lines, cut_short = read_text(path, fix=fix, error=error).split("\n")
    found = []
    for number, line in enumerate(lines, 1):
        with read_errors(f"{path}:{number}", fix=fix, error=error):
            value = json.loads(line)
            if not isinstance(value, dict):
                raise TypeError(f"a JSON object expected, found {line[:40]!r}")
            found.append(value)
    with contextlib.suppress(ValueError):
        value = json.loads(cut_short)
        found += [value] if isinstance(value, dict) else []
    return found


def read_array(path, *, fix="check the path", error=DataError, mapped=False):
    """The array of an ``.npy`` file; Python objects are refused.

    Args:
        path, fix, error: as of ``read_errors``.
        mapped: leave it on the disk and map it, read only.

    Raises:
        UserError, MachineError: as ``read_errors``.
    """
    import numpy as np

    with read_errors(path, fix=fix, error=error):
        path = existing_file(path, fix=fix, error=error)
        with open(path, "rb") as stream:
            np.lib.format.read_magic(stream)  # else NumPy takes it for a pickle
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)


def json_text(value, **options):
    """A value as JSON text; NaN and infinity, which JSON has not, become null.

    Args:
        value: what ``json.dumps`` takes.
        options: of ``json.dumps``.

    Example:
        >>> json_text({"loss": float("nan"), "steps": [1, 2.5]})
        '{"loss": null, "steps": [1, 2.5]}'
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **options)


def write_json(path, value, **options):
    """Writes a value as a JSON file, whole or not at all; NaN and infinity become null.

    Args:
        path: file to write.
        value: what ``json.dumps`` takes.
        options: of ``json.dumps``; ``indent=2`` unless given.

    Raises:
        MachineError, UserError: as ``atomic_file``.
    """
    text = json_text(value, **{"indent": 2, **options})
    with atomic_file(path) as stream:
        stream.write(text + "\n")


def _finite(value):
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _damaged(path, problem, fix, error):
    reason = str(problem).strip().splitlines() or [type(problem).__name__]
    if isinstance(problem, UnicodeDecodeError):
        reason = [f"text in UTF-8 expected, byte {problem.start:,} is none"]
    return error(f"damaged or of another kind ({reason[0][:200]})", where=path, fix=fix)


def _unreadable(path, problem):
    return MachineError(
        f"cannot read: {os.strerror(problem.errno).lower()}",
        where=path,
        fix="check the disk and the permissions of the file and its folders",
    )


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


def make_folder(path):
    """Makes a folder and those above it, where they are not there yet.

    Raises:
        UserError: a file is in its place, or in that of a folder above it.
        MachineError: it cannot be made.
    """
    with _made_parent(path := Path(path)), contextlib.suppress(FileExistsError):
        path.mkdir()
    if not path.is_dir():
        raise _in_the_way(path, expected="folder", found="file")


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
        number = error.errno or _named_number(error)
        if number not in _REASONS or not _concerns(error.filename, path):
            raise
        problem, fix = _REASONS[number]
        raise MachineError(f"cannot write: {problem}", where=path, fix=fix) from error


def _concerns(name, path):
    """Whether the file an error names is written for ``path``: it, in it, above it, or scratch."""
    if not isinstance(name, (str, bytes, os.PathLike)):
        return True  # a stream does not know its name
    name, path = Path(os.path.abspath(os.fsdecode(name))), Path(os.path.abspath(path))
    below = path.parent in name.parents and name.relative_to(path.parent).parts[0].startswith(".")
    return below or name.is_relative_to(path) or path.is_relative_to(name)


def system_error(error):
    """The clear line of an ``OSError`` that nothing nearer to its cause has turned into one.

    Returns:
        UserError: its path leads to no file; else MachineError.
    """
    where = error.filename or error.filename2
    if error.errno in _NO_FILE:
        return UserError(os.strerror(error.errno).lower(), where=where, fix="check the path")
    reason = os.strerror(error.errno).lower()
    if error.errno in (errno.EACCES, errno.EPERM):  # of a file to read, as far as is known
        return MachineError(reason, where=where, fix="check its permissions")
    problem, fix = _REASONS.get(error.errno, (reason, "check the machine, then start again"))
    return MachineError(problem, where=where, fix=fix)


def _named_number(error):
    """The number that HDF5 and TensorFlow write into their messages of failed calls, or None."""
    found = re.search(r"errno = (\d+)", str(error))
    return int(found.group(1)) if found else None
