"""Time and peak memory of a head's training step, from thousands to millions of labels.

    python benchmarks/head_step.py --labels 1000 10000 100000 --memory-gb 4

A step is forward, backward and Adam update of the head alone, on ready feature vectors with one
label each, objective ``softmax``. Each case runs in its own process. Memory is the rise of the
process's peak resident size (of TensorFlow's peak on a GPU) over what it was before the head was
built. Cases whose weights, moments and largest temporaries exceed ``--memory-gb`` are left out.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

BATCHES = 8
PROJECTION = 256
SAMPLED_HEADS = 10
SAMPLE_RATE = 0.1


class Case(NamedTuple):
    """A head at one size.

    Attributes:
        section: arguments of the head.
        weights: trainable numbers.
        temporaries: numbers of the largest temporaries of a step.
        time_order, memory_order: how time and memory of a step are expected to grow.
    """

    section: dict
    weights: int
    temporaries: int
    time_order: str
    memory_order: str


def dense(labels, dim, batch):
    """All labels."""
    weights = labels * (dim + 1)
    return Case({"name": "dense"}, weights, weights + 3 * batch * labels, "N D", "N D")


def product(num_heads):
    """Heads per digit."""

    def case(labels, dim, batch):
        from tfxc.labels.mixed_radix import suggest_digit_sizes

        columns = sum(suggest_digit_sizes(labels, num_heads))
        order = f"{num_heads} N^(1/{num_heads}) D"
        section = {"name": "mhp", "num_heads": num_heads}
        return Case(section, columns * (dim + 1), 3 * batch * columns, order, order)

    return case


def cascade(labels, dim, batch):
    """Teacher forcing over two levels."""
    sizes = two_digits(labels)
    weights = (sizes[0] + PROJECTION) * (dim + 1) + labels * PROJECTION
    section = {"name": "mhc", "heads": sizes, "projection_dim": PROJECTION}
    temporaries = 3 * batch * sizes[1] * PROJECTION
    return Case(section, weights, temporaries, "N^(1/2) (D + d)", "N d")


def sampling(way):
    """K blocks of labels."""

    def case(labels, dim, batch):
        sizes = two_digits(labels)
        sampled = min(SAMPLED_HEADS, -(-labels // sizes[1]))
        section = {"name": "mhs", "heads": sizes, "num_sampled_heads": sampled, "sampling": way}
        own = sampled * batch if way == "per_example" else batch + sampled
        temporaries = 4 * own * sizes[1] * dim
        return Case(section, labels * dim, temporaries, "K N^(1/2) D", "N D")

    return case


def partial(labels, dim, batch):
    """A share of the labels, drawn for each batch."""
    section = {"name": "margin", "sampling": "partial", "sample_rate": SAMPLE_RATE}
    rows = math.ceil(SAMPLE_RATE * labels)
    return Case(section, labels * dim, 4 * rows * (dim + batch), "q N D", "N D")


def two_digits(labels):
    """Sizes of two digits."""
    from tfxc.labels.mixed_radix import suggest_digit_sizes

    return list(suggest_digit_sizes(labels, 2))


CASES = {
    "dense": dense,
    "mhp, 2 digits": product(2),
    "mhp, 3 digits": product(3),
    "mhc": cascade,
    "mhs per example": sampling("per_example"),
    "mhs per batch": sampling("per_batch"),
    "margin, partial": partial,
}


def measure(name, labels, options):
    """One case in this process: dict of seconds per step and bytes."""
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    from tfxc.core import registry
    from tfxc.core.config import TrainingSettings
    from tfxc.encoders.precomputed import Precomputed
    from tfxc.model import XCModel
    from tfxc.objectives.softmax import Softmax
    from tfxc.training.optimization.optimizers import Adam
    from tfxc.training.optimization.schedules import Schedule
    from tfxc.training.step import TrainStep

    random = np.random.default_rng(0)
    shape = (BATCHES, options.batch, options.dim)
    batches = tf.data.Dataset.from_tensor_slices({
        "features": random.normal(size=shape).astype(np.float32),
        "labels": random.integers(0, labels, (*shape[:2], 1)).astype(np.int32),
        "example_index": np.zeros(shape[:2], np.int64),
    })  # fmt: skip
    before = peak_bytes(tf)
    section = CASES[name](labels, options.dim, options.batch).section
    head = registry.create("head", section, num_labels=labels)
    model = XCModel(Precomputed(options.dim), head, Softmax())
    head.build((None, options.dim))
    settings = TrainingSettings(batch_size=options.batch)
    step = TrainStep(model, Adam(), Schedule(10**6), settings, tf.distribute.get_strategy())
    iterator = iter(batches.repeat())
    seconds = []
    for _ in range(3 + options.steps):
        begin = time.perf_counter()
        float(step.run(iterator))
        seconds.append(time.perf_counter() - begin)
    parameters = sum(math.prod(weight.shape) for weight in head.trainable_weights)
    return {"seconds": seconds[3:], "bytes": peak_bytes(tf) - before, "parameters": parameters}


def peak_bytes(tf):
    """Peak memory of this process so far, on the device that computes."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_own_process(name, labels, options):
    """``measure`` in a new process; None if it did not come to its end."""
    command = [sys.executable, __file__, "--case", name, "--labels", str(labels)]
    for option in ("batch", "dim", "steps", "threads"):
        command += [f"--{option}", str(getattr(options, option))]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def report(name, labels, options):
    """Runs one case and prints its row."""
    case = CASES[name](labels, options.dim, options.batch)
    needed = 4 * (3 * case.weights + case.temporaries)
    row = f"{name:16}{labels:>12,}"
    if needed > options.memory_gb * 2**30:
        print(f"{row}  needs about {needed / 2**30:.1f} GB: left out", flush=True)
        return None
    measures = in_own_process(name, labels, options)
    if measures is None:
        print(f"{row}  stopped before its end", flush=True)
        return None
    print(
        f"{row}{measures['parameters']:15,}{1e3 * statistics.median(measures['seconds']):10.1f}"
        f"{measures['bytes'] / 2**20:10,.0f}   {case.time_order:16} {case.memory_order}",
        flush=True,
    )
    return {"head": name, "labels": labels, **measures}


def main():
    """Prints one row per case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = [10**power for power in range(3, 8)]
    parser.add_argument("--labels", type=int, nargs="+", default=sizes, metavar="N")
    parser.add_argument("--heads", nargs="+", choices=CASES, default=list(CASES), metavar="HEAD")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--memory-gb", type=float, default=8.0, help="leave larger cases out")
    parser.add_argument("--json", help="write the results here")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.labels[0], options)))
        return 0
    print(
        f"batch {options.batch}, D = {options.dim}, d = {PROJECTION}, K = {SAMPLED_HEADS}, ", end=""
    )
    print(f"q = {SAMPLE_RATE}, {options.threads} threads; orders: of time and of memory")
    print(f"{'head':16}{'labels':>12}{'parameters':>15}{'ms/step':>10}{'peak MB':>10}   orders")
    rows = [report(name, labels, options) for name in options.heads for labels in options.labels]
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump([row for row in rows if row], stream, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
