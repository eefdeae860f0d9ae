"""Where the workers of a training run meet before TensorFlow connects them.

TensorFlow waits for a missing worker for an hour without a message, ignores signals meanwhile, and
does not compare what the workers are about to do. So all of them first meet at the leader's
address, which says who is missing and whether all were given the same.
"""

import contextlib
import errno
import functools
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from tfxc.core.errors import ConfigError, MachineError

_MAX_BYTES = 1 << 24  # of a message
_PATIENCE = 0.5  # seconds between two looks at what has come
_print_at_once = functools.partial(print, flush=True)


def wait_limit() -> float:
    """Seconds that workers wait for each other at the start: ``TFXC_WAIT``, or 600.

    Raises:
        ConfigError: it is not a positive number.
    """
    text = os.environ.get("TFXC_WAIT") or "600"
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise ConfigError(
        f"a number of seconds expected, found {text!r}",
        where="TFXC_WAIT",
        fix="set e.g. TFXC_WAIT=600",
    )


class Rendezvous:
    """One worker's part in the meeting.

    Args:
        addresses: {task, e.g. ``"worker 1"``: ``"host:port"``}; the first is the leader.
        task: the own one.
        content: dict of JSON values that must be the same everywhere.
        limit: seconds to wait for the others.
        report: called with a line of text that says for whom it waits.

    Example:
        >>> Rendezvous({"worker 0": "localhost:12345"}, "worker 0", {"seed": 0}, 10).meet()
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        task: str,
        content: Mapping[str, Any],
        limit: float,
        report: Callable[[str], Any] = _print_at_once,
    ) -> None:
        self.addresses = addresses
        self.task = task
        self.leader = next(iter(addresses))
        self.limit = limit
        self.report = report
        self._reported = None
        own = {"task": task, "addresses": addresses, "content": content}
        self._own = {**own, "process": f"process {os.getpid()} on {socket.gethostname()}"}

    def meet(self) -> None:
        """Returns when all workers are there.

        Raises:
            ConfigError: a task is taken twice, or the workers were not given the same.
            MachineError: a worker did not come in time.
        """
        self._deadline = time.monotonic() + self.limit
        with self._listening() as server:
            if self.task == self.leader:
                self._lead(server)
        if self.task != self.leader:
            self._follow()

    def _listening(self):
        """A socket at the own address; TensorFlow takes its place afterwards."""
        port = _host_and_port(self.addresses[self.task])[1]
        families = {"family": socket.AF_INET6, "dualstack_ipv6": True}
        try:
            return socket.create_server(
                ("", port), **(families if socket.has_dualstack_ipv6() else {})
            )
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise MachineError(
                    f"cannot listen on port {port}: {error.strerror}", where=self.task
                ) from error
            raise ConfigError(
                f"port {port} is already in use on this machine, perhaps by another {self.task}",
                where="TF_CONFIG",
                fix="give each process its own task, and end those of earlier training runs",
            ) from error

    def _lead(self, server):
        """Waits until all have come, and says to all how it ended."""
        server.settimeout(_PATIENCE)
        present = {}
        verdict = None
        try:
            while verdict is None and len(present) < len(self.addresses) - 1:
                verdict = self._admit(server, present) or self._overdue(present)
                _forget_gone(present)
            verdict = verdict or self._difference(present)
            _send_all(present, {"verdict": verdict or {}})
        finally:
            for connection, _ in present.values():
                _drain(connection)
        _raise(verdict)

    def _admit(self, server, present):
        """Takes in one worker; returns the verdict where it cannot be."""
        missing = [task for task in self.addresses if task not in {self.leader, *present}]
        self._say(missing, present)
        try:
            connection = server.accept()[0]
        except TimeoutError:
            return None
        connection.settimeout(10)
        guest = _receive(connection)
        if guest is None or "task" not in guest:  # someone else's
            connection.close()
            return None
        before = present.get(guest["task"])
        if before and not _is_gone(before[0]):
            _send_all({"": (connection, None)}, {"verdict": _twice(guest, before[1])})
            return _twice(guest, before[1])
        present[guest["task"]] = (connection, guest)
        return self._misplaced(guest)

    def _misplaced(self, guest):
        """The verdict on a worker that belongs to another cluster, or takes the leader's part."""
        if guest["addresses"] != self.addresses or guest["task"] not in self.addresses:
            return _error(
                f"{guest['task']} was given another cluster than {self.leader}: "
                f"{_shown(guest['addresses'])} against {_shown(self.addresses)}",
                "TF_CONFIG",
                "give all workers the same cluster, and each its own task",
            )
        if guest["task"] == self.leader:
            return _twice(guest, self._own)
        return None

    def _difference(self, present):
        """The verdict where a worker was given something else than the leader."""
        for task in sorted(present):
            guest = present[task][1]
            own = self._own["content"]
            other = guest["content"]
            keys = [key for key in {**own, **other} if own.get(key) != other.get(key)]
            if keys:
                return self._other_config(guest, keys)
        return None

    def _other_config(self, guest, keys):
        own = self._own["content"]
        other = guest["content"]
        shown = ", ".join(
            f"{key} ({own.get(key)!r} at {self.leader}, {other.get(key)!r} at {guest['task']})"
            for key in keys[:4]
        )
        more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
        return _error(
            f"the workers have different configs: {shown}{more}",
            guest["task"],
            "start all workers with the same config and the same --set",
        )

    def _overdue(self, present):
        if time.monotonic() < self._deadline:
            return None
        missing = [task for task in self.addresses if task not in {self.leader, *present}]
        return _late(self._named(missing), self.limit)

    def _follow(self):
        """Goes to the leader and waits for the verdict; a leader that was restarted is found."""
        verdict = None
        while verdict is None:
            if time.monotonic() >= self._deadline:
                _raise(_late(self._named([self.leader]), self.limit))
            connection = self._connect()
            if connection is None:
                self._say([self.leader])
                time.sleep(_PATIENCE)
                continue
            with connection:
                _send_all({"": (connection, None)}, self._own)
                verdict = self._listen_to(connection)
        _raise(verdict)

    def _connect(self):
        try:
            return socket.create_connection(_host_and_port(self.addresses[self.leader]), timeout=5)
        except OSError:
            return None

    def _listen_to(self, connection):
        """The leader's verdict, ``{}`` if all is well; None if it is gone."""
        connection.settimeout(self.limit + 15)  # the leader's own limit comes first
        while True:
            message = _receive(connection)
            if message is None:
                return None
            if "verdict" in message:
                return message["verdict"]
            self._print(message["waiting"])

    def _say(self, missing, present=()):
        line = f"waiting for {self._named(missing)}, at most {self.limit:,.0f} s"
        if line != self._reported:
            _send_all(present and dict(present), {"waiting": line})
            self._print(line)

    def _print(self, line):
        if line != self._reported:
            self.report(line)
        self._reported = line

    def _named(self, tasks):
        return " and ".join(f"{task} ({self.addresses[task]})" for task in tasks)


