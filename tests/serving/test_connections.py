"""Connections of clients that are slow, send nothing, do not read, or are too many."""

import asyncio
import errno
import functools
import json
import socket
from types import SimpleNamespace

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("httptools", reason="needs the extra serve")

from tfxc.core.errors import ConfigError  # noqa: E402
from tfxc.serving import connections  # noqa: E402
from tfxc.serving.connections import Connection  # noqa: E402
from tfxc.serving.limits import Limits  # noqa: E402
from tfxc.serving.server import listen  # noqa: E402

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
        connection = functools.partial(Counted, limits=limits, full=full, silent={})
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
    assert status == 408 and error.startswith("request: the headers were not complete within 300 s")


def test_a_second_request_is_begun():
    """A slow body is the application's; what follows an answer has its own time."""
    found = answers(HEAD + b"so", b"up", HEAD[:20])
    first, second = found.split(b"soup")
    assert first.startswith(b"HTTP/1.1 200 ") and status_and_error(second)[0] == 408


def test_a_head_without_end():
    status, error = status_and_error(answers(HEAD[:-2], *[b"x: y\r\n" * 4096] * 3))
    assert status == 431 and "the headers have more than 65,536 bytes" in error


def test_a_long_head_that_comes_at_once():
    """Its end is there before its length is known."""
    long = HEAD.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 80_000 + b"\r\n\r\nsoup")
    status, error = status_and_error(answers(long))
    assert status == 431 and "the headers have more than 65,536 bytes" in error
    status, _ = status_and_error(answers(b"GET /" + b"x" * 80_000 + b" HTTP/1.1\r\n\r\n"))
    assert status == 431
    fits = HEAD.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 65_000 + b"\r\n\r\nsoup")
    assert answers(fits).startswith(b"HTTP/1.1 200 ")


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
        for _, writer in kept:
            writer.write(HEAD)
        await until(lambda: server.server_state.tasks and len(server.server_state.tasks) == 2)
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


def test_those_that_ask_nothing_make_room():
    async def ask(connect, server):
        silent = [await connect() for _ in range(2)]
        await until(lambda: len(server.server_state.connections) == 2)
        reader, writer = await connect()
        writer.write(HEAD + b"soup")
        answered = await reader.readuntil(b"soup")
        assert await silent[0][0].read() == b""  # the first to come was the first to go
        assert len(server.server_state.connections) == 2
        for _, other in [*silent, (reader, writer)]:
            other.close()
        return answered

    assert with_server(ask, connections=2).startswith(b"HTTP/1.1 200 ")


async def refuse(scope, receive, send):
    """Refuses a request without reading its body."""
    headers = [(b"content-length", b"6"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"no way"})


@pytest.mark.parametrize(
    ("head", "words"),
    [(HEAD.replace(b" 4", b" 4000000"), b"no way"), (b"\x16\x03", b"this is not HTTP")],
)
def test_a_refusal_reaches_a_client_that_reads_only_when_it_has_sent_all(head, words):
    async def ask(connect, server):
        reader, writer = await connect()
        connection = await only_connection(server)
        connection.app = refuse
        writer.write(head + b"x" * 4_000_000)
        await writer.drain()
        await until(lambda: not writer.transport.get_write_buffer_size())
        found = await reader.read()
        assert server.server_state.connections == {connection}
        skip(2)  # nothing more has come for as long
        await until(lambda: not server.server_state.connections)
        writer.close()
        return found

    assert words in with_server(ask, body_bytes=1 << 20)


def test_what_a_refused_client_sends_is_bounded():
    async def ask(connect, server):
        _, writer = await connect()
        connection = await only_connection(server)
        connection.app = refuse
        writer.write(HEAD.replace(b" 4", b" 4000000000"))
        await until(lambda: connection.is_closing())
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                writer.write(b"x" * 10_000)
                await writer.drain()
        writer.close()

    with_server(ask, body_bytes=10_000)


def accepting(act, **limits):
    """What ``act(acceptor, address, protocols)`` returns, with an ``Acceptor`` that has started."""

    async def main():
        open_ones = set()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                open_ones.add(self)
                self.transport, self.received = transport, b""

            def data_received(self, data):
                self.received += data

            def connection_lost(self, _):
                open_ones.discard(self)

        with listen("127.0.0.1", 0) as listener:
            acceptor = connections.Acceptor(listener, open_ones, Protocol, Limits(**limits))
            acceptor.start()
            try:
                return await act(acceptor, listener, open_ones)
            finally:
                if listener.fileno() >= 0:
                    await acceptor.stop()
                for protocol in open_ones:
                    protocol.transport.close()

    return asyncio.run(asyncio.wait_for(main(), 120))


def test_connections_beyond_the_limit_wait_for_their_turn(capsys):
    most = 2 + connections._REFUSED_AT_A_TIME

    async def act(_, listener, open_ones):
        clients = [socket.create_connection(listener.getsockname()) for _ in range(most + 3)]
        while len(open_ones) < most:
            await asyncio.sleep(0.001)
        for _ in range(30):
            await asyncio.sleep(0.001)
            assert len(open_ones) == most
        for client in clients[:10]:
            client.close()
        while len(open_ones) < most + 3 - 10:
            await asyncio.sleep(0.001)
        for client in clients:
            client.close()

    accepting(act, connections=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "warning: 2 connections are open (--max-connections); further ones wait or are refused"
    ]


def test_without_files_it_says_so_once_and_goes_on(capsys, monkeypatch):
    monkeypatch.setattr(connections, "_SECONDS_WITHOUT_FILES", 0.001)

    async def act(acceptor, listener, open_ones):
        calls = []

        def accept():
            calls.append(1)
            if len(calls) < 5:
                raise OSError(errno.EMFILE, "Too many open files")
            return listener.accept()

        acceptor._listener = SimpleNamespace(
            accept=accept, fileno=listener.fileno, close=listener.close
        )
        with socket.create_connection(listener.getsockname()):
            while not open_ones:
                await asyncio.sleep(0.001)

    accepting(act)
    assert capsys.readouterr().err.splitlines() == [
        "warning: no connection can be accepted (Too many open files); "
        "further ones wait or are refused"
    ]


def test_who_has_connected_is_accepted_at_the_end():
    async def act(acceptor, listener, open_ones):
        clients = [socket.create_connection(listener.getsockname()) for _ in range(100)]
        await acceptor.stop()  # the event loop has had no time for them
        assert len(open_ones) == 100 and listener.fileno() < 0
        for client in clients:
            client.close()

    accepting(act)


@pytest.mark.parametrize(
    ("files", "wanted", "connections_"), [(1024, None, 512), (128, None, 16), (-1, 9999, 9999)]
)
def test_connections_of_a_process_with_few_files(monkeypatch, files, wanted, connections_):
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (files, files))
    assert connections.checked_connections(wanted) == connections_


@pytest.mark.parametrize(
    ("files", "wanted", "message"),
    [
        (128, 500, "may open 128 files, too few for 500 connections.*`ulimit -n 612`.* most 16"),
        (100, None, "may open 100 files, too few to serve.*`ulimit -n 624`.$"),
    ],
)
def test_too_few_files(monkeypatch, files, wanted, message):
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (files, files))
    with pytest.raises(ConfigError, match=f"--max-connections: this process {message}"):
        connections.checked_connections(wanted)
