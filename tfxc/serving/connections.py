"""How many connections are accepted, and what ends those of slow or silent clients."""

import asyncio
import contextlib
import errno
import http
import resource
import socket
from collections.abc import Callable, Collection
from typing import Any

from tfxc.core.errors import ConfigError, missing_package
from tfxc.core.escaping import json_text
from tfxc.core.messages import NOTES
from tfxc.serving.limits import Limits, RequestError

with missing_package("serve"):
    from starlette.types import ASGIApp
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


_LONGEST_HEAD = 64 << 10  # bytes of a request's line and headers
_SECONDS_OF_REFUSED = 1.0  # for the head of a request on a connection too many
_SECONDS_AT_THE_END = 0.5  # for a request that may be on its way when the server ends
# Of a client that is refused while it sends: it may read the answer only after it has sent all.
_SECONDS_OF_SILENCE = 1.0
_DISCARDED = 16  # times the largest body
_REFUSED_AT_A_TIME = 16
_OTHER_FILES = 96  # open files of this process besides connections: runs, libraries, pipes
_WAITING = 2048  # connections in the system's queue
_ACCEPTED_AT_ONCE = 64
_SECONDS_WITHOUT_ROOM = 0.002
_SECONDS_WITHOUT_FILES = 1.0
_SECONDS_BETWEEN_LINES = 60.0
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def checked_connections(wanted: int | None) -> int:
    """Returns how many connections a server of this process takes at a time.

    Args:
        wanted: a number; None for the usual one, or less where the process may open fewer files.

    Raises:
        ConfigError: the process may open too few files (``ulimit -n``).

    Example:
        >>> checked_connections(8)
        8
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted or Limits.connections
    most = files - _OTHER_FILES - _REFUSED_AT_A_TIME
    if most < (wanted or 1):
        needed = files - most + (wanted or Limits.connections)
        fewer = f", or set it to at most {most:,}" if most > 0 else ""
        purpose = f"for {wanted:,} connections" if wanted else "to serve"
        raise ConfigError(
            f"this process may open {files:,} files, too few {purpose}",
            where="--max-connections",
            fix=f"allow more with `ulimit -n {needed}`{fewer}",
        )
    return min(Limits.connections, most) if wanted is None else wanted


class Acceptor:
    """Accepts connections while there is room for them; others wait in the system's queue.

    A few more than ``limits.connections`` are accepted, so that they are told; beyond that none is,
    until some have ended. So the process does not run out of files.

    Args:
        listener: a socket that is bound; nobody can connect to it before ``start``.
        connections: those that are open.
        protocol: makes the ``Connection`` of a socket.
        limits: ``Limits``.
    """

    def __init__(
        self,
        listener: socket.socket,
        connections: Collection[Any],
        protocol: Callable[[], asyncio.Protocol],
        limits: Limits,
    ) -> None:
        self._listener = listener
        self._connections = connections
        self._protocol = protocol
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[Any]] = set()  # accepted, and not among connections yet
        self._pause: asyncio.TimerHandle | None = None
        self._said: float | None = None

    def start(self) -> None:
        """Lets clients connect; in the event loop."""
        self._listener.listen(_WAITING)
        self._listener.setblocking(False)
        self._resume()

    async def stop(self) -> None:
        """Accepts who has connected, then closes the address.

        Closing it resets what the system has connected and the server has not accepted.
        """
        self._loop.remove_reader(self._listener)
        if self._pause:
            self._pause.cancel()
        with contextlib.suppress(OSError):  # no file is left
            for _ in range(_WAITING):
                if not self._accept_one():
                    break
        self._listener.close()
        await asyncio.gather(*self._beginning, return_exceptions=True)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _wait(self, seconds: float) -> None:
        """Accepts nothing for a while."""
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._resume)

    def _say(self, problem: str) -> None:
        """Prints a line, once a minute at most."""
        now = self._loop.time()
        if self._said is None or now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            NOTES.warning(f"{problem}; further ones wait or are refused")

    def _accept(self) -> None:
        """Accepts some of the clients that wait."""
        for _ in range(_ACCEPTED_AT_ONCE):
            count = len(self._connections) + len(self._beginning)
            if count >= self._limits.connections:
                self._say(f"{self._limits.connections:,} connections are open (--max-connections)")
            if count >= self._limits.connections + _REFUSED_AT_A_TIME:
                self._wait(_SECONDS_WITHOUT_ROOM)
                return
            try:
                if not self._accept_one():
                    return
            except OSError as error:
                if error.errno not in _NO_FILES:
                    continue  # the client has gone
                self._say(f"no connection can be accepted ({error.strerror})")
                self._wait(_SECONDS_WITHOUT_FILES)
                return

    def _accept_one(self) -> bool:
        """Accepts a client; tells whether one has waited."""
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return False
        task = self._loop.create_task(self._begin(accepted))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        return True

    async def _begin(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has gone
            await self._loop.connect_accepted_socket(self._protocol, accepted)


class _Transport:
    """The transport of a connection, which closes it as a server of slow clients must."""

    def __init__(self, transport: asyncio.Transport, connection: "Connection") -> None:
        self._transport = transport
        self.close = connection.close
        self.is_closing = connection.is_closing

    def write(self, data: bytes) -> None:
        if not self.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """One connection of uvicorn's, with limits for what happens outside of a request.

    * The head of the first request must be complete ``limits.seconds`` after the connection, that
      of another one ``limits.seconds`` after its first byte (else 408), with at most 64 KiB (431).
    * What a client does not read for ``limits.seconds`` ends the connection.
    * With more than ``limits.connections``, the one that has waited longest without any request is
      closed; if there is none, the newest gets ``full`` for an answer.
    * A client that is refused while it still sends is read for a while, and what it sends is
      dropped: closing a connection with bytes that nobody has read resets it, and the answer is
      lost.
    * When the server ends, a connection without a request in flight stays open for half a second,
      as the client may have sent one.

    Idle connections between requests are closed by uvicorn (``timeout_keep_alive``), slow bodies
    are refused by the application.

    Args:
        limits: ``Limits``.
        full: ASGI application that answers on a connection too many, and closes it.
        silent: all connections without any request, the first to come first; they enter themselves.
        arguments: of uvicorn.
    """

    def __init__(
        self, *, limits: Limits, full: ASGIApp, silent: dict["Connection", None], **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._full = full
        self._silent = silent
        self._received = 0  # bytes since the first one of a head that is not complete
        self._size = 0  # bytes of the parsed part of a head
        self._in_head = False
        self._left: int | None = None  # bytes that are still dropped before the end
        self._sending: asyncio.TimerHandle | None = None  # ends a client that sends too slowly
        self._reading: asyncio.TimerHandle | None = None  # and one that does not read
        self._ending: asyncio.TimerHandle | None = None  # and one that was refused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts to wait for a request."""
        super().connection_made(transport)
        self._socket = transport
        self.transport = _Transport(transport, self)  # type: ignore[assignment]
        transport.set_write_buffer_limits(high=0)  # pause_writing says that something is not read
        seconds = self._limits.seconds
        if len(self.connections) > self._limits.connections:
            if self._silent:  # that which has waited longest without a request makes room
                longest = next(iter(self._silent))
                del self._silent[longest]
                longest._socket.close()
            else:
                self.app = self._full
                seconds = min(seconds, _SECONDS_OF_REFUSED)
        self._silent[self] = None
        self._sending = self.loop.call_later(seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all waiting."""
        self._silent.pop(self, None)
        for timer in (self._sending, self._reading, self._ending):
            if timer:
                timer.cancel()
        super().connection_lost(exc)
        # No cycle of references keeps the connection.
        self.transport.close = self._socket.close  # type: ignore[method-assign]
        self.transport.is_closing = self._socket.is_closing  # type: ignore[method-assign]

    def shutdown(self) -> None:
        """Ends the connection after the request in flight, or that may be on its way."""
        if self._left is not None:
            self._socket.close()
        elif self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_SECONDS_AT_THE_END, super().shutdown)
        else:
            super().shutdown()

    def is_closing(self) -> bool:
        """Tells whether nothing is answered any more."""
        return self._left is not None or self._socket.is_closing()

    def close(self) -> None:
        """Ends the connection; where a request is not received to its end, after its client."""
        if self.is_closing():
            return
        if not self._in_head and (self.cycle is None or not self.cycle.more_body):
            self._socket.close()
            return
        try:
            self._socket.write_eof()
        except OSError:  # the client has gone
            self._socket.close()
            return
        self._socket.resume_reading()
        self._left = _DISCARDED * self._limits.body_bytes
        self._until = self.loop.time() + self._limits.seconds
        self._ending = self.loop.call_later(_SECONDS_OF_SILENCE, self._socket.close)

    def data_received(self, data: bytes) -> None:
        """Reads requests, and waits for the end of what has begun."""
        if self.is_closing():
            self._drop(len(data))
            return
        super().data_received(data)
        if self._in_head and not self.is_closing():
            self._received += len(data)
            if self._received > _LONGEST_HEAD:
                self._refuse_head()
        if self._sending is None and (self.cycle is None or self.cycle.response_complete):
            self._sending = self.loop.call_later(self._limits.seconds, self._too_slow)

    def on_message_begin(self) -> None:
        """Begins a head, with the first byte of a request."""
        super().on_message_begin()
        self._in_head = True
        self._received = 0
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """Counts a part of the address of a request."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts a header of a request."""
        super().on_header(name, value)
        self._count(len(name) + len(value) + len(": \r\n"))

    def on_headers_complete(self) -> None:
        """Ends the wait for a head: from here on the application watches the time."""
        self._in_head = False
        self._silent.pop(self, None)
        if self._sending:
            self._sending.cancel()
            self._sending = None
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Begins to wait for a client that does not read."""
        super().pause_writing()
        if self._reading is None:
            self._wait_for_reader(None)

    def resume_writing(self) -> None:
        """Ends that wait: everything is read, or on its way."""
        super().resume_writing()
        if self._reading:
            self._reading.cancel()
            self._reading = None

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, or has too long a head."""
        if self._size > _LONGEST_HEAD:
            self._refuse_head()
        else:
            self._refuse(400, "this is not HTTP")

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > _LONGEST_HEAD:
            raise ValueError("a head that is too long")  # ends the parser, see send_400_response

    def _drop(self, size: int) -> None:
        """Drops what a refused client still sends, and ends the connection in the end."""
        if self._left is None or self._ending is None:
            return
        self._left -= size
        self._ending.cancel()
        if self._left < 0 or self.loop.time() > self._until:
            self._socket.close()
        else:
            self._ending = self.loop.call_later(_SECONDS_OF_SILENCE, self._socket.close)

    def _too_slow(self) -> None:
        self._sending = None
        if not self._in_head:
            self._socket.close()  # nothing was asked
            return
        self._refuse(408, f"the headers were not complete within {self._limits.seconds:g} seconds")

    def _wait_for_reader(self, size: int | None) -> None:
        """Closes the connection unless less than ``size`` bytes wait; None at first."""
        waiting = self._socket.get_write_buffer_size()
        if size is not None and waiting >= size:
            self._socket.abort()  # close() would wait for the client
            return
        self._reading = self.loop.call_later(self._limits.seconds, self._wait_for_reader, waiting)

    def _refuse_head(self) -> None:
        self._refuse(431, f"the headers have more than {_LONGEST_HEAD:,} bytes")

    def _refuse(self, status: int, problem: str) -> None:
        """Answers what has not become a request."""
        body = json_text({"error": str(RequestError(status, problem, where="request"))}).encode()
        head = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self._in_head = True  # nothing of what follows is a request
        self.close()
