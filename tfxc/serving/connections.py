"""Clients that send nothing, or too slowly, or do not read: their connections are closed."""

import asyncio
import http
from typing import Any

from tfxc.core.errors import missing_package
from tfxc.core.escaping import json_text
from tfxc.serving.limits import Limits, RequestError

with missing_package("serve"):
    from starlette.types import ASGIApp
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


_LONGEST_HEAD = 64 << 10  # bytes of a request's line and headers
_SECONDS_OF_REFUSED = 1.0  # for the head of a request on a connection too many
_SECONDS_AT_THE_END = 0.5  # for a request that may be on its way when the server ends


class Connection(HttpToolsProtocol):
    """One connection of uvicorn's, with limits for what happens outside of a request.

    * The head of the first request must be complete ``limits.seconds`` after the connection, that
      of another one ``limits.seconds`` after its first byte (else 408), with at most 64 KiB (431).
    * What a client does not read for ``limits.seconds`` ends the connection.
    * Of more than ``limits.connections`` the later ones get ``full`` for an answer.

    * When the server ends, a connection without a request in flight stays open for half a second,
      as the client may have sent one: it would be lost, since closing a connection with bytes that
      nobody has read resets it.

    Idle connections between requests are closed by uvicorn (``timeout_keep_alive``), slow bodies
    are refused by the application.

    Args:
        limits: ``Limits``.
        full: ASGI application that answers on a connection too many, and closes it.
        given: arguments of uvicorn.
    """

    def __init__(self, *, limits: Limits, full: ASGIApp, **given: Any) -> None:
        super().__init__(**given)
        self._limits, self._full = limits, full
        self._size = 0  # bytes received of the head of a request
        self._in_head = False
        self._sending: asyncio.TimerHandle | None = None  # ends a client that sends too slowly
        self._reading: asyncio.TimerHandle | None = None  # and one that does not read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts to wait for a request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # pause_writing says that something is not read
        seconds = self._limits.seconds
        if len(self.connections) > self._limits.connections:
            self.app = self._full
            seconds = min(seconds, _SECONDS_OF_REFUSED)
        self._sending = self.loop.call_later(seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all waiting."""
        for timer in (self._sending, self._reading):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Ends the connection after the request in flight, or that may be on its way."""
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_SECONDS_AT_THE_END, super().shutdown)
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Reads requests, and waits for the end of what has begun."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head:
            self._size += len(data)
            if self._size > _LONGEST_HEAD:
                problem = f"at most {_LONGEST_HEAD:,} bytes of headers expected, found more"
                self._refuse(431, problem)
        if self._sending is None and (self.cycle is None or self.cycle.response_complete):
            self._sending = self.loop.call_later(self._limits.seconds, self._too_slow)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head, self._size = True, 0

    def on_headers_complete(self) -> None:
        """From here on the application watches the time."""
        self._in_head = False
        if self._sending:
            self._sending.cancel()
            self._sending = None
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Something waits to be read by the client."""
        super().pause_writing()
        if self._reading is None:
            self._wait_for_reader(None)

    def resume_writing(self) -> None:
        """Everything is read, or on its way."""
        super().resume_writing()
        if self._reading:
            self._reading.cancel()
            self._reading = None

    def send_400_response(self, msg: str) -> None:
        """Of what is no HTTP."""
        self._refuse(400, "HTTP expected, found something else")

    def _too_slow(self):
        self._sending = None
        if not self._in_head:
            self.transport.close()  # nothing was asked
            return
        self._refuse(
            408, f"the headers expected within {self._limits.seconds:g} seconds, found a part"
        )

    def _wait_for_reader(self, size):
        """Closes the connection unless less than ``size`` bytes wait; None at first."""
        waiting = self.transport.get_write_buffer_size()
        if size is not None and waiting >= size:
            self.transport.abort()  # close() would wait for the client
            return
        self._reading = self.loop.call_later(self._limits.seconds, self._wait_for_reader, waiting)

    def _refuse(self, status, problem):
        """An answer to what has not become a request."""
        body = json_text({"error": str(RequestError(status, problem, where="request"))}).encode()
        head = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
