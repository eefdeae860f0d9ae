"""Several processes that answer at one address."""

import contextlib
import http.client
import json
import os
import signal

import pytest

from tests.commands.calls import call
from tests.linear_runs import command
from tests.serving.runs import running
from tfxc.commands import serve, train


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
        os.kill(first, signal.SIGKILL)
        server.wait(lambda: len(children(parent)) == 2 and first not in children(parent))
        assert second in children(parent)
        assert asked(server.address, 8) == ["label 1"] * 8
        assert requests_counted(server.address) == 16, "of all processes, also of the dead one"
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
