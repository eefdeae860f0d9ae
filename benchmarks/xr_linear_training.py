"""Training of XR-Linear, ours and libpecos 1.2.8's, on the same features, labels and tree.

    python benchmarks/xr_linear_training.py --data DATA --pecos-python /path/to/python/with/libpecos

DATA holds folders with ``train.jsonl.xz`` and ``dev.jsonl.xz``. Features are scikit-learn's TF-IDF
(sublinear tf), the tree is ours: PIFA label vectors, 16 splits, leaves of at most 100 labels.
Weights below 0.1 are cut, the beam is 10. Each training runs in its own process on one thread, in
turns; printed are medians of the processor's seconds, the most memory a process took (Linux only),
the kept weights, and P@1/3/5 on dev.
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
THRESHOLD = 0.1
BEAM = 10


def write_matrices(source, features, folder, rows):
    """Writes features, labels and tree of a set into ``folder``, unless they are there."""
    import numpy as np
    import scipy.sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    from tfxc.data.reading.formats import open_reader
    from tfxc.labels.label_embeddings import pifa
    from tfxc.labels.tree_building import ClusteringSettings, build_tree

    if (folder / "parents.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    vectoriser = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **features)
    known = {}
    matrices = {}
    for split in ("train", "dev"):
        texts = []
        labels = []
        for chunk in open_reader(source / f"{split}.jsonl.xz").chunks(4096):
            texts = texts + chunk.texts
            labels = labels + chunk.labels
        texts = texts[:rows]
        labels = labels[:rows]
        if split == "train":
            known = {name: i for i, name in enumerate(sorted({n for row in labels for n in row}))}
            vectoriser.fit(texts)
        pairs = [(i, known[n]) for i, row in enumerate(labels) for n in set(row) if n in known]
        places = tuple(np.array(pairs).T)
        shape = (len(texts), len(known))
        targets = scipy.sparse.csr_matrix((np.ones(len(pairs), np.float32), places), shape)
        matrices[split] = vectoriser.transform(texts), targets
        for name, matrix in zip(("x", "y"), matrices[split], strict=True):
            scipy.sparse.save_npz(folder / f"{split}-{name}.npz", matrix, compressed=False)
    vectors = pifa(matrices["train"][1], matrices["train"][0])
    tree = build_tree(vectors, ClusteringSettings(SPLITS, max_leaf_size=LEAF))
    np.savez(folder / "parents.npz", *tree.parents)


def ours(x, y, parents, dev):
    """Processor seconds, kept weights, and label ids (n, 5)."""
    import numpy as np

    from tfxc.labels.cluster_tree import ClusterTree
    from tfxc.ranker.chain import train_ranker
    from tfxc.ranker.layer import Limits
    from tfxc.ranker.search import Ranker
    from tfxc.ranker.settings import RankerSettings

    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        settings = RankerSettings(threshold=THRESHOLD, only_topk=BEAM)
        train_ranker(x, y, ClusterTree(parents), folder, settings, limits=Limits(threads=1))
        seconds = time.process_time() - begin
        files = Path(folder).glob("ranker/layer-*/values.npy")
        kept = sum(len(np.load(path, mmap_mode="r")) for path in files)
        return seconds, kept, Ranker.load(folder).predict(dev, 5)[0]


def theirs(x, y, parents, dev):
    """Processor seconds, kept weights, and label ids (n, 5)."""
    import numpy as np
    import scipy.sparse
    from pecos.utils.cluster_util import ClusterChain
    from pecos.xmc.xlinear import XLinearModel
    from xr_linear_peer import best_five

    above = 1
    chain = []
    for level in parents:
        places = np.arange(len(level)), level
        ones = np.ones(len(level), np.float32)
        chain.append(scipy.sparse.csc_matrix((ones, places), (len(level), above)))
        above = len(level)
    begin = time.process_time()
    model = XLinearModel.train(x, y, C=ClusterChain(chain), threshold=THRESHOLD, threads=1)
    seconds = time.process_time() - begin
    kept = sum(layer.W.nnz for layer in model.model.model_chain)
    return seconds, kept, best_five(model.predict(dev, beam_size=BEAM, only_topk=5))


def worker(which, folder):
    """Trains once and prints one JSON line."""
    import numpy as np
    import scipy.sparse

    def read(name):
        matrix = scipy.sparse.load_npz(folder / f"{name}.npz").tocsr()
        matrix.sort_indices()
        return matrix

    with np.load(folder / "parents.npz") as archive:
        parents = [archive[name] for name in archive.files]
    train = {"ours": ours, "theirs": theirs}[which]
    seconds, kept, best = train(read("train-x"), read("train-y"), parents, read("dev-x"))
    truth = read("dev-y")
    rows = np.repeat(np.arange(len(best)), best.shape[1])
    hits = np.zeros(best.shape)
    good = best.ravel() >= 0
    hits.ravel()[good] = np.asarray(truth[rows[good], best.ravel()[good]]).ravel() > 0
    row = {"seconds": seconds, "kept": kept, "megabytes": most_memory()}
    print(json.dumps({**row, **{f"P@{k}": 100 * hits[:, :k].mean() for k in (1, 3, 5)}}))


def most_memory():
    """Megabytes this process had at most; not a number where Linux does not report it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1000 for line in lines if "VmHWM" in line), float("nan"))


def compare(name, folder, pythons, rounds):
    """Trains both in turns and prints their table."""
    measures = {which: [] for which in pythons}
    for _ in range(rounds):
        for which, python in pythons.items():
            command = [python, __file__, "--worker", which, str(folder)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measures[which].append(json.loads(done.stdout.splitlines()[-1]))
    columns = ("seconds", "megabytes", "kept", "P@1", "P@3", "P@5")
    print(f"{name:12}" + "".join(f"{column:>12}" for column in columns))
    for which, runs in measures.items():
        values = (statistics.median(run[column] for run in runs) for column in columns)
        print(f"{which:12}" + "".join(f"{value:12,.2f}" for value in values))
    pairs = zip(measures["ours"], measures["theirs"], strict=True)
    ratios = [one["seconds"] / other["seconds"] for one, other in pairs]
    print(f"processor seconds, ours / theirs: {statistics.median(ratios):.3f}", flush=True)


def main():
    """Prints a table for each data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--pecos-python", default=sys.executable, help="a Python with libpecos")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", type=int, help="use so many training rows only")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="keep the matrices in this folder")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker[0], Path(options.worker[1]))
    if not options.data:
        parser.error("--data is required")
    pythons = {"ours": sys.executable, "theirs": options.pecos_python}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.sets:
            folder = (options.cache or Path(scratch)) / f"{name}-{options.rows or 'all'}"
            write_matrices(options.data / name, SETS[name], folder, options.rows)
            compare(name, folder, pythons, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
