"""The runs of a recipe, several at a time, each in its own process, here or on a cluster."""

import os
import signal
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core.errors import UserError
from tfxc.core.interrupts import STOP_SIGNALS, Stopped, StopSignals
from tfxc.core.messages import OUTPUT
from tfxc.core.progress import duration
from tfxc.core.resources import available_bytes
from tfxc.parallel import Programs, programs, workers
from tfxc.runs import resuming
from tfxc.training.memory.estimate import estimate
from tfxc.training.strategies import num_gpus, share_gpus

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.recipes.base import Context, RecipeOfRuns


# Exit codes of a child that was asked to stop: after saving, or before there was anything to save.
_STOPPED = {code for n in STOP_SIGNALS for code in (128 + n, -n)}


class RunsFailed(UserError):
    """At least one process ended with an error."""


class RunsStopped(Stopped):
    """The processes were asked to stop; each has saved before it ended."""

    def __init__(self, signal_number: int, unit: str) -> None:
        super().__init__(None, signal_number)
        self._unit = unit

    def __str__(self):
        name = signal.Signals(self.signal_number).name
        return f"stopped by {name}; the {self._unit}s in progress have saved"


def train_in_processes(
    context: "Context", recipe: "RecipeOfRuns", count: int, parallel: int | None = None
) -> None:
    """Trains the runs 0 .. count - 1 of a recipe as child processes and waits for all of them.

    Each writes its own log in the run folder, such as ``repetition-00.log``. Ctrl-C, SIGTERM and
    SIGHUP are passed on, so that each child saves; so it does if this process is killed.

    Args:
        context: the recipe's ``Context``.
        recipe: trains one of them with ``context.repetition``.
        count: number of runs.
        parallel: processes at a time; None for as many as fit.

    Raises:
        RunsFailed: some failed; the message names them and their logs.
        RunsStopped: a signal requested it; the children have ended.
    """
    share_gpus()
    unit = recipe.unit
    fit = parallel_jobs(recipe, context.config, context.data_folder, count)
    epochs = None if context.fresh else resuming.extended_from(context.folder, context.config)
    config = begin_runs(context)
    if epochs:
        training = context.config.training
        OUTPUT.info(
            f"extended from {epochs:g} to {training.epochs:g} epochs: schedule "
            f"{training.schedule.name!r} is computed for the new length"
        )
    cluster = workers()
    jobs = min(parallel or fit if cluster is None else cluster.tasks, count)
    logs = [context.run / f"{unit}-{number:02d}.log" for number in range(count)]
    OUTPUT.info(f"{count} {unit}s, {jobs} at a time; logs: {context.run}/{unit}-*.log")
    with StopSignals() as signals, programs(context.run, jobs) as running:
        futures = {_start(running, context, config, n, jobs, logs[n]): n for n in range(count)}
        codes = _exit_codes(running, futures, signals, unit)
    stopped = {n for n, code in codes.items() if signals.received and code in _STOPPED}
    failed = sorted(number for number, code in codes.items() if code and number not in stopped)
    if failed:
        names = ", ".join(str(logs[number]) for number in failed)
        raise RunsFailed(
            f"{len(failed)} of {len(codes)} {unit}s failed: {', '.join(map(str, failed))}",
            where=context.run,
            fix=f"read {names}, then run the same command again: finished {unit}s are skipped, the "
            "others resume from their last checkpoint",
        )
    if stopped or len(codes) < count:
        assert signals.received is not None, "only a signal leaves runs without an exit code"
        raise RunsStopped(signals.received, unit)


def _exit_codes(
    running: Programs,
    futures: dict[Future[int | None], int],
    signals: StopSignals,
    unit: str,
) -> dict[int, int]:
    """Waits for the runs that were started, and reports each as it ends; codes by their number."""
    codes = {}
    began = time.monotonic()
    waiting = set(futures)
    while waiting:
        if signals.received and not running.stopped:
            running.stop(signals.received)
        ended, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in ended:
            code = future.result()
            if code is not None:
                codes[futures[future]] = code
                if code in _STOPPED:
                    ending = "stopped"
                else:
                    ending = "finished" if code == 0 else f"failed with exit code {code}"
                done = f"{len(codes)} of {len(futures)}, {duration(time.monotonic() - began)}"
                OUTPUT.info(f"{unit} {futures[future]} {ending} ({done})")
    return codes


def begin_runs(context: "Context") -> Path:
    """Writes config and assets of the whole run; returns the path of the config.

    Raises:
        CheckpointError: the folder holds a run with another config.
    """
    resuming.start(context.folder, context.config, context.data_folder, context.fresh)
    return context.run / "config.json"


def parallel_jobs(
    recipe: "RecipeOfRuns", config: "Config", data_folder: str | Path, count: int
) -> int:
    """Counts the processes at a time that memory and cores (or GPUs) hold, at least 1.

    Raises:
        ConfigError: the model of a run cannot be, e.g. it has more buckets than labels.
    """
    config, repetition = recipe.one_model(config, 0)
    memory = estimate(config, data_folder, repetition).training
    gpus = num_gpus()
    by_memory = available_bytes() // max(1, memory.total - (memory.tensors if gpus else 0))
    return int(max(1, min(count, by_memory, gpus or os.cpu_count() or 1)))


def _start(
    running: Programs, context: "Context", config: Path, number: int, jobs: int, log: Path
) -> Future[int | None]:
    """Starts the training of one of the runs."""
    arguments = ["-m", "tfxc.train", "--config", str(config), "--repetition", str(number)]
    environment = {}
    if workers() is None:
        # Side by side, each process would otherwise start as many threads as there are cores.
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        environment = dict.fromkeys(names, threads)
        gpus = num_gpus()
        if gpus and not any(option.startswith("--gpu") for option in context.command):
            arguments += ["--gpu", str(number % gpus)]
            # Otherwise the first process takes all of a GPU's memory.
            environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    return running.submit([*arguments, *context.command], log, environment)
