"""Connections of clients that are slow, send nothing, do not read, or are too many."""

import asyncio
import functools
import json
import socket

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("httptools", reason="needs the extra serve")

from tfxc.serving.connections import Connection  # noqa: E402
from tfxc.serving.limits import Limits  # noqa: E402
from tfxc.serving.server import listen  # noqa: E402

LARGE = 8 << 20  # bytes, more than the buffers of two sockets hold
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


async def application(scope, receive, send):
    """Answers /large with many bytes, all else with the body."""
    body = b"\0" * LARGE
    if scope["path"] != "/large":
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def full(scope, receive, send):
    headers = [(b"content-length", b"4"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"full"})


def with_server(ask, **limits):
    """What ``ask(connect, server)`` returns; ``connect()`` opens a connection to a new server."""
    limits = Limits(**{"seconds": 0.2, **limits})

    async def serve():
        connection = functools.partial(Connection, limits=limits, full=full)
        config = uvicorn.Config(application, http=connection, log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        with listen("127.0.0.1", 0) as listener:
            running = asyncio.create_task(server._serve([listener]))
            while not server.started:
                await asyncio.sleep(0.01)
            connect = functools.partial(asyncio.open_connection, *listener.getsockname())
            try:
                return await asyncio.wait_for(ask(connect, server), 60)
            finally:
                server.should_exit = True
                await asyncio.wait_for(running, 60)  # no connection keeps it from its end

    return asyncio.run(serve())


def answers(*parts):
    """What a client receives until the connection is closed that sends these, with pauses."""

    async def ask(connect, server):
        reader, writer = await connect()
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)
        found = await reader.read()
        writer.close()
        return found

    return with_server(ask)


def status_and_error(answer):
    head, body = answer.split(b"\r\n\r\n")
    assert b"connection: close" in head and b"application/json" in head
    return int(head.split()[1]), json.loads(body)["error"]


def test_small_answers_are_sent_at_once():
    async def ask(connect, server):
        _, writer = await connect()
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        (connection,) = server.server_state.connections
        writer.close()
        accepted = connection.transport.get_extra_info("socket")
        return accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert with_server(ask, seconds=30)


def test_nothing_is_sent():
    assert answers() == b""


def test_a_part_of_the_head_is_sent():
    status, error = status_and_error(answers(HEAD[:9], HEAD[9:30]))
    assert status == 408 and error.startswith("request: the headers expected within 0.2 seconds")


def test_a_second_request_is_begun():
    """A slow body is the application's; what follows an answer has its own time."""
    found = answers(HEAD + b"so", b"up", HEAD[:20])
    first, second = found.split(b"soup")
    assert first.startswith(b"HTTP/1.1 200 ") and status_and_error(second)[0] == 408


def test_a_head_without_end():
    status, error = status_and_error(answers(HEAD[:-2], *[b"x: y\r\n" * 4096] * 3))
    assert status == 431 and "at most 65,536 bytes of headers" in error


def test_no_http():
    assert status_and_error(answers(b"\x16\x03\x01 hello\r\n\r\n"))[0] == 400


def test_an_answer_is_not_read():
    async def ask(connect, server):
        _, writer = await connect(limit=1)  # the reader stops to read at once
        writer.write(HEAD.replace(b"/", b"/large", 1) + b"soup")
        while not server.server_state.total_requests:
            await asyncio.sleep(0.01)
        while server.server_state.connections:
            await asyncio.sleep(0.01)
        writer.close()

    with_server(ask)


def test_an_answer_is_read_slowly():
    """Slower than the limit as a whole, but all the time."""

    async def ask(connect, server):
        reader, writer = await connect(limit=1 << 16)
        writer.write(HEAD.replace(b"/", b"/large", 1) + b"soup")
        found = await reader.readuntil(b"\r\n\r\n")
        size = 0
        while size < LARGE:
            size += len(await reader.read(1 << 19))
            await asyncio.sleep(0.02)
        writer.close()
        return found

    assert with_server(ask).startswith(b"HTTP/1.1 200 ")


def test_too_many_connections():
    async def ask(connect, server):
        kept = [await connect() for _ in range(2)]
        while len(server.server_state.connections) < 2:
            await asyncio.sleep(0.01)
        reader, writer = await connect()
        writer.write(HEAD + b"soup")
        refused = await reader.read()
        writer.close()
        kept[0][1].close()
        while len(server.server_state.connections) > 1:
            await asyncio.sleep(0.01)
        reader, writer = await connect()
        writer.write(HEAD + b"soup")
        answered = await reader.readuntil(b"soup")
        for _, other in [*kept, (reader, writer)]:
            other.close()
        return refused, answered

    refused, answered = with_server(ask, connections=2, seconds=30)
    assert refused.startswith(b"HTTP/1.1 503 ") and refused.endswith(b"full")
    assert answered.startswith(b"HTTP/1.1 200 ")
