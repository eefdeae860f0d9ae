"""Blocks of a layer within a budget of memory."""

from concurrent.futures import FIRST_COMPLETED, Future, wait

import numpy as np
import pytest

from tfxc.ops.linear.block import Block
from tfxc.ranker.block_queue import Pause, Plan, blocks_written, finished

NEEDS = [100, 60, 60, 40, 30]


def solved(size):
    """A finished block of 4 * ``size`` bytes."""
    future = Future()
    future.set_result([Block(np.zeros(size, np.int32), *[np.zeros(0)] * 3, 0)])
    return future


@pytest.mark.parametrize(
    ("block", "waiting", "admitted"),
    [
        (0, [], True),
        (2, [(Future(), 1)], False),  # 60 and 60
        (3, [(Future(), 2)], True),  # 60 and 40
        (4, [(Future(), 2), (Future(), 3)], False),
        (2, [(solved(10), 1)], True),  # 40 and 60
        (2, [(solved(11), 1)], False),
        (4, [(solved(2), 1), (Future(), 2)], True),  # 8, 60 and 30
    ],
)
def test_what_a_budget_admits(block, waiting, admitted):
    assert Plan(2, 1, True, 100, NEEDS).admits(block, waiting) is admitted
    assert Plan(2, 1, True).admits(block, waiting)


class Work:
    """A layer whose blocks hold their number."""

    num_parents, child_splits = 5, np.array([0, 1, 3, 4, 5, 9])

    def __init__(self, width=1):
        self.width = width

    def spans(self, first):
        for block in range(first, self.num_parents, self.width):
            yield block, min(block + self.width, self.num_parents)

    def task(self, first, last, plan):
        return self.solve, first, last, plan

    def solve(self, first, last, plan):
        if first <= 3 < last and plan.threads == 7:
            raise MemoryError
        return [
            Block(np.full(1, block, np.int32), *[np.zeros(0)] * 3, block % 2)
            for block in range(first, last)
        ]


class Writer:
    """Keeps what it is given."""

    def __init__(self, blocks=0):
        self.blocks, self.notes, self.found = blocks, {}, []

    def append(self, rows, counts, columns, values):
        self.found.append(int(rows[0]))
        self.blocks += 1


def write_blocks(solver, writer, plan, progress):
    for pause in blocks_written(solver, writer, plan, progress):
        wait(pause.running, return_when=FIRST_COMPLETED)


class Counted:
    total = 0

    def advance(self, nodes):
        self.total += nodes


@pytest.mark.parametrize("width", [1, 2, 9])
@pytest.mark.parametrize("plan", [Plan(2, 1, True), Plan(3, 1, True, 100, NEEDS)])
def test_blocks_are_written_in_their_order(plan, width):
    writer, progress = Writer(blocks=1), Counted()
    write_blocks(Work(width), writer, plan, progress)
    assert writer.found == [1, 2, 3, 4] and writer.notes == {"unfinished": 2}
    assert progress.total == 8


def test_an_error_ends_it_behind_the_last_good_block():
    writer = Writer()
    with pytest.raises(MemoryError):
        write_blocks(Work(), writer, Plan(2, 7, True, 100, NEEDS), Counted())
    assert writer.found == list(range(len(writer.found))) and 3 not in writer.found


def layer(number, begun, futures, fails=False):
    """A layer of one block, all of which is given out at once."""
    begun.append(number)
    try:
        yield Pause([futures[number]], submitted=True)
        if fails:
            raise MemoryError
    except GeneratorExit:
        begun.append(f"{number} closed")
        raise
    # Those after it end first; the last one lets it go on.
    if number == 2:
        futures[0].set_result(None)
    return number


@pytest.mark.parametrize("most", [2, 3])
def test_layers_begin_while_those_before_are_solved(most):
    futures, begun = [Future() for _ in range(4)], []
    for future in futures[1:]:
        future.set_result(None)
    assert finished((layer(n, begun, futures) for n in range(4)), most) == [0, 1, 2, 3]
    assert begun == [0, 1, 2, 3]


def test_a_layer_waits_until_all_blocks_of_those_before_are_given_out():
    order, future = [], Future()
    future.set_result(None)

    def one(name):
        for number in range(2):
            order.append(f"{name}{number}")
            yield Pause([future], submitted=number == 1)

    finished(map(one, "ab"), 2)
    assert order.index("b0") > order.index("a1")


def test_an_error_of_one_layer_closes_the_others():
    futures, begun = [Future(), Future()], []
    futures[1].set_result(None)
    layers = [layer(0, begun, futures), layer(1, begun, futures, fails=True)]
    with pytest.raises(MemoryError):
        finished(layers, 2)
    assert begun == [0, 1, "0 closed"]
