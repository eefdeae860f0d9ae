"""Requests that arrive while others are searched are searched together."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tfxc.core.errors import DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.serving.limits import Limits, RequestError

Found = tuple[np.ndarray, np.ndarray]


class _Job(NamedTuple):
    """Examples that wait, and what their labels are handed to."""

    chunk: Chunk
    k: int
    answer: "asyncio.Future[Found]"


class Batcher:
    """Searches for the requests to one model, several at once, in a thread of its own.

    While a batch is searched requests gather, and the next batch takes what has gathered: an idle
    server answers at once, a busy one in large batches. Everything but the search runs in the event
    loop. Where a batch is refused for its data, its requests are searched one by one, so that each
    gets its own answer.

    Args:
        search: (chunk, k) -> ids int32 and scores float32, both (n, k).
        limits: of which ``batch``, ``queue`` and ``wait`` count.
        on_batch: called with the number of examples of each batch.

    Attributes:
        closed: whether a newer version has come, so that nothing more may be submitted.

    Example:
        >>> import asyncio, numpy as np
        >>> from tfxc.data.examples.chunk import Chunk
        >>> def search(chunk, k):
        ...     return np.zeros((len(chunk), k), np.int32), np.ones((len(chunk), k), np.float32)
        >>> async def ask():
        ...     batcher = Batcher(search, Limits())
        ...     ids, scores = await batcher.submit(Chunk([[]], texts=["owl"]), 1)
        ...     batcher.close()
        ...     return ids
        >>> asyncio.run(ask()).tolist()
        [[0]]
    """

    def __init__(
        self,
        search: Callable[[Chunk, int], Found],
        limits: Limits,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._search = search
        self._limits = limits
        self._on_batch = on_batch
        self._jobs: dict[asyncio.Future[Found], _Job] = {}  # in the order in which they came
        self._waiting = 0
        self._busy = False
        self._planned = False
        self.closed = False
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "search")

    @property
    def waiting(self) -> int:
        """Examples that wait for their search."""
        return self._waiting

    def submit(self, chunk: Chunk, k: int) -> "asyncio.Future[Found]":
        """Returns the labels of examples, soon; in the event loop.

        A future that is cancelled before its search is not searched, and its examples are dropped.

        Raises:
            RequestError: 429, too many examples wait already.
        """
        assert not self.closed, "a closed batcher is not known to requests"
        if self._waiting and self._waiting + len(chunk) > self._limits.queue:
            raise RequestError(
                429,
                f"{self._waiting:,} examples are waiting, and at most {self._limits.queue:,} may",
                where="queue",
                fix="send this request again later",
            )
        loop = asyncio.get_running_loop()
        job = _Job(chunk, k, loop.create_future())
        self._jobs[job.answer] = job
        job.answer.add_done_callback(self._remove)
        self._waiting += len(chunk)
        if self._waiting >= self._limits.batch or not self._limits.wait:
            self._start()
        elif not self._planned:
            self._planned = True
            loop.call_later(self._limits.wait, self._start_planned)
        return job.answer

    def call(self, call: Callable[..., Any], *arguments: object) -> Any:
        """Returns ``call(*arguments)``, as ``between``, from another thread than the event loop.

        A batcher that is closed has no thread any more: then nothing is searched either.
        """
        try:
            future = self._thread.submit(call, *arguments)
        except RuntimeError:
            return call(*arguments)
        return future.result()

    def between(self, call: Callable[..., Any], *arguments: object) -> "asyncio.Future[Any]":
        """Calls ``call(*arguments)`` in the thread of the searches: none runs meanwhile."""
        return asyncio.wrap_future(self._thread.submit(call, *arguments))

    def close(self) -> None:
        """Ends the thread when everything submitted is answered."""
        self.closed = True
        self._start()

    def _start_planned(self) -> None:
        self._planned = False
        self._start()

    def _start(self) -> None:
        """Hands the next batch to the thread, unless it is busy."""
        if self._busy:
            return
        jobs = self._take()
        if not jobs:
            if self.closed:
                self._thread.shutdown(wait=False)
            return
        self._busy = True
        self._on_batch(sum(len(job.chunk) for job in jobs))
        loop = jobs[0].answer.get_loop()
        searched = self._thread.submit(_answers, self._search, jobs)
        searched.add_done_callback(
            lambda done: loop.call_soon_threadsafe(self._deliver, jobs, done)
        )

    def _take(self) -> list[_Job]:
        """Returns jobs of one batch, without those that nobody waits for any more."""
        jobs = []
        size = 0
        while self._jobs:
            job = next(iter(self._jobs.values()))
            if size and size + len(job.chunk) > self._limits.batch:
                break
            self._remove(job.answer)
            if not job.answer.done():
                jobs.append(job)
                size += len(job.chunk)
        return jobs

    def _remove(self, answer: "asyncio.Future[Found]") -> None:
        """Drops a job, and its examples, from those that wait."""
        job = self._jobs.pop(answer, None)
        if job is not None:
            self._waiting -= len(job.chunk)

    def _deliver(
        self, jobs: list[_Job], done: "concurrent.futures.Future[list[Found | DataError]]"
    ) -> None:
        self._busy = False
        error = done.exception()
        answers = [error] * len(jobs) if error else done.result()
        for job, answer in zip(jobs, answers, strict=True):
            if job.answer.done():
                continue
            if isinstance(answer, BaseException):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)
        self._start()


def _answers(search: Callable[[Chunk, int], Found], jobs: list[_Job]) -> list[Found | DataError]:
    """Returns for each job its labels, or the ``DataError`` of its examples."""
    k = max(job.k for job in jobs)
    try:
        ids, scores = search(Chunk.joined([job.chunk for job in jobs]), k)
    except DataError as error:
        return [error] if len(jobs) == 1 else [_answers(search, [job])[0] for job in jobs]
    ends = np.cumsum([len(job.chunk) for job in jobs]).tolist()
    starts = [0, *ends[:-1]]
    return [
        (ids[start:end, : job.k], scores[start:end, : job.k])
        for job, start, end in zip(jobs, starts, ends, strict=True)
    ]
