"""What a server accepts, and the errors of requests that it refuses."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tfxc.core.bounds import Count, NotNegative, Option, Positive
from tfxc.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        examples: examples in a request; more: 413.
        body_bytes: bytes of a request's body; more: 413.
        total_bytes: bytes of all bodies that wait for an answer; more: 503.
        k: labels per example; more: 400.
        queue: examples that wait for a run; more: 429.
        seconds: time from a request to its answer, and time in which a client has to send or read;
            longer: 408 or 504, or the connection is closed.
        connections: connections at a time, by default fewer where the process may open few files;
            more: 503.
        batch: examples that are searched at once.
        wait: time that an idle run waits for more requests, to search all together.
    """

    examples: Annotated[Count, Option(name="--max-examples")] = 1024
    body_bytes: Annotated[Count, Option(name="--max-bytes")] = 8 << 20
    total_bytes: Annotated[Count, Option(name="--max-total-bytes")] = 64 << 20
    k: Annotated[Count, Option(name="--max-k")] = 100
    queue: Annotated[Count, Option(name="--max-queue")] = 8192
    seconds: Annotated[Positive, Option("SECONDS", name="--timeout")] = 10.0
    connections: Annotated[Count, Option(name="--max-connections")] = 512
    batch: Annotated[Count, Option(name="--batch-size")] = 256
    wait: Annotated[NotNegative, Option("SECONDS", name="--batch-wait")] = 0.0


class RequestError(UserError):
    """A request is refused.

    Args:
        status: of HTTP.
        problem, fix, where: see ``UserError``.

    Example:
        >>> print(RequestError(400, "5 is not a text", where="texts[0]"))
        texts[0]: 5 is not a text
    """

    def __init__(
        self, status: int, problem: str, *, fix: str | None = None, where: str | Path | None = None
    ) -> None:
        super().__init__(problem, fix=fix, where=where)
        self.status = status


def bad_request(problem: str, where: str | None = None, fix: str | None = None) -> RequestError:
    """Returns the error of a request that is malformed: status 400."""
    return RequestError(400, problem, where=where, fix=fix)
