"""SCENT over more and more classes: steps by turns on the same sparse examples, then evaluation.

    python benchmarks/scent_classes.py [--classes N ...] [--examples N] [--folder FOLDER]

An encoder ``bag_mlp`` of one layer, head ``sampled`` and objective ``scent`` learn random sparse
examples, ``--nonzeros`` features each and one label, with ``sgd``. The examples are read from a
prepared folder of TFRecord shards by the pipeline of training, in windows of 1 GB; a model with
fewer classes than ``--examples`` has takes the labels modulo their number. Each model is in its own
process; they take turns, one active at a time. The column of the search is the exact top 5 and the
loss over all labels of a batch of 256, in a process each.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _alternating import answer, duel

FEATURES = 100_000
BLOCK = 1 << 18


def write_prepared(folder, options):
    """Writes a prepared folder with a training split, as preparation does."""
    from tfxc.data.store.manifest import Manifest
    from tfxc.data.store.records.shard_writer import in_order, write_split

    most = max(options.classes)
    split = write_split(folder, "train", in_order(blocks(options, most), 65_536), "blocks", most)
    Manifest(
        name="scent", settings_fingerprint="", layout="blocks", feature_kind="sparse",
        num_features=FEATURES, num_labels=most, num_unseen_labels=0, text_features=None,
        row_normalise=None, sources={}, splits={"train": split},
    ).save(folder)  # fmt: skip


def blocks(options, most):
    """``Rows`` of random examples, block by block; every label occurs."""
    import numpy as np

    from tfxc.data.examples.kinds import SPARSE
    from tfxc.data.examples.rows import Rows

    draw = np.random.default_rng(0)
    each = options.nonzeros
    step = FEATURES // each
    for first in range(0, options.examples, BLOCK):
        count = min(BLOCK, options.examples - first)
        ids = np.arange(each) * step + draw.integers(0, step, (count, each))
        arrays = {
            "indptr": np.arange(count + 1) * each,
            "indices": ids.astype(np.int32).ravel(),
            "values": draw.random(count * each, np.float32),
        }
        labels = (np.arange(first, first + count) % most).astype(np.int32)
        yield Rows(
            SPARSE, arrays, num_features=FEATURES, label_indptr=np.arange(count + 1),
            label_ids=labels,
        )  # fmt: skip


def model_of(classes, examples):
    """A built model."""
    from tfxc.core.config import parse_config
    from tfxc.model import build_model

    config = parse_config({
        "run": "unused", "data": {"name": "unused", "train": "unused"},
        "encoder": {"name": "bag_mlp", "hidden": [128], "dropout": 0.0},
        "head": {"name": "sampled"},
        "objective": {"name": "scent"},
        "training": {"batch_size": 128, "epochs": 1},
    })  # fmt: skip
    return build_model(config, num_features=FEATURES, num_labels=classes, num_examples=examples)


def step_of(classes, folder, options):
    """A function () that trains one step."""
    import tensorflow as tf

    from tfxc.core.config import TrainingSettings
    from tfxc.data.sources.dataset import training_dataset
    from tfxc.data.sources.shards import open_source
    from tfxc.training.optimization.optimizers import SGD
    from tfxc.training.optimization.schedules import Schedule
    from tfxc.training.step import TrainStep

    source = open_source(folder, "train", 1 << 30)
    model = model_of(classes, source.num_examples)
    settings = TrainingSettings(batch_size=options.batch)
    strategy = tf.distribute.get_strategy()
    step = TrainStep(model, SGD(0.1), Schedule(10**6), settings, strategy)
    batches = training_dataset(source, batch_size=options.batch, seed=0, num_steps=10**5)
    modulo = tf.constant(classes, tf.int32)
    batches = batches.map(lambda batch: {**batch, "labels": batch["labels"] % modulo})
    iterator = iter(batches)
    return lambda: float(step.run(iterator))


def search_seconds(classes):
    """A search of a batch of 256 and its loss over all labels: seconds, and of the processor.

    The best of three each.
    """
    import numpy as np

    from tfxc.data.examples.kinds import SPARSE

    model = model_of(classes, 256)
    draw = np.random.default_rng(0)
    rows = next(blocks(argparse.Namespace(examples=256, nonzeros=8), classes))
    features = SPARSE.batch(rows.arrays)
    labels = draw.integers(0, classes, (256, 1)).astype(np.int32)
    clocks = (time.perf_counter, time.process_time)
    seconds = []
    for _ in range(4):
        began = [clock() for clock in clocks]
        model.find_with_loss(features, labels, 5)
        seconds.append([clock() - start for clock, start in zip(clocks, began, strict=True)])
    return [min(times) for times in zip(*seconds[1:], strict=True)]


def parser():
    """The options."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    counts = {"type": int, "nargs": "+"}
    options.add_argument("--classes", **counts, default=[360_232, 10_000_000])
    options.add_argument("--search", **counts, default=[100_000, 1_000_000, 10_000_000])
    options.add_argument("--examples", type=int, default=17_000_000)
    options.add_argument("--nonzeros", type=int, default=8)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--steps", type=int, default=50)
    options.add_argument("--folder", help="prepared examples, kept (default: a temporary folder)")
    options.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options.add_argument("--searcher", type=int, help=argparse.SUPPRESS)
    return options


def main():
    """Prints a line per number of classes."""
    options = parser().parse_args()
    if options.searcher:
        print(*search_seconds(options.searcher))
        return 0
    if options.worker:
        answer(step_of(options.worker, Path(options.folder), options), warm_up=20)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.folder or scratch)
        if not (folder / "manifest.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_prepared(folder, options)
        report_steps(folder, options)
    report_searches(options)
    return 0


def report_steps(folder, options):
    """Times steps by turns."""
    common = ["--folder", str(folder), "--batch", str(options.batch)]
    commands = {
        str(count): [sys.executable, __file__, *common, "--worker", str(count)]
        for count in options.classes
    }
    times = duel(commands, 2, options.rounds, dict.fromkeys(commands, options.steps))
    print("| classes | step, median ms | minimum ms |\n|---|---|---|")
    for name, seconds in times.items():
        median = 1e3 * statistics.median(seconds)
        least = 1e3 * min(seconds)
        print(f"| {int(name):,} | {median:.2f} | {least:.2f} |", flush=True)


def report_searches(options):
    """Times searches, a process each."""
    print("\n| classes | 256 examples, s | CPU s | CPU s per million classes |\n|---|---|---|---|")
    for count in options.search:
        done = subprocess.run(
            [sys.executable, __file__, "--searcher", str(count)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        wall, busy = map(float, done.stdout.split()[-2:])
        each = 1e6 * busy / count
        print(f"| {count:,} | {wall:.2f} | {busy:.2f} | {each:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
