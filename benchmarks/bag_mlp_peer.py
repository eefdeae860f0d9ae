"""A dense config of ours and a plain PyTorch bag-MLP on the same records, one after the other.

    python benchmarks/bag_mlp_peer.py --config configs/dense_eurlex57k.json \\
        --torch-python /path/to/python/with/torch

The peer: EmbeddingBag -> 1,024 ReLU -> dropout 0.5 -> one sigmoid per label; Adam 4e-3 with linear
decay, batch 256, 9 epochs. Prints P@1/3/5 on the dev split, training seconds and their ratio.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WIDTH, DROPOUT, RATE, BATCH = 1024, 0.5, 4e-3, 256


def write_arrays(folder, split, path):
    """Writes a prepared split as plain arrays that need no TensorFlow to read."""
    import numpy as np

    from tfxc.data.source import ShardSource

    source = ShardSource(folder, split)
    whole = next(source.sequential(source.num_examples))
    sizes = {"num_features": source.num_features, "num_labels": source.num_labels}
    np.savez(path, **whole["features"], labels=whole["labels"], **sizes)


def torch_worker(train_path, dev_path, epochs):
    """Trains the peer and prints one JSON line."""
    import numpy as np
    import torch

    train, dev = dict(np.load(train_path)), dict(np.load(dev_path))
    torch.manual_seed(0)
    num_labels = int(train["num_labels"])
    bag = torch.nn.EmbeddingBag(int(train["num_features"]), WIDTH, mode="sum")
    rest = torch.nn.Sequential(
        torch.nn.ReLU(), torch.nn.Dropout(DROPOUT), torch.nn.Linear(WIDTH, num_labels)
    )
    optimizer = torch.optim.Adam([*bag.parameters(), *rest.parameters()], lr=RATE)
    count = len(train["labels"])
    steps = epochs * (count // BATCH)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    lossf = torch.nn.BCEWithLogitsLoss()
    begin = time.perf_counter()
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(count)[: count // BATCH * BATCH]
        for rows in order.reshape(-1, BATCH):
            loss = lossf(forward(bag, rest, train, rows), targets(train, rows, num_labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, **precision(bag, rest.eval(), dev)}))


def forward(bag, rest, data, rows):
    """Logits of some rows."""
    import numpy as np
    import torch

    splits = data["row_splits"]
    places = np.concatenate([np.arange(splits[row], splits[row + 1]) for row in rows])
    offsets = np.concatenate([[0], np.cumsum(splits[rows + 1] - splits[rows])[:-1]])
    ids = torch.from_numpy(data["ids"][places].astype(np.int64))
    weights = torch.from_numpy(data["weights"][places])
    return rest(bag(ids, torch.from_numpy(offsets), per_sample_weights=weights))


def targets(data, rows, num_labels):
    """Multi-hot targets of some rows; labels unknown to training are left out."""
    import torch

    labels = torch.from_numpy(data["labels"][rows]).long()
    known = (labels >= 0) & (labels < num_labels)
    target = torch.zeros(len(rows), num_labels + 1)
    return target.scatter_(1, torch.where(known, labels, num_labels), 1.0)[:, :num_labels]


def precision(bag, rest, data):
    """P@1/3/5 of the peer."""
    import numpy as np
    import torch

    hits = []
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(data["labels"])), 20):
            best = forward(bag, rest, data, rows).topk(5).indices.numpy()
            hits.append((best[:, :, None] == data["labels"][rows][:, None, :]).any(axis=2))
    hits = np.concatenate(hits)
    return {f"P@{k}": float(hits[:, :k].mean()) for k in (1, 3, 5)}


def ours(config, epochs):
    """Trains the config with the ordinary verb; returns its row."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        changes = ["--set", f"run={run}"]
        changes += ["--set", f"training.epochs={epochs}"] if epochs else []
        command = [sys.executable, "-m", "tfxc.train", "--config", config, *changes]
        subprocess.run(command, check=True, stdout=sys.stderr)
        summary = json.loads((run / "summary.json").read_text())
    scores = {name: summary["dev"][name] for name in ("P@1", "P@3", "P@5")}
    return {"seconds": summary["seconds"], **scores}


def peer(python, config, epochs):
    """Trains the peer in its own Python; returns its row."""
    from tfxc.config import load_config
    from tfxc.data.preparation import ensure_prepared

    prepared = ensure_prepared(load_config(config).data)
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{split}.npz") for split in ("train", "dev")]
        for split, path in zip(("train", "dev"), paths, strict=True):
            write_arrays(prepared, split, path)
        command = [python, __file__, "--worker", *paths, "--peer-epochs", str(epochs)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Prints both rows and the ratio of the training times."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--config", default="configs/dense_eurlex57k.json")
    options.add_argument("--torch-python", default=sys.executable, help="a Python with torch 2.13")
    options.add_argument("--epochs", type=float, help="of ours (default: the config's)")
    options.add_argument("--peer-epochs", type=int, default=9)
    options.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    found = options.parse_args()
    if found.worker:
        return torch_worker(*found.worker, found.peer_epochs)
    rows = {
        "tfxc": ours(found.config, found.epochs),
        "torch": peer(found.torch_python, found.config, found.peer_epochs),
    }
    print(f"{'':8}{'P@1':>8}{'P@3':>8}{'P@5':>8}{'seconds':>10}")
    for name, row in rows.items():
        scores = "".join(f"{100 * row[key]:8.2f}" for key in ("P@1", "P@3", "P@5"))
        print(f"{name:8}{scores}{row['seconds']:10.0f}")
    print(f"training time, torch / tfxc: {rows['torch']['seconds'] / rows['tfxc']['seconds']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
