"""Several blocks of a layer solved at a time, within a budget of memory."""

from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tfxc.core.progress import Progress
    from tfxc.ranker.store import LayerWriter


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
        """Whether a block may start while others, (future, number), are not yet written."""
        if self.budget is None or self.needs is None or not waiting:
            return True
        held = sum(_held(work) if work.done() else self.needs[one] for work, one in waiting)
        return held + self.needs[block] <= self.budget


def _held(work):
    """Bytes of a solved block."""
    return sum(part.nbytes for part in work.result()[:4])


def write_blocks(work: Any, writer: "LayerWriter", plan: "Plan", progress: "Progress") -> None:
    """Solves the blocks of a layer that are missing, and writes them in their order.

    A block is started when all that may be in memory with it keeps to the plan's budget: blocks
    that are being solved with what they need at most, solved ones with what they are.

    Args:
        work: has ``solve(block, plan)``, which returns a ``Block``, ``num_parents`` (blocks), and
            ``child_splits`` (their nodes).
        writer: ``ranker.store.LayerWriter``.
        plan: ``Plan``.
        progress: ``tfxc.core.progress.Progress`` that counts the nodes of each block.
    """
    waiting: deque[tuple[Future, int]] = deque()
    ahead = writer.blocks
    unfinished = writer.notes.get("unfinished", 0)
    with ThreadPoolExecutor(plan.blocks) as pool:
        try:
            while writer.blocks < work.num_parents:
                free = min(work.num_parents, ahead + 4 * plan.blocks - len(waiting))
                while ahead < free and plan.admits(ahead, waiting):
                    waiting.append((pool.submit(work.solve, ahead, plan), ahead))
                    ahead += 1
                if not waiting[0][0].done():
                    running = [one for one, _ in waiting if not one.done()]
                    wait(running, return_when=FIRST_COMPLETED)
                    continue
                *block, late = waiting.popleft()[0].result()
                unfinished += late
                writer.notes["unfinished"] = unfinished
                writer.append(*block)
                del block  # before another is started in its place
                nodes = work.child_splits[writer.blocks - 1 : writer.blocks + 1]
                progress.advance(int(nodes[1] - nodes[0]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
