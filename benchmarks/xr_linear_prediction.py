"""Times predictions of the same linear rankers by tfxc and by libpecos 1.2.8, in turns.

    python benchmarks/xr_linear_prediction.py --pecos-python /path/to/python/with/libpecos

libpecos needs its own Python (see benchmarks/xr_linear_peer.py). It trains the rankers (TF-IDF
of scikit-learn, 16 splits, leaves of at most 100 labels, weights below 0.1 cut); we import them.
Both predict the ten best labels of the dev split with beam 10 on one thread, all queries at once
and one by one. Printed: microseconds of processor time per query (median over the rounds), the
ratio to libpecos (its faster layout of the weights each time), memory that opening the model and
predicting takes, and whether the predictions are the same.
"""

import argparse
import importlib
import json
import lzma
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _alternating import answer, duel

SPLITS = 16
LEAF = 100
THRESHOLD = 0.1
BEAM = 10
K = 10
SETS = {
    "eurlex57k": {"min_df": 3},
    "wn18rr": {"ngram_range": (1, 2)},
    "cooking": {"ngram_range": (1, 2)},
}
LAYOUTS = ("BINARY_SEARCH_CHUNKED", "HASH_CHUNKED")
KINDS = ("tfxc", *LAYOUTS)


def write_matrices(name, data, folder):
    """Features and labels of the two splits as .npz, by scikit-learn."""
    import numpy as np
    import scipy.sparse
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import MultiLabelBinarizer

    rows = {}
    for split in ("train", "dev"):
        with lzma.open(data / name / f"{split}.jsonl.xz", "rt", encoding="utf-8") as stream:
            rows[split] = [json.loads(line) for line in stream]
    vectoriser = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **SETS[name])
    labels = MultiLabelBinarizer(sparse_output=True).fit([row["labels"] for row in rows["train"]])
    vectoriser.fit([row["text"] for row in rows["train"]])
    for split, examples in rows.items():
        features = vectoriser.transform([row["text"] for row in examples])
        features.sort_indices()
        scipy.sparse.save_npz(folder / f"X.{split}.npz", features, compressed=False)
    targets = labels.transform([row["labels"] for row in rows["train"]]).astype(np.float32)
    scipy.sparse.save_npz(folder / "Y.train.npz", targets, compressed=False)


def train_pecos(folder):
    """In the peer's Python: trains and saves the ranker."""
    from pecos.xmc import Indexer, LabelEmbeddingFactory
    from pecos.xmc.xlinear import XLinearModel

    x = matrix(folder / "X.train.npz")
    y = matrix(folder / "Y.train.npz")
    vectors = LabelEmbeddingFactory.create(y, x, method="pifa")
    settings = {"nr_splits": SPLITS, "max_leaf_size": LEAF, "threads": 1}
    chain = Indexer.gen(vectors, indexer_type="hierarchicalkmeans", **settings)
    model = XLinearModel.train(x, y, C=chain, threshold=THRESHOLD, threads=1)
    model.save(str(folder / "pecos"))


def matrix(path):
    """CSR float32 of a file."""
    import numpy as np
    import scipy.sparse

    return scipy.sparse.csr_matrix(scipy.sparse.load_npz(path), dtype=np.float32)


def predictor(kind, folder):
    """A function: CSR rows -> predictions, by tfxc or by a layout of libpecos."""
    if kind == "tfxc":
        from tfxc.ranker.search import Ranker

        ranker = Ranker.load(folder / "tfxc")
        return lambda rows: ranker.predict(rows, K, beam_size=BEAM, threads=1)
    from pecos.xmc.xlinear import XLinearModel

    model = XLinearModel.load(str(folder / "pecos"), True, weight_matrix_type=kind)
    return lambda rows: model.predict(rows, beam_size=BEAM, only_topk=K, threads=1)


