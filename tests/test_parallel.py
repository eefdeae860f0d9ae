"""Work on a real Dask cluster: a scheduler and two workers in processes of their own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import scipy.sparse

from tests.dask_workers import dask_workers
from tests.source_tree import ROOT
from tfxc import parallel
from tfxc.core.errors import ConfigError, MachineError
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.layer import Limits
from tfxc.ranker.shared_layer import solve_shared


@pytest.fixture(scope="module")
def address():
    with dask_workers(memory_limit="2GB") as found:
        yield found


def problem():
    """Features, labels and a tree of 64 labels in 16 clusters."""
    random = np.random.default_rng(0)
    features = scipy.sparse.random(400, 60, 0.2, "csr", np.float32, random)
    labels = scipy.sparse.random(400, 64, 0.03, "csr", np.float32, random)
    tree = ClusterTree([np.zeros(16, int), np.arange(64) // 4])
    return features, labels, tree


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_ranker_is_the_same_byte_for_byte(address, tmp_path, monkeypatch):
    local = train_ranker(*problem(), tmp_path / "local", limits=Limits(threads=1))
    monkeypatch.setattr("tfxc.ranker.shared_layer._ENTRIES", 5000)  # several blocks, not all
    with parallel.cluster(address) as workers:
        assert workers == (2, 2_000_000_000)
        shared = train_ranker(*problem(), tmp_path / "shared")
    assert shared == local and parallel.workers() is None
    assert files_of(tmp_path / "shared") == files_of(tmp_path / "local")


def test_processes_are_not_those_of_other_users_of_joblib():
    """scikit-learn may have its own, before and after."""
    tasks = [(number, 3) for number in range(7)]
    expected = [divmod(*task) for task in tasks]
    other = joblib.Parallel(n_jobs=2, backend="loky")
    for find in (parallel.map_ordered, parallel.map_tasks, parallel.map_ordered):
        assert other(joblib.delayed(divmod)(*task) for task in tasks) == expected
        assert list(find(divmod, tasks, 2)) == expected
    assert other(joblib.delayed(divmod)(*task) for task in tasks) == expected


def test_processes_begin_anew_after_an_error():
    for _ in range(2):
        found = parallel.map_tasks(divmod, [(9, 2 - number) for number in range(9)], 2)
        assert next(found) == (4, 1)
        with pytest.raises(ZeroDivisionError):
            list(found)
    one = parallel.map_tasks(abs, [(-number,) for number in range(9)], 2)
    other = parallel.map_ordered(abs, [(number,) for number in range(9)], 2)
    assert [(next(one), next(other)) for _ in range(9)] == [(n, n) for n in range(9)]


def pid_or_die(marker):
    """The first call ends its process; the next one, in another, returns."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_the_task_of_a_killed_worker_is_done_by_another(address, tmp_path):
    with parallel.cluster(address), parallel.executor(1) as pool:
        assert pool.submit(pid_or_die, tmp_path / "killed").result(60) != os.getpid()
    until = time.monotonic() + 60
    with parallel.cluster(address):
        while parallel.workers().tasks < 2:  # its nanny starts another
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_folder_that_the_workers_do_not_see(address, tmp_path):
    with parallel.cluster(address), parallel.executor(1) as pool:
        work = pool.submit(solve_shared, str(tmp_path / "elsewhere"), 0, 1, None)
        with pytest.raises(MachineError, match="storage that all workers see"):
            work.result(60)


def test_what_is_not_a_cluster(monkeypatch, address):
    monkeypatch.setattr(parallel, "_CONNECT_SECONDS", 1)
    for wrong in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(ConfigError, match="no Dask scheduler answers"), parallel.cluster(wrong):
            pass
    monkeypatch.setattr(parallel, "__version__", "another")
    with (
        pytest.raises(ConfigError, match="but this command has tfxc another"),
        parallel.cluster(address),
    ):
        pass


def test_a_scheduler_without_workers(monkeypatch):
    monkeypatch.setattr(parallel, "_CONNECT_SECONDS", 1)
    with (
        dask_workers(0) as found,
        pytest.raises(ConfigError, match="has no workers"),
        parallel.cluster(found),
    ):
        pass


# Notes that it runs and the signals it receives; ends when it is asked to.
PROGRAM = """
import pathlib, signal, sys, time
name = pathlib.Path(sys.argv[1])
def end(number, frame):
    with open(f"{name}.signals", "a") as stream:
        print(signal.Signals(number).name, file=stream)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, end); signal.signal(signal.SIGINT, end)
print("begun", flush=True)
name.touch()
if len(sys.argv) > 2:
    sys.exit(int(sys.argv[2]))
time.sleep(120)
"""


@pytest.fixture(params=["here", "cluster"])
def place(request):
    """Address of the cluster, or None."""
    return None if request.param == "here" else request.getfixturevalue("address")


def start(running, path, *code):
    return running.submit(["-c", PROGRAM, str(path), *code], path.with_suffix(".log"))


