"""Time and memory of training steps over a million labels on a GPU, next to PyTorch's.

    python benchmarks/gpu_steps.py --torch PYTHON

A step reads ready vectors (batch, dim) times one trained scale per dimension, so that a gradient
passes through them, and updates all weights:

* ``dense``: ``update`` "fused" by plain gradient descent, objective ``sigmoid``, five labels each.
* ``mach``: 16 repetitions of a hundredth of the labels, ``sigmoid``, ``adam``, five labels each.
* ``sampled``: the classes of the batch, ``scent``, ``adam`` of these rows, one label each.
* ``margin``: a tenth of the labels (``partial``), ``softmax``, ``adam`` of these rows, one label.

With ``--torch``, the Python that has PyTorch does the same arithmetic: by hand where its autograd
would need the gradient of a whole table. ``autograd`` is ``dense`` as one would first write it.
Products of float32 matrices are shortened to TF32 in both, TensorFlow's default.

Time is the median of single steps, each waited for. Memory is the peak of the framework's own
allocator, weights included, each case in a process of its own; on a CPU nothing is known of it.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time

CHUNK = 8192
HEADS = ("dense", "autograd", "mach", "sampled", "margin")
PRECISIONS = ("float32", "mixed_bfloat16")
LABELS_EACH = {"dense": 5, "mach": 5}
REPETITIONS = 16
BUCKET_SHARE = 100
SAMPLE_RATE = 0.1
MARGIN = 0.5
SCALE = 23.0
LOG_DUAL_RATE = 12.0
RATE = 0.001
WARM_UP = 5


def examples(name, options):
    """Vectors float32 (batch, dim) and sorted labels int32 (batch, 1 or 5)."""
    import numpy as np

    random = np.random.default_rng(0)
    vectors = random.normal(size=(options.batch, options.dim)).astype(np.float32)
    each = LABELS_EACH.get(name, 1)
    labels = random.integers(0, options.labels, (options.batch, each)) + np.arange(each)
    return vectors, np.sort(labels % options.labels, axis=1).astype(np.int32)


def medians(step, wait, options):
    """Milliseconds of a step: median, and those of the first one."""
    seconds = []
    for _ in range(WARM_UP + options.steps):
        begin = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - begin)
    return {"ms": 1e3 * statistics.median(seconds[WARM_UP:]), "first_ms": 1e3 * seconds[0]}


def our_row(name, precision, options):
    """Measures tfxc: a dict."""
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    keras.config.set_dtype_policy(precision)
    try:
        step = our_step(name, options, "GPU:0" if gpus else None)
        row = medians(step, lambda: None, options)
    except tf.errors.OpError as error:
        return {"failed": f"{type(error).__name__}: {error.message[:200]}"}
    if gpus:
        row["peak"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return row


def our_step(name, options, device):
    """A function () that trains one step, and returns when it is done."""
    import tensorflow as tf
    from fused_head import scaled_vectors

    from tfxc.core import registry
    from tfxc.core.config import TrainingSettings
    from tfxc.data.sources.dataset import copied_ahead
    from tfxc.model import XCModel
    from tfxc.training.optimization.optimizers import SGD, Adam
    from tfxc.training.optimization.schedules import Schedule
    from tfxc.training.step import TrainStep

    section = {
        "dense": {"update": "fused"},
        "mach": {"num_buckets": options.labels // BUCKET_SHARE, "num_repetitions": REPETITIONS},
        "sampled": {},
        "margin": {"sampling": "partial", "sample_rate": SAMPLE_RATE, "m2": MARGIN, "scale": SCALE},
    }[name]
    objective = {"sampled": "scent", "margin": "softmax"}.get(name, "sigmoid")
    from_data = {"num_examples": options.batch} if objective == "scent" else {}
    head = registry.create("head", {"name": name, **section}, num_labels=options.labels)
    loss = registry.create("objective", {"name": objective}, **from_data)
    model = XCModel(scaled_vectors(options.dim), head, loss)
    model.encoder.build(None)
    head.build((None, options.dim))
    loss.build(None)
    optimizer = SGD(RATE) if name == "dense" else Adam(RATE)
    settings = TrainingSettings(batch_size=options.batch)
    step = TrainStep(model, optimizer, Schedule(10**6), settings, tf.distribute.get_strategy())
    step.wants_loss = name != "dense"
    vectors, labels = examples(name, options)
    batch = {"features": vectors, "labels": labels, "example_index": range(options.batch)}
    batch = {key: tf.constant(value) for key, value in batch.items()}
    batch["example_index"] = tf.cast(batch["example_index"], tf.int64)
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    iterator = iter(copied_ahead(batches, device) if device else batches)
    return lambda: float(step.run(iterator))


def torch_row(name, precision, options):
    """Measures PyTorch: a dict."""
    import torch

    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    own = {"autograd": torch_autograd, "dense": torch_chunks, "mach": torch_mach}
    found = examples("dense" if name == "autograd" else name, options)
    vectors, labels = (torch.from_numpy(part).to(device) for part in found)
    half = precision == "mixed_bfloat16"
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    try:
        make = own.get(name, torch_rows_of_table)
        row = medians(make(torch, name, vectors, labels.long(), half, options), wait, options)
    except torch.OutOfMemoryError as error:
        return {"failed": str(error)[:200]}
    if device == "cuda":
        row["peak"] = torch.cuda.max_memory_allocated()
    return row


def torch_chunks(torch, _, vectors, labels, half, options):
    """``dense`` by hand, chunk by chunk."""
    device = vectors.device
    sizes = [min(CHUNK, options.labels - begin) for begin in range(0, options.labels, CHUNK)]
    width = options.dim**-0.5
    chunks = [torch.randn(size, options.dim, device=device) * width for size in sizes]
    biases = [torch.zeros(size, device=device) for size in sizes]
    scale = torch.ones(options.dim, device=device)
    rate = RATE / options.batch
    dtype = torch.bfloat16 if half else torch.float32

    @torch.no_grad()
    def step():
        scaled = (vectors * scale).to(dtype)
        of_vectors = torch.zeros_like(scaled)
        for number, (weights, bias) in enumerate(zip(chunks, biases, strict=True)):
            used = weights.to(dtype)
            gradient = torch.addmm(bias.to(dtype), scaled, used.T).sigmoid_()
            places = labels - number * CHUNK
            inside = (places >= 0) & (places < len(weights))
            gradient.scatter_add_(1, places.clamp(0, len(weights) - 1), -inside.to(dtype))
            of_vectors.addmm_(gradient, used)
            bias.sub_(gradient.sum(0), alpha=rate)
            weights.sub_(gradient.T @ scaled, alpha=rate)
        scale.sub_((of_vectors.float() * vectors).sum(0), alpha=rate)

    return step


def torch_autograd(torch, _, vectors, labels, half, options):
    """``dense`` by autograd and ``torch.optim.SGD``."""
    device = vectors.device
    weights = torch.randn(options.labels, options.dim, device=device) * options.dim**-0.5
    parameters = [
        weights.requires_grad_(),
        torch.zeros(options.labels, device=device, requires_grad=True),
        torch.ones(options.dim, device=device, requires_grad=True),
    ]
    optimizer = torch.optim.SGD(parameters, lr=RATE)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = torch.nn.functional.linear(vectors * parameters[2], *parameters[:2])
        loss = torch.nn.functional.softplus(logits).sum() - logits.gather(1, labels).sum()
        (loss / options.batch).backward()
        optimizer.step()

    return step


def torch_mach(torch, _, vectors, labels, half, options):
    """``mach`` by autograd and ``torch.optim.Adam``."""
    device = vectors.device
    buckets = options.labels // BUCKET_SHARE
    lookups = torch.randint(buckets, (options.labels, REPETITIONS), device=device)
    kernel = torch.randn(REPETITIONS, options.dim, buckets, device=device) * options.dim**-0.5
    parameters = [
        kernel.requires_grad_(),
        torch.zeros(REPETITIONS, 1, buckets, device=device, requires_grad=True),
        torch.ones(options.dim, device=device, requires_grad=True),
    ]
    optimizer = torch.optim.Adam(parameters, lr=RATE, fused=device.type == "cuda")

    def step():
        optimizer.zero_grad(set_to_none=True)
        kernel, bias, scale = parameters
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = (vectors * scale) @ kernel + bias
        positives = lookups[labels].permute(2, 0, 1)
        targets = torch.zeros_like(logits, dtype=torch.float32).scatter_(2, positives, 1.0)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits.float(), targets, reduction="sum"
        )
        (loss / options.batch).backward()
        optimizer.step()

    return step


def torch_rows_of_table(torch, name, vectors, labels, half, options):
    """``sampled`` and ``margin``: Adam by hand of the rows that a step has used."""
    device = vectors.device
    table = torch.randn(options.labels, options.dim, device=device) * 0.01
    moments = torch.zeros_like(table), torch.zeros_like(table)
    scale = torch.ones(options.dim, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([scale], lr=RATE)
    dual = torch.full((options.batch,), math.nan, device=device)
    state = {"step": 0}

    def sampled(rows, places):
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = (vectors * scale) @ rows.T
        logits = logits.float()
        others = (logits - logits.gather(1, places)).scatter(1, places, -math.inf)
        log_mean = others.logsumexp(1) - math.log(len(rows) - 1)
        with torch.no_grad():
            known = torch.where(dual.isnan(), log_mean, dual)
            odds = LOG_DUAL_RATE + known
            kept = known + torch.nn.functional.logsigmoid(-odds)
            dual.copy_(torch.logaddexp(kept, log_mean + torch.nn.functional.logsigmoid(odds)))
        return (log_mean - dual).exp().mean()

    def margin(rows, places):
        unit = torch.nn.functional.normalize
        cosines = unit(vectors * scale) @ unit(rows).T
        true = cosines.gather(1, places).clamp(-1 + 1e-6, 1 - 1e-6)
        cosines = cosines.scatter(1, places, torch.cos(torch.acos(true) + MARGIN))
        return torch.nn.functional.cross_entropy(SCALE * cosines, places[:, 0])

    def classes():
        if name == "sampled":
            return torch.unique(labels)
        chances = torch.rand(options.labels, device=device)
        chances[labels.ravel()] = 2.0
        return chances.topk(int(SAMPLE_RATE * options.labels)).indices.sort().values

    loss_of = {"sampled": sampled, "margin": margin}[name]

    def step():
        ids = classes()
        rows = table[ids].requires_grad_()
        optimizer.zero_grad(set_to_none=True)
        loss_of(rows, torch.searchsorted(ids, labels)).backward()
        optimizer.step()
        state["step"] += 1
        with torch.no_grad():
            first = moments[0][ids].lerp_(rows.grad, 0.1)
            second = moments[1][ids].mul_(0.999).addcmul_(rows.grad, rows.grad, value=0.001)
            moments[0][ids] = first
            moments[1][ids] = second
            root = (second / (1 - 0.999 ** state["step"])).sqrt_().add_(1e-8)
            table[ids] = rows.addcdiv(first, root, value=-RATE / (1 - 0.9 ** state["step"]))

    return step


def row_of(python, framework, name, precision, options):
    """A case, measured in a process of its own: a dict."""
    command = [python, __file__, "--worker", framework, "--heads", name, "--precisions", precision]
    for key in ("labels", "dim", "batch", "steps"):
        command += [f"--{key}", str(getattr(options, key))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found = json.loads(lines[-1]) if lines else {"failed": f"ended with {done.returncode}"}
    return {"framework": framework, "head": name, "precision": precision, **found}


def main():
    """Prints a row per case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--labels", type=int, default=10**6)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20, help="of which the median counts")
    parser.add_argument("--heads", nargs="+", default=list(HEADS), metavar="HEAD")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--torch", metavar="PYTHON", help="a Python with PyTorch")
    parser.add_argument("--json", help="write the results here")
    parser.add_argument("--worker", choices=("tfxc", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measure = our_row if options.worker == "tfxc" else torch_row
        print(json.dumps(measure(options.heads[0], options.precisions[0], options)))
        return 0
    print(f"{options.labels:,} labels x {options.dim}, batch {options.batch:,}")
    print(f"{'head':10}{'precision':16}{'framework':11}{'ms/step':>9}{'first':>10}{'peak MB':>10}")
    rows = []
    for precision in options.precisions:
        for name in options.heads:
            cases = [(sys.executable, "tfxc", name)] if name != "autograd" else []
            cases += [(options.torch, "torch", name)] if options.torch else []
            for python, framework, head in cases:
                row = row_of(python, framework, head, precision, options)
                rows.append(row)
                start = f"{head:10}{precision:16}{framework:11}"
                if "failed" in row:
                    print(f"{start}  failed: {row['failed']}", flush=True)
                    continue
                peak = f"{row['peak'] / 2**20:10,.0f}" if "peak" in row else f"{'-':>10}"
                print(f"{start}{row['ms']:9.2f}{row['first_ms']:10.0f}{peak}", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump(rows, stream, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
