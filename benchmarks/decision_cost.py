"""Processor seconds and peak memory of decisions over 670,091 labels, the best 50 of each text.

    python benchmarks/decision_cost.py [--examples 10000] [--labels 670091] [--k 50]

Pairs are random: labels by a power law, as in the tails of large label spaces, and true ones with
the probability of their score. Each way to choose labels runs in a process of its own, once with
the probabilities ``rows``: learned, written, read, and applied to all texts. The peak is over what
the process held before it.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROBABILITIES = "probabilities"


def pairs(examples, labels, k):
    """Held-out lists, their true labels besides, and the training examples of each label."""
    import numpy as np

    from tfxc.decision.held_out import HeldOut

    random = np.random.default_rng(0)
    ids = np.minimum(labels * random.random((examples, k)) ** 3, labels - 1).astype(np.int32)
    ids.sort(axis=1)
    repeated = np.zeros(ids.shape, bool)
    repeated[:, 1:] = ids[:, 1:] == ids[:, :-1]
    odds = random.normal(1, 1, (examples, k)) - 2 * np.log1p(np.arange(k))
    scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
    scores[repeated] = -np.inf
    ids[repeated] = -1
    order = np.argsort(-scores, axis=1)
    ids, scores = (np.take_along_axis(part, order, 1) for part in (ids, scores))
    hits = random.random(scores.shape) < scores
    missed = random.integers(0, labels, (examples, 1), dtype=np.int32)
    missed[random.random(missed.shape) > 0.1] = -1
    true = np.concatenate([np.where(hits, ids, -1), missed], axis=1)
    counts = np.bincount(true[true >= 0], minlength=labels) * 50
    return HeldOut(ids, scores, counts, hits, (true >= 0).sum(axis=1), true)


def measured(section, options):
    """Seconds of learning, files and applying, and the rise of the peak in MB."""
    import dataclasses

    from benchmarks.evaluation_memory import resident_bytes
    from tfxc.core import registry
    from tfxc.decision.fitted import FittedDecision

    held_out = pairs(options.examples, options.labels, options.k)
    rows = registry.create(PROBABILITIES, {"name": "rows"})
    method = None if section == PROBABILITIES else registry.create("labels", json.loads(section))
    before = resident_bytes()
    times = [time.process_time()]
    calibration = rows.fit(held_out)
    rule = None
    if method is not None:
        likely = dataclasses.replace(held_out, scores=calibration(held_out.scores))
        times[0] = time.process_time()  # without the probabilities
        rule = method.fit(likely, True)
        del likely
    times.append(time.process_time())
    with tempfile.TemporaryDirectory() as folder:
        FittedDecision(calibration, rule).save(Path(folder))
        fitted = FittedDecision.load(Path(folder), options.labels)
    times.append(time.process_time())
    likely = fitted.calibration(held_out.scores)
    if fitted.rule is not None:
        fitted.rule.predicted(held_out.ids, likely)
    times.append(time.process_time())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = [after - start for start, after in itertools.pairwise(times)]
    return [*seconds, max(0, peak - before) / 1e6]


def main():
    """Prints a row for each way to choose labels."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--labels", type=int, default=670_091)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--only", metavar="SECTION", help="as JSON, in this process")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if options.only:
        print(json.dumps(measured(options.only, options)))
        return 0
    from tfxc.core import registry
    from tfxc.core.declared import arguments_of

    print("| labels | learned, s | written and read, s | applied, s | peak, MB |")
    print("|---|---|---|---|---|")
    sections = [PROBABILITIES]
    for name in registry.names("labels"):
        needs_count = "count" in arguments_of(registry.get("labels", name))
        sections.append(json.dumps({"name": name} | ({"count": 5} if needs_count else {})))
    for section in sections:
        arguments = [part for part in sys.argv[1:] if part != "--only"]
        command = [sys.executable, __file__, *arguments, "--only", section]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        name = section if section == PROBABILITIES else json.loads(section)["name"]
        *seconds, peak = json.loads(answer)
        print(f"| `{name}` |", " | ".join(f"{value:.2f}" for value in seconds), f"| {peak:,.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