def wait_for(path):
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_programs_end_by_themselves(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with parallel.cluster(place), parallel.programs("logs", 2) as running:
        (tmp_path / "logs").mkdir(exist_ok=True)
        codes = [start(running, tmp_path / f"logs/p{n}", str(n)) for n in range(3)]
        assert [code.result(60) for code in codes] == [0, 1, 2]
    assert [(tmp_path / f"logs/p{n}.log").read_text() for n in range(3)] == ["begun\n"] * 3
    assert not list((tmp_path / "logs").glob(".programs*"))


def test_programs_of_two_threads_share_a_folder(place, tmp_path):
    """As the trainings of a search that has two at a time."""
    with (
        parallel.cluster(place),
        parallel.programs(tmp_path, 1) as first,
        parallel.programs(tmp_path, 1) as second,
    ):
        codes = [start(second, tmp_path / "a", "3"), start(first, tmp_path / "b", "3")]
        assert [code.result(60) for code in codes] == [3, 3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_programs_are_stopped_once_and_no_other_begins(place, tmp_path, number):
    with parallel.cluster(place), parallel.programs(tmp_path, 2) as running:
        codes = [start(running, tmp_path / name) for name in "abc"]
        wait_for(tmp_path / "a"), wait_for(tmp_path / "b")
        running.stop(number)
        running.stop(signal.SIGTERM)
        assert [code.result(60) for code in codes] == [128 + number] * 2 + [None]
    for name in "ab":
        assert (tmp_path / f"{name}.signals").read_text().split() == [number.name]
    assert not (tmp_path / "c").exists()


def test_an_error_stops_the_programs(place, tmp_path):
    with parallel.cluster(place), pytest.raises(ZeroDivisionError):  # noqa: SIM117
        with parallel.programs(tmp_path, 1) as running:
            start(running, tmp_path / "a")
            wait_for(tmp_path / "a")
            raise ZeroDivisionError
    wait_for(tmp_path / "a.signals")
    assert (tmp_path / "a.signals").read_text() == "SIGTERM\n"


def test_programs_end_if_nobody_watches_them(tmp_path):
    """As where the client of a cluster was killed: its file does not change any more."""
    control, path = tmp_path / "control", tmp_path / "a"
    control.write_text("run 0")
    task = (["-c", PROGRAM, str(path)], str(tmp_path / "log"), {}, str(tmp_path), str(control), 2.0)
    assert parallel.run_program(*task) == 128 + signal.SIGTERM


def test_programs_of_a_killed_process_stop_when_the_next_one_begins(tmp_path):
    control, path = tmp_path / ".programs-1-0123abcd", tmp_path / "a"
    control.write_text("run 0")
    task = (
        ["-c", PROGRAM, str(path)],
        str(tmp_path / "log"),
        {},
        str(tmp_path),
        str(control),
        None,
    )
    with ThreadPoolExecutor(1) as thread:
        code = thread.submit(parallel.run_program, *task)
        wait_for(path)
        with parallel.programs(tmp_path, 1):
            assert code.result(60) == 128 + signal.SIGTERM
    assert not list(tmp_path.glob(".programs*"))


def test_a_program_is_not_started_where_the_run_is_not_seen(address, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    with parallel.cluster(address), parallel.programs(tmp_path, 1) as running:
        running._control = elsewhere / running._control.name
        with pytest.raises(MachineError, match="storage that all workers see") as caught:
            start(running, tmp_path / "a").result(60)
    assert str(elsewhere) in str(caught.value) and not (tmp_path / "a").exists()


@contextlib.contextmanager
def killable_cluster():
    """Yields the address and the process of a scheduler that has one worker."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    dask = [sys.executable, "-m", "distributed.cli.dask_"]

    def start(name, *arguments):
        command = [*dask[:-1], f"{dask[-1]}{name}", *arguments, "--no-dashboard"]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    with contextlib.ExitStack() as processes:
        scheduler = processes.enter_context(start("scheduler", "--host=127.0.0.1", "--port=0"))
        processes.callback(scheduler.kill)
        said = (re.search(r"Scheduler at:\s+(\S+)", line) for line in scheduler.stderr)
        address = next(match[1] for match in said if match)
        worker = processes.enter_context(start("worker", address, "--nthreads=1", "--no-nanny"))
        processes.callback(worker.kill)
        yield address, scheduler


def through_map(folder):
    for _ in parallel.map_tasks(time.sleep, [(0.2,)] * 1000, 2):
        yield


def through_an_executor(folder):
    with parallel.executor(1) as pool:
        tasks = [pool.submit(time.sleep, 0.2) for _ in range(1000)]
        for task in tasks:
            yield task.result()


def through_programs(folder):
    with parallel.programs(folder, 1) as running:
        program = running.submit(["-c", "import time; time.sleep(600)"], folder / "log")
        wait_for(folder / "log")
        yield
        program.result()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "work",
    [
        through_map,
        pytest.param(through_an_executor, marks=SLOW),
        pytest.param(through_programs, marks=SLOW),
    ],
)
def test_a_killed_scheduler_is_one_line(tmp_path, capfd, work):
    message = "--cluster: the connection to the scheduler tcp://.* was lost"
    with killable_cluster() as (address, scheduler):
        with pytest.raises(MachineError, match=message), parallel.cluster(address):
            for _ in work(tmp_path):
                scheduler.kill()
        assert parallel.workers() is None
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("1 tasks at a time")


@pytest.mark.slow
def test_a_task_that_ends_every_worker_is_one_line(address):
    with parallel.cluster(address), pytest.raises(MachineError, match="running the same task"):
        list(parallel.map_tasks(os._exit, [(1,)], 2))
