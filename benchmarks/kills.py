"""Kills commands with SIGKILL at random moments, starts them again, and compares what they leave.

    nice python benchmarks/kills.py [--kills 20] [--seed 0] [CASE ...]

Each case is a command on a small data set. It runs once undisturbed. Then, for each kill, the same
command starts anew in the same folder, is killed at a random moment of that time (its own children
are left to notice), and is started again to its end. Counted are

* killed: kills that came before the command had ended,
* finished: second starts that ended with exit code 0,
* same: of these, how many left the same results (weights, layers, vectors, labels, summaries but
  for the seconds; the bytes of an ONNX file may differ) as the undisturbed command,
* left over: how many left hidden files or folders behind that the undisturbed command did not.

The commands run in children of one process that has imported TensorFlow, so a case takes seconds.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Imported here once: the children begin with the command's own work.
import h5py
import numpy as np
import tensorflow as tf  # noqa: F401

import tfxc.model
import tfxc.recipes.distill.recipe
import tfxc.training.job  # noqa: F401
from tfxc.__main__ import main as tfxc_main

WORDS = [f"word{number}" for number in range(9)]
TIMES = {"seconds", "processor_seconds", "finished", "bytes", "sha256"}
NOT_RESULTS = {
    "log.txt", "metrics.jsonl", "environment.json", "checksums.json", "sources.json",
    "teachers.txt", "search.db", "importance.svg", ".tfxc.json",
}  # fmt: skip


def write_texts(path, count, seed, labels=9):
    """JSON lines whose labels are words of their texts."""
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8") as stream:
        for _ in range(count):
            chosen = draw.sample(WORDS[:labels], 2)
            text = " ".join([*chosen, f"noise{draw.randrange(20)}", chosen[0]])
            names = [f"label {word[4:]}" for word in chosen]
            stream.write(json.dumps({"text": text, "labels": names}) + "\n")


def texts_of(folder):
    """The section ``data`` of a config."""
    return {
        "name": "texts",
        "train": str(folder / "train.jsonl"),
        "dev": str(folder / "dev.jsonl"),
        "text_features": {"name": "tfidf"},
    }


def config_of(folder, run, **changes):
    """Writes a config of a small network, and returns its path."""
    tree = {
        "run": str(folder / run),
        "data": texts_of(folder),
        "encoder": {"name": "bag_mlp", "hidden": [8]},
        "head": {"name": "dense"},
        "objective": {"name": "sigmoid"},
        "training": {"epochs": 3, "batch_size": 16, "checkpoint_every": 4, "log_every": 4},
        "evaluation": {"k": [1, 3]},
        **changes,
    }
    path = folder / f"{run}.json"
    path.write_text(json.dumps({key: value for key, value in tree.items() if value is not None}))
    return str(path)


NO_NETWORK = {"encoder": None, "head": None, "objective": None, "training": None}
LINEAR = {"name": "xr_linear", "tree": {"nr_splits": 2, "max_leaf_size": 2}}


def train_case(**changes):
    """A training, and what has to be trained before it."""

    def case(folder):
        config = config_of(folder, "run", **changes)
        return [], ["train", "--config", config, "--prepared", str(folder / "prepared")]

    return case


def after_training(command, **changes):
    """A command that reads a run; ``command`` is a function of the folder."""

    def case(folder):
        config = config_of(folder, "run", **changes)
        prepared = ["--prepared", str(folder / "prepared")]
        return [["train", "--config", config, *prepared]], command(folder, prepared)

    return case


def prepare(folder):
    config = config_of(folder, "run")
    return [], ["prepare", "--config", config, "--prepared", str(folder / "prepared")]


def distill(folder, prepared):
    config = config_of(folder, "student", encoder={"name": "bag_mlp", "hidden": [4]})
    return ["distill", "--config", config, "--teacher", str(folder / "run"), *prepared]


def add_labels(folder, prepared):
    lines = [{"text": f"word0 new{n % 2} word0", "labels": [f"new {n % 2}"]} for n in range(8)]
    (folder / "new.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = ["--output", str(folder / "more")]
    return [
        "add-labels", str(folder / "run"), "--data", str(folder / "new.jsonl"), *output, *prepared
    ]  # fmt: skip


def ensemble(folder, prepared):
    runs = [str(folder / "run")] * 2
    return ["ensemble", *runs, "--split", "dev", "--k", "1,3", *prepared]


def export(folder, prepared):
    output = ["--output", str(folder / "exported"), "--format", "onnx", "--k", "3"]
    return ["export", "--run", str(folder / "run"), *output]


def encode(folder, prepared):
    output = ["--output", str(folder / "vectors.npy"), "--batch-size", "1"]
    return ["encode", "--run", str(folder / "run"), str(folder / "train.jsonl"), *output]


def label_text(folder):
    """A training that mostly prepares: texts of labels next to those of examples."""
    rows = [{"label": f"label {word[4:]}", "text": f"{word} {word}"} for word in WORDS]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {**texts_of(folder), "label_texts": str(folder / "labels.jsonl")}
    changes = {"head": {"name": "label_text"}, "objective": {"name": "decoupled_softmax"}}
    encoder = {"name": "bag_mlp", "hidden": [8], "activation": "linear"}
    training = {"epochs": 1, "batch_size": 16, "checkpoint_every": 4, "log_every": 4}
    config = config_of(folder, "run", data=data, encoder=encoder, training=training, **changes)
    return [], ["train", "--config", config, "--prepared", str(folder / "prepared")]


def prune(folder):
    sections = {
        "data": {**texts_of(folder), "text_features": {"name": "words", "min_count": 1}},
        "encoder": {
            "name": "transformer", "num_layers": 1, "num_heads": 2, "embedding_dim": 8,
            "feed_forward_dim": 6,
        },
    }  # fmt: skip
    prepared = ["--prepared", str(folder / "prepared")]
    source = config_of(folder, "source", **sections)
    recipe = {
        "name": "prune", "source": str(folder / "source"), "num_heads": 1, "iters": 2,
        "examples": 40,
    }  # fmt: skip
    config = config_of(folder, "run", **sections, recipe=recipe)
    return [["train", "--config", source, *prepared]], ["train", "--config", config, *prepared]


def search(folder):
    config = config_of(folder, "run", recipe=LINEAR, **NO_NETWORK)
    tried = ["--try", "recipe.ranker.threshold=0.01,0.1", "--runs", str(folder / "runs")]
    return [], ["search", "--config", config, *tried, "--prepared", str(folder / "prepared")]


def import_pecos(folder):
    source = Path(__file__).parents[1] / "tests" / "ranker" / "data" / "pecos_model"
    return [], ["import", "pecos", str(source), "--run", str(folder / "imported")]


CASES = {
    "prepare": prepare,
    "fit": train_case(),
    "xr_linear": train_case(recipe=LINEAR, **NO_NETWORK),
    "kfold": train_case(recipe={"name": "kfold", "folds": 2}),
    "repetitions": train_case(
        recipe={"name": "repetitions"},
        head={"name": "mach", "num_buckets": 4, "num_repetitions": 2},
    ),
    "label_text": label_text,
    "xr_transformer": train_case(
        recipe={"name": "xr_transformer", "only_topk": 3},
        head={"name": "tree", "nr_splits": 3, "max_leaf_size": 3},
        objective={"name": "squared_hinge", "weighted": True},
    ),
    "prune": prune,
    "distill": after_training(distill),
    "add-labels": after_training(add_labels, recipe=LINEAR, **NO_NETWORK),
    "search": search,
    "ensemble": after_training(ensemble),
    "import": import_pecos,
    "export": after_training(export),
    "encode": after_training(encode),
}


def started(arguments, log):
    """The number of a child that runs the command."""
    child = os.fork()
    if child:
        return child
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(stream, number)
    try:
        tfxc_main(arguments)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)
    finally:
        os._exit(70)


def ended(child):
    """Exit code of a child; minus the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def results(folder):
    """{file: digest of what it says}, and the hidden files and folders."""
    digests = {}
    hidden = set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") and part != ".tfxc.json" for part in name.split("/")):
            hidden.add(name.split("/")[-1].split(".new-")[0])
        elif path.is_file() and not is_on_the_way(path):
            digests[name] = digest(path)
    return digests, hidden


