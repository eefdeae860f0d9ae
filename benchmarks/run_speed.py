"""Size of runs and their time per example, by turns, from ready features to the best label.

    python benchmarks/run_speed.py RUN OTHER ... --data FILE

For a pruned or distilled model next to the one it comes from. The runs must take the same kind of
raw data; each reads FILE with its own features. Prints medians for single examples and batches of
32, and the ratio to the first run.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main():
    """Prints a row per run and batch size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--data", required=True, metavar="FILE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, default=24, help="batches of a turn")
    parser.add_argument("--rounds", type=int, default=4, help="turns; the first is not counted")
    options = parser.parse_args()
    import tensorflow as tf

    import tfxc  # noqa: F401  (chooses TensorFlow's kernels)

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    print(f"{'run':40}{'batch':>6}{'weights MB':>12}{'ms/example':>12}{'times as fast':>15}")
    for size in (1, 32):
        models = {run: searched(run, options.data, size, options.batches) for run in options.runs}
        seconds = {run: [] for run in models}
        for turn in range(options.rounds):
            for run, (search, batches) in models.items():
                times = [timed(search, batch) for batch in batches]
                seconds[run] += times if turn else []
        medians = {run: statistics.median(times) / size for run, times in seconds.items()}
        for run, median in medians.items():
            weights = (Path(run) / "model.weights.h5").stat().st_size / 1e6
            faster = medians[options.runs[0]] / median
            print(f"{run:40}{size:6}{weights:12.1f}{1e3 * median:12.3f}{faster:15.2f}", flush=True)
    return 0


def searched(run, data, size, count):
    """The search of a run and its first full batches of a file."""
    import tensorflow as tf

    from tfxc.data.reading.formats import open_reader
    from tfxc.inference.searcher import Searcher
    from tfxc.runs.loaded import load_run

    loaded = load_run(run)
    rows = next(iter(loaded.rows(open_reader(data))))
    starts = range(0, min(len(rows) // size, count) * size, size)
    batches = [rows.slice(start, start + size).batch()["features"] for start in starts]
    return Searcher(loaded.model, 1), tf.nest.map_structure(tf.constant, batches)


def timed(search, features):
    """Seconds of one search."""
    begin = time.perf_counter()
    search({"features": features})
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
