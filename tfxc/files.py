"""Files that appear whole or not at all, folders that know what was written into them.

A folder that tfxc writes holds a marker, ``.tfxc.json``: what it is, and the names of what belongs
to it. Only such a folder is ever replaced or emptied, and only if it holds nothing else.
"""

import contextlib
import errno
import fnmatch
import glob
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import tempfile
from pathlib import Path

from tfxc.errors import ConfigError, DataError, MachineError, UserError
from tfxc.locks import holder, owned, sweep
from tfxc.version import __version__

MARKER, LOCKS = ".tfxc.json", ".*.lock"
SCRATCH = ".{}.new-????????"  # of a name; what ``tempfile`` makes of ``_scratch_prefix``
_REMOVED = ".removed-"

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


def check_local(path, where=None):
    """Refuses the address of a remote storage, which would be taken for a folder's name.

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
def atomic_file(path, mode="w"):
    """Opens a temporary neighbour of ``path`` and renames it there on success.

    On any error, a full disk and Ctrl-C included, the neighbour is removed and ``path`` is as it
    was before. What a killed process has left is removed by the next one that writes the file.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
        UserError: ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise in_the_way(path, expected="file", found="folder")
    encoding = None if "b" in mode else "utf-8"
    with made_parent(path):
        sweep(path.parent, SCRATCH.format(glob.escape(path.name)))
        handle, name = tempfile.mkstemp(prefix=_scratch_prefix(path), dir=path.parent)
    try:
        with owned(name), write_errors(path), os.fdopen(handle, mode, encoding=encoding) as stream:
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


def write_array(path, array):
    """Writes an array as an ``.npy`` file.

    ``numpy.save`` into a file does not say why it fails on a full disk; writing bytes does.

    Args:
        path: file to write.
        array: NumPy array; it is copied in memory.

    Raises:
        OSError: it cannot be written.
    """
    import numpy as np

    stream = io.BytesIO()
    np.save(stream, array)
    with open(path, "wb") as target:
        target.write(stream.getbuffer())


def copy_folder(source, target):
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
def atomic_folder(path, holds, names=None):
    """Yields a temporary neighbour folder that becomes ``path`` on success.

    An existing ``path`` is replaced only once the new one is complete, and only if it is empty or
    one of the same kind, see ``check_own``. What a killed process has left is removed by the next
    one that writes the folder.

    Args:
        path: the folder.
        holds: what it is, e.g. ``"run"``.
        names: patterns of the names that may appear in it later; by default those written now.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
        UserError: ``path`` is a file, or a folder that holds something else or is written to.
    """
    path = Path(path)
    if path.is_file():
        raise in_the_way(path, expected="folder", found="file")
    check_own(path, holds)
    check_unlocked(path)
    with made_parent(path):
        sweep(path.parent, SCRATCH.format(glob.escape(path.name)))
        scratch = Path(tempfile.mkdtemp(prefix=_scratch_prefix(path), dir=path.parent))
    try:
        with owned(scratch), write_errors(path):
            yield scratch
            names = names or sorted(entry.name for entry in scratch.iterdir())
            (scratch / MARKER).write_text(_marker_text(holds, names), encoding="utf-8")
            os.chmod(scratch, 0o755)
            _swap_in(scratch, path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


@contextlib.contextmanager
def atomic_files(folder):
    """Yields a temporary folder whose files move into ``folder`` on success, all or none of them.

    What else is in ``folder`` stays.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
    """
    folder = Path(folder)
    with made_parent(folder / "file"):
        sweep(folder.parent, SCRATCH.format(glob.escape(folder.name)))
        scratch = Path(tempfile.mkdtemp(prefix=_scratch_prefix(folder), dir=folder.parent))
    try:
        with owned(scratch), write_errors(folder):
            yield scratch
            for path in sorted(scratch.iterdir()):
                os.replace(path, folder / path.name)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # which was made here if it is empty
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch_prefix(path):
    return f".{path.name}.new-"


def _swap_in(scratch, path):
    if not path.exists():
        os.replace(scratch, path)
        return
    old = Path(tempfile.mkdtemp(prefix=_scratch_prefix(path), dir=path.parent))
    with owned(old):
        try:
            os.replace(path, old / path.name)
            os.replace(scratch, path)
        except BaseException:
            if not path.exists():
                os.replace(old / path.name, path)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)


