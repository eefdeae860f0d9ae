"""Files and folders written atomically, and clear errors for what a machine refuses."""

import contextlib
import errno
import glob
import io
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tfxc.core.errors import ConfigError, MachineError, UserError
from tfxc.core.escaping import json_text
from tfxc.core.storage.locks import owned, sweep
from tfxc.core.storage.reading import NO_FILE, kind_of

if TYPE_CHECKING:
    import numpy as np

#: Pattern of temporary neighbours of a name, which begin with ``scratch_prefix``.
SCRATCH = ".{}.new-????????"
#: For which ``atomic_files`` keeps such a neighbour in a folder.
MOVED_IN = "files"

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


def write_json(path: str | Path, value: object, **options: object) -> None:
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


def expanded(written: str) -> str:
    """Returns a path with ``${VAR}`` expanded; unknown variables stay as they are.

    ``${TFXC_DATA}`` and ``${TFXC_MODELS}`` are the folders ``data`` and ``models`` unless the
    environment says otherwise.

    Example:
        >>> expanded("${NO_SUCH_VARIABLE}/x.vec")
        '${NO_SUCH_VARIABLE}/x.vec'
    """
    for name, folder in (("TFXC_DATA", "data"), ("TFXC_MODELS", "models")):
        if name not in os.environ:
            written = written.replace(f"${{{name}}}", folder)
    return os.path.expandvars(written)


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
            f"{str(path)!r} is the address of a remote storage",
            where=where,
            fix="copy the data here, or mount the storage and give the path of the mount",
        )


@contextlib.contextmanager
def atomic_file(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary neighbour of ``path`` and renames it there on success.

    On any error, a full disk and Ctrl-C included, the neighbour is removed and ``path`` is as it
    was before. What a killed process has left is removed by the next one that writes the file.

    A file that is replaced keeps its permissions, a new one has those of the umask. Of a link, the
    file it leads to is replaced. A device or a pipe, and a file that standard output goes to, is
    written into instead, so that an error may leave the beginning there.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
        UserError: ``path`` is a folder.
    """
    path = Path(path)
    encoding = None if "b" in mode else "utf-8"
    with write_errors(path):
        handle = _stream_handle(path)
    if handle is not None:
        with write_errors(path), os.fdopen(handle, mode, encoding=encoding) as stream:
            yield stream
        return
    target = regular_target(path)
    with ensured_parent(target):
        sweep(target.parent, SCRATCH.format(glob.escape(target.name)))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        name, handle = new_neighbour(target, lambda path: os.open(path, flags, 0o666))
    try:
        with owned(name), write_errors(path):
            with os.fdopen(handle, mode, encoding=encoding) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            keep_permissions(target, name)
            os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _stream_handle(path: Path) -> int | None:
    """Returns an open handle of what cannot be replaced by a file; None of anything else."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # it is closed
            if os.path.samestat(status, os.fstat(stream)):
                return os.dup(stream)  # where it is: a shell's >> keeps what the file had
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return None
    return os.open(path, os.O_WRONLY | os.O_CLOEXEC)


def regular_target(path: Path) -> Path:
    """Returns where to write a file so that a link stays a link: the path, or the end of the link.

    Raises:
        UserError: something that is no regular file is there.
        MachineError: the folder cannot be searched.
    """
    with write_errors(path):
        kind = kind_of(path)
    if kind not in ("file", None):
        raise path_conflict(path, wanted="file", present=kind)
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def keep_permissions(before: Path, new: str | Path) -> None:
    """Gives a file that is about to replace another one that one's permissions."""
    with contextlib.suppress(FileNotFoundError):
        os.chmod(new, stat.S_IMODE(os.stat(before).st_mode) & 0o777)


def new_neighbour(path: Path, make: Callable[[Path], Any]) -> tuple[Path, Any]:
    """Makes a temporary neighbour of a path, with the permissions of the umask.

    (``tempfile`` makes what only the user can read.)

    Args:
        path: what the neighbour becomes, or stands in for.
        make: function of its path that raises ``FileExistsError`` where something is there.

    Returns:
        The neighbour's path, and what ``make`` returned.
    """
    while True:
        neighbour = path.with_name(f"{scratch_prefix(path)}{secrets.token_hex(4)}")
        with contextlib.suppress(FileExistsError):
            return neighbour, make(neighbour)


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
    """Returns the size of all files in a folder and below, or of a single file.

    Example:
        >>> folder_bytes("no such folder")
        0
    """
    path = Path(path)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file())


