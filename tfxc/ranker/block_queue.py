"""Several blocks of a layer solved at a time, within a budget of memory."""

from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from tfxc.parallel import executor

if TYPE_CHECKING:
    from tfxc.core.progress import Progress
    from tfxc.ranker.store import LayerWriter


#: Blocks that are given out or wait to be written, for each that is solved at a time.
AHEAD = 4


class Plan(NamedTuple):
    """How blocks are solved.

    Attributes:
        blocks: most blocks at a time.
        threads: threads of each.
        compress: see ``ops.linear.solver.solve_block``.
        budget: bytes that the blocks may take together; None for no limit.
        needs: bytes that each of them takes at most; None without a budget.
    """

    blocks: int
    threads: int
    compress: bool
    budget: int | None = None
    needs: Sequence[int] | None = None

    def admits(self, block: int, waiting: Collection[tuple[Future, int]]) -> bool:
        """Says whether a block may start while others, (future, number), are not yet written."""
        if self.budget is None or self.needs is None or not waiting:
            return True
        held = sum(_held(work) if work.done() else self.needs[number] for work, number in waiting)
        return held + self.needs[block] <= self.budget


def _held(work: Future) -> int:
    """Returns bytes of solved blocks."""
    return sum(part.nbytes for block in work.result() for part in block[:4])


class Solver(Protocol):
    """What solves the blocks of a layer.

    Attributes:
        num_parents: number of blocks.
        child_splits: bounds of their nodes.
    """

    num_parents: int
    child_splits: np.ndarray

    def spans(self, first: int) -> Iterator[tuple[int, int]]:
        """Returns (first, last) of the blocks of each task, from a block on."""

    def task(self, first: int, last: int, plan: Plan) -> tuple[Any, ...]:
        """Returns a function and its arguments, which returns the list of a span's ``Block``s."""


class Pause(NamedTuple):
    """A moment at which a layer goes on only once a block is solved.

    Attributes:
        running: the blocks that are being solved; at least one.
        submitted: whether no block is left to start.
    """

    running: list[Future]
    submitted: bool


def blocks_written(
    solver: Solver, writer: "LayerWriter", plan: "Plan", progress: "Progress"
) -> Iterator[Pause]:
    """Solves the blocks of a layer that are missing, and writes them in their order.

    The waiting is left to whoever iterates over it.

    A block is started when all that may be in memory with it keeps to the plan's budget: blocks
    that are being solved with what they need at most, solved ones with what they are.

    Args:
        solver: ``Solver``.
        writer: ``ranker.store.LayerWriter``.
        plan: ``Plan``; its ``blocks`` are tasks at a time.
        progress: ``tfxc.core.progress.Progress`` that counts the nodes of each block.

    Yields:
        ``Pause``.
    """
    waiting: deque[tuple[Future, int]] = deque()
    spans = solver.spans(writer.blocks)
    following = next(spans, None)
    with executor(plan.blocks) as pool:
        while waiting or following:
            for _ in range(AHEAD * plan.blocks - len(waiting)):
                if following is None or not plan.admits(following[0], waiting):
                    break
                waiting.append((pool.submit(*solver.task(*following, plan)), following[0]))
                following = next(spans, None)
            if not waiting[0][0].done():
                running = [work for work, _ in waiting if not work.done()]
                yield Pause(running, following is None)
                continue
            blocks = waiting.popleft()[0].result()
            while blocks:
                *arrays, late = blocks.pop(0)
                writer.notes["unfinished"] = writer.notes.get("unfinished", 0) + late
                writer.append(*arrays)
                nodes = solver.child_splits[writer.blocks - 1 : writer.blocks + 1]
                progress.advance(int(nodes[1] - nodes[0]))


def finished(layers: Iterable[Generator[Pause, None, Any]], most: int) -> list[Any]:
    """Goes through layers, several at a time: one begins when all blocks of those before are given
    out, so that no worker is idle while the last of them are solved.

    Args:
        layers: of ``blocks_written`` or what yields from it; each is made when it begins.
        most: layers at a time.

    Returns:
        What each of them returns.

    Example:
        >>> def layer(number):
        ...     yield from ()
        ...     return number
        >>> finished(map(layer, range(3)), 2)
        [0, 1, 2]
    """
    results: dict[int, Any] = {}
    pauses: dict[int, Pause] = {}
    active: dict[int, Generator[Pause, None, Any]] = {}
    following = enumerate(layers)
    rest = True

    def resume(number: int) -> None:
        try:
            pauses[number] = next(active[number])
        except StopIteration as end:
            results[number] = end.value
            pauses.pop(number, None)
            del active[number]

    try:
        while rest or active:
            while rest and len(active) < most and all(p.submitted for p in pauses.values()):
                number, layer = next(following, (-1, None))
                rest = layer is not None
                if layer is not None:
                    active[number] = layer
                    resume(number)
            running = [work for pause in pauses.values() for work in pause.running]
            if running:
                wait(running, return_when=FIRST_COMPLETED)
            for number in [n for n, p in pauses.items() if any(w.done() for w in p.running)]:
                resume(number)
    finally:
        for layer in active.values():
            layer.close()  # what it has given out is cancelled
    return [results[number] for number in sorted(results)]
