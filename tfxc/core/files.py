"""Files that appear whole or not at all, small files read with clear errors, marked folders.

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
import stat
import sys
import tarfile
import tempfile
import tokenize
import zipfile
import zlib
from pathlib import Path

from tfxc.core.errors import ConfigError, DataError, MachineError, UserError
from tfxc.core.escaping import json_text
from tfxc.core.locks import holder, is_held, locked, owned, sweep
from tfxc.version import __version__

MARKER, LOCKS = ".tfxc.json", ".*.lock"
SCRATCH = ".{}.new-????????"  # of a name; what ``tempfile`` makes of ``_scratch_prefix``
_REMOVED = ".removed-"

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
    """SHA-256 of a file as a hexadecimal string, read in blocks.

    Raises:
        DataError, MachineError: as ``read_errors``.
    """
    with read_errors(path), open(path, "rb") as stream:
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
    if os.path.realpath(path) == os.getcwd():
        raise UserError("the current folder cannot be replaced", where=path, fix="name another one")
    check_own(path, holds)
    with contextlib.ExitStack() as stack:
        with made_parent(path):
            stack.enter_context(_locked_folder(path))
            sweep(path.parent, SCRATCH.format(glob.escape(path.name)))
            scratch = Path(tempfile.mkdtemp(prefix=_scratch_prefix(path), dir=path.parent))
        yield from _filled(path, scratch, holds, names)


def _filled(path, scratch, holds, names):
    try:
        with owned(scratch), _under_its_name(scratch, path), write_errors(path):
            yield scratch
            check_own(path, holds)  # something may have been put there in the meantime
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
    made = not folder.exists()
    with made_parent(folder / "file"):
        sweep(folder.parent, SCRATCH.format(glob.escape(folder.name)))
        scratch = Path(tempfile.mkdtemp(prefix=_scratch_prefix(folder), dir=folder.parent))
    try:
        with owned(scratch), _under_its_name(scratch, folder), write_errors(folder):
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
def _under_its_name(scratch, path):
    """Names in messages what a user knows, not the temporary folder in its place."""
    try:
        yield
    except MachineError as error:
        where = str(error.where).replace(str(scratch), str(path))
        raise MachineError(error.problem, where=where, fix=error.fix) from error


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
    return _known(marker)


def _known(marker):
    """Patterns of the names that may be in a folder with this marker."""
    names = [*marker["names"], MARKER, LOCKS]
    return [*names, *(SCRATCH.format(name) for name in names), _REMOVED + "*"]


def is_kind(folder, holds):
    """Whether a folder has the marker of what it is to hold."""
    marker = _marker(folder)
    return marker is not None and marker["holds"] == holds


def check_own(folder, holds):
    """Refuses to remove a folder that tfxc has not written, or that something was put into.

    Args:
        folder: what is to be replaced or emptied.
        holds: what it has to be.

    Raises:
        UserError: as ``check_kind``; or it holds other files, which are named.
    """
    folder = Path(folder)
    foreign = _foreign(folder) if check_kind(folder, holds) else []
    if foreign:
        shown = ", ".join(sorted(foreign)[:5]) + (", ..." if len(foreign) > 5 else "")
        raise UserError(
            f"holds files that tfxc has not written ({shown}); nothing is removed",
            where=folder,
            fix="move them away, or choose another folder",
        )


def _foreign(folder):
    """Paths relative to a marked folder of what does not belong to it, or to one in it."""
    known, found = _known(_marker(folder)), []
    for entry in folder.iterdir():
        if not _matches(entry.name, known):
            found.append(entry.name)
        elif entry.is_dir() and not entry.is_symlink() and _marker(entry) is not None:
            found += [f"{entry.name}/{name}" for name in _foreign(entry)]
    return found


def lock_of(folder):
    """The lock file of a folder, next to it: there only while a process writes to the folder."""
    path = Path(os.path.realpath(folder))
    if not path.name:
        raise UserError("a folder below the root expected", where=folder, fix="name one")
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def _locked_folder(folder):
    """Holds the lock of a folder, unless this process has it; refuses one that is written to.

    Raises:
        UserError: another process writes to the folder, or to a run in it; it is named.
    """

    def refuse(process):
        raise UserError(
            f"{process} is writing to this folder",
            where=folder,
            fix="wait until it has ended, stop it, or choose another folder",
        )

    folder, lock = Path(folder), lock_of(folder)
    for part in folder.glob(LOCKS):
        process = holder(part)
        if process is not None:
            refuse(process)
    with contextlib.nullcontext() if is_held(lock) else locked(lock, refuse):
        yield


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
        # The marker stays, a config goes last: what a kill leaves half emptied is still known.
        for entry in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):
            if entry != aside and not _matches(entry.name, (MARKER, LOCKS, *keep)):
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


def make_folder(path):
    """Makes a folder and those above it, where they are not there yet.

    Raises:
        UserError: a file is in its place, or in that of a folder above it.
        MachineError: it cannot be made.
    """
    with made_parent(path := Path(path)), contextlib.suppress(FileExistsError):
        path.mkdir()
    if not path.is_dir():
        raise in_the_way(path, expected="folder", found="file")


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
        number = error.errno or _named_number(error)
        if number not in _REASONS or not _concerns(error.filename, path):
            raise
        problem, fix = _REASONS[number]
        raise MachineError(f"cannot write: {problem}", where=path, fix=fix) from error


@contextlib.contextmanager
def captured_standard_error():
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
