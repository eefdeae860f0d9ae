"""SHA-256 of the files of a finished folder: recorded when it is written, compared when it is read.

``checksums.json`` in the folder holds ``{"format": 1, "files": {name: {"bytes", "sha256"}},
"sha256"}``, the last one of the files' entries, so that damage to the record itself is noticed.
"""

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tfxc.core.errors import DataError
from tfxc.core.progress import Progress
from tfxc.core.resources import thread_count
from tfxc.core.storage.files import write_json
from tfxc.core.storage.reading import checksum, read_errors, read_json

FILE = "checksums.json"
FORMAT = 1
# Hashed whenever a folder is opened, the smallest files first: about a third of a second.
_HASHED_BYTES = 1 << 28
_AT_ONCE = 4  # files that are hashed at a time


class Unrecorded(DataError):
    """A folder without ``checksums.json``."""


def record(
    folder: str | Path,
    names: Iterable[str | Path] | None = None,
    known: Mapping[str, tuple[int, str]] | None = None,
) -> None:
    """Writes ``checksums.json``.

    Args:
        folder: the folder, whose files are complete.
        names: paths of files, relative to it; None means all that there are.
        known: {name: (bytes, SHA-256)} of files that need not be read, or are written after this.

    Raises:
        MachineError: the folder cannot be written to.
    """
    folder = Path(folder)
    known = dict(known or {})
    if names is None:
        files = (path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in files]
    wanted = sorted({*map(str, names), *known} - {FILE})
    known |= _measured(folder, [name for name in wanted if name not in known])
    entries = {name: {"bytes": known[name][0], "sha256": known[name][1]} for name in wanted}
    content = {"format": FORMAT, "files": entries, "sha256": _digest(entries)}
    write_json(folder / FILE, content, indent=1)


def add(folder: str | Path, name: str) -> None:
    """Adds a file to ``checksums.json``, which is made where there is none.

    Raises:
        DataError: the record is damaged.
        MachineError: as ``record``.
    """
    record(folder, [name], _without(folder, [name]))


@contextlib.contextmanager
def replaced(folder: str | Path, *names: str) -> Iterator[None]:
    """Lets files of a recorded folder be written anew, or removed.

    Meanwhile they have no checksum: whenever the writer dies, the folder can be read, with the old
    file or the new one.

    Raises:
        DataError, MachineError: as ``add``.
    """
    record(folder, [], _without(folder, names))
    yield
    written = [name for name in names if (Path(folder) / name).exists()]
    record(folder, written, _without(folder, names))


def _without(folder: str | Path, names: Collection[str]) -> dict[str, tuple[int, str]]:
    """Returns what is recorded of the other files, ``{name: (bytes, SHA-256)}``."""
    entries = {}
    with contextlib.suppress(Unrecorded):
        entries = entries_of(folder, "remove it")
    items = ((name, entry) for name, entry in entries.items() if name not in names)
    return {name: (entry["bytes"], entry["sha256"]) for name, entry in items}


def are_recorded(folder: str | Path, *names: str) -> bool:
    """Tells whether those of the files that exist are recorded; else their writer has died."""
    there = {name for name in names if (Path(folder) / name).exists()}
    return there <= _without(folder, ()).keys()


def entries_of(folder: str | Path, fix: str) -> dict[str, dict[str, Any]]:
    """Returns what ``record`` wrote down, ``{name: {"bytes", "sha256"}}``.

    Args:
        fix: for messages: how to get the folder's files back.

    Raises:
        Unrecorded: there is no record.
        DataError: it is damaged.
    """
    path = Path(folder) / FILE
    with read_errors(path, fix=fix):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            problem = "no such file: the folder is incomplete"
            raise Unrecorded(problem, where=path, fix=fix) from None
    content = read_json(path, fix=fix)
    if content.get("format") != FORMAT and "files" in content:
        problem = f"its format is {content.get('format')!r}, not {FORMAT}"
        raise DataError(problem, where=path, fix=fix)
    entries = content.get("files")
    lists_files = isinstance(entries, dict) and all(
        isinstance(entry, dict)
        and type(entry.get("bytes")) is int
        and isinstance(entry.get("sha256"), str)
        and not Path(name).is_absolute()
        and ".." not in Path(name).parts
        for name, entry in entries.items()
    )
    if content.get("sha256") != _digest(entries) or not lists_files:
        raise DataError("the checksum file is damaged", where=path, fix=fix)
    return entries


def check(
    folder: str | Path, fix: str, *, all_files: bool = False, elsewhere: Collection[str] = ()
) -> None:
    """Compares the files of a folder with what was recorded.

    All sizes are compared, and the SHA-256 of the smallest files up to 256 MB in all.

    Args:
        folder: a folder that ``record`` has written.
        fix: for messages: how to get its files back.
        all_files: whether every file is hashed.
        elsewhere: names of files that are hashed, or checked in another way, when they are read;
            of no concern with ``all_files``.

    Raises:
        DataError: names the first file that is missing or differs, or the record itself.
    """
    folder = Path(folder)
    entries = entries_of(folder, fix)
    for name, entry in entries.items():
        _check_size(folder / name, entry, fix)
    left = _HASHED_BYTES
    chosen = []
    for name in sorted(entries, key=lambda name: entries[name]["bytes"]):
        left -= entries[name]["bytes"]
        if all_files or (left >= 0 and name not in elsewhere):
            chosen.append(name)
    with Progress(f"verifying {folder}", len(chosen), "files") as progress:
        for name in chosen:
            _check_content(folder / name, entries[name], fix)
            progress.advance(1)


def check_file(folder: str | Path, name: str, fix: str) -> None:
    """Compares one file with what was recorded; nothing is done where it was not recorded.

    Raises:
        DataError: it is missing or differs.
    """
    try:
        entry = entries_of(folder, fix).get(name)
    except Unrecorded:
        return
    if entry is not None:
        _check_size(Path(folder) / name, entry, fix)
        _check_content(Path(folder) / name, entry, fix)


def identity(folder: str | Path, fix: str) -> str:
    """Returns the SHA-256 of everything that was recorded of a folder: another one for other
    files.
    """
    return _digest(entries_of(folder, fix))


def of_files(folder: str | Path, paths: Iterable[Path]) -> str:
    """Returns the SHA-256 of several files and their names relative to ``folder``, whatever their
    order.
    """
    lines = sorted(f"{path.relative_to(folder).as_posix()} {checksum(path)}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _measured(folder: Path, names: list[str]) -> dict[str, tuple[int, str]]:
    """Returns bytes and SHA-256 of files, several read at a time."""

    def measured(name: str) -> tuple[int, str]:
        return (folder / name).stat().st_size, checksum(folder / name)

    pool = ThreadPoolExecutor(min(thread_count(), _AT_ONCE))
    try:
        return dict(zip(names, pool.map(measured, names), strict=True))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _digest(entries: object) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _check_size(path: Path, entry: Mapping[str, Any], fix: str) -> None:
    if not path.is_file():
        raise DataError("no such file, though checksums.json lists it", where=path, fix=fix)
    size = path.stat().st_size
    if size != entry["bytes"]:
        problem = f"the file has {size:,} bytes instead of {entry['bytes']:,}"
        raise DataError(problem, where=path, fix=fix)


def _check_content(path: Path, entry: Mapping[str, Any], fix: str) -> None:
    digest = checksum(path)
    if digest != entry["sha256"]:
        raise DataError(
            f"changed or damaged: its SHA-256 is {digest[:12]}… instead of {entry['sha256'][:12]}…",
            where=path,
            fix=fix,
        )
