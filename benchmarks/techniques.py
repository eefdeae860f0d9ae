"""Every technique on one small model: accuracy, time per epoch and memory, over several seeds.

    python benchmarks/techniques.py --config configs/textcnn_clinc150.json

Each training runs in its own process, one after the other; runs stay in ``--runs``, and a finished
one is not trained again. Prints a table: mean and standard deviation of the last dev P@1, seconds
per epoch as a multiple of plain training's, and the largest resident memory of the process. With
``--steps`` nothing is trained to its end: all take turns in one process, a few steps each, so that
other load of the machine is the same for all; printed are milliseconds of a step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _steps import step_of, use_threads

STEPS_OF_A_TURN = 5

# Arguments are the methods' own where not given; averages start where a short training can use
# them.
TRIED = {
    "plain": [],
    "fgsm": [{"name": "fgsm"}],
    "fgm": [{"name": "fgm"}],
    "pgd": [{"name": "pgd"}],
    "freelb": [{"name": "freelb"}],
    "awp": [{"name": "awp", "start_epoch": 1.0}],
    "rdrop": [{"name": "rdrop", "alpha": 1.0}],
    "multi_sample_dropout": [{"name": "multi_sample_dropout"}],
    "noisy_tune": [{"name": "noisy_tune"}],
    "ema": [{"name": "ema", "decay": 0.999}],
    "swa": [{"name": "swa", "start_epoch": 6.0, "every": 50}],
    "fgm, rdrop, ema": [
        {"name": "fgm"},
        {"name": "rdrop", "alpha": 1.0},
        {"name": "ema", "decay": 0.999},
    ],
}


def main():
    """Trains all and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", default="configs/textcnn_clinc150.json")
    parser.add_argument("--only", help="names of the table's rows, joined by ;")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--set", action="append", default=[], help="passed on to tfxc train")
    parser.add_argument("--runs", default="runs/techniques", help="folder of the runs")
    parser.add_argument("--steps", type=int, help="time so many steps of each, by turns")
    parser.add_argument("--threads", type=int, default=1, help="of --steps")
    options = parser.parse_args()
    names = options.only.split(";") if options.only else list(TRIED)
    if options.steps:
        return print_steps(names, options)
    rows = {}
    for name in names:
        rows[name] = [trained(name, seed, options) for seed in options.seeds.split(",")]
        print(line(name, rows[name], rows.get("plain", rows[name])), flush=True)
    path = Path(options.runs) / "table.json"
    path.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"written: {path}")
    return 0


def print_steps(names, options):
    """Milliseconds of a step of each technique, and as a multiple of the first's."""
    use_threads(options.threads)
    from tfxc.data.reading.inspection.completion import load_config

    steps = {}
    for name in names:
        begun = [{**t, "start_epoch": 0} if "start_epoch" in t else t for t in TRIED[name]]
        changes = [*options.set, f"techniques={json.dumps(begun)}"]
        steps[name] = step_of(load_config(options.config, changes))
    times = {name: [] for name in steps}
    for turn in range(1 + -(-options.steps // STEPS_OF_A_TURN)):
        for name, step in steps.items():
            for _ in range(STEPS_OF_A_TURN):
                begin = time.perf_counter()
                step()
                times[name] += [time.perf_counter() - begin] if turn else []
    first = statistics.mean(times[names[0]])
    for name, seconds in times.items():
        mean = statistics.mean(seconds)
        print(f"{name:22}{1e3 * mean:8.1f} ms{mean / first:7.2f}x")
    return 0


def trained(name, seed, options):
    """One training: dev P@1, seconds per epoch, megabytes."""
    run = Path(options.runs) / f"{name.replace(', ', '-')}-{seed}"
    done = run / "technique.json"
    if done.exists():
        return json.loads(done.read_text())
    changes = [f"run={run}", f"seed={seed}", f"techniques={json.dumps(TRIED[name])}", *options.set]
    command = [sys.executable, "-m", "tfxc.train", "--config", options.config, "--fresh"]
    for change in changes:
        command += ["--set", change]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{said[-2000:]}")
    summary = json.loads((run / "summary.json").read_text())
    row = {
        "P@1": summary["dev"]["P@1"],
        "seconds": summary["seconds"] / summary["epochs"],
        "megabytes": usage.ru_maxrss / 1024,
    }
    done.write_text(json.dumps(row))
    return row


def line(name, rows, plain):
    """A row of the table."""
    scores = [100 * row["P@1"] for row in rows]
    spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
    seconds, usual = (statistics.median(r["seconds"] for r in part) for part in (rows, plain))
    memory = max(row["megabytes"] for row in rows)
    return (
        f"{name:22}{statistics.mean(scores):7.2f} +- {spread:4.2f}{seconds:8.1f} s"
        f"{seconds / usual:7.2f}x{memory:8,.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
