"""Trainings in processes of their own, which are ended early where that is asked for."""

import concurrent.futures
import functools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from tfxc.core.interrupts import stop_with_parent
from tfxc.core.messages import NOTES
from tfxc.core.storage.files import ensured_parent
from tfxc.core.storage.locks import locked
from tfxc.core.storage.ownership import lock_of
from tfxc.parallel import programs, workers

#: The signal that this process was sent, or None.
Received = Callable[[], int | None]

STOPPED = 128  # exit codes from here on say that a signal stopped training
_POLL = 1.0  # seconds between looks at a dev curve


def train(
    arguments: Sequence[str],
    run: Path,
    received: Received,
    is_hopeless: Callable[[], bool] | None = None,
    output: int | IO[str] = 2,
    patience: float = math.inf,
) -> int:
    """Trains by the ordinary command; its exit code.

    Args:
        arguments: of ``tfxc train``.
        run: run folder.
        received: of trainings on a cluster, which no signal of this process reaches: the one that
            they have to be sent.
        is_hopeless: function that is called from time to time; once it returns true, training is
            stopped, and saves.
        output: where the training prints to: a file, or the number of one.
        patience: seconds that a hopeless training may take to save before it is killed.
    """
    program = ["-m", "tfxc.train", *arguments]
    if workers() is not None:
        return _train_there(program, run, received, is_hopeless)
    with ensured_parent(run), locked(lock_of(run), functools.partial(_wait_for, run)):
        pass  # the training of a killed search may still be saving
    killed_at = math.inf
    command = [sys.executable, *program]
    with subprocess.Popen(
        command, stdout=output, stderr=output, **stop_with_parent(os.environ)
    ) as process:
        while True:
            try:
                code = process.wait(_POLL if is_hopeless else None)
                break
            except KeyboardInterrupt:  # training has received it too, and saves
                continue
            except subprocess.TimeoutExpired:
                if is_hopeless is not None and killed_at == math.inf and is_hopeless():
                    process.terminate()
                    killed_at = time.monotonic() + patience
                elif time.monotonic() > killed_at:
                    process.kill()
    return 128 - code if code < 0 else code


def _wait_for(run: Path, holder: str) -> None:
    NOTES.info(f"waiting for {holder}, which is still writing to {run}")


def _train_there(
    program: list[str], run: Path, received: Received, is_hopeless: Callable[[], bool] | None
) -> int:
    """Trains a setting on a worker of the cluster; its exit code."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with programs(run.parent, 1) as running:
        future = running.submit(program, f"{run}.log")
        while not concurrent.futures.wait([future], _POLL).done:
            if (number := received()) and not running.stopped:
                running.stop(number)
            elif is_hopeless is not None and is_hopeless():
                running.stop()
                is_hopeless = None
    code = future.result()
    if code is None:  # stopped before it began
        code = -(received() or signal.SIGTERM)
    return 128 - code if code < 0 else code
