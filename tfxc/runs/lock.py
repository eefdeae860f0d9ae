"""Lets one process at a time write into a run folder."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from tfxc.core.errors import CheckpointError
from tfxc.core.storage import checksums
from tfxc.core.storage.files import SCRATCH, check_local, make_folder, write_errors
from tfxc.core.storage.locks import is_held, sweep
from tfxc.core.storage.locks import locked as locked_file
from tfxc.core.storage.ownership import LOCKS, MARKER, is_kind, lock_of
from tfxc.runs.folder import RunFolder
from tfxc.runs.writer import CONFIG, ENVIRONMENT, KIND, SUMMARY, WEIGHTS


@contextlib.contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Keeps other processes from writing into a run; the kernel frees it on death.

    A process may lock a run that it has locked already. What processes that were killed have
    left half-written is removed.

    Raises:
        CheckpointError: another process is writing into it; the message names it.
    """
    lock = lock_of(run.path)
    if not run.chief or is_held(lock):
        yield
        return

    def refuse(process: str) -> NoReturn:
        raise busy(run, process)

    check_local(run.path, "run")
    made = [path for path in lock.parents if not path.exists()]
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, made)
        with write_errors(run.path):
            make_folder(lock.parent)
            stack.enter_context(locked_file(lock, refuse))
            sweep(run.path, SCRATCH.format(MARKER), alone=True)
            if is_kind(run.path, KIND):
                _remove_scratch(run)
        yield


def busy(run: RunFolder, process: str) -> CheckpointError:
    """Returns the error that another process, named by ``process``, writes into a run."""
    return CheckpointError(
        f"{process} is writing into this run",
        where=run.path,
        fix="wait until it has ended, stop it, or choose another folder with --set run=...",
    )


def _remove_scratch(run: RunFolder) -> None:
    """Removes what an earlier process left when it was killed, locks of runs in it as well."""
    sweep(run.path, LOCKS, alone=True)
    # None but who holds the lock writes these.
    for name in (CONFIG, SUMMARY, ENVIRONMENT, checksums.FILE):
        sweep(run.path, SCRATCH.format(name), alone=True)
    assets = run / "assets"
    folders = [assets, *(path for path in assets.rglob("*") if path.is_dir())]
    for folder in [*folders, run / "checkpoints"]:
        sweep(folder, SCRATCH.format("*"), alone=True)
    leftovers = [*run.path.glob(f".new-{WEIGHTS}"), *run.path.glob(".removed-*")]
    for path in [*leftovers, *run.path.glob("checkpoints/*_temp")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_empty(folders: Iterable[Path]) -> None:
    with contextlib.suppress(OSError):  # the others are not empty either
        for folder in folders:
            folder.rmdir()
