"""What a server accepts, and the errors of requests that it refuses."""

import dataclasses
from pathlib import Path

from tfxc.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a server; each is an option of ``tfxc serve``.

    Attributes:
        examples: most examples in a request (413).
        body_bytes: most bytes in a request's body (413).
        total_bytes: most bytes in the bodies of all requests that are not answered yet (503).
        k: most labels per example that a request may ask for (400).
        queue: most examples that wait for a model (429).
        seconds: from the start of a request to its answer (408 while it is received, then 504), and
            in which a client must read something.
        connections: most of them at a time (503 on the others), see ``checked_connections``.
        batch: examples that are searched at once.
        wait: seconds that an idle model waits for more requests before it searches.
    """

    examples: int = 1024
    body_bytes: int = 8 << 20
    total_bytes: int = 64 << 20
    k: int = 100
    queue: int = 8192
    seconds: float = 10.0
    connections: int = 512
    batch: int = 256
    wait: float = 0.0


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