def _host_and_port(address):
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _send_all(present, message):
    data = json.dumps(message).encode() + b"\n"
    for connection, _ in dict(present).values():
        with contextlib.suppress(OSError):
            connection.sendall(data)


def _receive(connection):
    """The next message; None if the other side is gone or sends something else."""
    line = b""
    try:
        while not line.endswith(b"\n"):
            part = connection.recv(1)
            if not part or len(line) > _MAX_BYTES:
                return None
            line += part
        message = json.loads(line)
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None


def _forget_gone(present):
    """Waits again for workers that left: a restarted one would find the meeting over."""
    for task in [task for task, (connection, _) in present.items() if _is_gone(connection)]:
        present.pop(task)[0].close()


def _is_gone(connection):
    try:
        connection.setblocking(False)
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(10)


def _drain(connection):
    """Lets the other side close first: the leader's port is needed at once."""
    with contextlib.suppress(OSError):
        connection.settimeout(2)
        connection.recv(1)
    connection.close()


def _error(problem, where, fix):
    return {"problem": problem, "where": where, "fix": fix}


def _twice(one, other):
    return _error(
        f"two processes claim to be {one['task']}: {other['process']} and {one['process']}",
        "TF_CONFIG",
        "give each process its own index",
    )


def _late(names, limit):
    fix = "find out why it has not started, or set TFXC_WAIT to more seconds"
    problem = f"all workers expected within {limit:,.0f} s, found no {names}"
    error = _error(problem, "TF_CONFIG", fix)
    return {**error, "machine": True}


def _shown(addresses):
    return ", ".join(f"{task} {address}" for task, address in addresses.items())


def _raise(verdict):
    if verdict:
        kind = MachineError if verdict.pop("machine", False) else ConfigError
        raise kind(verdict.pop("problem"), **verdict)
