"""Chunks of examples shared out to the workers of a cluster, some batches at a time.

A task is a few batches, which wait in a file of a scratch folder next to the output. A worker opens
what it needs, such as a run, once; what it answers comes back in the order of the examples. The
batches are those of a command without a cluster, and so are the answers, byte for byte.
"""

import collections
import contextlib
import dataclasses
import functools
import gc
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfxc.core.resources import limited_threads, wait_passively
from tfxc.core.storage.files import scratch_beside, write_json
from tfxc.core.storage.reading import read_json
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.lists import LabelLists
from tfxc.data.store.blocks.chunk_file import read_chunks, write_chunks
from tfxc.parallel import map_tasks, not_on_storage, on_every_worker, worker_threads

#: What a worker does: function of the number of the first example, and the ``Chunk``s from there on
#: -> what it found for each.
Work = Callable[[int, Iterator[Chunk]], Iterable[Any]]

_EXAMPLES = 2048
_JOB = "job.json"
# A worker of several threads works on one task at a time, with all of them.
_busy = threading.Lock()


class Answer(NamedTuple):
    """What was found for a batch.

    Attributes:
        first: number of its first example.
        size: how many examples it has.
        found: what the worker's ``Work`` returned; small enough for a few to be held at a time.
    """

    first: int
    size: int
    found: Any


@contextlib.contextmanager
def shared_answers(
    opener: Callable[[dict[str, Any]], Work],
    job: Mapping[str, Any],
    batches: Iterable[tuple[int, Chunk]],
    output: str | Path,
    examples: int | None = None,
) -> Iterator[Iterator[Answer]]:
    """Answers to batches by the workers of the current cluster, which see the output's folder.

    A few tasks per thread of a worker are under way; no more batches or answers are held. At the
    end, also after an error, the scratch folder is removed and the workers forget what they opened.

    Args:
        opener: function of a module: of the job -> ``Work``; called once in each worker.
        job: what it has to know, a dict for JSON.
        batches: number of the first example of each, and its ``Chunk``; labels are not passed on.
        output: the file that is written of it; the scratch folder is next to it.
        examples: of a task, unless a batch has more; None for as many as take some seconds at most.

    Yields:
        Iterator of ``Answer``s, in the order of the batches.

    Raises:
        MachineError: the disk is full, or a worker does not see the folder.
        UserError: what a worker's ``Work`` raises.
    """
    with scratch_beside(Path(output).absolute()) as folder:
        write_json(folder / _JOB, dict(job))
        answers = _answers(opener, _groups(batches, examples or _EXAMPLES), folder)
        try:
            with contextlib.closing(answers):
                yield answers
        finally:
            on_every_worker(_forget)


def _answers(
    opener: Callable[[dict[str, Any]], Work],
    groups: Iterable[list[tuple[int, Chunk]]],
    folder: Path,
) -> Generator[Answer, None, None]:
    waiting: collections.deque[tuple[Path, list[tuple[int, int]]]] = collections.deque()

    def tasks() -> Iterator[tuple[Callable[[dict[str, Any]], Work], str, str, int]]:
        for number, group in enumerate(groups):
            path = folder / f"batches-{number:08d}"
            write_chunks(
                path,
                [
                    dataclasses.replace(chunk, labels=LabelLists.none(len(chunk)))
                    for _, chunk in group
                ],
            )
            waiting.append((path, [(first, len(chunk)) for first, chunk in group]))
            yield opener, str(folder), path.name, group[0][0]

    results: Any = map_tasks(answer_batches, tasks(), processes=2)
    with contextlib.closing(results):
        for batch_answers in results:
            path, spans = waiting.popleft()
            path.unlink()
            for (first, size), answer in zip(spans, batch_answers, strict=True):
                yield Answer(first, size, answer)


def _groups(
    batches: Iterable[tuple[int, Chunk]], examples: int
) -> Iterator[list[tuple[int, Chunk]]]:
    """Yields lists of (first, chunk) that follow each other."""
    group: list[tuple[int, Chunk]] = []
    held = 0
    for first, chunk in batches:
        if group and (held >= examples or first != group[0][0] + held):
            yield group
            group = []
            held = 0
        group.append((first, chunk))
        held += len(chunk)
    if group:
        yield group


def answer_batches(
    opener: Callable[[dict[str, Any]], Work], folder: str, name: str, first: int
) -> list[Any]:
    """Does the task of a worker: returns what its ``Work`` returns for some batches.

    Args:
        opener: see ``shared_answers``.
        folder: where the job and the batches are.
        name: of the file of the batches.
        first: number of their first example.

    Raises:
        MachineError: this process does not see the folder.
        UserError: what the work raises.
    """
    with _busy, limited_threads(worker_threads()):
        wait_passively()  # before native modules are loaded
        work = _opened(opener, folder)
        return list(work(first, read_chunks(Path(folder) / name)))


@functools.lru_cache(maxsize=1)
def _opened(opener: Callable[[dict[str, Any]], Work], folder: str) -> Work:
    path = Path(folder) / _JOB
    if not path.is_file():
        raise not_on_storage("the examples to work on", path.parent, moved="the output")
    return opener(read_json(path))


def _forget() -> None:
    _opened.cache_clear()
    gc.collect()  # networks refer to themselves
