"""Memory bounds compared with the memory that a process uses: peak over baseline, as ratios.

    python benchmarks/memory_bounds.py [--examples N] [CASE ...]

Each case runs in its own process. Its baseline is the resident size once everything is
imported and has been used on a few examples; the metric is the highest resident size after that,
minus the baseline, over the bound that the documents state. Bounds are kept where no ratio is above
1.3 (docs/data.md, "Memory").

Cases: ``whole`` (a split loaded into memory), ``windows`` (a split larger than
``training.memory_gb``, one epoch), ``dense`` and ``wide`` (the same for vectors, and for rows of
10,000 features), ``dev_share`` (examples held out), ``prepare`` (a sparse file prepared),
``line`` (a line of a gigabyte in a file of a megabyte).
"""

import argparse
import json
import lzma
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

BUDGET = 128 << 20
MEGABYTE = 1 << 20
SHARD_BYTES = 32 << 20
LIMIT = 1.3


def resident_bytes():
    """Bytes this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize()


def peak_bytes():
    """The most bytes this process has held since the last ``reset_peak``."""
    with open("/proc/self/status", encoding="ascii") as stream:
        fields = dict(line.split(":", 1) for line in stream)
    return int(fields["VmHWM"].split()[0]) * 1024


def reset_peak():
    """Forgets the peak so far (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def sparse_rows(examples, features_each, seed=0):
    """``Rows`` of random sparse features with two labels each."""
    import numpy as np

    from tfxc.data.examples.kinds import SPARSE
    from tfxc.data.examples.rows import Rows

    draw = np.random.default_rng(seed)
    width = 100 * features_each
    step = width // features_each
    ids = np.arange(features_each) * step + draw.integers(0, step, (examples, features_each))
    arrays = {
        "indptr": np.arange(examples + 1) * features_each,
        "indices": ids.astype(np.int32).ravel(),
        "values": draw.random(examples * features_each, np.float32),
    }
    return Rows(
        SPARSE,
        arrays,
        num_features=width,
        label_indptr=np.arange(examples + 1) * 2,
        label_ids=np.sort(draw.integers(0, 500, (examples, 2)), axis=1).astype(np.int32).ravel(),
    )


def dense_rows(examples, dim, seed=0):
    """``Rows`` of random vectors with a label each."""
    import numpy as np

    from tfxc.data.examples.rows import Rows

    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 500, examples)
    return Rows.from_dense(draw.random((examples, dim), np.float32), labels[:, None].tolist())


def write_prepared(folder, shards, kind, num_features):
    """A prepared folder with a training split, as preparation writes it."""
    from tfxc.data.store.manifest import Manifest
    from tfxc.data.store.records.shard_writer import write_split

    split = write_split(folder, "train", list(shards), "blocks", 500)
    Manifest(
        name="memory", settings_fingerprint="", layout="blocks", feature_kind=kind,
        num_features=num_features, num_labels=500, num_unseen_labels=0, text_features=None,
        row_normalise=None, sources={}, splits={"train": split},
    ).save(folder)  # fmt: skip


