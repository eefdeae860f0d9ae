"""A catalogue that grows: Debian's packages in slices, a memory updated beside ones trained anew.

    python benchmarks/stream.py --data data --json stream.jsonl
    python benchmarks/stream.py --draw stream.jsonl --pictures docs/pictures

The first command appends a line of JSON for each slice; the second prints the table and draws
accuracy, cost and drift by slice. The data are what ``tfxc fetch debian`` writes, with the list of
packages that it keeps in ``debian/.original``.

The list has no dates, so the order is drawn: source packages come in a random order, but none
before what it needs, which comes with it if it has not come yet. A source package comes with all
its binary packages, as examples, and with its own text, as a label. Slices have about as many
examples each. After each slice, every system answers the examples of the next one, which it has not
seen, and after the last slice those of the dev split. Labels that no slice has brought so far count
as not found. No package needs its own source package: where that is an answer, it is left out.

Systems:

* ``updated``: ``memory``, trained on the first slice; ``tfxc add-labels`` brings it the texts of
  the new labels, then the examples, so that its text features stay those of the first slice;
* ``retrained``: the same, trained on all slices so far;
* ``xr_linear``: the ranker, trained on all slices so far;
* ``xr_linear, half``: the ranker that was trained when half of the slices had come.

Processor seconds are those of the commands, `tfxc train` or both of `tfxc add-labels`, with reading
and the start of the program; those of an answer are measured in one process.
"""

import argparse
import collections
import json
import lzma
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from leaderboard import CONFIGS, scores
from whole_task import measured

PACKAGES = "debian/.original/Packages.xz"
# In the table and the pictures, and in what ``scores`` returns.
COLUMNS = {"P@1": "P@1", "R@10": "R@10", "rare": "found@10/1-5", "new": "found@10/0"}
SYSTEMS = ("updated", "retrained", "xr_linear", "xr_linear, half")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder that tfxc fetch wrote")
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--every", type=int, default=1, help="train anew after so many slices")
    parser.add_argument("--until", type=int, help="the last slice to go through")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--minutes", type=float, default=30, help="a command may take")
    parser.add_argument("--json", type=Path, help="append the lines to this file as well")
    parser.add_argument("--draw", type=Path, help="print the table of such a file")
    parser.add_argument("--pictures", type=Path, help="folder to draw its picture in")
    options = parser.parse_args()
    if options.draw:
        draw(options.draw, options.pictures)
        return
    if not options.data:
        parser.error("give --data, or --draw")
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        for row in stream(options, Path(scratch)):
            line = json.dumps(row)
            print(line, flush=True)
            if options.json:
                with open(options.json, "a") as lines:
                    lines.write(line + "\n")