def work(kind, folder, mode):
    """A worker: ``batch`` or ``single`` steps on demand, or one line about memory or results."""
    import numpy as np

    rows = matrix(folder / "X.dev.npz")
    # What the program itself takes is not part of the model's memory.
    importlib.import_module("tfxc.ranker.search" if kind == "tfxc" else "pecos.xmc.xlinear")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    predict = predictor(kind, folder)
    if mode == "batch":
        answer(lambda: predict(rows), 1, time.process_time)
    elif mode == "single":
        single = [rows[number] for number in range(min(500, rows.shape[0]))]
        turn = iter(range(1 << 60))
        answer(lambda: predict(single[next(turn) % len(single)]), 100, time.process_time)
    elif mode == "memory":
        predict(rows)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    else:
        best = predict(rows)
        if kind != "tfxc":
            best = best.indices.reshape(-1, K), best.data.reshape(-1, K)
        np.savez(folder / f"best.{kind}.npz", ids=best[0], scores=best[1])


def prepare(name, options):
    """Folder with the matrices and both models; made once."""
    folder = Path(options.cache) / name
    if not (folder / "tfxc").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_matrices(name, Path(options.data), folder)
        command = [options.pecos_python, __file__, "--worker", "train", str(folder), "-"]
        subprocess.run(command, check=True)
        from tfxc.core.storage.ownership import atomic_folder
        from tfxc.ranker.pecos.model import write_pecos_model

        with atomic_folder(folder / "tfxc", "linear ranker") as scratch:
            write_pecos_model(folder / "pecos", scratch)
    return folder


def compare(name, options):
    """Prints the metrics of one data set; returns them."""
    folder = prepare(name, options)

    def command(kind, mode):
        python = sys.executable if kind == "tfxc" else options.pecos_python
        return [python, __file__, "--worker", kind, str(folder), mode]

    rows = {}
    count = matrix(folder / "X.dev.npz").shape[0]
    for mode, steps, each in (("batch", 1, count), ("single", 200, 1)):
        commands = {kind: command(kind, mode) for kind in KINDS}
        times = duel(commands, 1, options.rounds, dict.fromkeys(KINDS, steps))
        for kind in KINDS:
            turns = [
                statistics.mean(times[kind][first : first + steps]) * 1e6 / each
                for first in range(0, len(times[kind]), steps)
            ]
            rows.setdefault(kind, {})[mode] = statistics.median(turns)
    for kind in KINDS:
        done = subprocess.run(command(kind, "memory"), check=True, stdout=subprocess.PIPE)
        rows[kind]["memory_mb"] = int(done.stdout.split()[-1]) / 1024
        subprocess.run(command(kind, "results"), check=True)
    show(name, rows)
    print(f"{same_predictions(folder)}\n", flush=True)
    return rows


def show(name, rows):
    """Prints the table of a data set."""
    print(f"{name:<22}{'batch µs':>10}{'single µs':>11}{'memory MB':>11}")
    for kind, row in rows.items():
        print(f"{kind:<22}{row['batch']:10.1f}{row['single']:11.1f}{row['memory_mb']:11.0f}")
    ratios = [rows["tfxc"][mode] / min(rows[kind][mode] for kind in LAYOUTS)
              for mode in ("batch", "single")]  # fmt: skip
    print(f"{'tfxc / libpecos':<22}{ratios[0]:10.2f}{ratios[1]:11.2f}")


def same_predictions(folder):
    """A sentence about the two programs' predictions."""
    import numpy as np

    files = [np.load(folder / f"best.{kind}.npz") for kind in ("tfxc", LAYOUTS[0])]
    (ids, scores), (peer_ids, peer_scores) = ((file["ids"], file["scores"]) for file in files)
    sets = (np.sort(ids) == np.sort(peer_ids)).all(axis=1).mean()
    order = (ids == peer_ids).all(axis=1).mean()
    difference = np.abs(scores - peer_scores).max()
    return (
        f"same ten labels in {100 * sets:.2f} % of the queries, equal scores in the same order "
        f"too in {100 * order:.2f} %; largest difference of scores {difference:.1e}"
    )


def main():
    """Compares on all sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pecos-python", default=sys.executable, help="a Python with libpecos")
    parser.add_argument("--data", default=os.environ.get("TFXC_DATA", "data"))
    parser.add_argument("--cache", default="runs/xr_linear_prediction", metavar="FOLDER")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", metavar="FILE", help="also write the results there")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        kind, folder, mode = options.worker
        return train_pecos(Path(folder)) if kind == "train" else work(kind, Path(folder), mode)
    rows = {name: compare(name, options) for name in options.sets}
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
