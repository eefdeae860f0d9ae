"""A Dask cluster for tests: a scheduler, and workers in processes of their own."""

import contextlib
import os

import pytest

pytest.importorskip("distributed", reason="the extra cluster is not installed")
import dask
import distributed

from tests import processes
from tests.source_tree import ROOT


@contextlib.contextmanager
def dask_workers(count=2, **options):
    """Yields the address of the scheduler; a worker has one thread.

    Workers are forked where TensorFlow is imported.
    """
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    processes.start_server()
    forked = dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    with (
        forked,
        distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            env={"PYTHONPATH": paths},
            **options,
        ) as found,
    ):
        yield found.scheduler_address
