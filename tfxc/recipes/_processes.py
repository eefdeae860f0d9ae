"""Several repetitions at a time, each in a process of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tfxc.data.manifest import Manifest
from tfxc.errors import UserError
from tfxc.progress import duration
from tfxc.training.memory import available_bytes, peak_bytes
from tfxc.training.run_folder import RunFolder


class RepetitionsFailed(UserError):
    """At least one repetition's process ended with an error."""


def run_repetitions(context, count, parallel=None):
    """Trains repetitions 0 .. count - 1 as child processes and waits for all of them.

    Each writes its own ``repetition-xx.log`` in the run folder. Ctrl-C is passed on, so that each
    child saves.

    Args:
        context: the recipe's ``Context``.
        count: number of repetitions.
        parallel: processes at a time; None for as many as fit.

    Returns:
        Dict of repetition number -> ``"finished"``.

    Raises:
        RepetitionsFailed: some failed; the message names them and their logs.
    """
    jobs = parallel or parallel_jobs(context.config, context.data_folder, count)
    config = begin_repetitions(context)
    print(f"{count} repetitions, {jobs} at a time; logs: {context.run}/repetition-*.log")
    waiting, running, codes = list(range(count)), {}, {}
    began = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number = waiting.pop(0)
                running[number] = _start(context, config, number, jobs)
            _collect(running, codes, count, began)
    except KeyboardInterrupt:
        for process in running.values():
            process.wait()
        raise
    return _summary(context, codes)


def begin_repetitions(context):
    """Writes config and assets of the whole run; returns the path of the config.

    Raises:
        CheckpointError: the folder holds a run with another config.
    """
    RunFolder(context.run).begin(context.config, context.data_folder, context.fresh)
    return context.run / "config.json"


def parallel_jobs(config, data_folder, count):
    """Processes at a time that memory and cores (or GPUs) hold, at least 1."""
    manifest = Manifest.load(data_folder)
    by_memory = available_bytes() // max(1, peak_bytes(config, manifest, repetition=0).total)
    return int(max(1, min(count, by_memory, os.cpu_count() or 1)))


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
    log = open(log_path(context.run, number), "a", encoding="utf-8")  # noqa: SIM115
    with log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def log_path(run, number):
    """Log file of one repetition."""
    return Path(run) / f"repetition-{number:02d}.log"


def _collect(running, codes, count, began):
    time.sleep(0.2)
    for number, process in list(running.items()):
        code = process.poll()
        if code is None:
            continue
        del running[number]
        codes[number] = code
        ending = "finished" if code == 0 else f"failed with exit code {code}"
        seconds = duration(time.monotonic() - began)
        print(f"repetition {number} {ending} ({len(codes)} of {count}, {seconds})", flush=True)


def _summary(context, codes):
    failed = sorted(number for number, code in codes.items() if code)
    if failed:
        logs = ", ".join(str(log_path(context.run, number)) for number in failed)
        raise RepetitionsFailed(
            f"{len(failed)} of {len(codes)} repetitions failed: {', '.join(map(str, failed))}",
            where=context.run,
            fix=f"read {logs}, then give the same command again: finished repetitions are "
            "skipped, the others go on from their last checkpoint",
        )
    return dict.fromkeys(sorted(codes), "finished")
