"""Files and folders written atomically, and clear errors for what a machine refuses."""

import contextlib
import errno
import glob
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tfxc.core.errors import ConfigError, MachineError, UserError
from tfxc.core.escaping import json_text
from tfxc.core.storage.locks import owned, sweep
from tfxc.core.storage.reading import NO_FILE

if TYPE_CHECKING:
    import numpy as np

#: Pattern of temporary neighbours of a name; what ``tempfile`` makes of ``scratch_prefix``.
SCRATCH = ".{}.new-????????"

_AT_ONCE = 1 << 22  # numbers of an array that are written at once

# What the machine refuses, and what to do.
_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or choose another folder"),
    errno.EACCES: ("permission denied", "choose a folder you may write to"),
    errno.EROFS: ("the file system is read-only", "choose a folder you may write to"),
    errno.EPERM: ("the system does not permit it", "choose a folder you may write to"),
    errno.EFBIG: ("the file would be too large", "raise `ulimit -f`, or use another disk"),
    errno.EIO: ("the disk reports an error", "check the disk, or choose another one"),
    errno.EMFILE: ("too many files are open", "raise `ulimit -n`"),
    errno.ENFILE: ("too many files are open", "close other programs"),
    errno.ENOMEM: ("the memory does not suffice", "close other programs"),
}


def write_json(path: str | Path, value: Any, **options: Any) -> None:
    """Writes a value atomically as a JSON file; NaN and infinity become null.

    Args:
        path: file to write.
        value: what ``json.dumps`` accepts.
        options: of ``json.dumps``; ``indent=2`` unless given.

    Raises:
        MachineError, UserError: as ``atomic_file``.
    """
    text = json_text(value, **{"indent": 2, **options})
    with atomic_file(path) as stream:
        stream.write(text + "\n")


def check_local(path: str | Path, where: str | None = None) -> None:
    """Refuses the address of a remote storage, which would be mistaken for the name of a folder.

    Args:
        path: what the user gave for a file or folder.
        where: config key or option it was given in.

    Raises:
        ConfigError: it is such an address.

    Example:
        >>> check_local("runs/mine")
    """
    if re.match(r"^[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise ConfigError(
            f"a path on this machine expected, found {str(path)!r}",
            where=where,
            fix="copy the data here, or mount the storage and give the path of the mount",
        )


