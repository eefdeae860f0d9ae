"""Several processes that answer at one address, and the one that starts and watches them."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NamedTuple

from tfxc.core.messages import NOTES

#: Where prometheus_client counts for several processes, if it is set when it is imported.
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_HANDLES = "TFXC_SERVE_HANDLES"
_SECONDS_BETWEEN_LOOKS = 0.2


class Handles(NamedTuple):
    """Open files that a process of the server inherits, by number.

    Attributes:
        listener: the socket.
        lifeline: a pipe that ends when the process that watches does.
        ready: a pipe into which a byte is written once requests are answered.
    """

    listener: int
    lifeline: int
    ready: int

    @classmethod
    def inherited(cls) -> "Handles | None":
        """Returns those of this process; None if it is not one of several."""
        numbers = os.environ.get(_HANDLES)
        return None if numbers is None else cls(*map(int, numbers.split(",")))


class _Process:
    """One process of the server."""

    def __init__(
        self, arguments: Sequence[str], listener: socket.socket, lifeline: int, speaks: bool
    ) -> None:
        self._ready, ready = os.pipe()
        handles = Handles(listener.fileno(), lifeline, ready)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tfxc", "serve", *arguments],
                env={**os.environ, _HANDLES: ",".join(map(str, handles))},
                pass_fds=handles,
                stdout=None if speaks else subprocess.DEVNULL,
                process_group=0,  # Ctrl-C reaches the process that watches, which passes it on
            )
        finally:
            os.close(ready)
        self.is_ready = False

    def wait_until_ready(self) -> bool:
        """Waits until requests are answered; False if the process has ended instead."""
        select.select([self._ready], [], [])
        self.is_ready = os.read(self._ready, 1) != b""
        os.close(self._ready)
        return self.is_ready


def serve_in_processes(arguments: Sequence[str], count: int, listener: socket.socket) -> int:
    """Runs ``tfxc serve`` several times at one address until SIGTERM or SIGINT.

    SIGHUP is passed on. A process that dies is replaced; one that cannot begin ends them all. If
    this process is killed, the others end as well, after the requests in flight.

    Args:
        arguments: of ``tfxc serve``.
        count: processes.
        listener: the address, see ``tfxc.serving.server.listen``.

    Returns:
        The exit code of the server.
    """
    lifeline, end_of_lifeline = os.pipe()
    processes: list[_Process] = []
    stops: list[int] = []
    failed = 0

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            for running in processes:
                if running.is_ready:  # another one loads the newest versions anyway
                    running.process.send_signal(number)
            return
        NOTES.info(f"tfxc: ending{' at once' if stops else '; requests in flight are finished'}")
        stops.append(number)
        for running in processes:
            running.process.terminate()

    def begin(place: int) -> None:
        """Starts a process in place of a dead one, or one more; on failure ends the others."""
        nonlocal failed
        started = _Process(arguments, listener, lifeline, speaks=not processes)
        processes[place : place + 1] = [started]
        if stops:  # the signal came before it could be passed on
            started.process.terminate()
        if started.wait_until_ready() or stops:
            return
        failed = started.process.wait()
        if failed < 0:
            name = signal.Signals(-failed).name
            NOTES.warning(f"tfxc: a process of the server was ended by {name} while it started")
        failed = max(failed, 1)
        pass_on(signal.SIGTERM, None)

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tfxc-metrics-"))
        os.environ[METRICS_FOLDER] = folder
        stack.callback(os.environ.pop, METRICS_FOLDER)
        stack.callback(os.close, lifeline)
        stack.callback(os.close, end_of_lifeline)
        stack.enter_context(_handled(pass_on))
        # One after the other: what is wrong with a run is said once.
        while len(processes) < count and not stops:
            begin(len(processes))
        while not stops:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            for place, running in enumerate(processes):
                code = running.process.poll()
                if code is not None and not stops:
                    NOTES.warning(
                        f"tfxc: a process of the server has ended ({code}); another starts"
                    )
                    begin(place)
        listener.close()  # what connects from now on is refused once the others have closed it too
        for running in processes:
            running.process.wait()
        if failed or any(running.is_ready for running in processes):
            return failed
        return 128 + stops[0]


@contextlib.contextmanager
def _handled(handler) -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
