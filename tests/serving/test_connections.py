"""Connections of clients that are slow, send nothing, do not read, or are too many."""

import asyncio
import functools
import json
import socket
import sys

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("httptools", reason="needs the extra serve")

from tfxc.serving import connections  # noqa: E402
from tfxc.serving.connections import Connection  # noqa: E402
from tfxc.serving.limits import Limits  # noqa: E402
from tfxc.serving.server import listen, refuse_new  # noqa: E402

SECONDS = 300
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


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock is moved on: what is due then happens at once."""

    skipped = 0.0

    def time(self):
        return super().time() + self.skipped


def skip(seconds):
    asyncio.get_running_loop().skipped += seconds


class Counted(Connection):
    """A connection that says how many bytes it has received."""

    received = 0

    def data_received(self, data):
        super().data_received(data)
        self.received += len(data)


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


def with_server(ask, **limits):
    """What ``ask(connect, server)`` returns; ``connect()`` opens a connection to a new server.

    However slow the machine is, only a test that moves the clock on reaches a limit of time.
    """
    limits = Limits(**{"seconds": SECONDS, **limits})

    async def serve():
        connection = functools.partial(Counted, limits=limits, full=full)
        config = uvicorn.Config(application, http=connection, log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        with listen("127.0.0.1", 0) as listener:
            running = asyncio.create_task(server._serve([listener]))
            await until(lambda: server.started)
            connect = functools.partial(asyncio.open_connection, *listener.getsockname())
            try:
                return await ask(connect, server)
            finally:
                server.should_exit = True
                await running  # no connection keeps it from its end

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(serve())


async def only_connection(server):
    await until(lambda: server.server_state.connections)
    (connection,) = server.server_state.connections
    return connection


def answers(*parts):
    """What a client receives until the connection is closed that sends these, one after another."""

    async def ask(connect, server):
        reader, writer = await connect()
        connection = await only_connection(server)
        for part in parts:
            before = connection.received
            writer.write(part)
            await until(lambda before=before: connection.received > before)
        await until(lambda: connection.cycle is None or connection.cycle.response_complete)
        skip(SECONDS)
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
        connection = await only_connection(server)
        writer.close()
        accepted = connection.transport.get_extra_info("socket")
        return accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert with_server(ask)


def test_nothing_is_sent():
    assert answers() == b""


def test_a_part_of_the_head_is_sent():
    status, error = status_and_error(answers(HEAD[:9], HEAD[9:30]))
    assert status == 408 and error.startswith("request: the headers expected within 300 seconds")


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


def test_a_request_on_its_way_at_the_end():
    async def ask(connect, server):
        reader, writer = await connect()
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        (connection,) = server.server_state.connections
        connection.shutdown()
        writer.write(HEAD + b"soup")
        found = await reader.read()  # until the server closes the connection
        writer.close()
        return found

    assert with_server(ask, seconds=30).endswith(b"soup")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hold back new connections")
def test_only_new_connections_are_refused():
    with listen("127.0.0.1", 0) as listener, socket.socket() as late:
        listener.listen()
        with socket.create_connection(listener.getsockname(), timeout=30) as early:
            refuse_new(listener)
            early.sendall(b"hello")
            late.settimeout(0.05)
            with pytest.raises(TimeoutError):
                late.connect(listener.getsockname())
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(5) == b"hello"
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_an_answer_is_not_read():
    async def ask(connect, server):
        _, writer = await connect(limit=1)  # the reader stops to read at once
        writer.write(HEAD.replace(b"/", b"/large", 1) + b"soup")
        await until(lambda: server.server_state.total_requests)
        while server.server_state.connections:
            skip(SECONDS)
            await asyncio.sleep(0)
        writer.close()

    with_server(ask)


def test_an_answer_is_read_slowly():
    """Slower than the limit as a whole, but all the time."""

    async def ask(connect, server):
        reader, writer = await connect(limit=1 << 16)
        writer.write(HEAD.replace(b"/", b"/large", 1) + b"soup")
        transport = (await only_connection(server)).transport
        found = await reader.readuntil(b"\r\n\r\n")
        size = 0
        while size < LARGE:
            waiting = transport.get_write_buffer_size()
            while size < LARGE and transport.get_write_buffer_size() >= waiting:
                size += len(await reader.read(1 << 19))
            skip(0.6 * SECONDS)
            await asyncio.sleep(0)
        writer.close()
        return found, asyncio.get_running_loop().skipped

    found, seconds = with_server(ask)
    assert found.startswith(b"HTTP/1.1 200 ") and seconds > 2 * SECONDS


def test_too_many_connections(monkeypatch):
    monkeypatch.setattr(connections, "_SECONDS_OF_REFUSED", SECONDS)

    async def ask(connect, server):
        kept = [await connect() for _ in range(2)]
        await until(lambda: len(server.server_state.connections) == 2)
        reader, writer = await connect()
        writer.write(HEAD + b"soup")
        refused = await reader.read()
        writer.close()
        kept[0][1].close()
        await until(lambda: len(server.server_state.connections) == 1)
        reader, writer = await connect()
        writer.write(HEAD + b"soup")
        answered = await reader.readuntil(b"soup")
        for _, other in [*kept, (reader, writer)]:
            other.close()
        return refused, answered

    refused, answered = with_server(ask, connections=2)
    assert refused.startswith(b"HTTP/1.1 503 ") and refused.endswith(b"full")
    assert answered.startswith(b"HTTP/1.1 200 ")
