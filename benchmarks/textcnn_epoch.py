"""Seconds per epoch of a TextCNN over characters: tfxc, and the same model in PyTorch, by turns.

    python benchmarks/textcnn_epoch.py --torch-python /path/to/python/with/torch

Trains `configs/textcnn_sentiment.json` (8,522 sentences, batch 16, embedding 300, 3 x 64 filters)
and, as `tfxc pgd`, `configs/textcnn_sentiment_pgd.json`, each in its own process; one is
active at a time. tfxc's step includes its input pipeline. PyTorch is given the same rows as
ready tensors, padded to the longest text of the batch.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from _alternating import answer, duel
from _steps import step_of, use_threads

CONFIG = "configs/textcnn_sentiment.json"
BATCHES = 200


def tfxc_worker(config, threads):
    """A function () that trains one step of a config."""
    use_threads(threads)
    from tfxc.data.reading.inspection.completion import load_config

    return step_of(load_config(config))


def torch_worker(path, threads):
    """The plain model in PyTorch: an embedding, three convolutions, maximum, dropout, linear."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    data = np.load(path)
    batches = [
        (torch.from_numpy(tokens[:, : (tokens > 0).sum(1).max()]).long(), torch.from_numpy(labels))
        for tokens, labels in zip(data["tokens"], data["labels"], strict=True)
    ]
    table = torch.nn.Embedding(int(data["size"]), 300, padding_idx=0)
    filters = torch.nn.ModuleList(torch.nn.Conv1d(300, 64, width) for width in (2, 3, 4))
    output = torch.nn.Linear(192, 2)
    parts = [*table.parameters(), *filters.parameters(), *output.parameters()]
    optimizer = torch.optim.Adam(parts, lr=1e-3, fused=True)
    dropout = torch.nn.Dropout(0.5)
    loss_of = torch.nn.CrossEntropyLoss()
    count = 0

    def step():
        nonlocal count
        tokens, labels = batches[count % len(batches)]
        count += 1
        tokens = torch.nn.functional.pad(tokens, (0, max(0, 4 - tokens.shape[1])))
        words = table(tokens).transpose(1, 2)
        pooled = [torch.relu(conv(words)).amax(dim=2) for conv in filters]
        loss = loss_of(output(dropout(torch.cat(pooled, dim=1))), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def write_batches(path):
    """Writes the first batches of the config's training as padded arrays; returns its sizes."""
    import numpy as np

    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.sources.shards import open_source
    from tfxc.data.store.manifest import Manifest
    from tfxc.data.store.preparation import ensure_prepared

    config = load_config(CONFIG)
    folder = ensure_prepared(config.data)
    source = open_source(folder, "train", 2**30)
    size = config.training.batch_size
    tokens = np.zeros((BATCHES, size, 512), np.int32)
    labels = np.zeros((BATCHES, size), np.int64)
    for step in range(BATCHES):
        batch = source.batch(0, step, size)
        ids = batch["features"]
        tokens[step, :, : ids.shape[1]] = ids
        labels[step] = batch["labels"][:, 0]
    np.savez(path, tokens=tokens, labels=labels, size=Manifest.load(folder).num_features)
    return source.num_examples, size


def main():
    """Prints seconds per epoch, from the mean step, and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--torch-python", help="a Python with torch 2.13; left out without it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, path = options.worker
        worker = torch_worker if name == "torch" else tfxc_worker
        return answer(worker(path, options.threads), warm_up=20)
    with tempfile.TemporaryDirectory() as folder:
        arrays = str(Path(folder) / "batches.npz")
        examples, batch = write_batches(arrays)
        workers = {
            "tfxc": (sys.executable, CONFIG),
            "tfxc pgd": (sys.executable, CONFIG.replace(".json", "_pgd.json")),
        }
        if options.torch_python:
            workers["torch"] = (options.torch_python, arrays)
        commands = {
            name: [python, __file__, "--threads", str(options.threads), "--worker", name, path]
            for name, (python, path) in workers.items()
        }
        steps = dict.fromkeys(workers, options.steps)
        times = duel(commands, options.threads, options.rounds, steps)
    print(json.dumps({"threads": options.threads, "cores": os.cpu_count()}))
    for name, values in times.items():
        mean = statistics.mean(values)
        best = statistics.median(values)
        print(f"{name:10} {mean * examples / batch:7.2f} s/epoch, median step {1e3 * best:6.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