def mark(folder, holds, names):
    """Writes the marker of a folder.

    Args:
        folder: the folder.
        holds: what it is, e.g. ``"run"``.
        names: names of what belongs to it, or patterns (``fnmatch``).
    """
    with atomic_file(Path(folder) / MARKER) as stream:
        stream.write(_marker_text(holds, names))


def _marker_text(holds, names):
    marker = {"holds": holds, "written_by": f"tfxc {__version__}", "names": list(names)}
    return json.dumps(marker, indent=2) + "\n"


def check_kind(folder, holds):
    """Refuses a folder that tfxc has not written, or that is something else.

    A folder that is empty, or not there, is fine; locks of folders in it do not count.

    Args:
        folder: what is to be written to.
        holds: what it has to be.

    Returns:
        list of patterns of the names that may be in it.

    Raises:
        UserError: it is something else.
    """
    folder = Path(folder)
    if not folder.is_dir() or all(_matches(entry.name, [LOCKS]) for entry in folder.iterdir()):
        return []
    marker = _marker(folder)
    if marker is None or marker["holds"] != holds:
        found = "other files" if marker is None else f"a tfxc {marker['holds']}"
        raise UserError(
            f"an empty folder or a tfxc {holds} expected, found {found}; nothing is removed",
            where=folder,
            fix="choose another folder",
        )
    names = [*marker["names"], MARKER, LOCKS]
    return [*names, *(SCRATCH.format(name) for name in names), _REMOVED + "*"]


def check_own(folder, holds):
    """Refuses to remove a folder that tfxc has not written, or that something was put into.

    Args:
        folder: what is to be replaced or emptied.
        holds: what it has to be.

    Raises:
        UserError: as ``check_kind``; or it holds other files, which are named.
    """
    known, folder = check_kind(folder, holds), Path(folder)
    foreign = [e.name for e in folder.iterdir() if not _matches(e.name, known)] if known else []
    if foreign:
        shown = ", ".join(sorted(foreign)[:5]) + (", ..." if len(foreign) > 5 else "")
        raise UserError(
            f"holds files that tfxc has not written ({shown}); nothing is removed",
            where=folder,
            fix="move them away, or choose another folder",
        )


def lock_of(folder):
    """The lock file of a folder, next to it: there only while a process writes to the folder."""
    path = Path(os.path.abspath(folder))
    return path.with_name(f".{path.name}.lock")


def check_unlocked(folder):
    """Refuses a folder that another process is writing to.

    Raises:
        UserError: it is; the process is named.
    """
    found = holder(lock_of(folder))
    if found is not None:
        raise UserError(
            f"{found} is writing to this folder",
            where=folder,
            fix="wait for it, stop it, or choose another folder",
        )


def empty_own(folder, holds, keep=()):
    """Removes what tfxc has written into a folder; the folder stays, and locks of folders in it.

    Everything is first moved aside together, so that a process killed here leaves no half of it.

    Args:
        folder: a folder that may be there.
        holds: as of ``check_own``.
        keep: patterns of names that stay as well.

    Raises:
        UserError: as ``check_own``.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return
    check_own(folder, holds)
    with write_errors(folder):
        aside = Path(tempfile.mkdtemp(prefix=_REMOVED, dir=folder))
        for entry in list(folder.iterdir()):
            if entry != aside and not _matches(entry.name, (LOCKS, *keep)):
                os.replace(entry, aside / entry.name)
        shutil.rmtree(aside)


def _matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _marker(folder):
    """The marker of a folder as a dict, or None."""
    try:
        found = json.loads((Path(folder) / MARKER).read_text(encoding="utf-8"))
        known = isinstance(found["holds"], str) and isinstance(found["names"], list)
        return found if known else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def made_parent(path):
    """Makes the folder of ``path``; what goes wrong then or inside is a ``UserError``."""
    check_local(path)
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise in_the_way(path.parent, expected="folder", found="file") from None
        yield


def in_the_way(path, *, expected, found):
    """The ``UserError`` of a folder where a file is to be written, or the other way round."""
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
