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
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tfxc.core.errors import ConfigError, MachineError

_MAX_BYTES = 1 << 24  # of a message
_PATIENCE = 0.5  # seconds between two looks at what has come
_print_at_once = functools.partial(print, flush=True)

Guest = tuple[socket.socket, Mapping[str, Any]]  # a worker's connection, and what it has said


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
        f"{text!r} is not a number of seconds",
        where="TFXC_WAIT",
        fix="set it to a positive number, e.g. TFXC_WAIT=600",
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
        self._reported: str | None = None
        self._message: dict[str, Any] = {
            "task": task,
            "addresses": addresses,
            "content": content,
            "process": f"process {os.getpid()} on {socket.gethostname()}",
        }

    def meet(self) -> None:
        """Returns when all workers are there.

        Raises:
            ConfigError: a task is taken twice, or the workers were not given the same.
            MachineError: a worker did not come in time.
        """
        self._deadline = time.monotonic() + self.limit
        port = _host_and_port(self.addresses[self.task])[1]
        try:  # a socket at the own address; TensorFlow takes its place afterwards
            if socket.has_dualstack_ipv6():
                server = socket.create_server(
                    ("", port), family=socket.AF_INET6, dualstack_ipv6=True
                )
            else:
                server = socket.create_server(("", port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise MachineError(
                    f"cannot listen on port {port}: {error.strerror}",
                    where=self.task,
                    fix="name another port in TF_CONFIG",
                ) from error
            raise ConfigError(
                f"port {port} is already in use on this machine, perhaps by another {self.task}",
                where="TF_CONFIG",
                fix="give each process its own task, and end those of earlier training runs",
            ) from error
        with server:
            if self.task == self.leader:
                self._lead(server)
        if self.task != self.leader:
            self._follow()

    def _lead(self, server: socket.socket) -> None:
        """Waits until all have come, and says to all how it ended."""
        server.settimeout(_PATIENCE)
        present: dict[str, Guest] = {}
        verdict = None
        try:
            while verdict is None and len(present) < len(self.addresses) - 1:
                verdict = self._admit(server, present)
                if verdict is None and time.monotonic() >= self._deadline:
                    verdict = self._late(self._missing(present))
                # Waits again for workers that left: a restarted one would find the meeting over.
                for task in [task for task, guest in present.items() if _is_gone(guest[0])]:
                    present.pop(task)[0].close()
            verdict = verdict or self._difference(present)
            _send_all(present, {"verdict": verdict or {}})
        finally:
            for connection, _ in present.values():
                # The other side closes first: the leader's port is needed at once.
                with contextlib.suppress(OSError):
                    connection.settimeout(2)
                    connection.recv(1)
                connection.close()
        _raise(verdict)

    def _missing(self, present: Collection[str]) -> list[str]:
        return [task for task in self.addresses if task not in {self.leader, *present}]

    def _admit(self, server: socket.socket, present: "dict[str, Guest]") -> dict[str, Any] | None:
        """Takes in one worker; returns the verdict where it cannot be."""
        self._say(self._missing(present), present)
        try:
            connection = server.accept()[0]
        except TimeoutError:
            return None
        connection.settimeout(10)
        message = _receive(connection)
        if message is None or "task" not in message:  # someone else's
            connection.close()
            return None
        task = message["task"]
        if task in present and not _is_gone(present[task][0]):
            verdict = _twice(message, present[task][1])
            _send_all({task: (connection, message)}, {"verdict": verdict})
            return verdict
        present[task] = (connection, message)
        if message["addresses"] != self.addresses or task not in self.addresses:
            return _error(
                f"{task} was given another cluster than {self.leader}: "
                f"{_shown(message['addresses'])} against {_shown(self.addresses)}",
                "TF_CONFIG",
                "give all workers the same cluster, and each its own task",
            )
        return _twice(message, self._message) if task == self.leader else None

    def _difference(self, present: "Mapping[str, Guest]") -> dict[str, Any] | None:
        """Returns the verdict where a worker was given something else than the leader."""
        leaders = self._message["content"]
        for task, (_, message) in sorted(present.items()):
            guests = message["content"]
            keys = [key for key in {**leaders, **guests} if leaders.get(key) != guests.get(key)]
            if keys:
                shown = ", ".join(
                    f"{key} ({leaders.get(key)!r} at {self.leader}, {guests.get(key)!r} at {task})"
                    for key in keys[:4]
                )
                more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
                return _error(
                    f"the workers have different configs: {shown}{more}",
                    task,
                    "start all workers with the same config and the same --set",
                )
        return None

    def _late(self, tasks: list[str]) -> dict[str, Any]:
        error = _error(
            f"{self._named(tasks)} did not come within {self.limit:,.0f} s",
            "TF_CONFIG",
            "find out why it has not started, or set TFXC_WAIT to more seconds",
        )
        return {**error, "machine": True}

    def _follow(self) -> None:
        """Goes to the leader and waits for the verdict; a leader that was restarted is found."""
        verdict = None
        while verdict is None:
            if time.monotonic() >= self._deadline:
                _raise(self._late([self.leader]))
            try:
                address = _host_and_port(self.addresses[self.leader])
                connection = socket.create_connection(address, timeout=5)
            except OSError:
                self._say([self.leader])
                time.sleep(_PATIENCE)
                continue
            with connection:
                _send_all({self.leader: (connection, {})}, self._message)
                connection.settimeout(self.limit + 15)  # the leader's own limit comes first
                message = _receive(connection)
                while message is not None and "verdict" not in message:
                    self._print(message["waiting"])
                    message = _receive(connection)
                # ``{}`` if all is well; None if the leader is gone.
                verdict = None if message is None else message["verdict"]
        _raise(verdict)

    def _say(self, missing: list[str], present: "Mapping[str, Guest] | None" = None) -> None:
        line = f"waiting for {self._named(missing)}, at most {self.limit:,.0f} s"
        if line != self._reported:
            _send_all(present or {}, {"waiting": line})
            self._print(line)

    def _print(self, line: str) -> None:
        if line != self._reported:
            self.report(line)
        self._reported = line

    def _named(self, tasks: list[str]) -> str:
        return " and ".join(f"{task} ({self.addresses[task]})" for task in tasks)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _send_all(guests: "Mapping[str, Guest]", message: Mapping[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    for connection, _ in guests.values():
        with contextlib.suppress(OSError):
            connection.sendall(data)


def _receive(connection: socket.socket) -> dict[str, Any] | None:
    """Returns the next message; None if the other side is gone or sends something else."""
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


def _is_gone(connection: socket.socket) -> bool:
    try:
        connection.setblocking(False)
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(10)


def _error(problem: str, where: str, fix: str) -> dict[str, Any]:
    return {"problem": problem, "where": where, "fix": fix}


def _twice(second: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    return _error(
        f"two processes claim to be {second['task']}: {first['process']} and {second['process']}",
        "TF_CONFIG",
        "give each process its own index",
    )


def _shown(addresses: Mapping[str, str]) -> str:
    return ", ".join(f"{task} {address}" for task, address in addresses.items())


def _raise(verdict: dict[str, Any] | None) -> None:
    if verdict:
        kind = MachineError if verdict.pop("machine", False) else ConfigError
        raise kind(verdict.pop("problem"), **verdict)
