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
        examples: allow at most N examples in a request; more are refused with 413.
        body_bytes: allow at most N bytes in the body of a request; more are refused with 413.
        total_bytes: allow at most N bytes in all bodies that wait for an answer; more are refused
            with 503.
        file_bytes: allow at most N bytes in a file that is labelled; larger ones are refused with
            413.
        k: allow at most N labels per example; more are refused with 400.
        queue: let at most N examples wait for a run; more are refused with 429.
        seconds: longest time from a request to its answer, and for a client to send or read; after
            that, the server answers 408 or 504, or closes the connection.
        connections: allow at most N connections at a time, by default fewer where the process may
            open few files; more are refused with 503.
        batch: number of examples to search at once.
        wait: how long an idle run waits for more requests, to search them all together.
    """

    examples: Annotated[Count, Option(name="--max-examples")] = 1024
    body_bytes: Annotated[Count, Option(name="--max-bytes")] = 8 << 20
    total_bytes: Annotated[Count, Option(name="--max-total-bytes")] = 64 << 20
    file_bytes: Annotated[Count, Option(name="--max-file-bytes")] = 32 << 20
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
