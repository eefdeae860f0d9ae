"""Work for several processors: the cores of this machine, or a Dask cluster.

Long commands have ``--cluster ADDRESS``, the address of a Dask scheduler. Inside ``with
cluster(address):`` the work that is given to this module goes to the scheduler's workers; elsewhere
it stays on this machine. The results are the same, byte for byte. Nothing else in the package knows
loky or Dask.

A task is a function of a module, and small arguments: paths and numbers, never arrays. The workers
see the same files under the same paths, and have the same version of tfxc. A task may run twice, as
that of a worker that was killed is given to another one.
"""

import atexit
import collections
import contextlib
import importlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tfxc.core.errors import ConfigError, MachineError, missing_package
from tfxc.core.interrupts import stop_with_parent
from tfxc.core.messages import NOTES, is_printed, printed
from tfxc.core.storage.files import atomic_file, write_errors
from tfxc.version import __version__

if TYPE_CHECKING:
    import distributed
    from joblib.externals.loky import ProcessPoolExecutor

_CONNECT_SECONDS = 30
_POLL = 0.2  # seconds between two looks at a program
_PATIENCE = 120.0  # seconds after which who started a program is taken for dead
_IDLE_SECONDS = 10  # after which processes without work end
_LOGGERS = {"distributed", "tornado", "asyncio"}
_RETRIES = 3  # of a task that failed: storage of a network may show a file late


class Workers(NamedTuple):
    """What a cluster has.

    Attributes:
        tasks: at a time: the threads of all workers.
        memory: bytes that the smallest worker may use per thread; None if they have no limit.
    """

    tasks: int
    memory: int | None


# By number of processes, module, and whether messages are printed.
_pools: "dict[tuple[int, str, bool], ProcessPoolExecutor]" = {}
_client: "_Connection | None" = None  # one of a process, for all of its threads


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[Workers | None]:
    """Gives the work inside to the workers of a Dask scheduler; with None it stays here.

    Args:
        address: e.g. ``"tcp://10.0.0.1:8786"``.

    Raises:
        ConfigError: no scheduler answers there, it has no workers, or workers of another version
            of tfxc; the extra ``cluster`` is not installed.

    Example:
        >>> with cluster(None) as workers:
        ...     workers is None
        True
    """
    global _client
    if address is None:
        yield None
        return
    with _connected(address) as client:
        _check_workers(client, address)
        _client = _Connection(client, address)
        try:
            with _client.watched():
                capacity = workers()
                assert capacity is not None, "a client is there"
                NOTES.info(f"{capacity.tasks} tasks at a time on the workers of {address}")
                yield capacity
        finally:
            _client = None


class _Connection:
    """The connection to a scheduler, and the tasks that are under way.

    A scheduler that ends takes all tasks with it. Dask would try for half a minute to connect
    again, and then cancel some futures and leave others waiting for ever.
    """

    def __init__(self, client: "distributed.Client", address: str) -> None:
        self.client = client
        self._address = address
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] = set()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Ends all that waits for a task with one clear error as soon as the scheduler is gone."""
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        try:
            yield
        except (CancelledError, OSError, TimeoutError) as error:
            if self.is_lost:
                raise self.error() from error
            raise
        finally:
            self._ended.set()
            watcher.join()

    @property
    def is_lost(self) -> bool:
        """Whether the scheduler is gone."""
        if not self._ended.is_set() and self.client.status not in ("running", "newly-connected"):
            self._lost.set()
        return self._lost.is_set()

    def error(self) -> MachineError:
        """Returns what is wrong then."""
        return MachineError(
            f"the connection to the scheduler {self._address} was lost",
            where="--cluster",
            fix="see whether it still runs, then start the same command again",
        )

    def submit(self, pool: Executor, function: Callable[..., Any], *task: Any) -> "Future[Any]":
        """Returns the future of a task that a pool of Dask's is given."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.add(future)

        def copy(inner: "Future[Any]") -> None:
            with self._lock:
                self._waiting.discard(future)
                if future.done():
                    return
                if inner.cancelled():
                    future.set_exception(self.error()) if self.is_lost else future.cancel()
                elif (error := inner.exception()) is None:
                    future.set_result(inner.result())
                elif self.is_lost:
                    future.set_exception(self.error())
                elif type(error).__name__ == "KilledWorker":  # Dask's, which may not be installed
                    future.set_exception(
                        MachineError(
                            "several workers were lost in turn while running the same task",
                            where="--cluster",
                            fix="see their logs; they may need more memory, or fewer threads",
                        )
                    )
                else:
                    future.set_exception(error)

        pool.submit(function, *task).add_done_callback(copy)
        return future

    def _watch(self) -> None:
        while not self._ended.wait(_POLL):
            if self.is_lost:
                with self._lock:
                    for future in self._waiting:
                        if not future.done():
                            future.set_exception(self.error())
                    self._waiting.clear()


