"""Two workers of which one is stopped, dies, never comes, or was given something else."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from tests import tiny
from tests.processes import Started, free_addresses
from tests.source_tree import ROOT
from tfxc.commands import train
from tfxc.core import cli
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError, MachineError
from tfxc.core.settings import TrainingSettings
from tfxc.training import rendezvous
from tfxc.training.rendezvous import Rendezvous, wait_limit
from tfxc.training.strategies import _shared_keys, make_strategy
from tfxc.training.tf_config import check_tf_config

FOREVER = {"epochs": 100_000, "checkpoint_every": 1_000_000, "evaluate_every": 1_000_000}


class Cluster:
    """``tfxc train`` as two workers on one folder.

    Args:
        fresh: whether each is a ``python -m tfxc.train``, from its start to its end.
    """

    def __init__(self, folder, fresh=False, **training):
        self.folder, self.fresh = folder, fresh
        changes = {"strategy": "multi_worker", "log_every": 1, **training}
        config = tiny.write_config(folder, training=changes)
        self.arguments = ["--config", str(config), "--prepared", str(folder / "prepared")]
        self.hosts = free_addresses(2)
        self.processes = []

    def start(self, index, *options, **variables):
        task = {"cluster": {"worker": self.hosts}, "task": {"type": "worker", "index": index}}
        variables = {"PYTHONPATH": str(ROOT), "TF_CONFIG": json.dumps(task), **variables}
        arguments = [*self.arguments, *options]
        if self.fresh:
            command = [sys.executable, "-m", "tfxc.train", *arguments]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            process = subprocess.Popen(command, env={**os.environ, **variables}, **pipes)
        else:
            process = Started(cli.run, train.main, arguments, **variables)
        self.processes.append(process)
        return process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.communicate()

    def wait_for_step(self, step):
        """Returns when the chief has written the figures of a step."""
        path, deadline = self.folder / "run/metrics.jsonl", time.monotonic() + 120
        while not path.exists() or f'"step": {step},' not in path.read_text():
            assert all(process.poll() is None for process in self.processes)
            assert time.monotonic() < deadline
            time.sleep(0.05)


def ended(process):
    """Exit code, output, and the one line of an error, of a process that ends."""
    out, err = process.communicate(timeout=280)
    lines = [line for line in err.splitlines() if line.startswith("tfxc: ")]
    assert len(lines) <= 1 and "Traceback" not in err, err[-3000:]
    return process.returncode, out, lines[0].removeprefix("tfxc: ") if lines else ""


@pytest.mark.slow
def test_one_is_stopped_then_one_dies(tmp_path):
    """SIGTERM to one worker ends both behind a saved step; SIGKILL to one, the other by a line."""
    with Cluster(tmp_path, **FOREVER) as cluster:
        cluster.start(0), cluster.start(1)
        cluster.wait_for_step(20)
        cluster.processes[1].send_signal(signal.SIGTERM)
        found = [ended(process) for process in cluster.processes]
    assert [code for code, _, _ in found] == [143, 143], found
    (checkpoint,) = (tmp_path / "run/checkpoints").glob("ckpt-*.json")
    step = json.loads(checkpoint.read_text())["step"]
    assert step >= 20
    for _, out, _ in found:
        assert f"stopped by SIGTERM, saved at step {step};" in out.splitlines()[-1]
    assert "waiting for worker " in found[0][1] + found[1][1]

    with Cluster(tmp_path, **FOREVER) as cluster:
        cluster.start(0), cluster.start(1)
        cluster.wait_for_step(step + 20)
        cluster.processes[1].kill()
        code, out, problem = ended(cluster.processes[0])
    assert code == 1 and f"resumed at step {step:,} of" in out
    assert problem.startswith("worker 0: worker 1 has ended or cannot be reached. ")
    assert [path.name for path in checkpoint.parent.glob("ckpt-*.json")] == [checkpoint.name]


def test_different_configs_are_refused_before_the_first_step(tmp_path):
    with Cluster(tmp_path, epochs=1) as cluster:
        cluster.start(0)
        cluster.start(1, "--set", "seed=7", "--set", "encoder.dropout=0.5")
        found = [ended(process) for process in cluster.processes]
    for code, _, problem in found:
        assert code == 2
        assert "worker 1: the workers have different configs: " in problem
        assert "seed (0 at worker 0, 7 at worker 1)" in problem
        assert "encoder.dropout (0.2 at worker 0, 0.5 at worker 1)" in problem
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_that_never_starts(tmp_path):
    with Cluster(tmp_path, epochs=1) as cluster:
        code, out, problem = ended(cluster.start(0, TFXC_WAIT="2"))
        host = cluster.hosts[1]
    assert code == 1 and f"waiting for worker 1 ({host}), at most 2 s" in out
    assert problem.startswith(f"TF_CONFIG: worker 1 ({host}) did not come within 2 s. Find")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_index_used_twice(tmp_path):
    with Cluster(tmp_path, epochs=1) as cluster:
        cluster.hosts += free_addresses(1)
        for index in (0, 1, 1):
            cluster.start(index)
        found = [ended(process) for process in cluster.processes]
    assert [code for code, _, _ in found] == [2, 2, 2], found
    assert sum("two processes claim to be worker 1" in problem for _, _, problem in found) >= 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_waiting_worker_can_be_stopped(tmp_path):
    with Cluster(tmp_path, fresh=True, epochs=1) as cluster:
        process = cluster.start(0)
        while "waiting for worker 1" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_go_back_to_the_same_checkpoint_and_finish_alike(tmp_path):
    """A damaged newest checkpoint: both take the one before; the summary is the uninterrupted."""
    with Cluster(tmp_path, fresh=True, epochs=2, keep_checkpoints=2) as cluster:
        cluster.start(0), cluster.start(1)
        assert [ended(process)[0] for process in cluster.processes] == [0, 0]
    summary = tmp_path / "run/summary.json"
    whole = json.loads(summary.read_text())
    summary.unlink()
    newest = max((tmp_path / "run/checkpoints").glob("*.index"), key=lambda p: p.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    with Cluster(tmp_path, fresh=True, epochs=2, keep_checkpoints=2) as cluster:
        cluster.start(0), cluster.start(1)
        found = [ended(process) for process in cluster.processes]
    assert [code for code, _, _ in found] == [0, 0]
    assert "skipped: ckpt-26.index is damaged" in found[0][1]
    assert "resumed at step 21 of 26" in found[0][1]
    again = json.loads(summary.read_text())
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}


def meet(tasks, addresses, limit=60, report=lambda line: None):
    """What each of several workers, as threads, gets: None or the error."""
    found = [None] * len(tasks)

    def one(place, task, content):
        try:
            Rendezvous(addresses, task, content, limit, report).meet()
        except (ConfigError, MachineError) as error:
            found[place] = error

    threads = [
        threading.Thread(target=one, args=(place, *task)) for place, task in enumerate(tasks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@contextlib.contextmanager
def meeting(tasks, addresses, report=lambda line: None):
    """Workers that meet meanwhile; a list that afterwards holds what ``meet`` found."""
    results = []
    thread = threading.Thread(
        target=lambda: results.extend(meet(tasks, addresses, 60, report)), daemon=True
    )
    thread.start()
    yield results
    thread.join(90)


@pytest.fixture
def addresses():
    return {f"worker {n}": address for n, address in enumerate(free_addresses(3))}


def test_all_come(addresses):
    tasks = [(task, {"seed": 1}) for task in reversed(addresses)]
    assert meet(tasks, addresses) == [None] * 3


def test_a_task_taken_twice_ends_all(addresses):
    tasks, present = [("worker 0", {}), ("worker 1", {})], threading.Event()
    with meeting(tasks, addresses, lambda line: "1 (" in line or present.set()) as results:
        assert present.wait(60)
        results += meet([("worker 1", {})], addresses)
    assert len(results) == 3
    for error in results:
        assert isinstance(error, ConfigError) and "two processes claim to be worker 1" in str(error)


def test_all_hear_who_was_given_something_else(addresses):
    tasks = [("worker 0", {"a": 1}), ("worker 1", {"a": 1}), ("worker 2", {"a": 2, "b": [3]})]
    for error in meet(tasks, addresses):
        assert isinstance(error, ConfigError)
        assert "a (1 at worker 0, 2 at worker 2), b (None at worker 0, [3] at" in str(error)


def test_all_hear_who_did_not_come(addresses, monkeypatch):
    """The time is over when worker 2 alone is missing, however fast or slow this machine is."""
    over = threading.Event()

    def report(line):
        if line.startswith("waiting for worker 2 ("):
            over.set()

    clock = SimpleNamespace(
        monotonic=lambda: time.monotonic() + 60 * over.is_set(), sleep=time.sleep
    )
    monkeypatch.setattr(rendezvous, "time", clock)
    for error in meet([("worker 0", {}), ("worker 1", {})], addresses, report=report):
        assert isinstance(error, MachineError) and error.exit_code == 1
        assert f"worker 2 ({addresses['worker 2']}) did not come within 60 s" in str(error)


def visit(address, *texts):
    """Connects to the leader, once it listens, for each text: says it and goes."""
    host, port = address.split(":")
    for text in texts:
        for _ in range(600):
            try:
                with socket.create_connection((host, int(port)), timeout=5) as visitor:
                    visitor.sendall(text.encode())
                break
            except ConnectionRefusedError:
                time.sleep(0.05)


def test_strangers_do_no_harm(addresses):
    with meeting([("worker 0", {})], addresses) as leader:
        visit(addresses["worker 0"], "GET / HTTP/1.1\r\n\r\n", "[1]\n")
        assert meet([("worker 1", {}), ("worker 2", {})], addresses) == [None, None]
    assert leader == [None]


def test_a_restarted_worker_is_waited_for(addresses):
    """The leader does not count a worker that left, even if all others are there."""
    hello = {"task": "worker 1", "addresses": addresses, "content": {}, "process": "p"}
    alone, one_is_missing = f"waiting for worker 1 ({addresses['worker 1']}),", threading.Event()

    def report(line):
        if line.startswith(alone):
            one_is_missing.set()

    with meeting([("worker 0", {})], addresses, report) as leader:
        # It has left before worker 2 comes: otherwise all would be there for a moment.
        visit(addresses["worker 0"], json.dumps(hello) + "\n")
        with meeting([("worker 2", {})], addresses) as other:
            assert one_is_missing.wait(60)
            assert meet([("worker 1", {})], addresses) == [None]
    assert leader == other == [None]


def test_a_port_in_use_is_named(addresses):
    port = int(addresses["worker 1"].split(":")[1])
    with socket.create_server(("", port)):
        (error,) = meet([("worker 1", {})], addresses)
    assert f"port {port} is already in use on this machine, perhaps by another w" in str(error)


@pytest.mark.parametrize(
    ("cluster", "task", "problem"),
    [
        ("a:1,b:1", {"type": "worker", "index": 0}, "cluster is not an object, but 'a:1,b:1'"),
        (
            {"worker": "a:1"},
            {"type": "worker", "index": 0},
            "'worker' is not a list of .* but 'a:1'",
        ),
        (
            {"worker": ["a", "b:1"]},
            {"type": "worker", "index": 0},
            "'a' in the cluster is not a host:port",
        ),
        ({"worker": ["a:1", "a:1"]}, {"type": "worker", "index": 0}, "names 'a:1' twice"),
        ({"worker": []}, {"type": "worker", "index": 0}, r"'worker' is not a list of .* but \[\]"),
        ({"worker": ["a:99999"]}, {"type": "worker", "index": 0}, "'a:99999' in the cluster"),
        (
            {"worker": ["a:1"], "ps": ["b:1"]},
            {"type": "worker", "index": 0},
            "the cluster has 'ps'",
        ),
        ({"chief": ["a:1", "b:1"]}, {"type": "chief", "index": 0}, "2 chiefs instead of one"),
        (
            {"worker": ["a:1", "b:1"]},
            {"type": "worker", "index": 2},
            "task.index is 2, but .* 2 workers",
        ),
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": -1}, "task.index is -1"),
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": "1"}, "task.index is '1'"),
        (
            {"worker": ["a:1"]},
            {"type": "chief", "index": 0},
            "task.type is 'chief', .* has worker only",
        ),
        ({"worker": ["a:1"]}, "worker", "JSON with 'cluster' and 'task'"),
    ],
)
def test_a_wrong_tf_config_is_explained(monkeypatch, cluster, task, problem):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    with pytest.raises(ConfigError, match=rf"^TF_CONFIG: .*{problem}.*e\.g\. TF_CONFIG='"):
        check_tf_config()


@pytest.mark.parametrize("text", ["ten", "-1", "0", "inf", "nan"])
def test_a_wrong_limit_is_explained(monkeypatch, text):
    monkeypatch.setenv("TFXC_WAIT", text)
    with pytest.raises(ConfigError, match=f"TFXC_WAIT: '{text}' is not a number of seconds"):
        wait_limit()


def test_what_workers_must_share(tmp_path):
    tree = tiny.tiny_tree(tmp_path)
    shared = _shared_keys(parse_config(tree))
    other = {**tree, "run": "elsewhere", "seed": 3}
    other["training"] = {**tree["training"], "batch_size": 8, "log_every": 77}
    changed = _shared_keys(parse_config(other))
    assert {key for key in shared if shared[key] != changed[key]} == {"seed", "training.batch_size"}


@pytest.mark.parametrize(
    ("strategy", "devices", "problem"),
    [
        ("mirrored", ["GPU:7"], r"unknown device 'GPU:7'.*available devices \(CPU:0"),
        ("mirrored", ["CPU:0", "/gpu:93"], "unknown device '/gpu:93'"),
        ("mirrored", ["cuda:0"], "unknown device 'cuda:0'"),
        ("mirrored", ["CPU:0", "cpu:0"], "named twice: 'CPU:0', 'cpu:0'"),
        ("mirrored", [], "the list of devices is empty"),
        ("none", ["GPU:0"], "strategy 'none' cannot be given devices"),
        ("multi_worker", ["CPU:0"], "strategy 'multi_worker' cannot"),
    ],
)
def test_devices_that_there_are_not(strategy, devices, problem):
    with pytest.raises(ConfigError, match=rf"^training\.devices: .*{problem}"):
        make_strategy(TrainingSettings(strategy=strategy, devices=devices))
