"""Times the top k from hashed bucket scores against the plain algorithm of MACH's authors.

The plain algorithm, rewritten here in C from its description: int64 lookups, R passes over a
float row of N scores, then a heap of k. Everything runs on one thread, in turns; medians of the
processor time are printed. Needs a C compiler.

    python benchmarks/gather.py [--json FILE] [--labels N] [--rounds 7] [--batch 64]
"""

import argparse
import ctypes
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfxc.core.storage.files import atomic_file
from tfxc.labels.hashing import bucket_lookups
from tfxc.ops.search.bucket_search.gather import has_native, top_k
from tfxc.ops.search.bucket_search.inverse_lookups import invert_lookups

PLAIN = r"""
#include <stdint.h>
#include <string.h>
void plain_top_k(const float *scores, const int64_t *lookups, int64_t repetitions,
                 int64_t buckets, int64_t labels, int64_t k, float *row, int64_t *ids,
                 float *best) {
    memset(row, 0, labels * sizeof(float));
    for (int64_t r = 0; r < repetitions; r++)
        for (int64_t c = 0; c < labels; c++)
            row[c] += scores[r * buckets + lookups[r * labels + c]];
    int64_t size = 0;
    for (int64_t c = 0; c < labels; c++) {
        int64_t slot;
        if (size < k) {
            for (slot = size++; slot && best[(slot - 1) / 2] > row[c]; slot = (slot - 1) / 2)
                best[slot] = best[(slot - 1) / 2], ids[slot] = ids[(slot - 1) / 2];
        } else if (row[c] > best[0]) {
            for (slot = 0;;) {
                int64_t child = 2 * slot + 1;
                if (child + 1 < k && best[child + 1] < best[child]) child++;
                if (child >= k || best[child] >= row[c]) break;
                best[slot] = best[child], ids[slot] = ids[child], slot = child;
            }
        } else continue;
        best[slot] = row[c], ids[slot] = c;
    }
}
"""


class Plain:
    """The plain algorithm, compiled with -O3."""

    def __init__(self, lookups, k):
        self.lookups = lookups.astype(np.int64)
        self.k = k
        self.row = np.empty(lookups.shape[1], np.float32)
        compiler = shutil.which(os.environ.get("CC", "cc")) or sys.exit("no C compiler found")
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "plain.c")
            library = Path(folder, "plain.so")
            source.write_text(PLAIN, encoding="utf-8")
            flags = ["-O3", "-shared", "-fPIC"]
            subprocess.run([compiler, *flags, source, "-o", library], check=True)
            self.function = ctypes.CDLL(str(library)).plain_top_k

    def __call__(self, bucket_scores):
        ids = np.empty((len(bucket_scores), self.k), np.int64)
        best = np.empty(ids.shape, np.float32)
        sizes = [ctypes.c_int64(n) for n in (*bucket_scores.shape[1:], len(self.row), self.k)]
        for row, example in enumerate(bucket_scores):
            arrays = (example, self.lookups)
            self.function(
                *(array.ctypes.data_as(ctypes.c_void_p) for array in arrays),
                *sizes,
                *(a.ctypes.data_as(ctypes.c_void_p) for a in (self.row, ids[row], best[row])),
            )
        order = np.lexsort((ids, -best))
        return np.take_along_axis(ids, order, 1), np.take_along_axis(best, order, 1)


def random_scores(batch, repetitions, num_buckets, seed=0):
    shape = (batch, repetitions, num_buckets)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def peaked_scores(batch, lookups, num_buckets, raised=20, seed=1, every=1):
    """Random scores; in ``every`` n-th example all repetitions raise the same 20 classes."""
    scores = random_scores(batch, len(lookups), num_buckets, seed)
    random = np.random.default_rng(seed)
    for example in scores[::every]:
        labels = random.choice(lookups.shape[1], raised, replace=False)
        for row, lookup in zip(example, lookups, strict=True):
            row[np.unique(lookup[labels])] += 10
    return scores


def memory_bandwidth(megabytes=256):
    """GB/s of reading an array that is far larger than the caches, one thread."""
    data = np.ones(megabytes * 2**18, np.float32)
    data.max()
    began = time.perf_counter()
    for _ in range(3):
        data.max()
    return 3 * data.nbytes / (time.perf_counter() - began) / 1e9


