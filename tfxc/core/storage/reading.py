"""Files read with clear errors: missing, damaged or unreadable, in one line that names them."""

import contextlib
import difflib
import errno
import gzip
import hashlib
import itertools
import json
import lzma
import os
import stat
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tfxc.core.errors import DataError, MachineError, UserError

if TYPE_CHECKING:
    import numpy as np
    import pydantic

    Record = TypeVar("Record", bound=pydantic.BaseModel)

#: Of system errors: a path that leads to no file is wrong input; any other failure to read is the
#: machine's.
NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR}
#: What reading a malformed file raises, besides ``OSError``: a ``RuntimeError`` of archives that
#: claim to be encrypted or of a newer version, a ``MemoryError`` of sizes that are claimed.
MALFORMED = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError,
    SyntaxError, TypeError, ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
# Names beside a missing file that are compared with its own, and how alike two are.
_MOST_NAMES = 1000
_ALIKE = 0.75
_JSON_NAMES: dict[object, str] = {dict: "object", list: "list", int: "number"}
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
}
_DAMAGED_ARCHIVE = (
    EOFError, NotImplementedError, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def existing_file(
    path: str | Path, *, fix: str = "check the path", error: type[UserError] = DataError
) -> Path:
    """Returns ``path`` as a ``Path``, which has to lead to a regular file (a pipe would wait
    forever).

    Args:
        path: the file.
        fix: what the message recommends.
        error: the kind of ``UserError``.

    Raises:
        UserError: of that kind: there is none, or a folder or something else is in its place.
    """
    path = Path(path)
    with read_errors(path, fix=fix, error=error):
        path.stat()
        kind = kind_of(path)
    if kind != "file":
        raise error(f"it is a {kind}, not a file", where=path, fix=fix)
    return path


def kind_of(path: str | Path) -> str | None:
    """Returns what is at a path or behind a link: ``"file"``, ``"folder"``, ``"named pipe"``, ...

    Returns:
        Its name, or None where there is nothing.

    Raises:
        OSError: it cannot be looked at.

    Example:
        >>> kind_of("/"), kind_of("/dev/null"), kind_of("no such file")
        ('folder', 'device', None)
    """
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "device")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _similar(path: Path) -> str:
    """Returns ``", did you mean 'x'?"`` for a file of nearly the name of a missing one."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_NAMES)]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=_ALIKE)
    return f", did you mean {str(path.with_name(close[0]))!r}?" if close else ""


@contextlib.contextmanager
def read_errors(
    path: str | Path, *, fix: str = "check the path", error: type[UserError] = DataError
) -> Iterator[None]:
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
        if problem.errno in NO_FILE:
            is_missing = problem.errno == errno.ENOENT
            reason = os.strerror(problem.errno).lower()
            if is_missing:
                reason = f"no such file{_similar(Path(path))}"
            raise error(reason, where=path, fix=fix) from problem
        if problem.errno is None:  # NumPy's and HDF5's of a malformed file
            raise _damaged(path, problem, fix, error) from problem
        raise MachineError(
            f"cannot read: {os.strerror(problem.errno).lower()}",
            where=path,
            fix="check the disk and the permissions of the file and its folders",
        ) from problem
    except MALFORMED as problem:
        raise _damaged(path, problem, fix, error) from problem


@contextlib.contextmanager
def archive_errors(path: str | Path) -> Iterator[None]:
    """Turns what a damaged compressed file, ``.npz`` or ``.tar`` raises into a DataError.

    Other errors pass: what is in the archive is its reader's to judge.

    Raises:
        DataError: naming ``path``.
        MachineError: the file cannot be read.
    """
    try:
        yield
    except _DAMAGED_ARCHIVE as error:
        raise damaged_archive(path, str(error)) from error
    except OSError as error:
        if error.errno is None:  # bzip2's of damaged data
            raise damaged_archive(path, str(error)) from error
        with read_errors(path):
            raise


def damaged_archive(path: str | Path, reason: str) -> DataError:
    """Returns the DataError of a damaged archive or compressed file."""
    return DataError(
        f"the compressed file is truncated or damaged ({reason})",
        where=path,
        fix="copy or download it again",
    )


def read_text(
    path: str | Path, *, fix: str = "check the path", error: type[UserError] = DataError
) -> str:
    """Returns the content of a file in UTF-8.

    Args:
        path, fix, error: see ``read_errors``.

    Raises:
        UserError, MachineError: as ``read_errors``.
    """
    with read_errors(path, fix=fix, error=error):
        return existing_file(path, fix=fix, error=error).read_text(encoding="utf-8")


def read_json(
    path: str | Path,
    *,
    fix: str = "check the path",
    error: type[UserError] = DataError,
    kind: type | tuple[type, ...] = dict,
) -> Any:
    """Returns the value in a JSON file.

    Args:
        path, fix, error: see ``read_errors``.
        kind: type the value has to have, or a tuple of types.

    Raises:
        UserError, MachineError: as ``read_errors``, and the value is of another type.
    """
    text = read_text(path, fix=fix, error=error)
    with read_errors(path, fix=fix, error=error):
        value = json.loads(text.removeprefix("\ufeff"))  # as some editors begin a file
        if not isinstance(value, kind):
            name = _JSON_NAMES.get(kind, "value of another type")
            raise TypeError(f"not a JSON {name}: {text[:40]!r}")
        return value


def read_record(
    path: str | Path,
    model: "type[Record]",
    *,
    fix: str = "check the path",
    error: type[UserError] = DataError,
) -> "Record":
    """Returns the content of a JSON file that tfxc writes, its values of the types they are written
    with.

    Args:
        path, fix, error: see ``read_errors``.
        model: what the file holds, a model of pydantic.

    Raises:
        UserError, MachineError: as ``read_errors``; a value of another type is named.
    """
    return valid_record(read_json(path, fix=fix, error=error), model, path, fix=fix, error=error)


def valid_record(
    values: dict[str, Any],
    model: "type[Record]",
    path: str | Path,
    *,
    fix: str = "check the path",
    error: type[UserError] = DataError,
) -> "Record":
    """Returns the values that were read from ``path``, as ``read_record`` returns them."""
    import pydantic

    try:
        return model.model_validate(values)
    except pydantic.ValidationError as problem:
        wrong = problem.errors(include_url=False)[0]
        key = ".".join(map(str, wrong["loc"])) or "it"
        reason = wrong["msg"][:1].lower() + wrong["msg"][1:]
        raise error(
            f"damaged, or of another version: {key} is not as tfxc writes it ({reason})",
            where=path,
            fix=fix,
        ) from problem


def read_json_lines(path: str | Path, *, fix: str = "check the path") -> list[dict[str, Any]]:
    """Returns the objects of a file with one on each line; a last line that a kill cut short is
    left out.

    Args:
        path, fix: see ``read_errors``.

    Returns:
        list of dicts.

    Raises:
        DataError, MachineError: as ``read_errors``; a damaged line is named.
    """
    *lines, cut_short = read_text(path, fix=fix).split("\n")
    values = []
    for number, line in enumerate(lines, 1):
        with read_errors(f"{path}:{number}", fix=fix):
            value = json.loads(line)
            if not isinstance(value, dict):
                raise TypeError(f"not a JSON object: {line[:40]!r}")
            values.append(value)
    with contextlib.suppress(ValueError):
        value = json.loads(cut_short)
        values += [value] if isinstance(value, dict) else []
    return values


def read_array(
    path: str | Path,
    *,
    fix: str = "check the path",
    error: type[UserError] = DataError,
    mapped: bool = False,
) -> "np.ndarray":
    """Returns the array of an ``.npy`` file; Python objects are refused.

    Args:
        path, fix, error: see ``read_errors``.
        mapped: leave it on the disk and map it, read only.

    Raises:
        UserError, MachineError: as ``read_errors``.
    """
    import numpy as np

    with read_errors(path, fix=fix, error=error):
        path = existing_file(path, fix=fix, error=error)
        with open(path, "rb") as stream:
            if stream.read(2) == b"PK":
                raise error(
                    "it is an archive of several arrays, not an .npy file",
                    where=path,
                    fix="save the array alone with numpy.save",
                )
            stream.seek(0)
            np.lib.format.read_magic(stream)  # else NumPy takes it for a pickle
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)


def _damaged(path: str | Path, problem: Exception, fix: str, error: type[UserError]) -> UserError:
    reason = str(problem).strip().splitlines() or [type(problem).__name__]
    if isinstance(problem, UnicodeDecodeError):
        reason = [f"the byte at offset {problem.start:,} is not UTF-8"]
    return error(f"damaged, or of another format ({reason[0][:200]})", where=path, fix=fix)


def checksum(path: str | Path) -> str:
    """Returns the SHA-256 of a file as a hexadecimal string, read in blocks.

    Raises:
        DataError, MachineError: as ``read_errors``.
    """
    with read_errors(path), open(existing_file(path), "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
