"""Examples/s of the input pipeline on one core next to what a training step consumes.

    python benchmarks/input_pipeline.py

Writes 100,000 rows of the step benchmark's shape (135,909 features, 75 non-zeros, 5 labels) as
records, then measures in turn, in this process: reading the shards, batches of 256 consumed in the
graph and from Python on one core, and the training step on all cores.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

BATCH = 256
ROWS = 100_000


def write_data(folder):
    """A text file of the Extreme Classification Repository, prepared; returns the folder."""
    import numpy as np
    import scipy.sparse
    from train_step import FEATURES, LABELS, NONZEROS

    from tfxc.data.examples.rows import Rows
    from tfxc.data.store.manifest import Manifest
    from tfxc.data.store.records.shard_writer import write_split

    random = np.random.default_rng(0)
    ids = np.sort(random.integers(0, FEATURES, (ROWS, NONZEROS)), axis=1)
    values = random.random(ids.size, dtype=np.float32)
    splits = np.arange(0, ids.size + 1, NONZEROS)
    matrix = scipy.sparse.csr_matrix((values, ids.ravel(), splits), (ROWS, FEATURES))
    labels = random.integers(0, 10_000, (ROWS, LABELS))
    rows = Rows.from_csr(matrix, [sorted(set(row)) for row in labels.tolist()])
    shards = [rows.slice(start, start + 65_536) for start in range(0, len(rows), 65_536)]
    split = write_split(folder, "train", shards, "blocks", 10_000)
    Manifest(
        name="synthetic",
        settings_fingerprint="00000000",
        layout="blocks",
        feature_kind="sparse",
        num_features=FEATURES,
        num_labels=10_000,
        num_unseen_labels=0,
        text_features=None,
        row_normalise=None,
        sources={},
        splits={"train": split},
    ).save(folder)


def rate(function, examples):
    """Examples/s of one call."""
    begin = time.perf_counter()
    function()
    return examples / (time.perf_counter() - begin)


def pipeline_rates(source, rounds):
    """Examples/s of the batches: consumed in the graph, and from Python."""
    import tensorflow as tf

    from tfxc.data.sources.dataset import training_dataset

    steps = 300

    def dataset():
        return training_dataset(source, batch_size=BATCH, seed=0, num_steps=steps)

    @tf.function
    def in_graph(batches):
        return batches.reduce(0.0, lambda total, b: total + b["features"]["weights"][0])

    def from_python():
        for _ in dataset():
            pass

    in_graph(dataset())
    examples = steps * BATCH
    graph = [rate(lambda: in_graph(dataset()), examples) for _ in range(rounds)]
    return {"in the graph": graph, "from Python": [rate(from_python, examples) for _ in graph]}


def main():
    """Prints the rates and the ratio to the step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the results here")
    options = parser.parse_args()
    from train_step import tfxc_worker

    step = tfxc_worker(os.cpu_count())
    from tfxc.data.sources.shards import ShardSource

    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        for _ in range(3):
            step()
        rates["training step, all cores"] = [rate(step, BATCH) for _ in range(4 * options.rounds)]
        # Threads made from now on inherit this; those of TensorFlow's pool keep all cores, so
        # everything is moved.
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), {min(os.sched_getaffinity(0))})
        read = [rate(lambda: ShardSource(folder, "train"), ROWS) for _ in range(options.rounds)]
        rates["reading the shards, one core"] = read
        for name, values in pipeline_rates(ShardSource(folder, "train"), options.rounds).items():
            rates[f"batches {name}, one core"] = values
    report(rates)
    if options.json:
        Path(options.json).write_text(json.dumps(rates))
    return 0


def report(rates):
    """Prints medians and ratios to the step."""
    medians = {name: sorted(values)[len(values) // 2] for name, values in rates.items()}
    step = medians["training step, all cores"]
    for name, value in medians.items():
        print(f"{name:36}{value:12,.0f} examples/s{value / step:9.1f} x the step")


if __name__ == "__main__":
    sys.exit(main())
