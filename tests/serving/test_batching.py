"""Requests that wait are searched together, in order, and each gets its own answer."""

import asyncio
import threading

import numpy as np
import pytest

from tfxc.core.errors import DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.serving.batching import Batcher
from tfxc.serving.limits import Limits, RequestError


class Search:
    """Answers a text with its number; waits where it is told to."""

    def __init__(self):
        self.batches, self.free = [], threading.Event()
        self.free.set()

    def __call__(self, chunk, k):
        self.batches.append(list(chunk.texts))
        assert self.free.wait(120)
        if "bad" in chunk.texts:
            raise DataError("the text is bad", where="request")
        if "bug" in chunk.texts:
            raise KeyError("bug")
        ids = np.array([[int(text)] * k for text in chunk.texts], np.int32)
        return ids, ids.astype(np.float32)


def texts(*values):
    return Chunk([[] for _ in values], texts=[str(value) for value in values])


def run(ask, **limits):
    """What ``ask(batcher, search)`` returns, and the search."""
    search = Search()

    async def main():
        batcher = Batcher(search, Limits(**{"batch": 4, **limits}))
        try:
            return await asyncio.wait_for(ask(batcher, search), 120)
        finally:
            search.free.set()
            batcher.close()

    return asyncio.run(main()), search


def test_what_gathers_during_a_search_is_searched_at_once():
    async def ask(batcher, search):
        search.free.clear()
        jobs = [batcher.submit(texts(number), 1) for number in range(6)]
        assert batcher.waiting == 5
        search.free.set()
        return [ids.tolist() for ids, _ in await asyncio.gather(*jobs)]

    found, search = run(ask)
    assert found == [[[number]] for number in range(6)]
    assert search.batches == [["0"], ["1", "2", "3", "4"], ["5"]]


def test_requests_of_several_examples_and_labels_get_their_own_rows():
    async def ask(batcher, search):
        search.free.clear()
        jobs = [batcher.submit(texts(0), 1)]
        jobs += [batcher.submit(texts(1, 2), 3), batcher.submit(texts(3), 2)]
        search.free.set()
        return [ids.tolist() for ids, _ in await asyncio.gather(*jobs)]

    found, search = run(ask)
    assert found == [[[0]], [[1, 1, 1], [2, 2, 2]], [[3, 3]]]
    assert len(search.batches) == 2


def test_a_request_larger_than_a_batch_is_searched():
    async def ask(batcher, _):
        return (await batcher.submit(texts(*range(9)), 1))[0].ravel().tolist()

    found, search = run(ask)
    assert found == list(range(9)) and len(search.batches) == 1


def test_a_bad_example_spoils_no_other_request():
    async def ask(batcher, search):
        search.free.clear()
        jobs = [batcher.submit(texts(text), 1) for text in (0, 1, "bad", 2)]
        search.free.set()
        return await asyncio.gather(*jobs, return_exceptions=True)

    found, _ = run(ask)
    assert isinstance(found[2], DataError)
    assert [found[place][0].item() for place in (0, 1, 3)] == [0, 1, 2]


def test_after_a_bug_it_goes_on():
    async def ask(batcher, _):
        with pytest.raises(KeyError):
            await batcher.submit(texts("bug"), 1)
        return (await batcher.submit(texts(7), 1))[0].item()

    assert run(ask)[0] == 7


def test_a_full_queue_refuses():
    async def ask(batcher, search):
        search.free.clear()
        jobs = [batcher.submit(texts(0), 1), batcher.submit(texts(1, 2), 1)]
        with pytest.raises(RequestError, match="2 examples are waiting, and at most 3 may") as e:
            batcher.submit(texts(3, 4), 1)
        jobs.append(batcher.submit(texts(5), 1))
        search.free.set()
        await asyncio.gather(*jobs)
        return e.value.status

    assert run(ask, queue=3)[0] == 429


def test_what_nobody_waits_for_is_not_searched():
    async def ask(batcher, search):
        search.free.clear()
        first, second = batcher.submit(texts(0), 1), batcher.submit(texts(1), 1)
        second.cancel()
        search.free.set()
        await first
        await batcher.submit(texts(2), 1)

    assert run(ask)[1].batches == [["0"], ["2"]]


def test_an_idle_batcher_can_wait_for_more():
    async def ask(batcher, _):
        jobs = [batcher.submit(texts(0), 1)]
        await asyncio.sleep(0)
        jobs.append(batcher.submit(texts(1), 1))
        await asyncio.gather(*jobs)

    assert run(ask, wait=0.05)[1].batches == [["0", "1"]]


def test_closing_answers_what_was_submitted():
    async def ask(batcher, search):
        search.free.clear()
        jobs = [batcher.submit(texts(number), 1) for number in range(3)]
        batcher.close()
        search.free.set()
        return [ids.item() for ids, _ in await asyncio.gather(*jobs)]

    assert run(ask)[0] == [0, 1, 2]


def test_what_nobody_waits_for_any_more_is_dropped_at_once():
    """However long the search takes that runs."""

    async def ask(batcher, search):
        search.free.clear()
        jobs = [batcher.submit(texts(number), 1) for number in range(3)]
        jobs[1].cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 1 and len(batcher._jobs) == 1
        search.free.set()
        return (await jobs[2])[0].item()

    found, search = run(ask)
    assert found == 2 and search.batches == [["0"], ["2"]]
