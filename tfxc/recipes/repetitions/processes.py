"""Several repetitions at a time, each in its own process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core.errors import UserError
from tfxc.core.progress import duration
from tfxc.core.resources import available_bytes
from tfxc.core.storage.files import write_errors
from tfxc.data.manifest import Manifest
from tfxc.training.interrupts import STOP_SIGNALS, Stopped, StopSignals, stop_with_parent
from tfxc.training.memory_estimate import peak_bytes

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
    fit = parallel_jobs(context.config, context.data_folder, count)
    epochs = None if context.fresh else context.folder.extended_from(context.config)
    config = begin_repetitions(context)
    if epochs:
        training = context.config.training
        print(
            f"extended from {epochs:g} to {training.epochs:g} epochs: schedule "
            f"{training.schedule.name!r} is computed for the new length"
        )
    jobs = min(parallel or fit, count)
    print(f"{count} repetitions, {jobs} at a time; logs: {context.run}/repetition-*.log")
    children = _Children(count)
    with StopSignals() as signals:
        try:
            while children.waiting or children.running:
                if signals.received:
                    children.stop(signals.received)
                while children.waiting and len(children.running) < jobs:
                    number = children.waiting.pop(0)
                    children.running[number] = _start(context, config, number, jobs)
                children.collect()
        finally:
            children.stop(signal.SIGTERM)
    return _summary(context, count, children.codes, signals.received)


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
    manifest = Manifest.load(data_folder)
    by_memory = available_bytes() // max(1, peak_bytes(config, manifest, repetition=0).total)
    return int(max(1, min(count, by_memory, os.cpu_count() or 1)))


class _Children:
    """The repetitions that wait, run and have ended (number -> exit code)."""

    def __init__(self, count):
        self.count, self.waiting = count, list(range(count))
        self.running, self.codes = {}, {}
        self._began, self._reported = time.monotonic(), set()

    def collect(self):
        """Waits a moment and reports the children that have ended."""
        time.sleep(0.2)
        for number, process in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[number]
            self.codes[number] = code
            seconds = duration(time.monotonic() - self._began)
            done = f"{len(self.codes)} of {self.count}, {seconds}"
            print(f"repetition {number} {_ending(code)} ({done})", flush=True)

    def stop(self, signal_number):
        """Starts no other child and passes a signal on, once to each."""
        self.waiting.clear()
        for number, process in self.running.items():
            if number not in self._reported:
                process.send_signal(signal_number)
        self._reported |= set(self.running)


def _ending(code):
    if code in _STOPPED:
        return "stopped"
    return "finished" if code == 0 else f"failed with exit code {code}"


def _start(context, config, number, jobs):
    command = [sys.executable, "-m", "tfxc.train", "--config", str(config)]
    command += ["--repetition", str(number), *context.command]
    # Side by side, each process would otherwise start as many threads as there are cores.
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
    }
    path = log_path(context.run, number)
    with write_errors(path), open(path, "a", encoding="utf-8") as log:
        # A group of its own: Ctrl-C reaches a child once, from here. A second signal would end it
        # before it has saved.
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
            **stop_with_parent(environment),
        )


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
