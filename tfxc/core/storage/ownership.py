"""Folders marked as written by tfxc: only these are replaced or emptied, never others.

Such a folder holds a marker, ``.tfxc.json``: what it is, and the names of what belongs to it. Only
such a folder is ever replaced or emptied, and only if it holds nothing else.
"""

import contextlib
import fnmatch
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from tfxc.core.errors import UserError
from tfxc.core.storage.files import (
    MOVED_IN,
    SCRATCH,
    atomic_file,
    ensured_parent,
    new_neighbour,
    path_conflict,
    with_final_path,
    write_errors,
)
from tfxc.core.storage.locks import holder, is_held, locked, owned, sweep
from tfxc.core.storage.reading import kind_of, read_json
from tfxc.version import __version__

MARKER = ".tfxc.json"
LOCKS = ".*.lock"
_REMOVED = ".removed-"


@contextlib.contextmanager
def atomic_folder(
    path: str | Path, kind: str, names: Collection[str] | None = None
) -> Iterator[Path]:
    """Yields a temporary neighbour folder that becomes ``path`` on success.

    An existing ``path`` is replaced only once the new one is complete, and only if it is empty or
    one of the same kind, see ``check_own``. What a killed process has left is removed by the next
    one that writes the folder.

    Args:
        path: the folder.
        kind: what it is, e.g. ``"run"``.
        names: patterns of the names that may appear in it later; by default those written now.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
        UserError: ``path`` is a file, or a folder that holds something else or is written to.
    """
    path = Path(path)
    if path.is_symlink():  # which stays
        path = Path(os.path.realpath(path))
    with write_errors(path):
        present = kind_of(path)
    if present not in ("folder", None):
        raise path_conflict(path, wanted="folder", present=present)
    if os.path.realpath(path) == os.getcwd():
        raise UserError("the current folder cannot be replaced", where=path, fix="name another one")
    check_own(path, kind)
    with contextlib.ExitStack() as stack:
        with ensured_parent(path):
            stack.enter_context(_locked_folder(path))
            sweep(path.parent, SCRATCH.format(glob.escape(path.name)), alone=True)
            scratch, _ = new_neighbour(path, os.mkdir)
        try:
            with owned(scratch), with_final_path(scratch, path), write_errors(path):
                yield scratch
                check_own(path, kind)  # something may have been put there in the meantime
                names = names or sorted(entry.name for entry in scratch.iterdir())
                (scratch / MARKER).write_text(_marker_text(kind, names), encoding="utf-8")
                _swap_in(scratch, path)
        except BaseException:
            # Under another name: what other processes still write to it has no place any more.
            folders = [scratch]
            with contextlib.suppress(OSError):
                folders.append(new_neighbour(path, os.mkdir)[0])
                os.replace(*folders)
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _swap_in(scratch: Path, path: Path) -> None:
    if not path.exists():
        os.replace(scratch, path)
        return
    old, _ = new_neighbour(path, os.mkdir)
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


def mark(folder: str | Path, kind: str, names: Iterable[str]) -> None:
    """Writes the marker of a folder.

    Args:
        folder: the folder.
        kind: what it is, e.g. ``"run"``.
        names: names of what belongs to it, or patterns (``fnmatch``).
    """
    with atomic_file(Path(folder) / MARKER) as stream:
        stream.write(_marker_text(kind, names))


def _marker_text(kind: str, names: Iterable[str]) -> str:
    marker = {"holds": kind, "written_by": f"tfxc {__version__}", "names": list(names)}
    return json.dumps(marker, indent=2) + "\n"


def check_kind(folder: str | Path, kind: str) -> list[str]:
    """Refuses a folder that tfxc has not written, or that is something else.

    A folder that is empty, or not there, is fine; locks of folders in it do not count, nor does a
    marker that is half written.

    Args:
        folder: what is to be written to.
        kind: what it must be.

    Returns:
        list of patterns of the names that may be in it.

    Raises:
        UserError: it is something else.
    """
    folder = Path(folder)
    # A process may have been killed while it wrote the marker.
    of_no_kind = [LOCKS, SCRATCH.format(MARKER)]
    if not folder.is_dir() or all(_matches(entry.name, of_no_kind) for entry in folder.iterdir()):
        return []
    marker = _marker(folder)
    if marker is None or marker["holds"] != kind:
        content = "other files" if marker is None else f"a tfxc {marker['holds']}"
        raise UserError(
            f"the folder is for a tfxc {kind}, but contains {content}; nothing was removed",
            where=folder,
            fix="choose another folder",
        )
    return _known_names(marker)