def rows_case(folder, name, examples):
    """Writes the split of a case."""
    each = {"whole": 75, "windows": 75, "dense": 512, "wide": 10_000}[name]
    examples = examples * 75 // each
    make = dense_rows if name == "dense" else sparse_rows
    step = min(65_536, SHARD_BYTES // (8 * each))
    parts = (make(min(step, examples - first), each, first) for first in range(0, examples, step))
    kind = "dense" if name == "dense" else "sparse"
    write_prepared(folder, parts, kind, each if name == "dense" else 100 * each)


def measure_source(folder, name):
    """Peak and bound of a source: an epoch of batches."""
    from tfxc.data.sources.shards import ShardSource

    source = ShardSource(folder, "train", BUDGET)
    info = source.manifest.split("train")
    counted = sum(shard.memory_bytes(source.kind) for shard in info.shards)
    source.batch(0, 0, 2)
    del source
    baseline = start()
    bound = counted if name == "whole" else BUDGET
    source = ShardSource(folder, "train", counted if name == "whole" else BUDGET)
    assert source.in_memory == (name == "whole")
    for step in range(source.num_examples // 256):
        source.batch(0, step, 256)
    return peak_bytes() - baseline, bound


def measure_dev_share(_folder, examples):
    """Peak and bound of drawing a dev split."""
    import numpy as np

    from tfxc.data.reading.held_out import held_out_examples

    held_out_examples(np.arange(100), 0.1, 0)
    groups = np.random.default_rng(0).integers(0, examples, examples)
    baseline = start()
    held_out_examples(groups, 0.1, 0)
    return peak_bytes() - baseline, examples * 64


def measure_prepare(folder, _name):
    """Peak and bound of preparing a file of sparse features."""
    from tfxc.core.settings import DataSettings
    from tfxc.data.store.preparation import prepare

    prepare(DataSettings(name="few", train=str(folder / "few.txt")), folder / "few", jobs=1)
    baseline = start()
    prepare(DataSettings(name="many", train=str(folder / "many.txt")), folder / "many", jobs=1)
    return peak_bytes() - baseline, 256 * MEGABYTE


def measure_line(folder, _name):
    """Peak and bound of refusing a line of a gigabyte."""
    from tfxc.core.errors import DataError
    from tfxc.core.settings import MAX_LINE_BYTES
    from tfxc.data.reading.formats import open_reader

    baseline = start()
    try:
        open_reader(folder / "long.svm.xz")
    except DataError as error:
        assert "a line of at most" in str(error)
    return peak_bytes() - baseline, 3 * MAX_LINE_BYTES


def start():
    """Takes the baseline."""
    import gc

    gc.collect()
    reset_peak()
    return resident_bytes()


def write_files(folder, name, examples):
    """Writes what a case reads."""
    if name == "prepare":
        for file, count in (("few", 1000), ("many", examples)):
            rows = sparse_rows(count, 75)
            with open(folder / f"{file}.txt", "w", encoding="ascii") as stream:
                stream.write(f"{count} 7500 500\n")
                for row in range(count):
                    ids = rows.indices[75 * row : 75 * row + 75].tolist()
                    labels = ",".join(map(str, rows.label_ids[2 * row : 2 * row + 2].tolist()))
                    stream.write(f"{labels} {' '.join(f'{number}:0.5' for number in ids)}\n")
    elif name == "line":
        with lzma.open(folder / "long.svm.xz", "wb", preset=0) as stream:
            for _ in range(1024):
                stream.write(b"a" * MEGABYTE)
    elif name != "dev_share":
        rows_case(folder, name, examples)


MEASURES = {
    "whole": measure_source, "windows": measure_source, "dense": measure_source,
    "wide": measure_source, "dev_share": measure_dev_share, "prepare": measure_prepare,
    "line": measure_line,
}  # fmt: skip


def main():
    """Prints a line per case; exits with 1 where a ratio is above 1.3."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=list(MEASURES), metavar="CASE")
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--child", nargs=2, metavar=("CASE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, folder = options.child
        argument = options.examples if name == "dev_share" else name
        print(json.dumps(MEASURES[name](Path(folder), argument)))
        return 0
    print("| case | bound, MB | peak, MB | ratio |\n|---|---|---|---|")
    worst = 0
    for name in options.cases:
        examples = min(options.examples, 200_000) if name == "prepare" else options.examples
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), name, examples)
            done = subprocess.run(
                [sys.executable, __file__, "--examples", str(examples), "--child", name, folder],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
        peak, bound = json.loads(done.stdout.splitlines()[-1])
        worst = max(worst, peak / bound)
        print(
            f"| {name} | {bound / MEGABYTE:,.0f} | {peak / MEGABYTE:,.0f} | {peak / bound:.2f} |",
            flush=True,
        )
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
