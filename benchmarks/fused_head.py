"""Training step of a dense head that updates itself, next to gradients of the table's size.

    python benchmarks/fused_head.py [--labels N] [--dim D] [--batch B] [--torch PYTHON]

A step reads ready vectors (batch, dim), with five labels each and objective ``sigmoid``, and
computes the update of the head and the gradient with respect to the vectors, which an
encoder would need. Variants: ``sgd`` and ``adam`` (``TrainStep`` with ``update`` "gradient" behind
one trained scale per dimension, so that a gradient passes through the vectors), ``fused`` and
``bfloat16``; and in PyTorch, with the Python of ``--torch``, ``torch sgd`` (autograd) and
``torch chunks``, the same update by hand, chunk by chunk.

No step computes the loss itself where it need not: autograd does, the others leave it out, as
training does between two lines of its log; ``--loss`` asks all for it.

Time is processor seconds of a step, all variants in turns, their processes alive together (which
needs the memory of all); with ``--rounds 0``, of a few steps alone. Memory is the rise of a
process's peak resident size over that before the weights were made, each variant alone.
"""

import argparse
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time

from _alternating import answer, duel

CHUNK = 8192
LABELS_EACH = 5
OURS = ("sgd", "adam", "fused", "bfloat16")
PEERS = ("torch sgd", "torch chunks")


def examples(options):
    """Vectors float32 (batch, dim) and labels int32 (batch, 5)."""
    import numpy as np

    random = np.random.default_rng(0)
    vectors = random.normal(size=(options.batch, options.dim)).astype(np.float32)
    labels = random.integers(0, options.labels, (options.batch, LABELS_EACH))
    labels += np.arange(LABELS_EACH)  # five different ones
    return vectors, np.sort(labels % options.labels, axis=1).astype(np.int32)


