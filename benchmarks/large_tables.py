"""Peak memory of training and using a head with a large table, in multiples of its weights.

    python benchmarks/large_tables.py [--labels N] [--head HEAD] [--optimizer NAME] [PHASE ...]

Each phase runs in its own process, on the run that the phases before it left. Its figure is the
highest resident size minus that with TensorFlow and tfxc imported, over the bytes of all weights:
1.0 is the table itself, and with ``--optimizer adam`` three tables are needed to train.

Phases: ``start`` (the model is built), ``step`` (built and trained five steps), ``checkpoint``
(``tfxc train``, stopped by a signal after two steps, which saves), ``resume`` (``tfxc train`` from
there to the end, with a checkpoint and the weights), ``evaluate``, ``predict``, ``export`` (with
its comparison), ``exported`` (``tfxc predict --model``) and ``serve`` (a run opened as by
``tfxc serve``, and three requests). Examples are vectors of ``--dim`` random numbers, each with one
label. Files take up to three times the weights' bytes under ``--folder``.
"""

import argparse
import contextlib
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEGABYTE = 1 << 20
EXAMPLES = 640
BATCH = 64
TESTED = 256


def head_section(name, labels):
    """The config section of a head."""
    if name == "sampled":
        return {"name": "sampled"}
    if name == "mhs":
        size = 128
        heads = [math.ceil(labels / size), size]
        return {"name": "mhs", "heads": heads, "num_sampled_heads": 4, "sampling": "per_batch"}
    return {"name": "margin", "scale": 16.0, "sampling": "partial", "sample_rate": 1e-3}


def write_config(folder, options):
    """Writes feature sets and a config into a folder."""
    import numpy as np

    from tfxc.data.store.feature_sets.writer import FeatureWriter

    draw = np.random.default_rng(0)
    for split, count in (("train", EXAMPLES), ("test", TESTED)):
        labels = draw.integers(0, options.labels, count)
        vectors = draw.normal(size=(count, options.dim)).astype(np.float32)
        sizes = {"num_features": options.dim, "num_labels": options.labels}
        with FeatureWriter(folder / split, labels=labels, **sizes) as writer:
            writer.write(0, vectors)
    np.save(folder / "questions.npy", vectors[:8])
    objective = {"name": "scent"} if options.head == "sampled" else {"name": "softmax"}
    config = {
        "run": str(folder / "run"),
        "data": {name: str(folder / name) for name in ("train", "test")} | {"name": "large"},
        "encoder": {"name": "precomputed"},
        "head": head_section(options.head, options.labels),
        "objective": objective,
        "training": {
            "batch_size": BATCH,
            "epochs": 1,
            "optimizer": {"name": options.optimizer, "learning_rate": 0.1},
        },
        "evaluation": {"k": [1, 5], "full_loss": True},
    }
    (folder / "config.json").write_text(json.dumps(config))


def command(*arguments):
    """Runs a command of tfxc in this process."""
    import importlib

    name, *rest = map(str, arguments)
    code = importlib.import_module(f"tfxc.commands.{name}").main(rest)
    assert code in (0, 128 + signal.SIGTERM), code


def train(folder, *more):
    """``tfxc train``."""
    prepared = "--prepared", folder / "prepared"
    command("train", "--config", folder / "config.json", *prepared, *more)


def trainer_of(folder):
    """The ``Trainer`` of the config."""
    from tfxc.core.storage.locks import scratch_folder
    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.training.job import TrainingJob
    from tfxc.training.strategies import make_strategy

    config = load_config(folder / "config.json")
    prepared = ensure_prepared(config.data, folder / "prepared")
    with scratch_folder("try") as scratch:
        job = TrainingJob(config, prepared, scratch)
        return job.trainer(make_strategy(config.training, config))


def start(folder):
    """Builds the model and what trains it."""
    trainer_of(folder)


def step(folder):
    """Trains five steps."""
    trainer = trainer_of(folder)
    iterator = iter(trainer.batches())
    for _ in range(5):
        float(trainer.step_function.run(iterator))


def checkpoint(folder):
    """Trains two steps, is asked to stop and saves."""
    from tfxc.training.loop import Trainer

    call = Trainer._call

    def stopping(trainer, iterator, step, *more):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(trainer, iterator, step, *more)

    Trainer._call = stopping
    train(folder)


def evaluate(folder):
    """``tfxc evaluate``."""
    prepared = "--prepared", folder / "prepared"
    command("evaluate", "--run", folder / "run", "--split", "test", *prepared)


def predict(folder):
    """``tfxc predict`` of some vectors."""
    given = folder / "questions.npy", "--output", folder / "answers.tsv"
    command("predict", "--run", folder / "run", *given)


def export(folder):
    """``tfxc export``."""
    command("export", "--run", folder / "run", "--output", folder / "savedmodel")


def exported(folder):
    """``tfxc predict`` with the exported model."""
    given = folder / "questions.npy", "--output", folder / "answers.tsv"
    command("predict", "--model", folder / "savedmodel", *given)


def serve(folder):
    """Opens a run as a server does and answers three requests."""
    from tfxc.serving.limits import Limits
    from tfxc.serving.served import RunOptions, ServedRun, newest_version

    run = ServedRun("large", newest_version(folder / "run"), 1, Limits(), RunOptions())
    for _ in range(3):
        run.search(run.forms.example(), run.k)


PHASES = {
    "start": start,
    "step": step,
    "checkpoint": checkpoint,
    "resume": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "exported": exported,
    "serve": serve,
}


def measure(phase, folder):
    """Peak in bytes above the start, and seconds, of a phase in this process."""
    import tensorflow as tf

    import tfxc.commands.train
    import tfxc.model  # noqa: F401

    tf.constant(0.0)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    Path("/proc/self/clear_refs").write_text("5")
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        PHASES[phase](folder)
    seconds = time.monotonic() - began
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) * 1024 - resident, seconds


def weight_bytes(options):
    """Bytes of the table and what else the head has."""
    rows = options.labels
    if options.head == "mhs":
        rows = math.prod(head_section("mhs", options.labels)["heads"])
    return rows * options.dim * 4


def main():
    """Prints a line per phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("phases", nargs="*", default=list(PHASES), metavar="PHASE")
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--head", default="sampled", choices=("sampled", "mhs", "margin"))
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--folder", help="where files go (default: a temporary folder)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, Path(options.folder))))
        return 0
    folder = Path(options.folder or tempfile.mkdtemp())
    try:
        if not (folder / "config.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_config(folder, options)
        report(options, folder)
    finally:
        if not options.folder:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def report(options, folder):
    """Runs the phases and prints what they needed."""
    size = weight_bytes(options)
    print(f"{options.head}, {options.labels:,} x {options.dim}: {size / MEGABYTE:,.0f} MB")
    print("| phase | peak, MB | over the weights | s |\n|---|---|---|---|", flush=True)
    for phase in options.phases:
        done = subprocess.run(
            [sys.executable, __file__, "--child", phase, "--folder", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            print(f"| {phase} | failed: {done.stderr.strip().splitlines()[-1][:200]} | | |")
            (folder / f"{phase}.log").write_text(done.stderr)
            continue
        peak, seconds = json.loads(done.stdout.splitlines()[-1])
        row = f"{peak / MEGABYTE:,.0f} | {peak / size:.2f} | {seconds:,.1f}"
        print(f"| {phase} | {row} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
