"""Digests of the weights, metrics and predictions of a small run of every recipe.

A change that should not change results is compared with the commit before it:

    python benchmarks/same_results.py --checkout ../before --checkout .

Each checkout must be built (``pip install -e .`` there, or its compiled files in place). The runs
are trained one after the other on texts made up here; the digest of a run is that of the values of
all arrays it ends with, of its dev metrics and of its predictions. 10 to 15 minutes per checkout.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

_WORDS = [f"word{number}" for number in range(30)]
_CNN = {"name": "textcnn", "embedding_dim": 16, "num_filters": 16}
_TOKENS = {"name": "words", "min_count": 1, "max_length": 12}
_JOINED = {"name": "joined", "tokens": _TOKENS, "terms": {"name": "tfidf"}}
_BAG = {"name": "bag_mlp", "hidden": [32], "dropout": 0.1}
_MACH = {"name": "mach", "num_buckets": 16, "num_repetitions": 4}
_ONE_LAYER = {"name": "transformer", "num_layers": 2, "num_heads": 4, "embedding_dim": 16}

# By the name of the run: sections of its config, and the runs it needs.
RUNS = {
    "fit": {"encoder": _BAG, "head": _MACH, "objective": {"name": "sigmoid"}},
    "dual": {"encoder": _BAG, "head": {"name": "dense"}, "objective": {"name": "scent"}},
    "mhc": {
        "encoder": _BAG,
        "head": {"name": "mhc", "heads": [8, 8]},
        "objective": {"name": "softmax"},
    },
    "margin": {"encoder": _BAG, "head": {"name": "margin"}, "objective": {"name": "softmax"}},
    "repetitions": {
        "encoder": _BAG, "head": _MACH, "objective": {"name": "sigmoid"},
        "recipe": {"name": "repetitions"},
    },
    "kfold": {
        "encoder": _BAG, "head": {"name": "dense"}, "objective": {"name": "softmax"},
        "recipe": {"name": "kfold", "folds": 3},
    },
    "techniques": {
        "text": _TOKENS, "encoder": _CNN, "head": {"name": "dense"},
        "objective": {"name": "focal"},
        "techniques": [{"name": "fgm"}, {"name": "ema"}],
    },
    "teacher": {
        "text": _TOKENS, "encoder": _ONE_LAYER, "head": {"name": "dense"},
        "objective": {"name": "softmax"},
    },
    "distill": {
        "text": _TOKENS, "encoder": _CNN, "head": {"name": "dense"},
        "objective": {"name": "softmax"},
        "recipe": {"name": "distill", "teachers": ["{folder}/teacher"]},
    },
    "prune": {
        "text": _TOKENS, "encoder": _ONE_LAYER, "head": {"name": "dense"},
        "objective": {"name": "softmax"},
        "recipe": {"name": "prune", "source": "{folder}/teacher", "num_heads": 2},
    },
    "xr_linear": {"recipe": {"name": "xr_linear", "tree": {"nr_splits": 4, "max_leaf_size": 8}}},
    "xr_transformer": {
        "text": _JOINED, "encoder": _CNN,
        "head": {"name": "tree", "nr_splits": 4, "max_leaf_size": 4},
        "objective": {"name": "squared_hinge", "weighted": True},
        "recipe": {"name": "xr_transformer", "only_topk": 3},
    },
}  # fmt: skip


def main():
    """Prints a table: a row per run, a column per checkout."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkout", action="append", required=True, help="may be given twice")
    parser.add_argument("--only", help="names of runs, joined by a comma")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(RUNS)
    digests = [digests_of(Path(path).resolve(), names, options.seed) for path in options.checkout]
    for name in names:
        mine = [one[name] for one in digests]
        verdict = "" if len(mine) == 1 else ("same" if len(set(mine)) == 1 else "DIFFERENT")
        print(f"{name:16}", *mine, verdict)
    sys.exit(any(len({one[name] for one in digests}) > 1 for name in names))


def digests_of(checkout, names, seed):
    """``{run: digest}`` of the runs as a checkout trains them."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for split, rows in (("train", 600), ("dev", 120)):
            write_texts(folder / f"{split}.jsonl", rows, seed + (split == "dev"))
        digests = {}
        for name in names:
            digests[name] = digest_of_run(checkout, folder, name)
            print(f"{checkout.name}: {name} {digests[name]}", file=sys.stderr)
        return digests


def write_texts(path, rows, seed):
    """Texts whose labels are the two marked words, and whose third label is their sum."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(rows):
        one, other = random.integers(0, 30, 2)
        noise = [f"noise{number}" for number in random.integers(0, 40, 5)]
        labels = sorted({f"l{one}", f"l{other}", f"s{(one + other) % 10}"})
        text = " ".join([*noise[:2], _WORDS[one], *noise[2:4], _WORDS[other], noise[4]])
        lines.append(json.dumps({"text": text, "labels": labels}) + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def digest_of_run(checkout, folder, name):
    """Trains one run and predicts with it; hashes what came out."""
    sections = dict(RUNS[name])
    text = sections.pop("text", {"name": "tfidf"})
    config = {
        "run": str(folder / name),
        "data": {
            "name": "texts", "train": str(folder / "train.jsonl"), "dev": str(folder / "dev.jsonl"),
            "text_features": text,
        },
        "training": {
            "batch_size": 50, "epochs": 3, "optimizer": {"name": "adam", "learning_rate": 0.01},
        },
        "evaluation": {"k": [1, 3]},
        **json.loads(json.dumps(sections).replace("{folder}", str(folder))),
    }  # fmt: skip
    if "encoder" not in config:
        del config["training"]
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    prepared = ("--prepared", str(folder / f"prepared-{name}"))
    call(checkout, "train", "--config", str(path), *prepared)
    run = folder / name
    predicted = call(checkout, "predict", "--run", str(run), str(folder / "dev.jsonl"), "--k", "5")
    whole = hashlib.sha256(predicted)
    summary = run / "summary.json"  # repetitions have their own
    dev = json.loads(summary.read_text("utf-8")).get("dev", {}) if summary.exists() else {}
    whole.update(json.dumps({key: dev[key] for key in sorted(dev) if "P@" in key}).encode())
    for digest in sorted(array_digests(run)):
        whole.update(digest)
    return whole.hexdigest()[:16]


def call(checkout, command, *arguments):
    """Standard output of ``tfxc COMMAND ...`` of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "tfxc", command, *arguments],
        env=environment, cwd=checkout, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{checkout}: {command} {arguments}:\n{done.stderr.decode()}")
    return done.stdout


def array_digests(run):
    """A hash of every array of a run but those of prepared data, checkpoints and logs."""
    for path in run.rglob("*"):
        if path.suffix == ".npy":
            yield _digest(np.load(path))
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                yield from (_digest(arrays[key]) for key in arrays.files)
        elif path.suffix == ".h5":
            with h5py.File(path) as file:
                names = []
                file.visit(names.append)
                yield from (_digest(file[n][()]) for n in names if hasattr(file[n], "dtype"))


def _digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()


if __name__ == "__main__":
    main()
