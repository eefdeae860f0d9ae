"""Locks that end with their process, and scratch folders that a killed process cannot leak.

Both rest on ``flock``: the kernel releases it when its holder ends, however that happens. So there
are no stale locks, and whatever scratch can be locked belongs to no one any more.
"""

import contextlib
import datetime
import errno
import fcntl
import fnmatch
import json
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tfxc.core.messages import NOTES

_held: set[str] = set()  # lock files of this process
# File systems without locks say one of these.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextlib.contextmanager
def locked(path: str | Path, busy: Callable[[str], object]) -> Iterator[None]:
    """Holds a lock file; it is removed at the end.

    On a file system without locks nothing is held, and a message says so.

    Args:
        path: the lock file, in a folder that exists.
        busy: called with a description of the holder when another process holds the lock; raises,
            or returns to wait until it is free.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder, ".lock"), print):
        ...     os.listdir(folder)
        ['.lock']
    """
    path = Path(path)
    handle = _acquire(path, busy)
    _held.add(os.path.realpath(path))
    try:
        if handle is not None:
            os.ftruncate(handle, 0)
            since = datetime.datetime.now().isoformat(" ", "seconds")
            content = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
            os.pwrite(handle, json.dumps(content).encode(), 0)
        yield
    finally:
        _held.discard(os.path.realpath(path))
        if handle is not None:
            path.unlink(missing_ok=True)  # before it is free: whoever waits sees that it is gone
            os.close(handle)


def is_held(path: str | Path) -> bool:
    """Tells whether this process holds a lock file."""
    return os.path.realpath(path) in _held


def holder(path: str | Path) -> str | None:
    """Returns the other process that holds a lock file in words, or None if there is none."""
    if is_held(path):
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return None if try_lock(handle) else _holder(path)
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Locks an open file or folder if no one else has; whether it is locked now.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def scratch_folder(name: str, parent: Path | None = None) -> Iterator[Path]:
    """Yields a folder that is removed at the end.

    Those of processes that were killed are removed on the way.

    Args:
        name: what it is for, e.g. ``"worker"``.
        parent: an existing folder that it is made in; None means the system's temporary one.

    Example:
        >>> with scratch_folder("example") as folder:
        ...     folder.is_dir()
        True
    """
    parent = parent or Path(tempfile.gettempdir())
    sweep(parent, f"tfxc-{name}-????????")
    path = Path(tempfile.mkdtemp(prefix=f"tfxc-{name}-", dir=parent))
    with owned(path):
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def owned(path: str | Path) -> Iterator[None]:
    """Holds a scratch file or folder, so that ``sweep`` leaves it alone."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # no locks here: nothing of this folder is swept either
            try_lock(handle)
        yield
    finally:
        os.close(handle)


def sweep(folder: str | Path, pattern: str, *, alone: bool = False) -> None:
    """Removes scratch files and folders whose owner has ended.

    Args:
        folder: where they are.
        pattern: of their names (``fnmatch``), which end in a part of eight random characters.
        alone: whether a lock keeps others from making any now. Else those of the last two seconds
            stay: their owner may be between making and locking them.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for name in fnmatch.filter(os.listdir(folder), pattern):
            path = os.path.join(folder, name)
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:  # gone, a link, or someone else's
                continue
            try:
                is_mine = os.fstat(handle).st_uid == os.getuid()
                if is_mine and (alone or not _is_new(handle)) and try_lock(handle):
                    if os.path.isdir(path):
                        # Its killed owner's processes may still write there; they cannot under
                        # another name.
                        aside = path[:-8] + secrets.token_hex(4)
                        os.rename(path, aside)
                        shutil.rmtree(aside, ignore_errors=True)
                    else:
                        os.unlink(path)
            except OSError:
                continue
            finally:
                os.close(handle)


def _is_new(handle: int) -> bool:
    age = datetime.datetime.now().timestamp() - os.fstat(handle).st_mtime
    return 0 <= age < 2


def _acquire(path: Path, busy: Callable[[str], object]) -> int | None:
    """Returns an open and locked handle of the lock file, or None if there are no locks."""
    waiting = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # A few times: someone may only be looking whether the lock is free.
            for _ in range(3):
                if is_locked := try_lock(handle):
                    break
                time.sleep(0.02)
            if not is_locked:
                if not waiting:
                    busy(_holder(path))
                waiting = True
                fcntl.flock(handle, fcntl.LOCK_EX)
            if is_same(handle, path):
                return handle
        except OSError as error:
            os.close(handle)
            if error.errno not in NO_LOCKS:
                raise
            NOTES.info(
                f"tfxc: {path.parent}: this file system does not support locks; make sure that no "
                "other process writes there"
            )
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder has removed it: a new one is needed


def is_same(handle: int, path: str | Path) -> bool:
    """Tells whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(path: str | Path) -> str:
    """Returns words for whoever has written the lock file."""
    try:
        written = json.loads(Path(path).read_text(encoding="utf-8"))
        return "process {process} on {host} (since {since})".format(**written)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "another process"
