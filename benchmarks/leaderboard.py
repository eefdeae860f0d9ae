"""The table of results: who finds what in sets of up to 10^5 labels, and at what cost.

    python benchmarks/leaderboard.py --set icd10cm --system libpecos --json results.jsonl \\
        --data data --peers-python /path/to/peers/bin/python
    python benchmarks/leaderboard.py --draw results.jsonl --pictures docs/pictures

The first command measures a system on a set and appends one line of JSON; the second prints the
table of the last lines of each and draws accuracy over cost, and head, torso and tail.

A system is either a file of ``peers/``, whose function ``answer`` is all that another one needs, or
a config of ``configs/`` for the set, as ``xr_linear``, trained and asked as its users do. All peers
get the TF-IDF of the config: words and pairs that occur in two texts, words of one letter included;
of ``revdict`` words alone. The data are what ``tfxc fetch`` writes.

Processor seconds of training are those from the start of the process to the end of training,
reading and TF-IDF included; of a prediction all that come after, by text.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from whole_task import measured, unpacked

SETS = {
    "debian": ("debian/sources_train", "debian/sources_dev"),
    "debtags": ("debian/debtags_train", "debian/debtags_dev"),
    "go": ("go/train", "go/dev"),
    "genes": ("go/genes_train", "go/genes_dev"),
    "icd10cm": ("icd10cm/train", "icd10cm/dev"),
    "revdict": ("revdict/train", "revdict/dev"),
}
CONFIGS = Path(__file__).parents[1] / "configs"
PEERS = Path(__file__).parent / "peers"
KS = (1, 3, 5, 10)
TFIDF = {"min_df": 2, "token_pattern": r"\b\w+\b"}
# Words alone, however rare, are better for all where the test is another dictionary.
OTHER_TFIDF = {"revdict": {**TFIDF, "min_df": 1, "longest": 1}}
# Names in the table, and those of the values in the line of JSON.
COLUMNS = {
    "P@1": "P@1",
    "P@3": "P@3",
    "P@5": "P@5",
    "R@10": "R@10",
    "PSP@1": "PSP@1",
    "PSP@5": "PSP@5",
    "coverage@10": "correct coverage@10",
    "rare": "found@10/1-5",
    "new": "found@10/0",
}
PARTS = ("head", "torso", "tail")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=SETS, help="what to learn")
    parser.add_argument("--system", help="file of peers/, or a config's name without the set")
    parser.add_argument("--data", type=Path, help="folder that tfxc fetch wrote")
    parser.add_argument("--peers-python", default=sys.executable, help="Python that has the peers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=90, help="a system may take")
    parser.add_argument("--json", type=Path, help="append a line to this file; else print it")
    parser.add_argument("--draw", type=Path, help="print the table of such a file")
    parser.add_argument("--pictures", type=Path, help="folder to draw its pictures in")
    options = parser.parse_args()
    if options.draw:
        draw(options.draw, options.pictures)
        return
    if not (options.set and options.system and options.data):
        parser.error("give --set, --system and --data, or --draw")
    with tempfile.TemporaryDirectory() as scratch:
        line = json.dumps(measure(options, Path(scratch)))
    print(line)
    if options.json:
        with open(options.json, "a") as stream:
            stream.write(line + "\n")


def measure(options, scratch):
    """The line of a system on a set, as a dictionary; ``late`` where it took too long."""
    train, test = (unpacked(options.data, name, scratch) for name in SETS[options.set])
    folder = scratch / "run"
    folder.mkdir()
    row = {"set": options.set, "system": options.system, "threads": options.threads}
    config = CONFIGS / f"{options.system}_{options.set}.json"
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if config.exists():
        run = str(folder / "model")
        tfxc = [sys.executable, "-m", "tfxc"]
        os.environ["TFXC_DATA"] = str(options.data.resolve())
        training = [*tfxc, "train", "--config", str(config.resolve())]
        training += ["--set", f"run={run}"]
        if "recipe" in json.loads(config.read_text()):  # a network has OMP_NUM_THREADS alone
            training += ["--set", f"recipe.threads={options.threads}"]
        output = ["--k", str(max(KS)), "--output", str(folder / "predictions.jsonl")]
        answering = [*tfxc, "predict", run, str(test), *output]
        trained = measured([training], folder, options)
        used = trained and measured([answering], folder, options)
    else:
        tfidf = OTHER_TFIDF.get(options.set, TFIDF)
        os.environ |= {"TFIDF": json.dumps(tfidf), "LEADERBOARD": "1"}
        files = [str(train), str(test), str(folder), str(max(KS))]
        peer = [str(PEERS / "_main.py"), options.system, str(options.threads), *files]
        both = measured([[options.peers_python, *peer]], folder, options)
        trained = both and {
            **both,
            "cpu_seconds": json.loads((folder / "trained.json").read_text()),
        }
        used = both and {**both, "cpu_seconds": both["cpu_seconds"] - trained["cpu_seconds"]}
    if not used:
        return {**row, "late": options.minutes}
    lines = (folder / "answers.jsonl").read_text("utf-8").splitlines()
    answers = [[label for label, _ in json.loads(line)] for line in lines]
    return {
        **row,
        **scores(labels_of(train), labels_of(test), answers),
        "train CPU s": trained["cpu_seconds"],
        "peak MB": max(trained["mb"], used["mb"]),
        "predict ms": 1000 * used["cpu_seconds"] / len(answers),
        "model MB": megabytes(folder / "model"),
    }


def labels_of(path):
    return [json.loads(line)["labels"] for line in path.read_text("utf-8").splitlines()]


def scores(train, truth, answers):
    """All metrics of lists of labels, best first."""
    import numpy as np

    from tfxc.labels.slices import frequency_slices
    from tfxc.metrics.coverage import SlicedRecall
    from tfxc.metrics.suite import build_metrics

    ids = {}
    counts = []
    for label in (label for labels in train for label in labels):
        if label not in ids:
            ids[label] = len(ids)
            counts.append(0)
        counts[ids[label]] += 1

    def padded(lists, width):
        table = np.full((len(lists), width), -1, np.int64)
        for row, labels in enumerate(lists):
            numbers = [ids.setdefault(label, len(ids)) for label in labels][:width]
            table[row, : len(numbers)] = numbers
        return table

    thirds = frequency_slices(counts, "shares")
    metrics = build_metrics(KS, counts, len(train), more=[SlicedRecall(thirds, [max(KS)])])
    best = padded(answers, max(KS))
    metrics.update(
        best, -np.arange(best.size).reshape(best.shape), padded(truth, max(map(len, truth)))
    )
    return metrics.known_values()


def megabytes(path):
    """Size of what a system keeps; None where it says nothing."""
    files = [path, *path.rglob("*")] if path.exists() else []
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6 or None


def draw(results, pictures):
    """Prints the table, and draws two pictures of each set."""
    rows = {}
    for line in results.read_text("utf-8").splitlines():
        row = json.loads(line)
        rows[row["set"], row["system"]] = row
    print(
        f"| set | system | {' | '.join(COLUMNS)} | train CPU s | peak MB | predict ms | model MB |"
    )
    print("|---" * (len(COLUMNS) + 6) + "|")
    for name in SETS:
        of_set = [row for (found, _), row in rows.items() if found == name and "late" not in row]
        of_set.sort(key=lambda row: -row["P@1"])
        for row in of_set:
            cells = [_percent(row[value]) for value in COLUMNS.values()]
            cells += [f"{row['train CPU s']:,.0f}", f"{row['peak MB']:,.0f}"]
            cells += [f"{row['predict ms']:.2f}", _whole(row["model MB"])]
            print(f"| {name} | {row['system']} | {' | '.join(cells)} |")
        for row in (row for (found, _), row in rows.items() if found == name and "late" in row):
            print(f"| {name} | {row['system']} | not within {row['late']:g} minutes |")
        if pictures and of_set:
            pictures_of(name, of_set, pictures)


def pictures_of(name, rows, folder):
    """Draws P@1 over processor seconds, and R@10 of head, torso and tail, side by side."""
    import math

    from tfxc.reports.charts import Axis, Chart, write_charts
    from tfxc.reports.curves import Curve

    cost = [
        Curve(row["system"], ((math.log10(row["train CPU s"]), 100 * row["P@1"]),)) for row in rows
    ]
    parts = [
        Curve(
            row["system"],
            tuple((n, 100 * (row[f"R@10/{part}"] or 0)) for n, part in enumerate(PARTS)),
        )
        for row in rows
    ]
    seconds = [point[0] for curve in cost for point in curve.points]
    x = Axis(
        "processor seconds of training", math.floor(min(seconds)), math.ceil(max(seconds)), True
    )
    y = Axis.around("P@1", [point[1] for curve in cost for point in curve.points])
    found = Axis.around("R@10", [0, *(point[1] for curve in parts for point in curve.points)])
    charts = [
        Chart(f"{name}: P@1 and cost", x, y, cost),
        Chart(f"{name}: R@10 of head (0), torso (1), tail (2)", Axis("", 0, 2), found, parts),
    ]
    write_charts(folder / f"leaderboard_{name}.svg", charts)


def _percent(share):
    return "-" if share is None else f"{100 * share:.2f}"


def _whole(number):
    return "-" if number is None else f"{number:,.0f}"


if __name__ == "__main__":
    main()
