"""One training step of the MACH network: tfxc, PyTorch and plain Keras taking turns.

    python benchmarks/train_step.py --torch-python /path/to/python/with/torch

The model is one repetition of MACH: 135,909 sparse features -> 512 ReLU -> 10,000 sigmoid buckets,
batch 256, 75 features and 5 labels per example. Each framework runs in its own process; the
processes take turns, one active at a time, so that all see the same machine. tfxc's step includes
its input pipeline; the peers are handed ready tensors.
"""

import argparse
import json
import os
import statistics
import sys

from _alternating import answer, duel

FEATURES = 135_909
HIDDEN = 512
BUCKETS = 10_000
BATCH = 256
NONZEROS = 75
LABELS = 5
BATCHES = 16


def make_batches():
    """``BATCHES`` batches of (ids, weights, labels); feature frequencies fall off as in text."""
    import numpy as np

    random = np.random.default_rng(0)
    rank = np.arange(FEATURES)
    share = 1 / (rank + 100.0) ** 0.85
    share = np.cumsum(share / share.sum())
    for _ in range(BATCHES):
        ids = np.searchsorted(share, random.random((BATCH, NONZEROS))).astype(np.int32)
        ids = np.minimum(ids, FEATURES - 1)
        weights = random.random((BATCH, NONZEROS), dtype=np.float32)
        labels = random.integers(0, BUCKETS, (BATCH, LABELS)).astype(np.int32)
        yield ids, weights, labels


def tfxc_worker(threads):
    """A function () that trains one step."""
    import numpy as np
    import scipy.sparse
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from tfxc.core.config import parse_config
    from tfxc.data.examples.rows import Rows
    from tfxc.data.sources.base import ArraySource
    from tfxc.data.sources.dataset import training_dataset
    from tfxc.model import build_model
    from tfxc.training.optimization.optimizers import Adam
    from tfxc.training.optimization.schedules import Schedule
    from tfxc.training.step import TrainStep

    config = parse_config(
        {
            "run": "-",
            "data": {"name": "synthetic", "train": "-"},
            "encoder": {"name": "bag_mlp", "hidden": [HIDDEN]},
            "head": {"name": "dense"},
            "objective": {"name": "sigmoid", "reduction": "mean"},
            "training": {"batch_size": BATCH},
        }
    )
    parts = list(make_batches())
    ids, weights, labels = (np.concatenate([part[i] for part in parts]) for i in range(3))
    splits = np.arange(0, ids.size + 1, NONZEROS)
    matrix = scipy.sparse.csr_matrix((weights.ravel(), ids.ravel(), splits), (len(ids), FEATURES))
    source = ArraySource(Rows.from_csr(matrix, [sorted(set(row)) for row in labels.tolist()]))
    model = build_model(config, num_features=FEATURES, num_labels=BUCKETS)
    strategy = tf.distribute.get_strategy()
    step = TrainStep(model, Adam(), Schedule(10_000), config.training, strategy)
    dataset = training_dataset(source, batch_size=BATCH, seed=0, num_steps=10_000)
    iterator = iter(dataset)
    return lambda: float(step.run(iterator))


def torch_worker(threads):
    """The same step in PyTorch: EmbeddingBag(sparse) + SparseAdam, Linear + fused Adam."""
    import torch

    torch.set_num_threads(threads)
    table = torch.nn.EmbeddingBag(FEATURES, HIDDEN, mode="sum", sparse=True)
    bias = torch.nn.Parameter(torch.zeros(HIDDEN))
    output = torch.nn.Linear(HIDDEN, BUCKETS)
    torch.nn.init.trunc_normal_(table.weight, std=0.05)
    sparse = torch.optim.SparseAdam(table.parameters(), lr=1e-3)
    dense = torch.optim.Adam([bias, *output.parameters()], lr=1e-3, fused=True)
    lossf = torch.nn.BCEWithLogitsLoss()
    batches = [tuple(map(torch.from_numpy, batch)) for batch in make_batches()]
    count = 0

    def step():
        nonlocal count
        ids, weights, labels = batches[count % BATCHES]
        count += 1
        target = torch.zeros(BATCH, BUCKETS).scatter_(1, labels.long(), 1.0)
        hidden = torch.relu(table(ids, per_sample_weights=weights) + bias)
        loss = lossf(output(hidden), target)
        sparse.zero_grad()
        dense.zero_grad()
        loss.backward()
        sparse.step()
        dense.step()
        return float(loss.detach())

    return step


def keras_worker(threads):
    """Keras Dense on a SparseTensor with Keras Adam, as a user would write it."""
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    import keras

    inputs = keras.Input((FEATURES,), sparse=True)
    hidden = keras.layers.Dense(HIDDEN, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(BUCKETS)(hidden))
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    ready = []
    for ids, weights, labels in list(make_batches())[:4]:
        rows = np.repeat(np.arange(BATCH), NONZEROS)
        places = np.stack([rows, ids.ravel()], axis=1).astype(np.int64)
        bag = tf.sparse.reorder(tf.SparseTensor(places, weights.ravel(), (BATCH, FEATURES)))
        target = np.zeros((BATCH, BUCKETS), np.float32)
        np.put_along_axis(target, labels, 1.0, axis=1)
        ready.append((bag, tf.constant(target)))
    count = 0

    def step():
        nonlocal count
        count += 1
        return float(model.train_on_batch(*ready[count % len(ready)]))

    return step


WORKERS = {"tfxc": tfxc_worker, "torch": torch_worker, "keras": keras_worker}


def main():
    """Prints medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--torch-python", help="a Python with torch 2.13; left out without it")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", help="write the results here")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return answer(WORKERS[options.worker](options.threads), warm_up=3)
    pythons = {"tfxc": sys.executable, "keras": sys.executable}
    if options.torch_python:
        pythons["torch"] = options.torch_python
    worker = ("--threads", str(options.threads), "--worker")
    commands = {name: [python, __file__, *worker, name] for name, python in pythons.items()}
    steps = dict.fromkeys(pythons, options.steps) | {"keras": max(1, options.steps // 4)}
    times = duel(commands, options.threads, options.rounds, steps)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{'':8}{'min ms':>10}{'median ms':>12}{'examples/s':>12}{'ratio to tfxc':>15}")
    for name, values in times.items():
        print(
            f"{name:8}{1e3 * min(values):10.1f}{1e3 * medians[name]:12.1f}"
            f"{BATCH / medians[name]:12,.0f}{medians[name] / medians['tfxc']:15.2f}"
        )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump({"threads": options.threads, "seconds": times}, stream)
    return 0


if __name__ == "__main__":
    sys.exit(main())
