"""Folders and files of remote storages that are written here and kept the same there.

A run or an output named by an address, such as ``s3://bucket/run``, is read and written as a copy
in tfxc's cache. The two are compared when the command begins, after each file of JSON that a
training finishes (checkpoints, checksums, summaries) and at the end; what has changed on one side
is copied to the other.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfxc.core.errors import DataError, MachineError, UserError
from tfxc.core.messages import NOTES
from tfxc.core.progress import Progress
from tfxc.core.storage.cache import cache_of
from tfxc.core.storage.files import atomic_file, make_folder, write_json
from tfxc.core.storage.locks import holder, locked
from tfxc.core.storage.remote import (
    BLOCK,
    files_at,
    is_copy,
    is_hidden,
    marks,
    remote_errors,
    storage_of,
)

_PROBE = ".tfxc-probe"
_STATE = "mirror.json"
_LOCK = ".mirror.lock"
_SECONDS = 5.0  # between two looks at what a training has finished
_PATIENCE = 0.1  # seconds between two looks at whether another process is done
_LAST = ("checksums.json", "summary.json")  # which say that everything else is there
_open: list["Mirror"] | None = None


def mirror_path(address: str) -> Path:
    """Returns where the copy of what is at an address is, or will be.

    Args:
        address: e.g. ``"s3://bucket/runs/mine"``; the copy has its last name.
    """
    address = address.rstrip("/")
    key = hashlib.sha256(address.encode()).hexdigest()[:16]
    name = address.rpartition("/")[2]
    return cache_of() / "mirrors" / key / ("run" if name in ("", ".", "..") else name)


@contextlib.contextmanager
def mirrors() -> Iterator[None]:
    """Brings everything that ``mirrored`` opens inside to its storage at the end, also of an error.

    Raises:
        MachineError: the storage cannot be reached; what is here stays here.
    """
    global _open
    before = _open
    _open = []
    try:
        yield
    except BaseException:
        with contextlib.suppress(UserError):  # the first error is what matters
            _close_all()
        raise
    else:
        _close_all()
    finally:
        _open = before


def _close_all() -> None:
    assert _open is not None
    with contextlib.ExitStack() as stack:
        for mirror in _open:
            stack.callback(mirror.close)


def mirrored(address: str, where: str, *, writes: bool = False, watch: bool = False) -> Path:
    """Returns the copy on this machine of what is at an address, or is to be written there.

    Args:
        address: of a storage that fsspec knows.
        where: config key or option it was given in, for messages.
        writes: whether the command is to write there, which is tried at once.
        watch: whether it is compared during the command, too, as a training needs it.

    Raises:
        ConfigError: the package of the storage is not installed.
        DataError: a file has changed both here and there, or there is no such bucket.
        MachineError: the storage cannot be reached, or refuses.
    """
    assert _open is not None, "inside of mirrors()"
    mirror = next((known for known in _open if known.address == address.rstrip("/")), None)
    if mirror is None:
        mirror = Mirror(address, where)
        is_copy(mirror.path, mirror.address)
        _open.append(mirror)
        mirror.begin()
    if writes:
        mirror.try_to_write(inside=watch)
    if watch:
        mirror.watch()
    else:
        mirror.rest()
    return mirror.path


class Mirror:
    """A copy of what is at an address, and a record of the last state that both sides shared.

    One process of a machine synchronises an address at a time, a training from its beginning to its
    end; others use the copy as it is, and synchronise what they have changed when they end, if no
    one else does then.

    Args:
        address: of a storage that fsspec knows.
        where: config key or option it was given in, for messages.

    Attributes:
        path: the copy.
    """

    def __init__(self, address: str, where: str) -> None:
        self.address = address.rstrip("/")
        self.path = mirror_path(address)
        self._folder = self.path.parent  # of the copy, what is known of it and the lock
        self._storage, self._place = storage_of(self.address, where)
        self._mutex = threading.Lock()
        self._held = contextlib.ExitStack()
        self._thread: threading.Thread | None = None
        self._end = threading.Event()
        self._copied = 0
        self._owner = False
        self._there: dict[str, Any] = {}
        self._here: dict[str, Any] = {}
        self._sent: dict[str, Any] = {}  # as they were here; how they are there is not known yet

    def begin(self) -> None:
        """Brings the copy up to date, unless another process keeps it so."""
        make_folder(self._folder)
        self._take_over()
        waits = False
        while not self._owner and not (self._folder / _STATE).exists():
            if not waits:
                process = holder(self._folder / _LOCK) or "another process"
                NOTES.info(f"{self.address}: waiting for {process}, which copies it")
            waits = True
            time.sleep(_PATIENCE)
            self._take_over()
        if self._owner:
            self.synchronise()
            if not (self._folder / _STATE).exists():
                self._write_state()  # nothing is there yet

    def try_to_write(self, inside: bool) -> None:
        """Writes an empty file and removes it: what is refused later would come after the work.

        Args:
            inside: whether the address is that of a folder; else the file stands next to it.

        Raises:
            DataError: there is no such bucket.
            MachineError: the storage cannot be reached, or refuses.
        """
        probe = self._folder / _PROBE
        place = f"{self._place.rstrip('/')}{'/' * inside}{_PROBE}"
        with remote_errors(self.address, "write"):
            with atomic_file(probe):
                pass
            self._put(probe, place)
            self._storage.rm_file(place)

    def watch(self) -> None:
        """Synchronises in the background from now on, or from when no other process does."""
        if self._thread is None:
            self._take_over()
            before = (self._milestones(),)
            self._thread = threading.Thread(target=self._watch, args=before, daemon=True)
            self._thread.start()

    def rest(self) -> None:
        """Leaves it to others to synchronise until the end, unless ``watch`` was called."""
        if self._thread is None:
            self._held.close()
            self._owner = False

    def close(self) -> None:
        """Synchronises for the last time."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        with self._held:
            self._take_over()
            if not self._owner:
                return
            try:
                self.synchronise()
            except MachineError as error:
                fix = f"what was written is in {self._folder}: start the same command again"
                raise MachineError(error.problem, where=error.where, fix=fix) from error
            if self._copied:
                files = "file" if self._copied == 1 else "files"
                NOTES.info(f"{self.address}: {self._copied:,} {files} written")

    def synchronise(self) -> None:
        """Copies what has changed on one side to the other.

        Raises:
            DataError: a file has changed on both, or all of them are gone there.
            MachineError: the storage cannot be reached, or refuses.
        """
        with self._mutex:
            there = self._files_there()
            here = self._files_here()
            self._note_sent(there)
            changed_there = _changed(self._there, there)
            changed_here = _changed(self._here, here)
            if self._there and not there and self.path.exists():
                raise DataError(
                    f"all files that were at this address are gone ({len(self._there):,})",
                    where=self.address,
                    fix=f"copy them back from {self._folder}, or delete that folder to start over",
                )
            if not changed_there and not changed_here:
                return
            for name in _in_order(changed_there & changed_here):
                if self._settle(name, there, here):
                    changed_there.remove(name)
            try:
                for name in _in_order(changed_there - changed_here):
                    self._fetch(name, there.get(name))
                for name in _in_order(changed_here - changed_there):
                    with remote_errors(self.address, "write"):
                        if name in here and self._put(self._local(name), self._remote(name)):
                            self._sent[name] = here[name]
                            self._copied += 1
                        elif name not in here:
                            with contextlib.suppress(FileNotFoundError):
                                self._storage.rm_file(self._remote(name))
                            _forget(name, self._there, self._here)
            finally:
                self._write_state()
            if self._sent:
                self._note_sent(self._files_there())

    def _write_state(self) -> None:
        state = {"address": self.address, "there": self._there, "here": self._here}
        write_json(self._folder / _STATE, state)

    def _note_sent(self, there: Mapping[str, Any]) -> None:
        """Notes how the files that were sent are there, if that is not known yet."""
        if self._sent:
            for name in self._sent.keys() & there.keys():
                self._there[name] = there[name]
                self._here[name] = self._sent[name]
            self._sent = {}
            self._write_state()

    def _take_over(self) -> None:
        """Becomes the process that synchronises, if there is none."""
        if not self._owner:
            with contextlib.suppress(_Busy):
                self._held.enter_context(locked(self._folder / _LOCK, _busy))
                self._owner = True
                with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                    state = json.loads((self._folder / _STATE).read_text("utf-8"))
                    if (state["there"], state["here"]) == (self._there, self._here):
                        return  # nobody has synchronised meanwhile: what is gone was removed since
                    # Files that are not in the copy any more were removed from the cache, which is
                    # no reason to remove them there as well: they are brought here again. Only what
                    # is removed from now on is removed there.
                    names = self._files_here().keys() & state["here"].keys()
                    self._there = {n: state["there"][n] for n in names if n in state["there"]}
                    self._here = {name: state["here"][name] for name in names}

    def _watch(self, seen: Mapping[str, Any]) -> None:
        """Synchronises whenever a training has finished something."""
        said = ""
        while not self._end.wait(_SECONDS):
            now = self._milestones()
            if now != seen:
                self._take_over()
            if now == seen or not self._owner:
                continue
            try:
                self.synchronise()
                seen = now
            except UserError as error:  # tried again; the last time says what is wrong
                if str(error) != said:
                    NOTES.warning(str(error))
                said = str(error)

    def _milestones(self) -> dict[str, list[int]]:
        """Returns the finished files of JSON, and their times."""
        return {name: stat for name, stat in self._files_here().items() if name.endswith(".json")}

    def _files_there(self) -> dict[str, dict[str, Any]]:
        with remote_errors(self.address):
            try:
                files = files_at(self._storage, self._place)
            except FileNotFoundError:
                return {}
        return {name: marks(info) for name, info in files.items()}

    def _files_here(self) -> dict[str, list[int]]:
        """Returns {name: [size, time]} of the files of the copy; of one file the name is empty."""
        if self.path.is_file():
            return {"": _stat(self.path)}
        files = {}
        for folder, _, names in os.walk(self.path):
            for file in (Path(folder, name) for name in names):
                relative = file.relative_to(self.path)
                # TensorFlow writes the parts of a checkpoint into folders of such names.
                is_unfinished = any("_temp" in parent for parent in relative.parts[:-1])
                if not is_hidden(relative.as_posix()) and not is_unfinished:
                    with contextlib.suppress(FileNotFoundError):
                        files[relative.as_posix()] = _stat(file)
        return files

    def _settle(self, name: str, there: Mapping[str, Any], here: Mapping[str, list[int]]) -> bool:
        """Settles what has changed on both sides, if it is the same now or was continued here.

        A process that is killed between sending a file and noting that leaves it so.

        Returns:
            Whether the file is to be sent.
        """
        if name not in there and name not in here:
            _forget(name, self._there, self._here)
            return False
        if name in there and name in here and (there[name]["size"] or 0) <= here[name][0]:
            compared = self._folder / ".compared"
            self._copy(name, compared)
            begins, same = _compared(compared, self._local(name))
            compared.unlink()
            if begins:
                self._there[name] = there[name]
                if same:
                    self._here[name] = here[name]
                return not same
        raise DataError(
            f"{name or 'the folder'} has changed both there and in its copy {self._folder}",
            where=self.address,
            fix=f"delete {self._folder} to use the remote one, or the remote one to use the copy; "
            "write from one machine at a time",
        )

    def _fetch(self, name: str, original: dict[str, Any] | None) -> None:
        """Brings a file here, or removes it here."""
        file = self._local(name)
        if original is None:
            file.unlink(missing_ok=True)
            _forget(name, self._there, self._here)
            return
        if not file.resolve().is_relative_to(self.path.resolve()):
            raise DataError(
                "the name of this file leads out of the folder", where=f"{self.address}/{name}"
            )
        self._copy(name, file)
        self._there[name] = original
        self._here[name] = _stat(file)

    def _copy(self, name: str, file: Path) -> None:
        with (
            remote_errors(self.address),
            self._storage.open(self._remote(name), "rb") as source,
            atomic_file(file, "wb") as copy,
            Progress(f"copying {self._remote(name)}", None, "bytes") as progress,
        ):
            while block := source.read(BLOCK):
                copy.write(block)
                progress.advance(len(block))

    def _put(self, file: Path, place: str) -> bool:
        """Tells whether a file was copied; False if it was removed meanwhile, as old checkpoints
        are.
        """
        try:
            self._storage.put_file(str(file), place)
        except FileNotFoundError:
            if not file.exists():
                return False
            # Storages that have folders want them made; a bucket is the user's to make.
            root = "/" * place.startswith("/") + place.strip("/").partition("/")[0]
            if not self._storage.exists(root):
                raise
            self._storage.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._storage.put_file(str(file), place)
        return True

    def _local(self, name: str) -> Path:
        return self.path / name if name else self.path

    def _remote(self, name: str) -> str:
        return f"{self._place.rstrip('/')}/{name}" if name else self._place


class _Busy(Exception):
    """Another process synchronises."""


def _busy(_: str) -> None:
    raise _Busy


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    return {name for name in {*before, *now} if before.get(name) != now.get(name)}


def _compared(beginning: Path, file: Path) -> tuple[bool, bool]:
    """Tells whether a file begins with another one, and whether both are the same."""
    with open(beginning, "rb") as first, open(file, "rb") as second:
        while block := first.read(BLOCK):
            if second.read(len(block)) != block:
                return False, False
        return True, not second.read(1)


def _in_order(names: Iterable[str]) -> list[str]:
    """Sorts names so that what says that other files are complete comes after them."""
    return sorted(names, key=lambda name: (name in _LAST, name.endswith(".json"), name))


def _forget(name: str, *known: dict[str, Any]) -> None:
    for entries in known:
        entries.pop(name, None)


def _stat(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]