def milliseconds(function, *arguments, **keywords):
    began = time.process_time()  # one thread: what other programs take does not count
    function(*arguments, **keywords)
    return 1e3 * (time.process_time() - began)


def measure(options):
    lookups = bucket_lookups(options.labels, options.buckets, range(options.repetitions))
    inverse = invert_lookups(lookups, options.buckets)
    plain = Plain(lookups, options.k)
    sets = {
        "random": random_scores(options.batch, options.repetitions, options.buckets),
        "peaked": peaked_scores(options.batch, lookups, options.buckets),
    }

    def ours(scores, method, given=inverse):
        return top_k(scores, lookups, options.k, method=method, inverse=given, threads=1)

    times = {}
    for round_number in range(options.rounds + 1):  # the first round warms up
        for name, scores in sets.items():
            few = scores[: options.plain_batch]
            figures = {
                (name, "plain"): milliseconds(plain, few) / len(few),
                (name, "brute"): milliseconds(ours, scores, "brute") / len(scores),
                (name, "threshold"): milliseconds(ours, scores, "threshold") / len(scores),
                (name, "auto"): milliseconds(ours, scores, "auto") / len(scores),
                (name, "brute, batch 1"): milliseconds(ours, scores[:1], "brute"),
                (name, "threshold, batch 1"): milliseconds(ours, scores[:1], "threshold"),
            }
            if round_number:
                for key, value in figures.items():
                    times.setdefault(key, []).append(value)
    for name, scores in sets.items():
        assert np.array_equal(plain(scores[:4])[1], ours(scores[:4], "threshold")[1]), name
    return {key: statistics.median(values) for key, values in times.items()}


def memory_growth(options):
    """Peak memory in MB that a batch of 256 adds, over its scores, lookups and inverse."""
    lookups = bucket_lookups(options.labels, options.buckets, range(options.repetitions))
    inverse = invert_lookups(lookups, options.buckets)
    # Both methods are at work. Nothing large is freed here, so that the peak is the present use.
    scores = peaked_scores(256, lookups, options.buckets, every=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    top_k(scores, lookups, options.k, method="threshold", inverse=inverse)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) / (1024 if sys.platform != "darwin" else 2**20)


def report(options, medians, bandwidth, growth):
    gathers = options.labels * options.repetitions
    print(f"{platform.processor() or platform.machine()}, {bandwidth:.1f} GB/s reading memory")
    print(
        f"N={options.labels:,} R={options.repetitions} B={options.buckets:,} k={options.k}, "
        f"batch {options.batch}, one thread, median of {options.rounds}\n"
    )
    print(f"{'scores':<8}{'method':<20}{'ms/example':>11}{'speed-up':>10}{'10^9 gathers/s':>16}")
    for (name, method), value in medians.items():
        ratio = medians[name, "plain"] / value
        rate = "" if "brute" not in method and method != "plain" else f"{gathers / value / 1e6:.2f}"
        print(f"{name:<8}{method:<20}{value:>11.3f}{ratio:>10.1f}{rate:>16}")
    # The plain algorithm reads 8 bytes of lookup and reads and writes 8 bytes of score per gather.
    limit = 1e3 * 16 * gathers / (bandwidth * 1e9)
    print(f"\nplain algorithm at the memory's speed: {limit:.1f} ms/example")
    print(f"peak memory added by a batch of 256 on all cores: {growth:.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=670_091)
    parser.add_argument("--buckets", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=16)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--plain-batch", type=int, default=4, help="examples the plain one does")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", metavar="FILE", help="also write the results there")
    options = parser.parse_args()
    if not has_native():
        sys.exit("the kernels are not built: run `python setup.py build_ext --inplace`")
    growth = memory_growth(options)  # first: later peaks would hide it
    medians = measure(options)
    bandwidth = memory_bandwidth()
    report(options, medians, bandwidth, growth)
    if options.json:
        result = vars(options) | {"memory_mb": growth, "bandwidth_gb_s": bandwidth}
        result["ms_per_example"] = {f"{a}: {b}": value for (a, b), value in medians.items()}
        with atomic_file(options.json) as stream:
            json.dump(result, stream, indent=2)


if __name__ == "__main__":
    main()