class _ClusterPool(Executor):
    """Gives tasks to the workers of a cluster."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._pool = connection.client.get_executor(pure=False, retries=_RETRIES)

    def submit(self, function: Callable[..., Any], /, *task: Any, **_: Any) -> "Future[Any]":
        """Returns the future of ``function(*task)``."""
        return self._connection.submit(self._pool, function, *task)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the pool; without ``wait`` all tasks are cancelled."""
        if not self._connection.is_lost:
            self._pool.shutdown(wait=wait and not cancel_futures)


@contextlib.contextmanager
def _connected(address: str) -> "Iterator[distributed.Client]":
    with missing_package("cluster", where="--cluster", otherwise="leave it out"):
        import distributed
    try:
        # Results, large ones, come from the workers themselves, where these can be reached.
        client = distributed.Client(address, timeout=_CONNECT_SECONDS, direct_to_workers=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at {address} ({error})",
            where="--cluster",
            fix="start one with `dask scheduler`, and workers with `dask worker ADDRESS "
            "--nthreads 1` on each machine",
        ) from error
    # What Dask logs of a lost connection is said in one line; its loggers have levels of their own.
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _LOGGERS]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield client
    finally:
        is_lost = client.status != "running"
        with contextlib.suppress(OSError, TimeoutError):
            client.close(timeout=2 if is_lost else 10)
        if not is_lost:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _check_workers(client: "distributed.Client", address: str) -> None:
    """Waits for the first worker; refuses a cluster that cannot do the work."""
    try:
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
        versions = client.run(_version)
    except TimeoutError:
        raise ConfigError(
            f"the scheduler {address} has no workers",
            where="--cluster",
            fix=f"start some with `dask worker {address} --nthreads 1`",
        ) from None
    except OSError as error:
        raise _Connection(client, address).error() from error
    for worker, version in versions.items():
        if version != __version__:
            raise ConfigError(
                f"worker {worker} has tfxc {version}, but this command has tfxc {__version__}",
                where="--cluster",
                fix="install the same version everywhere",
            )


def _version() -> str:
    return __version__


