"""Measures batches from a feature set larger than memory: their speed, and how well they are mixed.

    python benchmarks/feature_shuffle.py [--rows 17091657] [--dim 512] [--budgets 2,8] [--json FILE]

The set is made in --folder (a temporary one by default) with its rows sorted by class, which is
the worst order a file can have. Without --fill its features are a hole in the file, which is read
like any other but comes from no disk; with --fill speed is measured on a set of this many gigabytes
of random numbers, which is not in the system's file cache when it begins.

Speed: examples per second through the input pipeline of the training loop, over at least --windows
windows, and what the training step of SCENT over 360,232 classes takes of them on this machine.

Mixing: over one epoch, against a permutation of all rows.
* blocks: distinct blocks among the rows of a batch;
* classes: distinct classes among them;
* distance: mean distance in the file between rows that follow each other in the order, as a share
  of the file (a third if all is mixed);
* same block: share of rows that are followed by one of their own block;
* rank correlation of a row's place in the file with its place in the order, and of its places in
  two epochs.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfxc.core.storage.files import atomic_file
from tfxc.data.examples.order import permutation
from tfxc.data.reading.parsing.feature_set import FEATURES, LABELS, SETTINGS, FeatureSet
from tfxc.data.reading.parsing.row_file import array_header
from tfxc.data.sources.feature_sets import FeatureSource
from tfxc.data.store.feature_sets.writer import FeatureWriter

_SEED = 0
_STEPS_OF_NEED = 30
_BATCHES_LOOKED_AT = 2000


def make_set(folder, rows, dim, classes, filled):
    """Makes a set of ``rows`` rows sorted by class; the first ``filled`` ones hold numbers."""
    with FeatureWriter(folder, labels=[0], num_features=dim, num_labels=classes) as writer:
        writer.write(0, np.zeros((1, dim)))
    header = array_header((rows, dim), np.dtype(np.float32))
    random = np.random.default_rng(_SEED).standard_normal((4096, dim), np.float32)
    with open(folder / FEATURES, "wb") as stream:
        stream.write(header)
        for first in range(0, filled, len(random)):
            stream.write(random[: filled - first].data)
        stream.truncate(len(header) + 4 * rows * dim)
    np.save(folder / LABELS, (np.arange(rows, dtype=np.int64) * classes // rows).astype(np.int32))
    settings = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps({**settings, "num_examples": rows}))
    return FeatureSet(folder)


def forget(path):
    """Throws what the system has in memory of a file away, so that reading it reads the disk."""
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class OrderOnly(FeatureSource):
    """A source that reads nothing: its windows are as long as they would be, and empty."""

    def _load(self, numbers, progress=None):
        return range(sum(int(self._firsts[n + 1] - self._firsts[n]) for n in numbers))

    def order(self, epoch):
        """The row numbers of an epoch, in its order."""
        groups, _ = self._plan(_SEED, epoch)
        parts = []
        for number in range(len(groups)):
            _, order, index = self._window(_SEED, epoch, number).result()
            parts.append(index[order])
        return np.concatenate(parts)


def mixing(features, options, memory_bytes=None):
    """The metrics of one budget; of a permutation of all rows without one."""
    source = OrderOnly(features, memory_bytes or 1 << 60)
    if memory_bytes is None:
        source.block_rows = OrderOnly(features, options.budgets[0]).block_rows
        orders = [permutation(features.num_examples, _SEED, epoch) for epoch in (0, 1)]
    else:
        orders = [source.order(epoch) for epoch in (0, 1)]
    order = orders[0].astype(np.int64)
    blocks = order // source.block_rows
    size = options.batch
    starts = np.linspace(0, len(order) - size, _BATCHES_LOOKED_AT).astype(int)
    in_batches = np.sort(blocks[starts[:, None] + np.arange(size)], axis=1)
    classes = np.sort(features.labels[order[starts[:, None] + np.arange(size)]], axis=1)
    places = [np.argsort(order) for order in orders]
    return {
        "block rows": source.block_rows,
        "blocks per window": "all" if memory_bytes is None else len(source._plan(_SEED, 0)[0][0]),
        "blocks": 1 + float(np.count_nonzero(np.diff(in_batches), axis=1).mean()),
        "classes": 1 + float(np.count_nonzero(np.diff(classes), axis=1).mean()),
        "distance": float(np.abs(np.diff(order)).mean() / len(order)),
        "same block": float((np.diff(blocks) == 0).mean()),
        "correlation": float(np.corrcoef(np.arange(len(order)), order)[0, 1]),
        "two epochs": float(np.corrcoef(*places)[0, 1]),
    }


def speed(folder, options, memory_bytes):
    """Examples per second and per second of the processor, peak of the process's own memory."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from tfxc.data.sources.dataset import training_dataset

    features = FeatureSet(folder)
    forget(folder / FEATURES)
    source = FeatureSource(features, memory_bytes)
    window = features.num_examples
    if not source.in_memory:
        window = int(source._plan(_SEED, 0)[1][0])
    steps = max(1, min(options.windows * window, features.num_examples) // options.batch)
    batches = training_dataset(source, batch_size=options.batch, seed=_SEED, num_steps=steps)
    began = time.monotonic()
    used = time.process_time()
    own = 0
    for number, _ in enumerate(batches):
        if number % 500 == 0:
            own = max(own, own_bytes())
    seconds = time.monotonic() - began
    return {
        "examples/s": steps * options.batch / seconds,
        "examples/CPU s": steps * options.batch / (time.process_time() - used),
        "GB/s": steps * options.batch * features.num_features * 4e-9 / seconds,
        "own memory GB": own / 1e9,
    }


def own_bytes():
    """Memory of this process that is not a mapped file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)["RssAnon"].split()[0]) * 1024


def need(options):
    """Examples per second that the training step takes where batches cost nothing."""
    from dual_step import timed

    options.rounds = 3
    options.steps = _STEPS_OF_NEED
    seconds = timed({"tfxc": ("tfxc", options.rows)}, options, os.cpu_count())["tfxc"]
    return options.batch / statistics.median(seconds)


def main(argv=None):
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=17_091_657)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=360_232)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--budgets", default="2,8", help="memory_gb, e.g. 2,8")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--fill", type=float, default=0, metavar="GB", help="random numbers")
    parser.add_argument("--folder", help="where the set is made, in a new folder")
    parser.add_argument("--no-step", action="store_true", help="leave the training step out")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(argv)
    options.budgets = [int(float(gb) * 2**30) for gb in options.budgets.split(",")]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results = measure(options, Path(folder))
    print(table(results))
    if options.json:
        with atomic_file(options.json) as stream:
            json.dump({**results, "options": vars(options)}, stream, indent=1)


def measure(options, folder):
    """``{"mixing": {name: metrics}, "speed": {name: metrics}}``."""
    filled = min(options.rows, int(options.fill * 1e9) // (4 * options.dim))
    sizes = (options.dim, options.classes)
    results = {"mixing": {}, "speed": {}}
    features = make_set(folder / "hole", options.rows, *sizes, 0)
    for budget in options.budgets:
        results["mixing"][f"{budget / 2**30:g} GB"] = mixing(features, options, budget)
    results["mixing"]["all rows"] = mixing(features, options)
    if filled:
        features = make_set(folder / "filled", filled, *sizes, filled)
    for budget in options.budgets:
        name = f"{budget / 2**30:g} GB"
        # A process of its own, which holds nothing of the one before it.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            results["speed"][name] = pool.submit(speed, features.folder, options, budget).result()
    if not options.no_step:
        results["speed"]["training step"] = {"examples/s": need(options)}
    return results


def table(results):
    """The results as text."""
    lines = []
    for part in ("mixing", "speed"):
        names = list(next(iter(results[part].values())))
        lines.append("".join([f"{part:14}", *(f"{name:>16}" for name in names)]))
        for title, figures in results[part].items():
            cells = [figures.get(name, "") for name in names]
            shown = [f"{c:16,.4g}" if isinstance(c, float) else f"{c:>16}" for c in cells]
            lines.append("".join([f"{title:14}", *shown]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