def is_on_the_way(path):
    """Whether a file belongs to the way to the results."""
    folders = {"checkpoints", "tensorboard"} & set(path.parts)
    # Two undisturbed exports number the nodes of ONNX differently, which its size shows as well.
    return bool(folders) or path.name in NOT_RESULTS or path.suffix in (".log", ".onnx")


def digest(path):
    """SHA-256 of a file, of weights without HDF5's times, and of JSON without seconds."""
    content = path.read_bytes()
    if path.suffix == ".json":
        content = json.dumps(without_times(json.loads(content)), sort_keys=True).encode()
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            content = b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays))
    elif path.suffix == ".h5":
        parts = []
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: (
                    parts.append(name.encode() + item[()].tobytes())
                    if hasattr(item, "shape")
                    else None
                )
            )
        content = b"".join(parts)
    return hashlib.sha256(content).hexdigest()


def without_times(value):
    """A JSON value without what differs between two undisturbed commands."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def measure(name, kills, draw, folder):
    """Counts of a case: killed, finished, same, left over; and what differed."""
    work = folder / "work"
    base = folder / "base"
    log = folder / "log.txt"
    for path in (work, base):
        shutil.rmtree(path, ignore_errors=True)
    work.mkdir()
    write_texts(work / "train.jsonl", 120, 0)
    write_texts(work / "dev.jsonl", 30, 1)
    before, command = CASES[name](work)
    for arguments in before:
        assert ended(started(arguments, log)) == 0, log.read_text()
    shutil.copytree(work, base)
    began = time.monotonic()
    assert ended(started(command, log)) == 0, log.read_text()
    seconds = time.monotonic() - began
    wanted, known = results(work)
    counts = dict.fromkeys(("killed", "finished", "same", "left over"), 0)
    differences = []
    for _ in range(kills):
        shutil.rmtree(work)
        shutil.copytree(base, work)
        child = started(command, log)
        moment = draw.uniform(0, seconds)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        if ended(child) != -signal.SIGKILL:
            seconds = min(seconds, moment)  # it was faster
            continue
        counts["killed"] += 1
        code = ended(started(command, log))
        counts["finished"] += code == 0
        digests, hidden = results(work)
        differing = sorted(
            file for file in {*digests, *wanted} if digests.get(file) != wanted.get(file)
        )
        counts["same"] += not differing
        counts["left over"] += bool(hidden - known)
        if code or differing or hidden - known:
            differences.append((code, differing[:5], sorted(hidden - known)[:5]))
    return counts, differences, seconds


def main():
    """Prints a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--kills", type=int, default=20, help="per case (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    columns = ("killed", "finished", "same", "left over")
    print(f"{'case':14}" + "".join(f"{column:>10}" for column in ("kills", *columns)), flush=True)
    for name in options.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            counts, differences, seconds = measure(name, options.kills, draw, Path(folder))
        values = (options.kills, *(counts[column] for column in columns))
        shown = f"{name:14}" + "".join(f"{value:10}" for value in values)
        print(f"{shown}   of {seconds:.1f} s", flush=True)
        for difference in differences:
            print(f"    {difference}", flush=True)


if __name__ == "__main__":
    main()
