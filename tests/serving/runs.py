"""Runs and servers for the tests of serving."""

import contextlib
import http.client
import json
import re
import time

import pytest

from tests.processes import Started
from tests.small_runs import make_run
from tfxc.runs.writer import RunWriter

TEXT_FEATURES = {"name": "tfidf", "min_df": 1}


def text_run(folder, **parts):
    """A finished run on texts with random weights, whose softmax has probabilities."""
    parts = {"objective": {"name": "softmax"}, **parts}
    make_run(folder, text_features=TEXT_FEATURES, **parts)
    RunWriter(folder).write_summary({"dev": {}})  # it is complete
    return folder


def client_of(paths, limits=None, options=None):
    """A client of an application in this process, and the application."""
    pytest.importorskip("starlette", reason="needs the extra serve")
    from tfxc.serving.application import Application
    from tfxc.serving.metrics import Metrics
    from tfxc.serving.served import Catalog

    metrics = Metrics()
    catalog = Catalog(paths, limits, options, metrics.searched)
    application = Application(catalog, metrics)
    return local_client(application.asgi), application


def local_client(asgi):
    """A client of an ASGI application, which it knows as 127.0.0.1."""
    from starlette.testclient import TestClient

    return TestClient(asgi, "http://127.0.0.1", raise_server_exceptions=False)


class Server:
    """``tfxc serve`` as a process of its own.

    Attributes:
        address: (host, port) where it listens.
        process: ``tests.processes.Started``.
    """

    def __init__(self, *arguments):
        pytest.importorskip("uvicorn", reason="needs the extra serve")
        self.process = Started(_serve, [*map(str, arguments), "--port", "0"])
        self.wait(lambda: "serving at " in self.process.output)
        port = re.search(r"serving at http://127\.0\.0\.1:(\d+)/", self.process.output)[1]
        self.address = ("127.0.0.1", int(port))

    def wait(self, condition):
        """Waits until a condition holds; a refused connection does not."""
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                if condition():
                    return
            assert self.process.returncode is None, self.process.communicate()
            assert time.monotonic() < end, "never true"
            time.sleep(0.02)

    def get(self, path):
        """Status and parsed JSON of an address."""
        connection = http.client.HTTPConnection(*self.address, timeout=120)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())


def _serve(arguments):
    from tfxc.commands import serve
    from tfxc.core import cli

    cli.run(serve.main, arguments)


@contextlib.contextmanager
def running(*arguments):
    """A ``Server`` that is killed in the end, if it still runs."""
    server = Server(*arguments)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()
