"""Work for several processors: the cores of this machine, or a Dask cluster.

Long commands have ``--cluster ADDRESS``, the address of a Dask scheduler. Inside ``with
cluster(address):`` the work that is given to this module goes to the scheduler's workers; elsewhere
it stays on this machine. The results are the same, byte for byte. Nothing else in the package knows
joblib or Dask.

A task is a function of a module, and small arguments: paths and numbers, never arrays. The workers
see the same files under the same paths, and have the same version of tfxc. A task may run twice, as
that of a worker that was killed is given to another one.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib

from tfxc.core.errors import ConfigError, missing_package
from tfxc.version import __version__

if TYPE_CHECKING:
    import distributed

_CONNECT_SECONDS = 30
_RETRIES = 3  # of a task whose worker was lost


class Workers(NamedTuple):
    """What a cluster has.

    Attributes:
        tasks: at a time: the threads of all workers.
        memory: bytes that the smallest worker may use per thread; None if they have no limit.
    """

    tasks: int
    memory: int | None


_client: "distributed.Client | None" = None  # one of a process, for all of its threads


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[Workers | None]:
    """Work inside goes to the workers of a Dask scheduler; with None it stays here.

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
        _check(client, address)
        _client = client
        try:
            yield workers()
        finally:
            _client = None


@contextlib.contextmanager
def _connected(address):
    with missing_package("cluster", where="--cluster", otherwise="leave it out"):
        import distributed
    try:
        client = distributed.Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"a Dask scheduler expected at {address}, found none ({error})",
            where="--cluster",
            fix="start one with `dask scheduler`, and workers with `dask worker ADDRESS "
            "--nthreads 1` on each machine",
        ) from error
    with client:
        yield client


def _check(client, address):
    """Refuses a cluster that cannot do the work."""
    found = client.run(_version)
    if not found:
        raise ConfigError(
            f"workers expected at the scheduler {address}, found none",
            where="--cluster",
            fix=f"start some with `dask worker {address} --nthreads 1`",
        )
    for worker, version in found.items():
        if version != __version__:
            raise ConfigError(
                f"tfxc {__version__} expected on all workers, found {version} on {worker}",
                where="--cluster",
                fix="install the same version everywhere",
            )


def _version():
    return __version__


def workers() -> Workers | None:
    """The current cluster's workers; None on this machine alone."""
    if _client is None:
        return None
    found = _client.scheduler_info(n_workers=-1)["workers"].values()
    shares = [one["memory_limit"] // one["nthreads"] for one in found if one["memory_limit"]]
    return Workers(sum(one["nthreads"] for one in found), min(shares, default=None))


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
    found: Executor
    if _client is None:
        found = ThreadPoolExecutor(threads)
    else:
        found = _client.get_executor(pure=False, retries=_RETRIES)
    with found:
        try:
            yield found
        except BaseException:
            found.shutdown(wait=False, cancel_futures=True)
            raise


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
    delayed = joblib.delayed(function)
    parallel = joblib.Parallel(n_jobs=processes, return_as="generator")
    yield from parallel(delayed(*task) for task in tasks)
