"""Several processes that answer at one address."""

import contextlib
import http.client
import json
import os
import signal
import socket

import pytest

from tests.commands.calls import call
from tests.linear_runs import command
from tests.serving.runs import running
from tfxc.commands import serve, train
from tfxc.serving import processes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear")
    assert train.main([str(part) for part in command(folder)]) == 0
    return folder / "run"


def children(number):
    """Numbers of the processes that a process has started."""
    with open(f"/proc/{number}/task/{number}/children") as stream:
        return [int(child) for child in stream.read().split()]


def asked(address, count):
    """Answers to requests, each on a connection of its own."""
    answers = []
    for _ in range(count):
        connection = http.client.HTTPConnection(*address, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/predict", json.dumps({"texts": ["w1a w1b"], "k": 1}))
            answer = connection.getresponse()
            assert answer.status == 200
            answers.append(json.loads(answer.read())["predictions"][0][0]["label"])
    return answers


def requests_counted(address):
    connection = http.client.HTTPConnection(*address, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    start = 'tfxc_requests_total{route="/predict",status="200"} '
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))


def test_a_process_that_dies_is_replaced(run):
    with running(run, "--processes", "2", "--drain", "0") as server:
        parent = server.process.pid
        server.wait(lambda: len(children(parent)) == 2)
        first, second = children(parent)
        assert asked(server.address, 8) == ["label 1"] * 8
        # A request is counted after it is answered.
        server.wait(lambda: requests_counted(server.address) == 8)
        os.kill(first, signal.SIGKILL)
        server.wait(lambda: len(children(parent)) == 2 and first not in children(parent))
        assert second in children(parent)
        assert asked(server.address, 8) == ["label 1"] * 8
        # Of all processes, also of the dead one.
        server.wait(lambda: requests_counted(server.address) == 16)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        output, errors = server.process.communicate()
        assert output.count("serving at") == 1 and output.count("run: version 1") == 1
        assert "a process of the server has ended (-9); another starts" in errors
        assert "Traceback" not in errors


def test_processes_end_with_the_one_that_watches(run):
    with running(run, "--processes", "2", "--drain", "0") as server:
        parent = server.process.pid
        server.wait(lambda: len(children(parent)) == 2)
        started = children(parent)
        os.kill(parent, signal.SIGKILL)
        server.process.wait(60)
        for number in started:
            assert ended(number), "it has no parent any more"


def ended(number):
    """Waits until a process that is not a child of this one has ended."""
    import time

    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, 0)
            time.sleep(0.05)
            continue
        return True
    return False


def test_what_cannot_be_served_is_said_once(run, tmp_path, capfd):
    problem = call(capfd, serve, run, "--processes", 2, "--label-texts", tmp_path / "new.jsonl")
    assert problem.problem() == (
        "--label-texts: labels that are added reach one process only. Leave out --processes."
    )
    outcome = call(capfd, serve, tmp_path / "none", "--processes", 2, "--port", 0)
    assert outcome.code == 2
    assert outcome.err.count("there is no such run folder") == 1


class Child:
    """Stands in for a process of the server: ready at once, or never."""

    def __init__(self, name, ready, begun=None):
        self.name, self.signals, self.code = name, [], None
        self._ready, self._begun = ready, begun or (lambda: None)
        self.pid = 0

    def __call__(self, *_, pass_fds, **__):
        self._begun()
        self._file = os.dup(pass_fds[2])
        if self._ready:
            os.write(self._file, b"1")
        elif self.code is not None or self.signals:
            os.close(self._file)
        return self

    def send_signal(self, number):
        self.signals.append(number)
        if number == signal.SIGTERM and self.code is None:
            self.code = 0 if self._ready else 143
            if hasattr(self, "_file"):
                os.close(self._file)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def poll(self):
        return self.code

    def wait(self):
        assert self.code is not None, f"process {self.name} was never told to end"
        return self.code


def served_by(monkeypatch, children):
    """The exit code of a server whose processes are stand-ins."""
    waiting = iter(children)
    monkeypatch.setattr(
        processes.subprocess, "Popen", lambda *a, **options: next(waiting)(*a, **options)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return processes.serve_in_processes([], len(children), listener)


def test_a_signal_while_a_process_starts_is_not_lost(monkeypatch):
    first = Child("first", ready=True)
    second = Child("second", ready=False, begun=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert served_by(monkeypatch, [first, second]) == 0
    assert first.signals == second.signals == [signal.SIGTERM]


def test_a_reload_leaves_a_process_alone_that_is_loading(monkeypatch):
    first = Child("first", ready=True)

    def reloaded():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)

    second = Child("second", ready=False, begun=reloaded)
    assert served_by(monkeypatch, [first, second]) == 0
    assert first.signals == [signal.SIGHUP, signal.SIGTERM]
    assert second.signals == [signal.SIGTERM]


def test_a_process_that_cannot_begin_is_a_failure(monkeypatch, caplog):
    first = Child("first", ready=True)
    second = Child("second", ready=False)
    second.code = -signal.SIGKILL  # as where memory runs out
    with caplog.at_level("WARNING", "tfxc"):
        assert served_by(monkeypatch, [first, second]) == 1
    assert "ended by SIGKILL while it started" in caplog.text
    assert first.signals == [signal.SIGTERM]
