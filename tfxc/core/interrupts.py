"""SIGTERM, Ctrl-C and a closed terminal end training only after it has saved."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WITH_PARENT = "TFXC_STOP_WITH_PARENT"
_stopping = threading.Event()  # this process was asked to stop


class Stopped(Exception):
    """Training was asked to stop and has saved its state.

    Attributes:
        step: step it was saved at.
        signal_number: the signal that requested it.
    """

    def __init__(self, step: int | None, signal_number: int) -> None:
        self.step = step
        self.signal_number = signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name}, saved at step {step}")


class StopSignals:
    """Remembers SIGINT, SIGTERM and SIGHUP instead of dying at once; a second one ends the process.

    A SIGHUP that is ignored, as under ``nohup``, stays ignored.

    Example:
        >>> with StopSignals() as signals:
        ...     signals.received is None
        True
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> "StopSignals":
        self._terminals = []  # streams that end with the terminal: it, or a pipe into a program
        for stream in (1, 2):
            with contextlib.suppress(OSError):
                if os.isatty(stream) or stat.S_ISFIFO(os.fstat(stream).st_mode):
                    self._terminals.append(stream)
        for number in STOP_SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            try:
                self._before[number] = signal.signal(number, self._remember)
            except ValueError:  # not the main thread: the host program handles signals
                return self
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
        _stopping.set()
        if number == signal.SIGHUP:
            # What is printed from now on goes nowhere: writing to a closed terminal fails.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in self._terminals:
                os.dup2(nowhere, stream)
            os.close(nowhere)


class StopAtOnce(StopSignals):
    """Raises ``Stopped`` at the first such signal, for work that saves as it goes.

    Args:
        saved: what is saved, in words.

    Example:
        >>> with StopAtOnce("each block") as signals:
        ...     signals.received is None
        True
    """

    def __init__(self, saved: str) -> None:
        super().__init__()
        self._saved = saved

    def _remember(self, number: int, frame: FrameType | None) -> None:
        super()._remember(number, frame)
        raise StoppedBetween(self._saved, number)


class StoppedBetween(Stopped):
    """Work that saves as it goes was asked to stop."""

    def __init__(self, saved: str, signal_number: int) -> None:
        super().__init__(None, signal_number)
        self._saved = saved

    def __str__(self):
        return f"stopped by {signal.Signals(self.signal_number).name}, {self._saved} saved"


def stop_with_parent(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the arguments of ``subprocess.Popen`` for a child that stops, and saves, when this
    process ends.

    However it ends: the child sees that the other end of its standard input was closed.

    Args:
        environment: dict of the child's environment variables.
    """
    return {"stdin": subprocess.PIPE, "env": {**environment, _WITH_PARENT: "1"}}


def watch_parent() -> None:
    """Sends this process SIGTERM when its parent has ended."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 1):
                pass
        if not _stopping.is_set():  # a second signal would end this process before it has saved
            os.kill(os.getpid(), signal.SIGTERM)

    if os.environ.pop(_WITH_PARENT, None):
        threading.Thread(target=wait, daemon=True).start()