def _known_names(marker: Mapping[str, Any]) -> list[str]:
    """Patterns of the names that may be in a folder with this marker."""
    names = [*marker["names"], MARKER, LOCKS, MOVED_IN]
    return [*names, *(SCRATCH.format(name) for name in names), _REMOVED + "*"]


def is_kind(folder: str | Path, kind: str) -> bool:
    """Tells whether a folder has the marker of what it is to hold."""
    marker = _marker(folder)
    return marker is not None and marker["holds"] == kind


def check_own(folder: str | Path, kind: str) -> None:
    """Refuses to remove a folder that tfxc has not written, or that something was put into.

    Args:
        folder: what is to be replaced or emptied.
        kind: what it must be.

    Raises:
        UserError: as ``check_kind``; or it holds other files, which are named.
    """
    folder = Path(folder)
    foreign = _foreign(folder) if check_kind(folder, kind) else []
    if foreign:
        shown = ", ".join(sorted(foreign)[:5]) + (", ..." if len(foreign) > 5 else "")
        raise UserError(
            f"contains files that tfxc did not write ({shown}); nothing was removed",
            where=folder,
            fix="move them away, or choose another folder",
        )


def _foreign(folder: Path) -> list[str]:
    """Returns paths relative to a marked folder of what does not belong to it, or to one in it."""
    marker = _marker(folder)
    assert marker is not None, "it is marked"
    known = _known_names(marker)
    paths = []
    for entry in folder.iterdir():
        if not _matches(entry.name, known):
            paths.append(entry.name)
        elif entry.is_dir() and not entry.is_symlink() and _marker(entry) is not None:
            paths += [f"{entry.name}/{name}" for name in _foreign(entry)]
    return paths


def lock_of(folder: str | Path) -> Path:
    """Returns the lock file of a folder, next to it: there only while a process writes to the
    folder.
    """
    path = Path(os.path.realpath(folder))
    if not path.name:
        raise UserError(
            "the root folder cannot be locked", where=folder, fix="name a folder inside it"
        )
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, unless this process has it; refuses one that is written to.

    Raises:
        UserError: another process writes to the folder, or to a run in it; it is named.
    """

    def refuse(process: str) -> NoReturn:
        raise UserError(
            f"{process} is writing to this folder",
            where=folder,
            fix="wait until it has ended, stop it, or choose another folder",
        )

    lock = lock_of(folder)
    for part in folder.glob(LOCKS):
        process = holder(part)
        if process is not None:
            refuse(process)
    with contextlib.nullcontext() if is_held(lock) else locked(lock, refuse):
        yield


def clear_owned(folder: str | Path, kind: str, keep: Iterable[str] = ()) -> None:
    """Removes what tfxc has written into a folder; the folder stays, and locks of folders in it.

    Everything is first moved aside together, so that a process killed here leaves no half of it.

    Args:
        folder: a folder that may be there.
        kind: see ``check_own``.
        keep: patterns of names that stay as well.

    Raises:
        UserError: as ``check_own``.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return
    check_own(folder, kind)
    with write_errors(folder):
        aside = Path(tempfile.mkdtemp(prefix=_REMOVED, dir=folder))
        # The marker stays, a config goes last: what a kill leaves half emptied is still known.
        for entry in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):
            if entry != aside and not _matches(entry.name, (MARKER, LOCKS, *keep)):
                os.replace(entry, aside / entry.name)
        shutil.rmtree(aside)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _marker(folder: str | Path) -> dict[str, Any] | None:
    """Returns the marker of a folder as a dict, or None."""
    try:
        marker = read_json(Path(folder) / MARKER)
        is_whole = isinstance(marker["holds"], str) and isinstance(marker["names"], list)
        return marker if is_whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