def arrivals(data, sources, number, seed):
    """Slices in their order: each a pair of examples, and {label: text} of what comes with them."""
    examples = collections.defaultdict(list)
    for row in lines_of(data / "debian/sources_train.jsonl.xz"):
        examples[sources[package_of(row)]].append(row)
    known = set(sources.values())
    texts = {
        row["label"]: row["text"]
        for row in lines_of(data / "debian/sources_label_texts.jsonl.xz")
        if row["label"] in known
    }
    needs = {
        source: list(dict.fromkeys(label for row in rows for label in row["labels"]))
        for source, rows in examples.items()
    }
    count = sum(map(len, examples.values()))
    slices = [([], {}) for _ in range(number)]
    come = 0
    for source in in_order(sorted({*examples, *texts}), needs, seed):
        rows, labels = slices[min(come * number // count, number - 1)]
        rows += examples[source]
        if source in texts:
            labels[source] = texts[source]
        come += len(examples[source])
    return slices


def package_of(row):
    return row["text"].partition(":")[0]


def in_order(sources, needs, seed):
    """Sources in a random order, but each after those that it needs; circles in any order."""
    random.Random(seed).shuffle(sources)
    begun = set()
    placed = {}  # by their order
    for source in sources:
        waiting = [source]
        while waiting:
            last = waiting[-1]
            if last not in begun:
                begun.add(last)
                waiting += [need for need in needs.get(last, ()) if need not in begun]
                continue
            waiting.pop()
            placed.setdefault(last)
    return list(placed)


def sources_of_packages(path):
    """{binary package: source package} of Debian's list."""
    sources = {}
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            field, _, value = line.partition(": ")
            if field == "Package":
                package = value.strip()
                sources[package] = package
            elif field == "Source":
                sources[package] = value.split()[0]
    return sources


def lines_of(path):
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def stream(options, scratch):
    """Yields the line of each slice, as a dictionary."""
    sources = sources_of_packages(options.data / PACKAGES)
    slices = arrivals(options.data, sources, options.slices, options.seed)
    dev = lines_of(options.data / "debian/sources_dev.jsonl.xz")
    rows, texts = [], {}
    runs = {}
    for number, (new_rows, new_texts) in enumerate(slices[: options.until], 1):
        drift = drift_of(new_rows, rows)
        folder = scratch / str(number)
        folder.mkdir()
        rows += new_rows
        texts |= new_texts
        write(folder / "new.jsonl", new_rows)
        write(folder / "all.jsonl", rows)
        write(folder / "new_texts.jsonl", label_texts(new_texts))
        write(folder / "all_texts.jsonl", label_texts(texts))
        costs = {}
        if number in (1, options.slices // 2) or number % options.every == 0:
            for system, config in (("retrained", "fuse_debian"), ("xr_linear", "xr_linear_debian")):
                costs[system] = measured([training(config, system, folder)], folder, options)
                runs[system] = folder / system
        if number == 1:
            first = folder
            runs["updated"] = runs["retrained"]
        else:
            commands = updates(runs["updated"], folder)
            costs["updated"] = measured(commands, folder, options)
            runs["updated"] = folder / "updated"
        if number == options.slices // 2:
            runs["xr_linear, half"] = runs["xr_linear"]
        test = slices[number][0] if number < options.slices else dev
        row = {
            "seed": options.seed,
            "slice": number,
            "examples": len(rows),
            "texts": len(texts),
            "drift": drift,
        }
        row |= {"asked": len(test), "systems": {}}
        train = [example["labels"] for example in rows]
        seen = {label for labels in train for label in labels}
        row["labels"] = len(seen)
        row["new with text"] = share(
            label in texts for example in test for label in {*example["labels"]} - seen
        )
        for system, run in runs.items():
            if system not in costs and system != SYSTEMS[-1]:
                continue  # nothing has changed since the slice before
            values, milliseconds = asked(run, test, train, sources)
            cost = costs.get(system, {})
            of_system = {name: values.get(name) for name in COLUMNS.values()}
            of_system |= {"CPU s": cost.get("cpu_seconds"), "MB": cost.get("mb")}
            row["systems"][system] = of_system | {"predict ms": milliseconds}
        if number == (options.until or options.slices):
            later = scratch / "later.jsonl"
            write(later, rows[len(slices[0][0]) :])
            row["same arrays"] = has_always_been(first, later, runs["updated"])
        yield row
        kept = {run.parent for run in runs.values()} | {first}
        for old in range(1, number):
            if scratch / str(old) not in kept:
                shutil.rmtree(scratch / str(old), ignore_errors=True)


def training(config, system, folder):
    """The command that trains on all of a folder, without a dev split."""
    settings = json.loads((CONFIGS / f"{config}.json").read_text())
    del settings["data"]["dev"]
    settings["run"] = str(folder / system)
    settings["data"]["train"] = str(folder / "all.jsonl")
    settings["recipe"]["threads"] = 1
    if system == "retrained":
        settings["data"]["label_texts"] = str(folder / "all_texts.jsonl")
        places = settings["recipe"]["tail_places"]
        settings["recipe"] = {"name": "memory", "threads": 1, "tail_places": places}
    path = folder / f"{system}.json"
    path.write_text(json.dumps(settings))
    prepared = ["--prepared", str(folder / "prepared")]
    return [sys.executable, "-m", "tfxc", "train", "--config", str(path), *prepared]


def updates(run, folder):
    """The commands that bring texts and examples to a run."""
    add = [sys.executable, "-m", "tfxc", "add-labels"]
    between = str(folder / "with_texts")
    return [
        [*add, str(run), "--label-texts", str(folder / "new_texts.jsonl"), "--output", between],
        [*add, between, "--data", str(folder / "new.jsonl"), "--output", str(folder / "updated")],
    ]


def asked(run, test, train, sources):
    """Metrics of a run's answers to examples, and processor milliseconds of each."""
    import tfxc

    opened = tfxc.Run(run)
    opened.predict(["to open the files"], k=11)
    began = time.process_time()
    found = opened.predict([example["text"] for example in test], k=11).labels
    milliseconds = 1000 * (time.process_time() - began) / len(test)
    answers = [
        [label for label in labels if label != sources[package_of(example)]][:10]
        for labels, example in zip(found, test, strict=True)
    ]
    return scores(train, [example["labels"] for example in test], answers), milliseconds


def has_always_been(first, later, run):
    """Whether the arrays of an updated memory are those of one made of everything at once.

    ``first`` is the folder of the first slice, ``later`` a file of the examples of all others.
    """
    import numpy as np
    import scipy.sparse

    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.sources.base import ArraySource
    from tfxc.data.sources.matrices import matrices
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.ranker.fusion.memory import ExampleMemory
    from tfxc.recipes.xr_linear.stages import training_matrices
    from tfxc.reports.measurement import reader_of_file
    from tfxc.runs.loaded import load_run

    loaded = load_run(run)
    memory = loaded.model.memory
    config = load_config(str(first / "retrained.json"))
    features, labels = training_matrices(ensure_prepared(config.data, first / "prepared"))
    labels.resize(labels.shape[0], memory.labels.shape[1])
    parts = [(features, labels)]
    for block in loaded.rows(reader_of_file(loaded, later)):
        parts.append(matrices(ArraySource(block, memory.labels.shape[1])))
    features, labels = (
        scipy.sparse.vstack(blocks, format="csr") for blocks in zip(*parts, strict=True)
    )
    features.sum_duplicates()
    texts = loaded.text_features.transform(loaded.label_texts)
    whole = ExampleMemory.of(memory.settings, features, labels, texts)
    pairs = zip([*memory.rows, *memory.texts], [*whole.rows, *whole.texts], strict=True)
    pairs = [(one, other) for layers in pairs for one, other in zip(*layers, strict=True)]
    pairs += [(array, whole.arrays()[name]) for name, array in memory.arrays().items()]
    return all(np.array_equal(one, other) for one, other in pairs)


def drift_of(new, before):
    """How the labels of a slice differ from those of all slices before; None for the first one."""
    if not before:
        return None
    now, past = (
        collections.Counter(label for row in rows for label in row["labels"])
        for rows in (new, before)
    )
    shares = ((now[label] / now.total(), past[label] / past.total()) for label in {*now, *past})
    return {
        "new labels": share(label not in past for label in now),
        "new truths": sum(n for label, n in now.items() if label not in past) / now.total(),
        "distance": sum(abs(one - other) for one, other in shares) / 2,
    }


def share(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def label_texts(texts):
    return [{"label": label, "text": text} for label, text in texts.items()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def draw(results, pictures):
    """Prints the table of some slices, and draws all of them."""
    rows = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    rows = {row["slice"]: row for row in rows}.values()
    print(f"| slices | examples, labels | system | {' | '.join(COLUMNS)} | CPU s | ms |")
    print("|---" * (len(COLUMNS) + 5) + "|")
    for row in rows:
        if row["slice"] != 1 and row["slice"] % 5:
            continue
        for system, values in row["systems"].items():
            cells = [str(row["slice"]), f"{row['examples']:,}, {row['labels']:,}", system]
            cells += [_percent(values[name]) for name in COLUMNS.values()]
            cells += [_short(values["CPU s"], 0), _short(values["predict ms"], 1)]
            print(f"| {' | '.join(cells)} |")
    if pictures:
        draw_pictures(rows, pictures)


def draw_pictures(rows, folder):
    """Draws P@1 and recall of rare and new labels, and processor seconds and drift."""
    from tfxc.reports.charts import line_chart, write_charts
    from tfxc.reports.curves import Curve

    def curves(name, scale=1):
        drawn = []
        for system in SYSTEMS:
            points = [
                (row["slice"], scale * row["systems"][system][name])
                for row in rows
                if row["systems"].get(system, {}).get(name) is not None
            ]
            if points:
                drawn.append(Curve(system, tuple(points)))
        return drawn

    drifts = {
        "labels that are new": "new labels",
        "truths that are new": "new truths",
        "distance from before": "distance",
    }
    drift = [
        Curve(text, tuple((row["slice"], 100 * row["drift"][n]) for row in rows if row["drift"]))
        for text, n in drifts.items()
    ]
    text = "slices that have come"
    titles = {
        "P@1": "P@1, %",
        "found@10/1-5": "rare labels found, %",
        "found@10/0": "new labels found, %",
    }
    found = [line_chart(title, text, curves(name, 100)) for name, title in titles.items()]
    cost = line_chart("processor seconds of the commands", text, curves("CPU s"))
    write_charts(folder / "stream_found.svg", found)
    write_charts(folder / "stream_cost.svg", [cost, line_chart("drift, %", "slice", drift)])


def _percent(value):
    return "-" if value is None else f"{100 * value:.1f}"


def _short(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


if __name__ == "__main__":
    main()
