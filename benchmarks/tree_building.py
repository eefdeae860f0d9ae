"""Trees of labels, ours and libpecos 1.2.8's, from the same label vectors.

    python benchmarks/tree_building.py --data DATA --pecos-python /path/to/python/with/libpecos

DATA holds folders with ``train.jsonl.xz``. Label vectors are PIFA of TF-IDF. Both build a tree of
16 splits and leaves of at most 100 labels, each in its own process, in turns. Printed are
medians of the processor's seconds, the most memory a process took (Linux only), and how tight the
leaves are: the mean cosine of a label to the centre of its leaf.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETS = {
    "eurlex57k": {"min_df": 3},
    "wn18rr": {"ngram_range": (1, 2)},
}
SPLITS = 16
LEAF = 100


def write_vectors(folder, features, path):
    """Writes the label vectors of a set's training split as ``.npz``."""
    import numpy as np
    import scipy.sparse

    from tfxc.data.reading.formats import open_reader
    from tfxc.data.text.bags import TfidfFeatures
    from tfxc.labels.label_embeddings import pifa

    texts = []
    labels = []
    for chunk in open_reader(folder / "train.jsonl.xz").chunks(4096):
        texts += chunk.texts
        labels += chunk.labels
    numbers = {name: i for i, name in enumerate(sorted({x for row in labels for x in row}))}
    ids = [numbers[name] for row in labels for name in row]
    starts = np.cumsum([0, *map(len, labels)])
    shape = (len(texts), len(numbers))
    targets = scipy.sparse.csr_matrix((np.ones(len(ids), np.float32), ids, starts), shape)
    rows = TfidfFeatures(**features).fit([texts]).transform(texts)
    scipy.sparse.save_npz(path, pifa(targets, rows), compressed=False)


def ours(vectors, threads):
    """Leaf of each label."""
    from tfxc.labels.tree_building import ClusteringSettings, build_tree

    settings = ClusteringSettings(SPLITS, max_leaf_size=LEAF)
    return build_tree(vectors, settings, threads=threads).parents[-1]


def theirs(vectors, threads):
    """Leaf of each label."""
    from pecos.xmc import Indexer

    settings = {"nr_splits": SPLITS, "max_leaf_size": LEAF, "threads": threads}
    chain = Indexer.gen(vectors, indexer_type="hierarchicalkmeans", **settings)
    return chain[-1].tocsr().indices


def work(builder, path, threads):
    """Builds one tree and prints a JSON line."""
    import numpy as np
    import scipy.sparse

    vectors = scipy.sparse.load_npz(path).tocsr()
    begin = time.perf_counter()
    processor = time.process_time()
    leaves = builder(vectors, threads)
    row = {"clock": time.perf_counter() - begin, "processor": time.process_time() - processor}
    # Not getrusage: that remembers the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    row["memory"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
    ones = np.ones(len(leaves), np.float32)
    members = scipy.sparse.csr_matrix((ones, (leaves, np.arange(len(leaves)))))
    sums = members @ vectors
    # The cosines of a leaf's labels to their centre add up to the length of their sum.
    lengths = np.sqrt(sums.multiply(sums).sum(axis=1))
    print(json.dumps({**row, "cosine": float(lengths.sum() / len(leaves))}))


def call(python, name, path, threads):
    """One row of a builder in its own process."""
    command = [python, __file__, "--worker", name, str(path), "--threads", str(threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(name, path, options):
    """Prints the rows of one set."""
    pythons = {"tfxc": sys.executable, "libpecos": options.pecos_python}
    rows = {builder: [] for builder in pythons}
    for _ in range(options.rounds):
        for builder, python in pythons.items():
            rows[builder].append(call(python, builder, path, options.threads))
    middle = {
        builder: {key: statistics.median(row[key] for row in several) for key in several[0]}
        for builder, several in rows.items()
    }
    for builder, row in middle.items():
        print(
            f"{name:12}{builder:10}{row['processor']:8.2f} s processor{row['clock']:8.2f} s clock"
            f"{row['memory']:8.0f} MB{row['cosine']:9.4f} cosine"
        )
    ratio = middle["tfxc"]["processor"] / middle["libpecos"]["processor"]
    print(f"{name:12}processor seconds, tfxc / libpecos: {ratio:.2f}")


def main():
    """Compares on every set that is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the sets")
    parser.add_argument("--pecos-python", default=sys.executable, help="a Python with libpecos")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        builder, path = options.worker
        return work({"tfxc": ours, "libpecos": theirs}[builder], path, options.threads)
    if options.data is None:
        parser.error("--data is required")
    with tempfile.TemporaryDirectory() as folder:
        for name, features in SETS.items():
            path = Path(folder) / f"{name}.npz"
            write_vectors(options.data / name, features, path)
            compare(name, path, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
