"""A config of ours and XR-Linear of libpecos 1.2.8 on the same records, one after the other.

    python benchmarks/xr_linear_peer.py --config configs/dense_eurlex57k.json \\
        --pecos-python /path/to/python/with/libpecos
    python benchmarks/xr_linear_peer.py --prepared prepared/FOLDER --pecos-python PYTHON

libpecos needs its own Python, e.g. ``pip install libpecos==1.2.8 "numpy<2" "scipy<1.14"
torch==2.13.0``. The peer: PIFA label vectors, hierarchical k-means with 16 splits and leaves of at
most 100 labels, weights below 0.1 cut, beam 10; it trains on one core or, with ``--threads``, on
several. Prints P@1/3/5 on the dev split, training seconds (for XR-Linear the clock's and the
processor's) and their ratio. With ``--prepared``, the folder of a set that `tfxc prepare` or a
rehearsal has left, the peer alone: its scores on the test split, processor seconds of training and
of prediction, and its peak resident memory in training, the features included.
"""

import argparse
import json
import resource
import sys
import time

from _peers import precision, print_rows, run_peer, run_peer_on, train_ours

SPLITS = 16
LEAF = 100
THRESHOLD = 0.1
BEAM = 10


def pecos_worker(train_path, dev_path, threads):
    """Trains the peer and prints one JSON line."""
    import numpy as np
    from pecos.xmc import Indexer, LabelEmbeddingFactory
    from pecos.xmc.xlinear import XLinearModel

    x, y = matrices(dict(np.load(train_path)))
    begin = time.perf_counter()
    processor = time.process_time()
    vectors = LabelEmbeddingFactory.create(y, x, method="pifa")
    settings = {"nr_splits": SPLITS, "max_leaf_size": LEAF, "threads": threads}
    chain = Indexer.gen(vectors, indexer_type="hierarchicalkmeans", **settings)
    model = XLinearModel.train(x, y, C=chain, threshold=THRESHOLD, threads=threads)
    row = {
        "seconds": time.perf_counter() - begin,
        "processor_seconds": time.process_time() - processor,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    dev = dict(np.load(dev_path))
    features = matrices(dev)[0]
    processor = time.process_time()
    scores = model.predict(features, beam_size=BEAM, only_topk=5, threads=threads)
    row["prediction_processor_seconds"] = time.process_time() - processor
    print(json.dumps({**row, **precision(best_five(scores), dev["labels"])}))


def matrices(data):
    """Features and known labels of a split as CSR matrices."""
    import numpy as np
    import scipy.sparse

    splits = data["row_splits"]
    labels = data["labels"]
    shape = (len(labels), int(data["num_features"]))
    features = scipy.sparse.csr_matrix((data["weights"], data["ids"], splits), shape)
    rows, columns = np.nonzero((labels >= 0) & (labels < data["num_labels"]))
    ones = np.ones(len(rows), np.float32)
    shape = (len(labels), int(data["num_labels"]))
    targets = scipy.sparse.csr_matrix((ones, (rows, labels[rows, columns])), shape)
    features.sort_indices()
    return features, targets


def best_five(scores):
    """Label ids int (n, 5) of a CSR score matrix, best first; -2 where there are fewer."""
    import numpy as np

    best = np.full((scores.shape[0], 5), -2)
    for row in range(scores.shape[0]):
        begin, end = scores.indptr[row : row + 2]
        order = np.argsort(-scores.data[begin:end], kind="stable")[:5]
        best[row, : len(order)] = scores.indices[begin:end][order]
    return best


def main():
    """Prints both rows and the ratio of the training times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", default="configs/dense_eurlex57k.json")
    parser.add_argument("--prepared", help="folder of a prepared set: runs the peer alone on it")
    parser.add_argument("--pecos-python", default=sys.executable, help="a Python with libpecos")
    parser.add_argument("--epochs", type=float, help="of ours (default: the config's)")
    parser.add_argument("--threads", type=int, default=1, help="of the peer")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return pecos_worker(*options.worker, options.threads)
    threads = ("--threads", str(options.threads))
    if options.prepared:
        splits = ("train", "test")
        row = run_peer_on(options.pecos_python, __file__, options.prepared, splits, *threads)
        print("\n".join(f"{name:30}{value:12.4f}" for name, value in row.items()))
        return 0
    rows = {
        "XR-Linear": run_peer(options.pecos_python, __file__, options.config, *threads),
        "tfxc": train_ours(options.config, options.epochs),
    }
    print_rows(rows, "XR-Linear")
    print(f"XR-Linear, processor seconds: {rows['XR-Linear']['processor_seconds']:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
