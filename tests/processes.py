"""Processes of their own for tests: forked where TensorFlow is imported, but was never used.

A fresh interpreter imports TensorFlow for seconds; a fork of one that has it starts at once, and
may still choose its devices, its part in a cluster and its signals. What a test has to say about
the start of an interpreter itself needs ``subprocess``.
"""

import contextlib
import gc
import json
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import forkserver
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tfxc.commands.train", "tfxc.training.job", "tests.tiny"])


def start_server():
    """Starts what processes are forked from, before a library that forks has its own say in it."""
    forkserver.ensure_running()


class Started:
    """A process that calls a function; waited for, killed and read like a ``subprocess.Popen``.

    Args:
        function: of a module, with arguments that can be pickled.
        variables: of the environment, besides those of this process.
    """

    def __init__(self, function, *arguments, **variables):
        self._folder = tempfile.TemporaryDirectory(prefix="tfxc-test-")
        self._files = [str(Path(self._folder.name, name)) for name in ("out", "err")]
        environment = {**os.environ, **variables}
        given = (self._files, environment, function, arguments)
        self._process = _CONTEXT.Process(target=_call, args=given)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        """Exit code, minus the signal that ended it, or None while it runs."""
        return self._process.exitcode

    poll = returncode.fget

    @property
    def output(self):
        """Standard output so far."""
        path = Path(self._files[0])
        return path.read_text() if path.exists() else ""

    def kill(self):
        """SIGKILL."""
        self._process.kill()

    def send_signal(self, number):
        """Any other signal."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self, timeout=None):
        """Its exit code, when it has ended."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """Standard output and standard error, when it has ended."""
        self.wait(timeout)
        out, err = (Path(path).read_text() if os.path.exists(path) else "" for path in self._files)
        return out, err


def _call(files, environment, function, arguments):
    """What a started process does."""
    gc.freeze()  # what the server has imported stays: a collection need not look at it
    for descriptor, path in enumerate(files, 1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = (os.fdopen(d, "w", buffering=1, closefd=False) for d in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)


def finish(*processes):
    """Waits for all and returns their output; the first to fail ends the others.

    A worker whose partner died would wait for ever.
    """
    with ThreadPoolExecutor(len(processes)) as pool:
        try:
            endings = [pool.submit(_ended_well, process) for process in processes]
            for ending in as_completed(endings):
                ending.result()
            return [ending.result() for ending in endings]
        finally:
            for process in processes:
                process.kill()


def _ended_well(process):
    """Standard output of a process, when it has ended without an error."""
    output, errors = process.communicate(timeout=280)
    assert process.returncode == 0, (output + (errors or ""))[-3000:]
    return output


def free_addresses(count):
    """Addresses on this machine that nobody listens at.

    Their ports are below those that systems give to connections: none of these can take one before
    it is used.
    """
    found = set()
    while len(found) < count:
        address = ("localhost", random.SystemRandom().randrange(20_000, 32_000))
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(address)
            found.add("{}:{}".format(*address))
    return list(found)


def two_workers(function, *arguments):
    """Two processes that call a function with their index and arguments, as one cluster."""
    workers = free_addresses(2)
    started = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        started.append(Started(function, index, *arguments, TF_CONFIG=json.dumps(task)))
    return started
