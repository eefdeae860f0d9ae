"""Exact and approximate search of the best labels, by turns, for more and more labels.

    python benchmarks/approximate_search.py [--labels 40000 160000 640000] [--dim 128] [--batch 256]

The rows of the labels are drawn around centres, 32 labels each, as trained ones lie in groups; a
query is a row with noise. Printed are the seconds in which the index is made, the milliseconds per
query of both searches (the median of the rounds), and the share of the best ten labels that the
index finds. Set OMP_NUM_THREADS and use ``taskset`` to compare on one core.
"""

import argparse
import sys
import time

GROUP = 32
SPREAD = 0.5
NOISE = 0.3


def drawn(labels, queries, dim):
    """Rows of labels float32 (labels, dim), and queries float32 (queries, dim)."""
    import numpy as np

    draw = np.random.default_rng(0)
    rows = np.repeat(draw.standard_normal((-(-labels // GROUP), dim), np.float32), GROUP, axis=0)
    rows = rows[:labels] + SPREAD * draw.standard_normal((labels, dim), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queried = rows[draw.integers(0, labels, queries)]
    return rows, queried + NOISE / np.sqrt(dim) * draw.standard_normal((queries, dim), np.float32)


def measured(labels, options):
    """Seconds of indexing, milliseconds per query exact and approximate, recall@10."""
    import numpy as np
    import tensorflow as tf

    from tfxc.heads.sampled.head import Sampled
    from tfxc.ops.search.nearest import NearestRows

    rows, queries = drawn(labels, options.batch * options.rounds, options.dim)
    head = Sampled(labels, bias=False)
    head.build((None, options.dim))
    head.kernel.assign(rows)
    begin = time.perf_counter()
    index = NearestRows(head.inner_products(), labels)
    made = time.perf_counter() - begin
    exact = tf.function(lambda batch: head.top_k(batch, 10))
    exact(queries[: options.batch])
    index.search(queries[: options.batch], 10)
    times = {"exact": [], "approximate": []}
    hits = []
    for batch in np.split(queries, options.rounds):
        ids = []
        for name, search in (("exact", exact), ("approximate", lambda q: index.search(q, 10))):
            begin = time.perf_counter()
            ids.append(np.asarray(search(batch)[0]))
            times[name].append(time.perf_counter() - begin)
        hits += [
            len(set(a) & set(b)) / 10 for a, b in zip(*map(np.ndarray.tolist, ids), strict=True)
        ]
    each = [1000 * np.median(times[name]) / options.batch for name in times]
    return made, *each, np.mean(hits)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, nargs="+", default=[40_000, 160_000, 640_000])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--batch", type=int, default=256, help="queries of a search")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args(arguments)
    print(f"{'labels':>10} {'index s':>8} {'exact ms':>9} {'approx. ms':>10} {'recall@10':>9}")
    for labels in options.labels:
        made, exact, approximate, recall = measured(labels, options)
        row = f"{labels:>10,} {made:8.1f} {exact:9.3f} {approximate:10.3f} {100 * recall:9.2f}"
        print(row, flush=True)


if __name__ == "__main__":
    sys.exit(main())
