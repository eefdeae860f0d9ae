"""Peak memory of training a linear ranker on sparse terms followed by dense vectors.

    tfxc train --config xr_linear_amazon3m --rehearse 0.05
    python benchmarks/ranker_features.py prepared/FOLDER [--dim 768] [--in-memory]

The terms and labels are those of a prepared set, such as the rehearsal of a published one; the
vectors are a random projection of the terms, so that something can be learned from them. Prints the
size of the concatenated features, the processor time, and the highest resident size without pages
of files, which the kernel may drop (``RssAnon``, sampled; Linux). ``--in-memory`` concatenates the
features as a whole.
"""

import argparse
import contextlib
import tempfile
import threading
import time
from pathlib import Path

import numpy as np


def status(*names):
    """Megabytes of lines in this process's status."""
    with open("/proc/self/status", encoding="ascii") as stream:
        fields = dict(line.split(":", 1) for line in stream)
    return [int(fields[name].split()[0]) / 1024 for name in names]


class Sampler(threading.Thread):
    """Samples the memory of this process until it is stopped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak = 0.0
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.wait(0.05):
            self.peak = max(self.peak, *status("RssAnon"))


def vectors_of(terms, dim, path):
    """A random projection of the terms, written in blocks and mapped."""
    signs = np.random.default_rng(0).choice(np.float32([-1, 1]), (terms.shape[1], dim))
    target = np.lib.format.open_memmap(path, "w+", np.float32, (terms.shape[0], dim))
    for begin in range(0, terms.shape[0], 8192):
        target[begin : begin + 8192] = terms[begin : begin + 8192] @ signs
    target.flush()
    del target
    return np.load(path, mmap_mode="r")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--in-memory", action="store_true")
    parser.add_argument("--max-nonzeros", type=int, default=128, help="of the tree's label vectors")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    from tfxc.labels.label_embeddings import pifa
    from tfxc.labels.tree_building import ClusteringSettings, build_tree
    from tfxc.ranker.chain import train_ranker
    from tfxc.ranker.layer import Limits
    from tfxc.ranker.settings import RankerSettings
    from tfxc.recipes.xr_linear.stages import training_matrices
    from tfxc.recipes.xr_transformer.embeddings import concatenated, concatenated_on_disk

    terms, labels = training_matrices(options.prepared)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        vectors = vectors_of(terms, options.dim, Path(folder) / "vectors.npy")
        sampler = Sampler()
        before = status("RssAnon")[0]
        sampler.start()
        began = time.process_time()
        if options.in_memory:
            features = concatenated(terms, vectors)
        else:
            features = stack.enter_context(concatenated_on_disk(terms, vectors))
        size = (features.data.nbytes + features.indices.nbytes) / 2**20
        print(f"{features.shape[0]:,} rows, {labels.shape[1]:,} labels, features {size:,.0f} MB")
        label_vectors = pifa(labels, features, options.max_nonzeros, options.threads)
        settings = ClusteringSettings(16, max_leaf_size=100)
        tree = build_tree(label_vectors, settings, threads=options.threads)
        del label_vectors
        limits = Limits(threads=options.threads)
        train_ranker(features, labels, tree, folder, RankerSettings(), limits=limits)
        seconds = time.process_time() - began
        sampler.stopped.set()
        peak = f"{before:,.0f} MB before, at most {sampler.peak:,.0f} MB"
        print(f"{peak}; {seconds:,.0f} s of processor time")


if __name__ == "__main__":
    main()
