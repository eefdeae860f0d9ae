"""The server as a process: signals under load, slow clients, addresses."""

import asyncio
import contextlib
import gc
import http.client
import itertools
import json
import shutil
import signal
import socket
import sys
import threading
from types import SimpleNamespace

import pytest

from tests.commands.calls import call
from tests.serving.runs import running, text_run
from tests.small_runs import TEXTS
from tfxc.commands import serve

CLIENTS = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return text_run(tmp_path_factory.mktemp("runs") / "run")


class Client(threading.Thread):
    """Asks again and again, on a new connection when asked to close one, until that is refused.

    Attributes:
        versions: of the answers.
        lost: requests without an answer, and answers other than 200. A connection that is reset
            before its first answer is refused: it was made in the moment when the address closed.
    """

    def __init__(self, address):
        super().__init__()
        self.versions, self.lost, self._address = [], [], address
        self.start()

    def run(self):
        while self._asks():
            pass

    def _asks(self):
        """Whether the connection was accepted, and every request on it answered."""
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        with contextlib.closing(connection):
            try:
                connection.connect()
            except ConnectionRefusedError:
                return False
            for number in itertools.count():
                try:
                    connection.request("POST", "/predict", json.dumps({"texts": TEXTS}))
                    answer = connection.getresponse()
                    found = json.loads(answer.read())
                except (OSError, http.client.HTTPException, ValueError) as error:
                    if number or not isinstance(error, ConnectionError):
                        self.lost.append(error)
                    return False
                if answer.status != 200 or len(found["predictions"]) != len(TEXTS):
                    self.lost.append(found)
                self.versions.append(found.get("version"))
                if answer.headers["Connection"] == "close":
                    return True


def test_no_request_is_lost_in_a_reload_and_at_the_end(run, tmp_path):
    versions = tmp_path / "model"
    shutil.copytree(run, versions / "1")
    with running(f"model={versions}", "--batch-wait", "0.05") as server:
        clients = [Client(server.address) for _ in range(CLIENTS)]
        server.wait(lambda: all(len(client.versions) > 2 for client in clients))
        shutil.copytree(run, tmp_path / "new")
        (tmp_path / "new").rename(versions / "2")
        server.process.send_signal(signal.SIGHUP)
        server.wait(lambda: all(client.versions[-1] == 2 for client in clients))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        for client in clients:
            client.join(60)
        assert [client.lost for client in clients] == [[]] * CLIENTS
        # No version comes back, and requests were under way when the signals came.
        assert all(client.versions == sorted(client.versions) for client in clients)
        assert all(set(client.versions) == {1, 2} for client in clients)
        output, errors = server.process.communicate()
        assert "model: version 2" in output and "Traceback" not in errors


def test_slow_and_rude_clients(run):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    with running(run, "--timeout", "3", "--drain", "0") as server:
        slow = socket.create_connection(server.address, timeout=120)
        slow.sendall(head + b'{"texts": ["so')
        for given in (
            head,
            head + b"{",
            b"\x16\x03\x01 this is no HTTP\r\n\r\n",
            b"GET / HTTP/9\r",
        ):
            with socket.create_connection(server.address) as rude:
                rude.sendall(given)
        answer = b""
        while block := slow.recv(1 << 16):  # until the server closes the connection
            answer += block
        slow.close()
        assert answer.startswith(b"HTTP/1.1 408 ") and b"not complete within 3 seconds" in answer
        connection = http.client.HTTPConnection(*server.address, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", "/predict", b'{"texts": ["' + b"soup " * (2 << 20) + b'"]}')
            large = connection.getresponse()
            assert large.status == 413 and b"the body has 10,485,775 bytes" in large.read()
        assert server.get("/health")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0, "idle connections are not waited for"
        assert "Traceback" not in server.process.communicate()[1]


def test_polling_goes_on_after_a_bug(caplog):
    """A task that fails says so, and the next one looks for new versions again."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
    from tfxc.serving.server import Timing, _Server

    async def poll():
        again, calls = asyncio.Event(), []

        async def reload():
            calls.append(1)
            if len(calls) == 1:
                raise KeyError("a bug")
            again.set()

        application = SimpleNamespace(catalog=SimpleNamespace(reload=reload))
        server = _Server(uvicorn.Config(None), application, Timing(drain=0, poll=0.001))
        task = asyncio.create_task(server._poll())
        await asyncio.wait_for(again.wait(), 120)
        task.cancel()

    asyncio.run(poll())
    gc.collect()
    assert "KeyError: 'a bug'" in caplog.text


def test_a_missing_package_is_named(run, capsys, monkeypatch):
    for module in [name for name in sys.modules if name.startswith("tfxc.serving.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    problem = call(capsys, serve, run).problem()
    assert problem.endswith("is not installed. Install it: pip install 'tfxc[serve]'.")


def test_wrong_command_lines(run, capsys, tmp_path, monkeypatch):
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        problem = call(capsys, serve, run, "--port", port).problem()
        assert problem.startswith(f"--host, --port: port {port} is in use. Choose another")
    free = ("--port", 0)
    assert "two runs have the name" in call(capsys, serve, run, run, *free).problem()
    assert "cannot be the name of a model" in call(capsys, serve, f"a:b={run}", *free).problem()
    assert "there is no such run folder" in call(capsys, serve, tmp_path / "none", *free).problem()
    assert "cannot listen at 127.0.0.1:99999" in call(capsys, serve, run, "--port", 99999).problem()
    problem = call(capsys, serve, run, "--host", "256.1.1.1", *free).problem()
    assert problem.startswith("--host: 256.1.1.1 is not an address of this machine")
    problem = call(capsys, serve, run, "--allow-host", "labels.example:80", *free).problem()
    assert problem.startswith("--allow-host: 'labels.example:80' is not a host name")
    with monkeypatch.context() as patch:
        patch.setattr("resource.getrlimit", lambda _: (1024, 1024))
        problem = call(capsys, serve, run, "--max-connections", 2000, *free).problem()
    assert problem == (
        "--max-connections: this process may open 1,024 files, too few for 2,000 connections. "
        "Allow more with `ulimit -n 2112`, or set it to at most 912."
    )
