"""From a file of texts to a file of predictions, beside the fastest peers, in turns.

    python benchmarks/whole_task.py --data ../shared/data --peers-python /path/to/peers/bin/python

A system is a whole command: it reads the texts, learns, and answers the test texts with five labels
each. Measured are the clock's seconds, the processor's, and the peak resident memory in MB; printed
is the median of the rounds, in which the systems take turns. tfxc runs as a user runs it, `tfxc
train` and `tfxc predict`, two processes; a peer is one process of ``peers/NAME.py``, whose
function ``answer`` is all that another system needs. Everybody may use all cores.

Tasks: ``--data`` has a folder for each, with ``train.jsonl.xz`` and ``dev.jsonl.xz`` (or
``test.jsonl.xz``), lines ``{"text": ..., "labels": [...]}``.
"""

import argparse
import json
import lzma
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# By what names the files of a task begin, and what tfxc is told about it.
TASKS = {
    "cooking": ("cooking/train", "cooking/dev", []),
    "clinc150": ("clinc150/train", "clinc150/dev", ["--preset", "fast"]),
    "banking77": ("banking77/train", "banking77/test", ["--preset", "fast"]),
    "eurlex57k": ("eurlex57k/train", "eurlex57k/dev", []),
    "debtags": ("debian/debtags_train", "debian/debtags_dev", []),
}
# A child's peak begins with the memory of the process that starts it, so a small one does that.
ALONE = """
import json, os, signal, subprocess, sys
child = subprocess.Popen(sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: child.kill())
_, status, usage = os.wait4(child.pid, 0)
child.returncode = os.waitstatus_to_exitcode(status)
with open(sys.argv[1], "w") as file:
    json.dump({"cpu": usage.ru_utime + usage.ru_stime, "kb": usage.ru_maxrss}, file)
sys.exit(child.returncode != 0)
"""
PEERS = (
    "libpecos",
    "omikuji_trees",
    "fasttext_supervised",
    "sklearn_linear_svc",
    "napkinxc_plt",
)
SCORES = (1, 3, 5)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the tasks")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--systems", nargs="+", choices=("tfxc", *PEERS), default=["tfxc", *PEERS])
    parser.add_argument("--peers-python", default=sys.executable, help="Python that has the peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=20, help="a system may take")
    parser.add_argument("--json", type=Path, help="append a line per measurement to this file")
    options = parser.parse_args()
    for task in options.tasks:
        with tempfile.TemporaryDirectory() as scratch:
            measure_task(task, options, Path(scratch))


def measure_task(task, options, scratch):
    train, test = (unpacked(options.data, name, scratch) for name in TASKS[task][:2])
    truth = [json.loads(line)["labels"] for line in test.read_text("utf-8").split("\n")[:-1]]
    rows = {system: [] for system in options.systems}
    for number in range(options.rounds):
        for system in list(rows):
            folder = scratch / f"{system}-{number}"
            folder.mkdir()
            row = measured(commands(system, task, train, test, folder, options), folder, options)
            if row is None:
                print(f"{task} {system}: not within {options.minutes:g} minutes", flush=True)
                del rows[system]
                continue
            answers = (folder / "answers.jsonl").read_text().splitlines()
            row |= precision(labels_of(answers), truth)
            rows[system].append(row)
            if options.json:
                with open(options.json, "a") as stream:
                    stream.write(json.dumps({"task": task, "system": system, **row}) + "\n")
    print(f"{task:22}{'seconds':>9}{'CPU s':>9}{'MB':>8}{'P@1':>8}{'P@3':>8}{'P@5':>8}")
    for system, measurements in rows.items():
        middle = {
            key: statistics.median(row[key] for row in measurements) for key in measurements[0]
        }
        scores = "".join(f"{100 * middle[f'P@{k}']:8.2f}" for k in SCORES)
        print(
            f"{system:22}{middle['seconds']:9.2f}{middle['cpu_seconds']:9.2f}{middle['mb']:8.0f}"
            f"{scores}",
            flush=True,
        )


def unpacked(data, name, scratch):
    path = scratch / f"{Path(name).name}.jsonl"
    with lzma.open(data / f"{name}.jsonl.xz") as packed:
        path.write_bytes(packed.read())
    return path


def commands(system, task, train, test, folder, options):
    """Command lines that write ``answers.jsonl``, lists of labels, into the folder."""
    if system != "tfxc":
        peer = Path(__file__).parent / "peers" / "_main.py"
        files = [str(train), str(test), str(folder)]
        return [[options.peers_python, str(peer), system, str(options.threads), *files, "5"]]
    run = str(folder / "run")
    output = str(folder / "predictions.jsonl")
    tfxc = [sys.executable, "-m", "tfxc"]
    return [
        [*tfxc, "train", str(train), "--run", run, *TASKS[task][2]],
        [*tfxc, "predict", run, str(test), "--k", "5", "--output", output],
    ]


def measured(command_lines, folder, options):
    """Seconds, processor seconds and peak MB of commands, one after the other; None if late."""
    row = {"seconds": 0.0, "cpu_seconds": 0.0, "mb": 0.0}
    usage = folder / "usage.json"
    for command in command_lines:
        alone = [sys.executable, "-S", "-c", ALONE, str(usage), *command]
        with open(folder / "log.txt", "ab") as log:
            begin = time.perf_counter()
            process = subprocess.Popen(alone, stdout=log, stderr=log, cwd=folder)
            try:
                code = process.wait(60 * options.minutes)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()
                return None
            row["seconds"] += time.perf_counter() - begin
        if code:
            sys.exit(f"{' '.join(command)} failed:\n{(folder / 'log.txt').read_text()[-3000:]}")
        used = json.loads(usage.read_text())
        row["cpu_seconds"] += used["cpu"]
        row["mb"] = max(row["mb"], used["kb"] / 1024)
    predictions = folder / "predictions.jsonl"
    if predictions.exists():
        lines = (json.loads(line) for line in predictions.read_text().splitlines())
        pairs = (zip(line["labels"], line["scores"], strict=True) for line in lines)
        answers = "".join(f"{json.dumps(list(row))}\n" for row in pairs)
        (folder / "answers.jsonl").write_text(answers)
    return row


def labels_of(answers):
    """Labels of each line of pairs of label and score."""
    return [[label for label, _ in json.loads(answer)] for answer in answers]


def precision(answers, truth):
    """P@1/3/5 of lists of labels, best first."""
    totals = dict.fromkeys(SCORES, 0)
    for answer, labels in zip(answers, truth, strict=True):
        for k in SCORES:
            totals[k] += len(set(answer[:k]) & set(labels)) / k
    return {f"P@{k}": total / len(truth) for k, total in totals.items()}


if __name__ == "__main__":
    main()
