"""What the comparisons with peer packages share: our run, the records as arrays, the table."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SCORES = ("P@1", "P@3", "P@5")


def train_ours(config, epochs=None, changes=()):
    """Trains a changed config with the ordinary command into a scratch run; returns its row."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        changes = [f"run={run}", *changes, *([f"training.epochs={epochs}"] if epochs else [])]
        command = [sys.executable, "-m", "tfxc.train", "--config", config]
        command += [part for change in changes for part in ("--set", change)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        summary = json.loads((run / "summary.json").read_text())
    return {"seconds": summary["seconds"], **{name: summary["dev"][name] for name in SCORES}}


def run_peer(python, script, config, *options):
    """Runs ``script --worker train.npz dev.npz`` in the peer's Python; returns its JSON row."""
    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.store.preparation import ensure_prepared

    prepared = ensure_prepared(load_config(config).data)
    return run_peer_on(python, script, prepared, ("train", "dev"), *options)


def run_peer_on(python, script, prepared, splits, *options):
    """As ``run_peer``, on two splits of a prepared set."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{split}.npz") for split in splits]
        for split, path in zip(splits, paths, strict=True):
            write_arrays(prepared, split, path)
        command = [python, script, "--worker", *paths, *options]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def write_arrays(folder, split, path):
    """Writes a prepared split as plain arrays that need no TensorFlow to read."""
    import numpy as np

    from tfxc.data.sources.shards import ShardSource

    source = ShardSource(folder, split)
    whole = next(source.sequential(source.num_examples))
    sizes = {"num_features": source.num_features, "num_labels": source.num_labels}
    np.savez(path, **whole["features"], labels=whole["labels"], **sizes)


def precision(ids, labels):
    """P@1/3/5 of int (n, 5) predictions; labels int (n, most) padded with -1."""
    hits = (ids[:, :, None] == labels[:, None, :]).any(axis=2)
    return {name: float(hits[:, :k].mean()) for name, k in zip(SCORES, (1, 3, 5), strict=True)}


def print_rows(rows, peer):
    """Prints the table of rows by name and, if there are two, the ratio of training times."""
    print(f"{'':12}{'P@1':>8}{'P@3':>8}{'P@5':>8}{'seconds':>10}")
    for name, row in rows.items():
        scores = "".join(f"{100 * row[key]:8.2f}" for key in SCORES)
        print(f"{name:12}{scores}{row['seconds']:10.0f}")
    if len(rows) < 2:
        return
    ratio = rows[peer]["seconds"] / rows["tfxc"]["seconds"]
    print(f"training time, {peer} / tfxc: {ratio:.2f}")
