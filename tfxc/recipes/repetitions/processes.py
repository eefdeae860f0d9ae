"""Several repetitions at a time, each in its own process, here or on a cluster."""

import os
import signal
import time
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core.errors import UserError
from tfxc.core.interrupts import STOP_SIGNALS, Stopped, StopSignals
from tfxc.core.progress import duration
from tfxc.core.resources import available_bytes
from tfxc.parallel import programs, workers
from tfxc.training.memory.estimate import estimate
from tfxc.training.strategies import num_gpus, share_gpus

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.recipes.base import Context


# Exit codes of a child that was asked to stop: after saving, or before there was anything to save.
_STOPPED = {code for n in STOP_SIGNALS for code in (128 + n, -n)}


class RepetitionsFailed(UserError):
    """At least one repetition's process ended with an error."""


class RepetitionsStopped(Stopped):
    """The repetitions were asked to stop; each child has saved before it ended."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(None, signal_number)

    def __str__(self):
        name = signal.Signals(self.signal_number).name
        return f"stopped by {name}; the repetitions in progress have saved"


def run_repetitions(context: "Context", count: int, parallel: int | None = None) -> dict[int, str]:
    """Trains repetitions 0 .. count - 1 as child processes and waits for all of them.

    Each writes its own ``repetition-xx.log`` in the run folder. Ctrl-C, SIGTERM and SIGHUP are
    passed on, so that each child saves; so it does if this process is killed.

    Args:
        context: the recipe's ``Context``.
        count: number of repetitions.
        parallel: processes at a time; None for as many as fit.

    Returns:
        Dict of repetition number -> ``"finished"``.

    Raises:
        RepetitionsFailed: some failed; the message names them and their logs.
        RepetitionsStopped: a signal requested it; the children have ended.
    """
    share_gpus()
    fit = parallel_jobs(context.config, context.data_folder, count)
    epochs = None if context.fresh else context.folder.extended_from(context.config)
    config = begin_repetitions(context)
    if epochs:
        training = context.config.training
        print(
            f"extended from {epochs:g} to {training.epochs:g} epochs: schedule "
            f"{training.schedule.name!r} is computed for the new length"
        )
    found = workers()
    jobs = min(parallel or fit if found is None else found.tasks, count)
    print(f"{count} repetitions, {jobs} at a time; logs: {context.run}/repetition-*.log")
    with StopSignals() as signals, programs(context.run, jobs) as running:
        futures = {_start(running, context, config, r, jobs): r for r in range(count)}
        codes = _codes(running, futures, signals)
    return _summary(context, count, codes, signals.received)


def _codes(running, futures, signals):
    """Exit codes of the repetitions that were started; reports each as it ends."""
    codes, began, waiting = {}, time.monotonic(), set(futures)
    while waiting:
        if signals.received and not running.stopped:
            running.stop(signals.received)
        ended, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in ended:
            code = future.result()
            if code is not None:
                codes[futures[future]] = code
                done = f"{len(codes)} of {len(futures)}, {duration(time.monotonic() - began)}"
                print(f"repetition {futures[future]} {_ending(code)} ({done})", flush=True)
    return codes


def begin_repetitions(context: "Context") -> Path:
    """Writes config and assets of the whole run; returns the path of the config.

    Raises:
        CheckpointError: the folder holds a run with another config.
    """
    context.folder.start(context.config, context.data_folder, context.fresh)
    return context.run / "config.json"


def parallel_jobs(config: "Config", data_folder: str | Path, count: int) -> int:
    """Processes at a time that memory and cores (or GPUs) hold, at least 1.

    Raises:
        ConfigError: the model of a repetition cannot be, e.g. it has more buckets than labels.
    """
    memory, gpus = estimate(config, data_folder, 0).training, num_gpus()
    by_memory = available_bytes() // max(1, memory.total - (memory.tensors if gpus else 0))
    return int(max(1, min(count, by_memory, gpus or os.cpu_count() or 1)))


def _ending(code):
    if code in _STOPPED:
        return "stopped"
    return "finished" if code == 0 else f"failed with exit code {code}"


def _start(running, context, config, number, jobs):
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
    log = log_path(context.run, number)
    return running.submit([*arguments, *context.command], log, environment)


def log_path(run: str | Path, number: int) -> Path:
    """Log file of one repetition."""
    return Path(run) / f"repetition-{number:02d}.log"


def _summary(context, count, codes, stopped_by):
    stopped = {number for number, code in codes.items() if stopped_by and code in _STOPPED}
    failed = sorted(number for number, code in codes.items() if code and number not in stopped)
    if failed:
        logs = ", ".join(str(log_path(context.run, number)) for number in failed)
        raise RepetitionsFailed(
            f"{len(failed)} of {len(codes)} repetitions failed: {', '.join(map(str, failed))}",
            where=context.run,
            fix=f"read {logs}, then run the same command again: finished repetitions are "
            "skipped, the others resume from their last checkpoint",
        )
    if stopped or len(codes) < count:
        raise RepetitionsStopped(stopped_by)
    return dict.fromkeys(sorted(codes), "finished")