def is_inside(path: str | Path, folder: str | Path) -> bool:
    """Tells whether a path is that of a folder or of something in it, wherever links lead.

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
    source = Path(source)
    target = Path(target)
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            (target / path.relative_to(source)).mkdir(exist_ok=True)
        else:
            shutil.copyfile(path, target / path.relative_to(source))


@contextlib.contextmanager
def atomic_files(folder: str | Path) -> Iterator[Path]:
    """Yields a temporary folder whose files move into ``folder`` on success, all or none of them.

    What else is in ``folder`` stays. Links, pipes and devices in it are treated as ``atomic_file``
    treats them.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
        UserError: a file is in place of the folder, or a folder in place of one of the files.
    """
    folder = Path(folder)
    made = not folder.exists()
    make_folder(folder)
    try:
        # In the folder: what is above it may be another file system, or not be writable.
        with scratch_beside(folder / MOVED_IN, folder) as scratch:
            yield scratch
            for path in sorted(scratch.iterdir()):
                target = folder / path.name
                if target.is_symlink() or kind_of(target) not in ("file", "folder", None):
                    with atomic_file(target, "wb") as stream, open(path, "rb") as source:
                        shutil.copyfileobj(source, stream)
                else:
                    os.replace(path, target)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def scratch_beside(path: Path, shown: Path | None = None) -> Iterator[Path]:
    """Yields a temporary folder next to ``path``, which is removed at the end.

    Those of killed processes for the same path are removed on the way.

    Args:
        path: what is worked on.
        shown: what messages name in place of the temporary folder; ``path`` by default.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
    """
    with ensured_parent(path):
        sweep(path.parent, SCRATCH.format(glob.escape(path.name)))
        scratch = Path(tempfile.mkdtemp(prefix=scratch_prefix(path), dir=path.parent))
    shown = path if shown is None else shown
    try:
        with owned(scratch), with_final_path(scratch, shown), write_errors(shown):
            yield scratch
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
    """Returns how the names of temporary neighbours of a path begin, see ``SCRATCH``."""
    return f".{path.name}.new-"


@contextlib.contextmanager
def ensured_parent(path: Path) -> Iterator[None]:
    """Makes the folder of ``path``; what fails then or inside is a ``UserError``."""
    check_local(path)
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise path_conflict(path.parent, wanted="folder", present="file") from None
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
        raise path_conflict(path, wanted="folder", present="file")


def path_conflict(path: str | Path, *, wanted: str, present: str) -> UserError:
    """Returns the ``UserError`` of a path at which there is something else than is to be
    written.
    """
    return UserError(
        f"there is a {present} where a {wanted} is to be written",
        where=path,
        fix=f"choose another name or move the {present} away",
    )


@contextlib.contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Turns a full disk or a refused write into a ``MachineError`` that names the folder."""
    try:
        yield
    except OSError as error:
        number = error.errno
        if not number:  # HDF5 and TensorFlow write it into their messages of failed calls
            named = re.search(r"errno = (\d+)", str(error))
            number = int(named[1]) if named else None
        if number not in _REASONS or not _concerns(error.filename, path):
            raise
        problem, fix = _REASONS[number]
        raise MachineError(f"cannot write: {problem}", where=path, fix=fix) from error


_capture = threading.RLock()


@contextlib.contextmanager
def captured_standard_error() -> Iterator[IO[bytes]]:
    """A file that takes what C++ libraries write to standard error inside, one thread at a time.

    A second thread would take the first one's file for standard error, and leave it in its place.
    """
    with _capture, tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield captured
        finally:
            os.dup2(before, 2)
            os.close(before)


def _concerns(name: object, path: str | Path) -> bool:
    """Tells whether the file an error names is written for ``path``: it, in it, above it, or
    scratch.
    """
    if not isinstance(name, (str, bytes, os.PathLike)):
        return True  # a stream does not know its name
    name = Path(os.path.abspath(os.fsdecode(name)))
    path = Path(os.path.abspath(path))
    below = path.parent in name.parents and name.relative_to(path.parent).parts[0].startswith(".")
    return below or name.is_relative_to(path) or path.is_relative_to(name)


def system_error(error: OSError) -> UserError:
    """Returns the clear line of an ``OSError`` that nothing nearer to its cause has turned into
    one.

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