@contextlib.contextmanager
def atomic_file(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary neighbour of ``path`` and renames it there on success.

    On any error, a full disk and Ctrl-C included, the neighbour is removed and ``path`` is as it
    was before. What a killed process has left is removed by the next one that writes the file.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
        UserError: ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise path_conflict(path, expected="file", found="folder")
    encoding = None if "b" in mode else "utf-8"
    with ensured_parent(path):
        sweep(path.parent, SCRATCH.format(glob.escape(path.name)))
        handle, name = tempfile.mkstemp(prefix=scratch_prefix(path), dir=path.parent)
    try:
        with owned(name), write_errors(path):
            with os.fdopen(handle, mode, encoding=encoding) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_array(path: str | Path, array: "np.ndarray") -> None:
    """Writes an array as an ``.npy`` file, in pieces.

    ``numpy.save`` into a file does not say why it fails on a full disk; writing bytes does.

    Args:
        path: file to write.
        array: NumPy array, perhaps a memory-mapped one; it is not copied as a whole.

    Raises:
        OSError: it cannot be written.
    """
    import numpy as np

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    with open(path, "wb") as target:
        target.write(header.getvalue())
        # Of a strided array a copy.
        flat = array.reshape(-1, order="F") if np.isfortran(array) else array.reshape(-1)
        for begin in range(0, flat.size, _AT_ONCE):
            target.write(np.ascontiguousarray(flat[begin : begin + _AT_ONCE]).view(np.uint8).data)


def folder_bytes(path: str | Path) -> int:
    """Size of all files in a folder.

    Example:
        >>> folder_bytes("no such folder")
        0
    """
    return sum(file.lstat().st_size for file in Path(path).rglob("*") if file.is_file())


def is_inside(path: str | Path, folder: str | Path) -> bool:
    """Whether a path is that of a folder or of something in it, wherever links lead.

    Example:
        >>> is_inside("runs/a/assets", "runs/a"), is_inside("runs/a/../b", "runs/a")
        (True, False)
    """
    home = os.path.realpath(folder)
    return os.path.commonpath([os.path.realpath(path), home]) == home


def copy_folder(source: str | Path, target: str | Path) -> None:
    """Copies a folder with all that is in it; ``target`` must not exist.

    ``shutil.copytree`` does not say why it fails on a full disk.

    Raises:
        OSError: a file cannot be written.
    """
    source, target = Path(source), Path(target)
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            (target / path.relative_to(source)).mkdir(exist_ok=True)
        else:
            shutil.copyfile(path, target / path.relative_to(source))


@contextlib.contextmanager
def atomic_files(folder: str | Path) -> Iterator[Path]:
    """Yields a temporary folder whose files move into ``folder`` on success, all or none of them.

    What else is in ``folder`` stays.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
    """
    folder = Path(folder)
    made = not folder.exists()
    with ensured_parent(folder / "file"):
        sweep(folder.parent, SCRATCH.format(glob.escape(folder.name)))
        scratch = Path(tempfile.mkdtemp(prefix=scratch_prefix(folder), dir=folder.parent))
    try:
        with owned(scratch), with_final_path(scratch, folder), write_errors(folder):
            yield scratch
            for path in sorted(scratch.iterdir()):
                os.replace(path, folder / path.name)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def with_final_path(scratch: str | Path, path: str | Path) -> Iterator[None]:
    """Names in messages what a user knows, not the temporary folder in its place."""
    try:
        yield
    except MachineError as error:
        where = str(error.where).replace(str(scratch), str(path))
        raise MachineError(error.problem, where=where, fix=error.fix) from error


def scratch_prefix(path: Path) -> str:
    """How the names of temporary neighbours of a path begin, see ``SCRATCH``."""
    return f".{path.name}.new-"


@contextlib.contextmanager
def ensured_parent(path: Path) -> Iterator[None]:
    """Makes the folder of ``path``; what fails then or inside is a ``UserError``."""
    check_local(path)
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise path_conflict(path.parent, expected="folder", found="file") from None
        yield


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, where they are not there yet.

    Raises:
        UserError: a file is in its place, or in that of a folder above it.
        MachineError: it cannot be made.
    """
    with ensured_parent(path := Path(path)), contextlib.suppress(FileExistsError):
        path.mkdir()
    if not path.is_dir():
        raise path_conflict(path, expected="folder", found="file")


def path_conflict(path: str | Path, *, expected: str, found: str) -> UserError:
    """The ``UserError`` of a folder where a file is to be written, or the other way round."""
    return UserError(
        f"a {expected} expected, found a {found}",
        where=path,
        fix=f"choose another name or move the {found} away",
    )


@contextlib.contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Turns a full disk or a refused write into a ``MachineError`` that names the folder."""
    try:
        yield
    except OSError as error:
        number = error.errno or _named_number(error)
        if number not in _REASONS or not _concerns(error.filename, path):
            raise
        problem, fix = _REASONS[number]
        raise MachineError(f"cannot write: {problem}", where=path, fix=fix) from error


@contextlib.contextmanager
def captured_standard_error() -> Iterator[IO[bytes]]:
    """A file that takes what C++ libraries write to standard error inside."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield captured
        finally:
            os.dup2(before, 2)
            os.close(before)


def _concerns(name, path):
    """Whether the file an error names is written for ``path``: it, in it, above it, or scratch."""
    if not isinstance(name, (str, bytes, os.PathLike)):
        return True  # a stream does not know its name
    name, path = Path(os.path.abspath(os.fsdecode(name))), Path(os.path.abspath(path))
    below = path.parent in name.parents and name.relative_to(path.parent).parts[0].startswith(".")
    return below or name.is_relative_to(path) or path.is_relative_to(name)


def system_error(error: OSError) -> UserError:
    """The clear line of an ``OSError`` that nothing nearer to its cause has turned into one.

    Returns:
        UserError: its path leads to no file; else MachineError.
    """
    where = error.filename or error.filename2
    assert error.errno is not None, "what the system refused"
    if error.errno in NO_FILE:
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
