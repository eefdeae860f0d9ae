"""Steps of several programs timed in turns: one active at a time, so all see the same machine."""

import json
import os
import subprocess
import sys
import time


def answer(step, warm_up, clock=time.perf_counter):
    """In a worker: answers each line on standard input with the seconds of that many steps."""
    for _ in range(warm_up):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begin = clock()
            step()
            seconds.append(clock() - begin)
        print(json.dumps(seconds), flush=True)


def duel(commands, threads, rounds, steps):
    """Seconds per step of every worker.

    Args:
        commands: {name: command line of a worker that calls ``answer``}.
        steps: steps of a turn, {name: number}.
    """
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "OMP_NUM_THREADS": str(threads),
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = {
        name: subprocess.Popen(command, env=environment, **pipes)
        for name, command in commands.items()
    }
    for process in processes.values():
        while process.stdout.readline().strip() != "ready":
            if process.poll() is not None:
                sys.exit("a worker did not start; run it alone with --worker NAME")
    times = {name: [] for name in processes}
    for _ in range(rounds):
        for name, process in processes.items():
            process.stdin.write(f"{steps[name]}\n")
            process.stdin.flush()
            times[name] += json.loads(process.stdout.readline())
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return times