def workers() -> Workers | None:
    """Returns the current cluster's workers; None on this machine alone."""
    if _client is None:
        return None
    if _client.is_lost:
        raise _client.error()
    infos = _client.client.scheduler_info(n_workers=-1)["workers"].values()
    shares = [info["memory_limit"] // info["nthreads"] for info in infos if info["memory_limit"]]
    return Workers(sum(info["nthreads"] for info in infos), min(shares, default=None))


def on_every_worker(function: Callable[[], Any]) -> None:
    """Calls a function of a module once in each process of the current cluster.

    It is called next to the tasks, which it must not wait for. Workers that do not answer are left
    out; on this machine alone nothing is called.

    Args:
        function: without arguments.

    Example:
        >>> on_every_worker(print)
    """
    if _client is not None and not _client.is_lost:
        with contextlib.suppress(OSError):  # the scheduler is gone
            _client.client.run(function, on_error="ignore")


def not_on_storage(what: str, where: str | Path, moved: str = "the run") -> MachineError:
    """Returns the error of a worker that does not see what the command has written for it.

    Args:
        what: it looked for.
        where: it looked.
        moved: what has to be on other storage.
    """
    return MachineError(
        f"this worker cannot see {what}",
        where=where,
        fix=f"put {moved} on storage that all workers see under the same path",
    )


def worker_threads() -> int | None:
    """Returns the threads of the worker inside a task on a cluster; None anywhere else."""
    distributed = sys.modules.get("distributed")
    try:
        return None if distributed is None else distributed.get_worker().state.nthreads
    except ValueError:  # no task
        return None


@contextlib.contextmanager
def executor(threads: int) -> Iterator[Executor]:
    """Threads of this process, or the workers of the current cluster.

    What was submitted and has not begun is cancelled if an error leaves the block.

    Args:
        threads: how many, on this machine.

    Example:
        >>> with executor(2) as pool:
        ...     pool.submit(abs, -3).result()
        3
    """
    with _pool(threads) as pool:
        try:
            yield pool
        except BaseException:
            if isinstance(pool, ThreadPoolExecutor):
                pool.shutdown(wait=False, cancel_futures=True)
            else:
                pool.shutdown(wait=False)  # Dask's cancels them
            raise


def _pool(threads: int) -> Executor:
    return ThreadPoolExecutor(threads) if _client is None else _ClusterPool(_client)


def map_ordered(
    function: Callable[..., Any], tasks: Iterable[tuple], processes: int
) -> Iterator[Any]:
    """Yields ``function(*task)`` of each task in their order, from processes of this machine.

    For work on what this process holds, such as texts that were just read: it stays here even if
    there is a cluster.

    Args:
        function: of a module.
        tasks: its arguments, task by task.
        processes: 1 means none but this one.

    Example:
        >>> list(map_ordered(divmod, [(7, 2), (9, 4)], processes=1))
        [(3, 1), (2, 1)]
    """
    if processes == 1:
        for task in tasks:
            yield function(*task)
        return
    pool = _processes(function, processes)

    def end(waiting: "Iterable[Future[Any]]") -> None:
        # A thread of loky's passes tasks on, and fails, with a traceback, if it is told to end
        # before it has passed on the last one.
        until = time.monotonic() + 1
        while (
            not all(task.running() or task.done() for task in waiting) and time.monotonic() < until
        ):
            time.sleep(0.001)
        for key in [key for key, known in _pools.items() if known is pool]:
            del _pools[key]
        pool.shutdown(wait=True, kill_workers=True)

    yield from _in_order(pool, function, tasks, processes, end)


def map_tasks(
    function: Callable[..., Any], tasks: Iterable[tuple], processes: int
) -> Iterator[Any]:
    """Yields ``function(*task)`` of each task in their order, from processes or a cluster.

    A few tasks are taken ahead of their results. If an error leaves the loop, the processes of this
    machine are ended; workers of a cluster end the task they are at, whose result nobody takes.

    Args:
        function: of a module; it may run twice with the same arguments.
        tasks: paths and numbers, task by task.
        processes: on this machine; 1 means none but this one, also where there is a cluster.

    Example:
        >>> list(map_tasks(divmod, [(7, 2), (9, 4)], processes=1))
        [(3, 1), (2, 1)]
    """
    if processes == 1:
        for task in tasks:
            yield function(*task)
        return
    capacity = workers()
    if capacity is None:
        yield from map_ordered(function, tasks, processes)
        return
    assert _client is not None, "there are workers"
    pool = _ClusterPool(_client)
    # Its shutdown cancels what has not begun.
    yield from _in_order(
        pool, function, tasks, capacity.tasks, lambda waiting: pool.shutdown(wait=False)
    )


def _processes(function: Callable[..., Any], processes: int) -> "ProcessPoolExecutor":
    """Processes of this machine; those of a call before that were started alike, if there are any.

    loky's, as its processes do not read the user's program again when they start. joblib's one
    pool per process is not for us: ``joblib.Parallel``, which scikit-learn may call, ends it.
    """
    # joblib's copy, which its authors do not promise to keep: beside it, the package loky would
    # start a second resource tracker, and each takes the other's files for lost.
    from joblib.externals.loky import ProcessPoolExecutor

    key = processes, function.__module__, is_printed()
    if key not in _pools:
        # A process that grows much after its first task is taken for leaking, and replaced: what a
        # task imports is imported before.
        _pools[key] = ProcessPoolExecutor(
            processes, timeout=_IDLE_SECONDS, initializer=_begin, initargs=key[1:]
        )
    return _pools[key]


def _in_order(
    pool: Executor,
    function: Callable[..., Any],
    tasks: Iterable[tuple],
    processes: int,
    end: "Callable[[Iterable[Future[Any]]], None]",
) -> Iterator[Any]:
    """Yields the results of tasks, of which some are given to the pool ahead."""
    waiting: collections.deque[Future[Any]] = collections.deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, *task))
            if len(waiting) >= 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BaseException:
        end(waiting)
        raise


