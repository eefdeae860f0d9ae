"""The server process: address, signals, a clean end."""

import asyncio
import contextlib
import errno
import functools
import logging
import os
import signal
import socket
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tfxc.core.errors import ConfigError, missing_package
from tfxc.core.messages import NOTES, OUTPUT
from tfxc.serving.connections import Acceptor, Connection

with missing_package("serve"):
    import uvicorn

if TYPE_CHECKING:
    from tfxc.serving.application import Application
    from tfxc.serving.processes import Handles


_LAST_PORT = 65535


class Timing(NamedTuple):
    """Seconds of a server.

    Attributes:
        drain: from the signal to end to the moment when connections are refused; ``/health`` says
            503 meanwhile, and every answer closes its connection.
        poll: between looks for newer versions; 0 looks only on SIGHUP.
    """

    drain: float = 1.0
    poll: float = 0.0


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket at an address, which nobody can connect to before the server runs.

    Args:
        host: name or address.
        port: 0 chooses a free one.

    Raises:
        ConfigError: the address is taken, or is none of this machine.
    """
    try:
        if port > _LAST_PORT:  # it would be cut to 16 bits
            raise OverflowError(f"ports end at {_LAST_PORT}")
        # With the protocol number, without which asyncio leaves Nagle's algorithm on: the end of an
        # answer then waits for 40 ms.
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        problem = f"cannot listen at {host}:{port} ({error})"
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.EADDRINUSE:
            problem = f"port {port} is in use"
        elif isinstance(error, socket.gaierror) or number == errno.EADDRNOTAVAIL:
            raise ConfigError(
                f"{host} is not an address of this machine",
                where="--host",
                fix="use 127.0.0.1 for this machine alone, or 0.0.0.0 for all that reach it",
            ) from error
        raise ConfigError(
            problem,
            where="--host, --port",
            fix="choose another one, e.g. --port 0 for any free port",
        ) from None
    return listener


def serve(
    application: "Application",
    listener: socket.socket,
    timing: Timing,
    handles: "Handles | None" = None,
) -> None:
    """Answers requests until SIGTERM or SIGINT, then finishes those in flight.

    SIGHUP loads newer versions of the runs. A second SIGTERM or SIGINT ends at once.

    Args:
        application: ``Application``.
        listener: of ``listen``.
        timing: ``Timing``.
        handles: ``Handles`` of one of several processes.
    """
    limits = application.catalog.limits
    connection = functools.partial(Connection, limits=limits, full=application.full, silent={})
    config = uvicorn.Config(
        application.asgi,
        http=cast(Any, connection),
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=75,
    )
    asyncio.run(_Server(config, application, timing, handles).run_at(listener))


class _Server(uvicorn.Server):
    """Uvicorn's server, with tfxc's handling of signals."""

    def __init__(
        self,
        config: uvicorn.Config,
        application: "Application",
        timing: Timing,
        handles: "Handles | None" = None,
    ) -> None:
        super().__init__(config)
        self._handles = handles
        self._application = application
        self._timing = timing
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replaces uvicorn's handlers, which end the process with the signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._begin(self._reload()))
        if self._handles is not None:
            loop.add_reader(self._handles.lifeline, self._end_of_parent)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and says where: from then on connections are accepted."""
        await super().startup([])  # uvicorn's own way of accepting has no bounds
        (listener,) = sockets or []
        protocol = functools.partial(
            cast(Any, self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        limits = self._application.catalog.limits
        self._acceptor = Acceptor(listener, self.server_state.connections, protocol, limits)
        self._acceptor.start()
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        OUTPUT.info(f"serving at http://{shown}:{port}/ (Ctrl-C ends)")
        if self._handles is not None:
            os.write(self._handles.ready, b"1")
            os.close(self._handles.ready)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts who has connected, then closes the address and finishes what is in flight."""
        await self._acceptor.stop()
        await super().shutdown(sockets)

    async def run_at(self, listener: socket.socket) -> None:
        """Serves until a signal."""
        if self._timing.poll:
            self._begin(self._poll())
        await self.serve([listener])
        for task in self._tasks:
            task.cancel()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self) -> None:
        alone = self._handles is None  # else the process that watches says it
        if self._application.draining:
            if alone:
                NOTES.info("tfxc: ending at once")
            # Requests that are cut off are no errors of the server.
            logging.getLogger("uvicorn.error").disabled = True
            self.should_exit = True
            self.force_exit = True
            return
        if alone:
            NOTES.info("tfxc: ending; requests in flight are finished")
        self._application.draining = True
        self._begin(self._drain())

    def _end_of_parent(self) -> None:
        assert self._handles is not None, "it is one of several processes"
        asyncio.get_running_loop().remove_reader(self._handles.lifeline)
        self._end()

    async def _drain(self) -> None:
        await asyncio.sleep(self._timing.drain)
        self.should_exit = True

    async def _reload(self) -> None:
        async with self._reloading:
            await self._application.catalog.reload()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._timing.poll)
            if not self._reloading.locked():
                self._begin(self._reload())  # a task of its own: what fails there ends no polling
