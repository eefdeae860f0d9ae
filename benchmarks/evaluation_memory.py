"""Peak memory of searching 670,091 labels, beyond the model, batch 256.

    python benchmarks/evaluation_memory.py [--graph]

Builds an untrained MACH model (64 -> 16 repetitions of 10,000 buckets), notes the resident size,
searches some batches, and prints how far the peak rose. ``--graph`` uses the search inside the
TensorFlow graph, as exported models do, instead of the native kernel.
"""

import argparse
import resource
import sys

LABELS = 670_091
BUCKETS = 10_000
REPETITIONS = 16
WIDTH = 64


def resident_bytes():
    """Bytes this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize()


def main():
    """Prints the rise of the peak."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--graph", action="store_true")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=8)
    options = parser.parse_args()
    import numpy as np

    from tfxc.encoders.precomputed import Precomputed
    from tfxc.heads.mach import MACH
    from tfxc.inference.searcher import Searcher
    from tfxc.model import XCModel
    from tfxc.objectives.sigmoid import Sigmoid

    head = MACH(LABELS, num_buckets=BUCKETS, num_repetitions=REPETITIONS)
    model = XCModel(Precomputed(WIDTH), head, Sigmoid())
    random = np.random.default_rng(0)
    shape = (options.batch_size, WIDTH)
    batches = [random.normal(size=shape).astype(np.float32) for _ in range(options.batches)]
    model(batches[0][:2])
    if options.graph:
        head.search_methods = ()
    searcher = Searcher(model, 5)
    before = resident_bytes()
    for batch in batches:
        searcher({"features": batch})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"resident with the model: {before / 2**20:,.0f} MB")
    print(f"peak while searching:    {peak / 2**20:,.0f} MB")
    print(f"rise:                    {max(0, peak - before) / 2**20:,.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
