"""Coverage and size of conformal sets, over random halves of examples that a run has not seen.

    python benchmarks/conformal_sets.py runs/clinc150
    python benchmarks/conformal_sets.py runs/cooking --k 100 --labels '{"name": "conformal"}'

The best k labels of the dev split (test, without one) are found once. Then, for each split, the
decision is learned of one half and measured on the other. Printed are the mean over the splits, the
standard deviation and the extremes of the coverage, and the mean and median sizes of sets.
"""

import argparse
import dataclasses
import json
import time

import numpy as np

from tfxc.core import registry
from tfxc.decision.held_out import HeldOut
from tfxc.inference.searcher import Searcher
from tfxc.metrics.base import distinct_labels
from tfxc.metrics.base import hits as hits_of
from tfxc.reports.measurement import ExamplesOptions
from tfxc.runs.loaded import load_run


def lists_of(run: str, split: str | None, k: int, probabilities: bool, prepared: str) -> HeldOut:
    """Returns the best labels of the examples, with scores or probabilities of the model's own."""
    loaded = load_run(run)
    if split is None and "dev" in loaded.manifest["splits"]:
        split = "dev"
    _, rows = ExamplesOptions(split=split, prepared=prepared).examples(loaded)
    k = min(k, loaded.manifest["num_labels"])
    batches = [*Searcher(loaded.model, k, probabilities=probabilities).over(rows, 256)]
    ids, scores = (np.concatenate([batch[part] for batch in batches]) for part in (0, 1))
    hits = np.concatenate([hits_of(batch.ids, batch.labels) for batch in batches])
    counts = [(distinct_labels(batch.labels) >= 0).sum(axis=1) for batch in batches]
    return HeldOut(ids, scores, loaded.label_counts, hits, np.concatenate(counts))


def measured(examples: HeldOut, probabilities: str | None, labels: dict, seed: int) -> np.ndarray:
    """Returns coverage, mean and median size, and the share of empty sets, on one random half."""
    half = np.random.default_rng(seed).permutation(len(examples.ids)) % 2 == 0
    learned, other = examples.rows(half), examples.rows(~half)
    if probabilities is not None:
        calibration = registry.create("probabilities", {"name": probabilities}).fit(learned)
        learned, other = (
            dataclasses.replace(part, scores=calibration(part.scores)) for part in (learned, other)
        )
    rule = registry.create("labels", labels).fit(learned, True)
    chosen = rule.predicted(other.ids, other.scores)
    known = other.num_true > 0
    found = (chosen & other.hits).sum(axis=1)[known] / other.num_true[known]
    sizes = chosen.sum(axis=1)
    return np.array([found.mean(), sizes.mean(), np.median(sizes), (sizes == 0).mean()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run")
    parser.add_argument("--split")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--probabilities", default="rows", help="none: the model's own")
    parser.add_argument("--labels", action="append", help="as JSON; may be given several times")
    parser.add_argument("--prepared", default="prepared")
    options = parser.parse_args()
    method = None if options.probabilities == "none" else options.probabilities
    examples = lists_of(options.run, options.split, options.k, method is None, options.prepared)
    share = examples.hits.sum() / examples.truths
    print(
        f"{options.run}: {len(examples.ids):,} examples, {share:.1%} of the labels in {options.k}"
    )
    for text in options.labels or ['{"name": "conformal"}']:
        began = time.process_time()
        labels = json.loads(text)
        rows = [measured(examples, method, labels, seed) for seed in range(options.splits)]
        coverage, mean, median, empty = np.transpose(rows)
        seconds = (time.process_time() - began) / options.splits
        print(
            f"{text}: coverage {coverage.mean():.2%} (sd {coverage.std(ddof=1):.2%}, "
            f"{coverage.min():.2%} to {coverage.max():.2%}), size mean {mean.mean():.2f}, "
            f"median {np.median(median):g}, empty {empty.mean():.2%}; {seconds:.2f} s each"
        )


if __name__ == "__main__":
    main()