def our_step(name, options):
    """A function () that trains one step; bytes before there were weights; bytes of the weights."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    from tfxc.core import registry
    from tfxc.core.config import TrainingSettings
    from tfxc.model import XCModel
    from tfxc.objectives.sigmoid import Sigmoid
    from tfxc.training.optimization.optimizers import SGD, Adam
    from tfxc.training.optimization.schedules import Schedule
    from tfxc.training.step import TrainStep

    vectors, labels = map(tf.constant, examples(options))
    tf.matmul(vectors, vectors, transpose_b=True)
    before = peak_restarted()
    section = {"name": "dense"}
    if name in ("fused", "bfloat16"):
        section |= {"update": "fused", "weights": "float32" if name == "fused" else name}
    head = registry.create("head", section, num_labels=options.labels)
    model = XCModel(scaled_vectors(options.dim), head, Sigmoid())
    model.encoder.build(None)
    head.build((None, options.dim))
    settings = TrainingSettings(batch_size=options.batch)
    optimizer = Adam() if name == "adam" else SGD(0.01)
    step = TrainStep(model, optimizer, Schedule(10**6), settings, tf.distribute.get_strategy())
    step.wants_loss = options.loss
    index = tf.zeros(options.batch, tf.int64)
    batch = {"features": vectors, "labels": labels, "example_index": index}
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    weights = sum(v.value.dtype.size * math.prod(v.shape) for v in head.weights)
    return lambda: step.run(batches), before, weights


def scaled_vectors(dim):
    """An encoder with one trained scale per dimension."""
    import keras

    from tfxc.encoders.precomputed import Precomputed

    class Scaled(Precomputed):
        """Vectors times a trained scale."""

        def build(self, input_shape=None):
            self.scale = self.add_weight((dim,), "ones", name="scale")

        def call(self, features, training=False):
            return features * keras.ops.convert_to_tensor(self.scale)

    return Scaled(dim)


def torch_step(name, options):
    """The same in PyTorch."""
    import torch

    torch.set_num_threads(options.threads)
    vectors, labels = (torch.from_numpy(part) for part in examples(options))
    vectors @ vectors.T
    before = peak_restarted()
    make = torch_autograd if name == "torch sgd" else torch_chunks
    step = make(torch, vectors, labels.long(), options)
    return step, before, 4 * options.labels * (options.dim + 1)


def torch_autograd(torch, vectors, labels, options):
    """A function () that trains one step by autograd and ``torch.optim.SGD``."""
    size = options.labels
    weights = torch.empty(size, options.dim).normal_(0, options.dim**-0.5).requires_grad_()
    bias = torch.zeros(size, requires_grad=True)
    vectors.requires_grad_()
    optimizer = torch.optim.SGD([weights, bias], lr=0.01)

    def step():
        optimizer.zero_grad(set_to_none=True)
        vectors.grad = None
        logits = torch.nn.functional.linear(vectors, weights, bias)
        loss = torch.nn.functional.softplus(logits).sum() - logits.gather(1, labels).sum()
        (loss / options.batch).backward()
        optimizer.step()
        return float(loss.detach())

    return step


def torch_chunks(torch, vectors, labels, options):
    """A function () that trains one step by hand, chunk by chunk."""
    sizes = [min(CHUNK, options.labels - begin) for begin in range(0, options.labels, CHUNK)]
    chunks = [torch.empty(size, options.dim).normal_(0, options.dim**-0.5) for size in sizes]
    biases = [torch.zeros(size) for size in sizes]
    rate = 0.01 / options.batch

    @torch.no_grad()
    def step():
        of_vectors = torch.zeros_like(vectors)
        total = 0.0 if options.loss else math.nan
        for number, (weights, bias) in enumerate(zip(chunks, biases, strict=True)):
            logits = torch.addmm(bias, vectors, weights.T)
            places = labels - number * CHUNK
            rows, columns = torch.nonzero((places >= 0) & (places < len(weights)), as_tuple=True)
            columns = places[rows, columns]
            if options.loss:
                of_true = logits[rows, columns].sum()
                total += float(torch.nn.functional.softplus(logits).sum() - of_true)
            gradient = logits.sigmoid_()
            gradient[rows, columns] -= 1
            of_vectors.addmm_(gradient, weights)
            bias.sub_(gradient.sum(0), alpha=rate)
            weights.addmm_(gradient.T, vectors, alpha=-rate)
        return total

    return step


def peak_restarted():
    """Forgets the peak memory so far (Linux); returns the bytes that the process holds now."""
    gc.collect()
    with open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
        stream.write("5")
    return memory("VmRSS")


def memory(field):
    """Bytes of this process, ``VmRSS`` now or ``VmHWM`` at most."""
    with open("/proc/self/status", encoding="ascii") as stream:
        fields = dict(line.split(":", 1) for line in stream)
    return int(fields[field].split()[0]) * 1024


def work(name, options):
    """In a worker: answers with processor seconds, or prints the peak of a few steps."""
    step, before, weights = (our_step if name in OURS else torch_step)(name, options)
    if not options.peak:
        answer(step, 2, time.process_time)
        return
    seconds = []
    for _ in range(1 + options.steps):
        begin = time.process_time()
        step()
        seconds.append(time.process_time() - begin)
    peak = memory("VmHWM") - before
    print(json.dumps({"peak": peak, "weights": weights, "seconds": min(seconds[1:])}))


def command(name, options, *more):
    """Command line of a worker."""
    python = options.torch if name in PEERS else sys.executable
    numbers = ("labels", "dim", "batch", "threads", "steps")
    sizes = [part for key in numbers for part in (f"--{key}", str(getattr(options, key)))]
    loss = ["--loss"] if options.loss else []
    return [python, __file__, "--worker", name, *sizes, *loss, *more]


def alone(name, options):
    """Peak memory of a variant in a process of its own; None if it did not come to its end."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
    done = subprocess.run(
        command(name, options, "--peak"), stdout=subprocess.PIPE, text=True, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def main():
    """Prints a row per variant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--labels", type=int, default=131_072)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns; 0 leaves the times out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=[*OURS, *PEERS], metavar="NAME")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python with PyTorch")
    parser.add_argument("--loss", action="store_true", help="compute the loss in every step")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options)
        return 0
    names = [name for name in options.variants if options.torch or name not in PEERS]
    if len(names) < len(options.variants):
        print("PyTorch is left out: name a Python that has it with --torch")
    times = {}
    if options.rounds:
        commands = {name: command(name, options) for name in names}
        steps = dict.fromkeys(names, options.steps)
        times = duel(commands, options.threads, options.rounds, steps)
    print(
        f"{options.labels:,} labels x {options.dim}, batch {options.batch}, "
        f"{options.threads} threads"
    )
    print(f"{'':14}{'CPU s, min':>12}{'median':>10}{'peak MB':>10}{'weights MB':>12}{'ratio':>8}")
    for name in names:
        peak = alone(name, options)
        seconds = times.get(name) or [peak["seconds"] if peak else math.nan]
        row = f"{name:14}{min(seconds):12.3f}{statistics.median(seconds):10.3f}"
        if peak is None:
            print(f"{row}  stopped before its end", flush=True)
            continue
        sizes = peak["peak"] / 2**20, peak["weights"] / 2**20
        print(f"{row}{sizes[0]:10,.0f}{sizes[1]:12,.0f}{sizes[0] / sizes[1]:8.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
