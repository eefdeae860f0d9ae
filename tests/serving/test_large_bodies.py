"""Large bodies: parsed beside the event loop, within the time, counted, and freed."""

import asyncio
import gc
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs the extra serve")

from tests.serving.runs import client_of, text_run
from tests.small_runs import make_run
from tfxc.serving import application as module
from tfxc.serving.limits import Limits, RequestError

LARGE = {"texts": ["soup " * 8000]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return text_run(tmp_path_factory.mktemp("runs") / "run")


class Parser:
    """``from_json``, which begins to parse a large body only where it may."""

    def __init__(self, monkeypatch):
        self.begun, self.free = threading.Event(), threading.Event()
        self._parse = module.from_json
        monkeypatch.setattr(module, "from_json", self)

    def __call__(self, body, **options):
        if len(body) > 40_000:
            self.begun.set()
            assert self.free.wait(120)
            assert not gc.isenabled()
        return self._parse(body, **options)


def test_others_are_answered_while_a_large_body_is_parsed(run, monkeypatch):
    parser = Parser(monkeypatch)
    client, _ = client_of({"run": run})
    with client, ThreadPoolExecutor(3) as pool:
        try:
            large = [pool.submit(client.post, "/predict", json=LARGE) for _ in range(2)]
            assert parser.begun.wait(120)
            assert client.get("/health").status_code == 200
            assert client.post("/predict", json={"texts": ["soup"]}).status_code == 200
            assert not any(answer.done() for answer in large)
        finally:
            parser.free.set()
        assert [answer.result().status_code for answer in large] == [200, 200]
    assert gc.isenabled()


def test_parsing_counts_to_the_time(run, monkeypatch):
    original, limits = asyncio.timeout, []

    def timeout(seconds):
        limits.append((asyncio.get_running_loop(), original(seconds)))
        return limits[-1][1]

    parser = Parser(monkeypatch)
    monkeypatch.setattr(asyncio, "timeout", timeout)
    client, application = client_of({"run": run}, Limits(seconds=300))
    with client, ThreadPoolExecutor(1) as pool:
        try:
            answer = pool.submit(client.post, "/predict", json=LARGE)
            assert parser.begun.wait(120)
            loop, limit = limits[-1]
            loop.call_soon_threadsafe(limit.reschedule, 0)
            assert answer.result(120).status_code == 504
        finally:
            parser.free.set()
        assert client.post("/predict", json=LARGE).status_code == 200
    assert application._held == 0


def test_a_newer_version_comes_while_a_body_is_parsed(run, monkeypatch, tmp_path):
    shutil.copytree(run, tmp_path / "model" / "1")
    client, application = client_of({"model": tmp_path / "model"})
    parser = Parser(monkeypatch)
    with client, ThreadPoolExecutor(1) as pool:
        try:
            answer = pool.submit(client.post, "/predict", json=LARGE)
            assert parser.begun.wait(120)
            shutil.copytree(run, tmp_path / "model" / "2")
            assert client.portal.call(application.catalog.reload) == ["model"]
        finally:
            parser.free.set()
        assert answer.result(120).json()["version"] == 2


def test_all_bodies_together_are_bounded(run):
    limits = Limits(body_bytes=1000, total_bytes=1500)
    client, application = client_of({"run": run}, limits)
    batcher, searching, free = (
        application.catalog.find().batcher,
        threading.Event(),
        threading.Event(),
    )

    def search(chunk, k):
        searching.set()
        assert free.wait(120)
        return np.zeros((len(chunk), k), np.int32), np.zeros((len(chunk), k), np.float32)

    batcher._search = search
    body = {"texts": ["x" * 900]}
    with client, ThreadPoolExecutor(1) as pool:
        try:
            first = pool.submit(client.post, "/predict", json=body)
            assert searching.wait(120)
            second = client.post("/predict", json=body)
            assert client.get("/health").status_code == 200
        finally:
            free.set()
        assert first.result(120).status_code == 200
        assert second.status_code == 503 and second.headers["connection"] == "close"
        assert "take 9" in second.json()["error"] and second.headers["retry-after"] == "1"
        assert client.post("/predict", json=body).status_code == 200
    assert application._held == 0


def test_too_many_lists_are_not_parsed(run, monkeypatch):
    monkeypatch.setattr(module, "_MOST_LISTS", 8)
    client, _ = client_of({"run": run})
    with client:
        answer = client.post("/predict", content=b"[" * 8 + b"{")
        assert answer.status_code == 413
        assert "the body has 9 lists and objects" in answer.json()["error"]


def test_examples_are_counted_before_they_are_read(tmp_path):
    """All of these are wrong in another way as well."""
    make_run(tmp_path / "sparse", num_features=6)
    client, _ = client_of({"sparse": tmp_path / "sparse"}, Limits(examples=2))
    splits = {"ids": ["x"], "weights": ["y"], "row_splits": ["a", "b", "c", "d"]}
    with client:
        for address, body in (
            ("/predict", {"features": ["x", "y", "z"]}),
            ("/v1/models/sparse:predict", {"inputs": splits}),
        ):
            answer = client.post(address, json=body)
            assert answer.status_code == 413
            assert "the request has 3 examples. Send at most 2" in answer.json()["error"]


class Parsed:
    """Stands for what a body is parsed into."""


def test_what_a_refused_body_was_parsed_into_is_freed():
    made = []

    def read():
        parsed = Parsed()
        made.append(weakref.ref(parsed))
        try:
            int(parsed.__class__.__name__)
        except ValueError:
            raise RequestError(400, "no number") from None

    gc.disable()  # no cycle is left either
    try:
        with pytest.raises(RequestError, match="no number") as caught:
            _ = module._uncollected(read)
        assert made[0]() is None and caught.value.__context__ is None
    finally:
        gc.enable()
