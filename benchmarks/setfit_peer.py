"""A config of head ``label_text`` and SetFit on the same few examples per label and encoder.

    python benchmarks/setfit_peer.py [--config configs/label_text_few_clinc150.json] \\
        [--examples 5] [--seeds 0 1 2] [--peer-python /path/to/python/with/setfit]

For each seed so many examples of each label are drawn from the config's training split; both sides
train on these and are measured on its whole dev split. SetFit (Tunstall et al. 2022, arXiv
2209.11055) needs its own Python with ``setfit`` 1.2.0 and torch. It trains the encoder on pairs of
examples, then a logistic regression on its vectors. ``--names`` gives it each label's name as one
more example, as head ``label_text`` reads the names, too. Prints P@1 and processor seconds of the
training commands (of SetFit: without its imports), and their means.
"""

import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = "configs/label_text_few_clinc150.json"


def lines_of(path):
    """Decoded JSON lines of a file, compressed by xz or not."""
    with (lzma.open if str(path).endswith(".xz") else open)(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def drawn(rows, number, seed):
    """``number`` lines of each label; an error where a label has fewer."""
    import numpy as np

    by_label = {}
    for row in rows:
        by_label.setdefault(row["labels"][0], []).append(row)
    draw = np.random.default_rng(seed)
    chosen = []
    for label, rows in sorted(by_label.items()):
        if len(rows) < number:
            raise SystemExit(f"label {label!r} has {len(rows)} examples, {number} are to be drawn")
        chosen += [rows[place] for place in draw.permutation(len(rows))[:number]]
    return chosen


def ours(options, train, seed, folder):
    """P@1 on dev and processor seconds of one training of the config on the lines of ``train``."""
    run = Path(folder) / "run"
    before = os.times()
    changes = [f"data.train={train}", f"seed={seed}", f"run={run}", *options.set]
    command = [sys.executable, "-m", "tfxc.train", "--config", options.config]
    command += [part for change in changes for part in ("--set", change)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    after = os.times()
    seconds = after.children_user + after.children_system
    seconds -= before.children_user + before.children_system
    return json.loads((run / "summary.json").read_text())["dev"]["P@1"], seconds


def peer(options, config, train, seed):
    """The same of SetFit, in its own Python."""
    from tfxc.data.reading.source_files import expand

    command = [options.peer_python, __file__, "--worker", str(train), str(expand(config.data.dev))]
    command += [str(expand(config.encoder.section()["folder"])), str(seed), str(options.iterations)]
    command += ["--names"] * options.names
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row = json.loads(done.stdout.splitlines()[-1])
    return row["P@1"], row["seconds"]


def worker(train, dev, model, seed, iterations, names):
    """Runs in the Python of SetFit; prints one JSON line."""
    import torch
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rows = lines_of(train)
    queries = lines_of(dev)
    pairs = [(row["text"], row["labels"][0]) for row in rows]
    if names:
        pairs += [(label.replace("_", " "), label) for label in sorted({pair[1] for pair in pairs})]
    texts, labels = map(list, zip(*pairs, strict=True))
    start = time.process_time()
    tuned = SetFitModel.from_pretrained(model)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            batch_size=16,
            num_epochs=1,
            num_iterations=int(iterations),
            seed=int(seed),
            save_strategy="no",
            report_to="none",
        )
        data = Dataset.from_dict({"text": texts, "label": labels})
        Trainer(model=tuned, args=arguments, train_dataset=data).train()
    seconds = time.process_time() - start
    answers = tuned.predict([row["text"] for row in queries], batch_size=64)
    right = [label == row["labels"][0] for label, row in zip(answers, queries, strict=True)]
    print(json.dumps({"P@1": sum(right) / len(right), "seconds": seconds}))


def measured(options, config, rows):
    """Prints a line per seed; (seed, side) -> (P@1, seconds)."""
    results = {}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            train = Path(folder) / "train.jsonl"
            lines = drawn(rows, options.examples, seed)
            train.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            if not options.peer_only:
                results[seed, "tfxc"] = ours(options, train, seed, folder)
            if options.peer_python:
                results[seed, "setfit"] = peer(options, config, train, seed)
        for side in ("tfxc", "setfit"):
            if (seed, side) in results:
                score, seconds = results[seed, side]
                print(f"seed {seed} {side:8} P@1 {100 * score:.2f}  {seconds:.0f} s", flush=True)
    return results


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--examples", type=int, default=5, help="of each label")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--peer-python", help="the Python that has SetFit")
    parser.add_argument("--peer-only", action="store_true", help="train SetFit only")
    parser.add_argument("--iterations", type=int, default=5, help="num_iterations of SetFit")
    parser.add_argument("--names", action="store_true", help="names are examples of SetFit")
    options = parser.parse_args(arguments)

    import numpy as np

    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.reading.source_files import expand

    config = load_config(options.config, [])
    results = measured(options, config, lines_of(expand(config.data.train)))
    for side in ("tfxc", "setfit"):
        rows = [row for (_, of), row in results.items() if of == side]
        if rows:
            score, seconds = np.mean(rows, axis=0)
            spread = np.std([row[0] for row in rows])
            print(f"{side}: P@1 {100 * score:.2f} ± {100 * spread:.2f}, {seconds:.0f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        positional = [part for part in sys.argv[2:] if part != "--names"]
        worker(*positional, names="--names" in sys.argv)
    else:
        sys.exit(main())
