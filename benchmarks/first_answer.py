"""What `tfxc train FILE` makes of a file of texts, beside what else one might try first.

    python benchmarks/first_answer.py --data ../shared/data --peers-python /path/to/peers/bin/python

A system is a whole command, as in ``whole_task.py``: it reads the texts of the training file,
learns, and answers those of the test file. Printed are P@1, P@3 and P@5, micro and macro-F1 of the
labels above the system's own decision (the best label where each text has one), seconds, processor
seconds and peak memory in MB, the table of docs/choosing.md. Systems: tfxc by default and with each
of the quick presets, and ``peers/``: scikit-learn's ``LinearSVC`` over words and over words and
characters, fastText with its tutorial's settings and with tuned ones, and XR-Linear of libpecos.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _text_sets import FILES, examples
from whole_task import SCORES, labels_of, measured, precision

OURS = {"tfxc": [], "tfxc_fast": ["--preset", "fast"], "tfxc_balanced": ["--preset", "balanced"]}
# The score above which a system says that a label is true.
DECISIONS = {
    "sklearn_linear_svc": 0.0,
    "sklearn_characters": 0.0,
    "fasttext_supervised": 0.5,
    "fasttext_tuned": 0.5,
    "libpecos": 0.5,
    "libpecos_characters": 0.5,
    "libpecos_cost5": 0.5,
}
SYSTEMS = (*OURS, *DECISIONS)
# One weight for each label and term, as scikit-learn keeps them, is more than memory holds.
MANY_LABELS = (
    "eurlex57k",
    "genes",
    "debian_sources",
    "go",
    "icd10cm",
    "icd10cm_categories",
    "mixed",
)
ONE_LEVEL = ("sklearn_linear_svc", "sklearn_characters")
K = 20  # labels of an answer, at most


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=["tfxc", *DECISIONS])
    parser.add_argument("--peers-python", default=sys.executable, help="Python that has the peers")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=30, help="a system may take")
    parser.add_argument("--json", type=Path, help="append a line per measurement to this file")
    options = parser.parse_args()
    print("| set | system | P@1 | P@3 | P@5 | micro-F1 | macro-F1 | s | CPU s | MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in options.sets:
        with tempfile.TemporaryDirectory() as scratch:
            measure_set(name, options, Path(scratch))


def measure_set(name, options, scratch):
    parts = examples(options.data, name)
    files = [scratch / "train.jsonl", scratch / "test.jsonl"]
    for file, rows in zip(files, parts, strict=True):
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    k = min(K, len({label for row in parts[0] for label in row["labels"]}))
    truth = [row["labels"] for row in parts[1]]
    for system in options.systems:
        if system in ONE_LEVEL and name in MANY_LABELS:
            continue
        folder = scratch / system
        folder.mkdir()
        try:
            row = measured(commands(system, *map(str, files), folder, k, options), folder, options)
        except SystemExit as error:  # a peer that ends with an error
            print(error, file=sys.stderr)
            print(f"| {name} | {system} | failed |", flush=True)
            continue
        if row is None:
            print(f"| {name} | {system} | not within {options.minutes:g} minutes |", flush=True)
            continue
        answers = (folder / "answers.jsonl").read_text().splitlines()
        row |= precision(labels_of(answers), truth)
        row |= f1(chosen(system, answers, folder, files[1], truth), truth)
        if options.json:
            with open(options.json, "a") as stream:
                stream.write(json.dumps({"set": name, "system": system, **row}) + "\n")
        shares = [100 * row[score] for score in (*(f"P@{k}" for k in SCORES), "micro", "macro")]
        cells = [f"{share:.2f}" for share in shares]
        cells += [f"{row['seconds']:.1f}", f"{row['cpu_seconds']:.1f}", f"{row['mb']:.0f}"]
        print(f"| {name} | {system} | {' | '.join(cells)} |", flush=True)


def commands(system, train, test, folder, k, options):
    """Command lines that write ``answers.jsonl`` or ``predictions.jsonl`` into the folder."""
    if system not in OURS:
        peer = Path(__file__).parent / "peers" / "_main.py"
        names = [system, str(options.threads), train, test, str(folder), str(k)]
        return [[options.peers_python, str(peer), *names]]
    run = str(folder / "run")
    tfxc = [sys.executable, "-m", "tfxc"]
    output = ["--k", str(k), "--output", str(folder / "predictions.jsonl")]
    return [
        [*tfxc, "train", train, "--run", run, *OURS[system]],
        [*tfxc, "predict", run, test, *output],
    ]


def chosen(system, answers, folder, test, truth):
    """The labels that the system says: the best, or ``tfxc predict``'s own, or those by score."""
    pairs = map(json.loads, answers)
    if all(len(labels) == 1 for labels in truth):
        return [[label for label, _ in row[:1]] for row in pairs]
    if system not in OURS:
        return [[label for label, score in row if score > DECISIONS[system]] for row in pairs]
    tfxc = [sys.executable, "-m", "tfxc", "predict", str(folder / "run"), str(test)]
    lines = subprocess.run(tfxc, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line)["labels"] for line in lines]


def f1(said_of, truth):
    """Micro-F1, and the mean F1 of all labels that the test set has or the system says."""
    hits = {}
    said = {}
    true = {}
    for chosen, labels in zip(said_of, truth, strict=True):
        for counts, names in ((said, chosen), (true, labels), (hits, {*chosen} & {*labels})):
            for name in names:
                counts[name] = counts.get(name, 0) + 1
    every = {*said, *true}
    each = [
        2 * hits.get(name, 0) / (said.get(name, 0) + true.get(name, 0)) for name in sorted(every)
    ]
    total = sum(said.values()) + sum(true.values())
    return {"micro": 2 * sum(hits.values()) / total, "macro": sum(each) / len(each)}


if __name__ == "__main__":
    main()