def _begin(module: str, prints: bool) -> None:
    """Prepares a process of this machine for the tasks of a module; Ctrl-C is for its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if prints:
        printing = contextlib.ExitStack()
        printing.enter_context(printed())
        atexit.register(printing.close)
    importlib.import_module(module)


class Programs:
    """Python programs that run at the same time, here or on the cluster. See ``programs``."""

    def __init__(self, control: Path, pool: Executor, patience: float | None) -> None:
        self._control = control
        self._pool = pool
        self._patience = patience

    def submit(
        self,
        arguments: Sequence[str],
        log: str | os.PathLike[str],
        environment: Mapping[str, str] | None = None,
    ) -> "Future[int | None]":
        """Starts ``python ARGUMENTS`` as soon as there is a place for it.

        Args:
            arguments: of the interpreter.
            log: file to which the program's output is appended.
            environment: variables that differ from those of the process that starts it.

        Returns:
            Future of its exit code; None if ``stop`` was called before it began.
        """
        task = (list(arguments), os.path.abspath(log), dict(environment or {}))
        where = os.getcwd(), str(self._control), self._patience
        return self._pool.submit(run_program, *task, *where)

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """Sends each program the signal, once; starts no other one."""
        if not self.stopped:
            _write_control(self._control, f"signal {int(signal_number)}")

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return _read_control(self._control).startswith("signal")


@contextlib.contextmanager
def programs(folder: str | os.PathLike[str], jobs: int) -> Iterator[Programs]:
    """Programs that end, after saving, before the block is left.

    Args:
        folder: where a file is kept that they are stopped by, on storage that the workers see. Only
            one process at a time may run programs in it, also several times at once: programs that
            a killed one has left stop.
        jobs: programs at a time, on this machine; on a cluster a thread of a worker runs one.
    """
    own = f".programs-{os.getpid()}-"
    for left in Path(folder).glob(".programs-*"):
        if not left.name.startswith(own):
            left.unlink(missing_ok=True)
    control = Path(folder).absolute() / f"{own}{secrets.token_hex(4)}"
    _write_control(control, "run 0")
    patience = None if _client is None else _PATIENCE
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(_PATIENCE / 10):
            count += 1
            if _read_control(control).startswith("run"):
                _write_control(control, f"run {count}")

    beats = threading.Thread(target=beat, daemon=True)
    try:
        with _pool(jobs) as pool:
            running = Programs(control, pool, patience)
            if patience is not None:
                beats.start()
            try:
                yield running
            except BaseException:
                running.stop()
                raise
    finally:
        ended.set()
        if beats.is_alive():
            beats.join()
        control.unlink(missing_ok=True)


def run_program(
    arguments: Sequence[str],
    log: str,
    environment: Mapping[str, str],
    folder: str,
    control: str,
    patience: float | None,
) -> int | None:
    """Runs ``python ARGUMENTS`` to its end; it stops, and saves, if this process ends.

    Args:
        arguments, log, environment: see ``Programs.submit``.
        folder: current folder of the program.
        control: file by which it is stopped.
        patience: seconds without a change of that file after which whoever watches the program is
            taken for dead, and it is stopped; None for no limit.

    Returns:
        Exit code; minus the number of the signal that ended it. None if it was stopped before it
        began.

    Raises:
        MachineError: that file is not there.
        UserError: the log cannot be written.
    """
    order = _read_control(Path(control))
    if not order:
        raise not_on_storage("the folder of the command that started this", Path(control).parent)
    if not order.startswith("run"):
        return None
    with write_errors(log), open(log, "a", encoding="utf-8") as stream:
        # A group of its own: Ctrl-C reaches it once, from here. A second signal would end it before
        # it has saved.
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=folder,
            process_group=0,
            **stop_with_parent({**os.environ, **environment}),
        )
    seen = ""
    since = time.monotonic()
    told = False
    while True:
        try:
            return process.wait(_POLL)
        except subprocess.TimeoutExpired:
            order = _read_control(Path(control))
        if order != seen:
            seen = order
            since = time.monotonic()
        late = patience is not None and time.monotonic() - since > patience
        if not told and (late or not order.startswith("run")):
            number = int(order.split()[1]) if order.startswith("signal") else signal.SIGTERM
            process.send_signal(number)
            told = True


def _write_control(path: Path, text: str) -> None:
    with atomic_file(path) as stream:
        stream.write(text)


def _read_control(path: Path) -> str:
    """Its text; empty if it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
