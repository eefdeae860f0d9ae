"""One step of SCENT over the classes of a batch: tfxc and PyTorch taking turns.

    python benchmarks/dual_step.py --torch-python /path/to/python/with/torch

A linear classifier of 360,232 classes on vectors of length 512, batch 128, plain SGD. PyTorch runs
the published algorithm, rewritten from its description, in three forms:

* torch: the rows of the batch's classes are updated by hand (its fastest form);
* torch autograd: the gradient of the whole table by autograd, and ``torch.optim.SGD``;
* torch full: that, and the cross-entropy over all classes at each step, as the authors' script
  prints it.

Then the step of tfxc with dual tables of several sizes. Each case runs in its own process; the
processes take turns, one active at a time, so that all see the same machine. All are handed ready
tensors.
"""

import argparse
import json
import statistics
import sys

from _alternating import answer, duel

BATCHES = 64
LOG_RATE = 12.0
LEARNING_RATE = 5.0
TORCH = ("torch", "torch autograd", "torch full")


def make_batches(options):
    """Unit vectors, labels and example numbers of ``BATCHES`` batches."""
    import numpy as np

    random = np.random.default_rng(0)
    shape = (BATCHES, options.batch)
    features = random.standard_normal((*shape, options.dim), dtype=np.float32)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    labels = random.integers(0, options.classes, shape)
    examples = min(options.examples, BATCHES * options.batch)
    numbers = np.linspace(0, options.examples - 1, examples, dtype=np.int64)
    return features, labels, random.permutation(np.resize(numbers, shape).ravel()).reshape(shape)


def tfxc_step(options):
    """A function () that trains one step."""
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    from tfxc.core.config import TrainingSettings
    from tfxc.encoders.precomputed import Precomputed
    from tfxc.heads.sampled.head import Sampled
    from tfxc.model import XCModel
    from tfxc.objectives.scent import SCENT
    from tfxc.training.optimization.optimizers import SGD
    from tfxc.training.optimization.schedules import Schedule
    from tfxc.training.step import TrainStep

    features, labels, numbers = make_batches(options)
    batches = tf.data.Dataset.from_tensor_slices({
        "features": features,
        "labels": labels[..., None].astype(np.int32),
        "example_index": numbers,
    })  # fmt: skip
    objective = SCENT(options.examples, log_dual_learning_rate=LOG_RATE)
    model = XCModel(Precomputed(options.dim), Sampled(options.classes), objective)
    model.head.build((None, options.dim))
    objective.build(None)
    settings = TrainingSettings(batch_size=options.batch)
    strategy = tf.distribute.get_strategy()
    step = TrainStep(model, SGD(LEARNING_RATE), Schedule(10**6), settings, strategy)
    iterator = iter(batches.repeat())
    return lambda: float(step.run(iterator))


def torch_step(options):
    """The same step in PyTorch, in the form that ``options.worker`` names."""
    import torch

    torch.set_num_threads(options.threads)
    features, labels, numbers = map(torch.from_numpy, make_batches(options))
    by_hand = options.worker == "torch"
    full = options.worker == "torch full"
    table = torch.empty(options.classes, options.dim).normal_(0, 0.01).requires_grad_(not by_hand)
    optimizer = None if by_hand else torch.optim.SGD([table], lr=LEARNING_RATE)
    dual = torch.zeros(options.examples)  # 0 means: not visited
    count = 0

    def step():
        nonlocal count
        x, y, number = (part[count % BATCHES] for part in (features, labels, numbers))
        count += 1
        classes, true = torch.unique(y, return_inverse=True)
        rows = table[classes].requires_grad_()
        loss = torch_loss(torch, x @ rows.T, true, dual, number)
        if by_hand:
            loss.backward()
            table.index_add_(0, classes, rows.grad, alpha=-LEARNING_RATE)
            return float(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if full:
            with torch.no_grad():
                torch.nn.functional.cross_entropy(x @ table.T, y).item()
        return float(loss.detach())

    return step


def torch_loss(torch, logits, true, dual, number):
    """The loss of a batch; the entries ``number`` of ``dual`` move."""
    scores = logits - logits.gather(1, true[:, None])
    own = torch.nn.functional.one_hot(true, logits.shape[1]).bool()
    scores = scores.masked_fill(own, float("-inf"))
    negatives = logits.shape[1] - 1
    with torch.no_grad():
        mean = scores.exp().sum(dim=1) / negatives
        old = dual[number]
        old = torch.where(old == 0, mean.log(), old)
        share = torch.sigmoid(LOG_RATE + old)
        new = ((1 - share) * old.exp() + share * mean).log()
        dual[number] = new
    return ((scores - new[:, None]).exp().sum(dim=1) / negatives).mean()


def commands_of(cases, options, threads):
    """Command lines of the workers.

    Args:
        cases: {name: (worker, examples)}.
    """
    more = ["--threads", str(threads)]
    for option in ("classes", "dim", "batch"):
        more += [f"--{option}", str(getattr(options, option))]
    commands = {}
    for name, (worker, examples) in cases.items():
        python = sys.executable if worker == "tfxc" else options.torch_python
        own = ["--worker", worker, "--examples", str(examples)]
        commands[name] = [python, __file__, *own, *more]
    return commands


def timed(cases, options, threads):
    """Seconds per step of the cases, taking turns."""
    steps = dict.fromkeys(cases, options.steps)
    return duel(commands_of(cases, options, threads), threads, options.rounds, steps)


def report(title, times, peer):
    """Prints medians, and ratios to the case ``peer``."""
    print(f"{title:24}{'min ms':>10}{'median ms':>12}{'time / ' + peer:>24}", flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        ratio = medians[name] / medians[peer]
        print(f"{name:24}{1e3 * min(values):10.2f}{1e3 * medians[name]:12.2f}{ratio:24.2f}")


def main():
    """Prints a table per number of threads."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = [10_000, 1_000_000, 17_000_000]
    parser.add_argument("--torch-python", help="a Python with torch 2.13; left out without it")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--classes", type=int, default=360_232)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--examples", type=int, nargs="+", default=sizes, metavar="N")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", help="write the results here")
    parser.add_argument("--worker", choices=("tfxc", *TORCH), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        options.threads = options.threads[0]
        options.examples = options.examples[0]
        step = (tfxc_step if options.worker == "tfxc" else torch_step)(options)
        return answer(step, warm_up=5)
    print(f"{options.classes:,} classes x {options.dim}, batch {options.batch}")
    results = []
    for threads in options.threads:
        workers = ("tfxc", *(TORCH if options.torch_python else ()))
        peers = timed({name: (name, options.examples[0]) for name in workers}, options, threads)
        report(f"{threads} threads", peers, "tfxc")
        tables = {f"{n:,} examples": ("tfxc", n) for n in options.examples}
        tables = timed(tables, options, threads)
        report(f"{threads} threads, tfxc", tables, next(iter(tables)))
        results.append({"threads": threads, "seconds": peers, "tables": tables})
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump(results, stream, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
