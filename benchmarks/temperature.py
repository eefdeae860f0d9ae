"""Calibration errors of a softmax, with the best temperature, and by `decision.probabilities`.

    tfxc train train.jsonl --test test.jsonl --no-refit --preset balanced --set encoder=bag_mlp
    python benchmarks/temperature.py runs/train-balanced

The run has a softmax, and examples with one label each. All is learned of its dev split and
measured on test. A temperature divides the logits of all labels, so every label is listed; the
methods of ``decision.probabilities`` see the best ``--k``.
"""

import argparse
import dataclasses

import numpy as np
import scipy.optimize
import scipy.special
from conformal_sets import lists_of

from tfxc.core import registry
from tfxc.decision.held_out import HeldOut
from tfxc.metrics.probability_errors import ProbabilityErrors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--prepared", default="prepared")
    options = parser.parse_args()
    everything = 1 << 31
    dev, test = (
        lists_of(options.run, split, everything, False, options.prepared)
        for split in ("dev", "test")
    )

    def loss(temperature: float) -> float:
        return -scipy.special.log_softmax(dev.scores / temperature, axis=1)[dev.hits].mean()

    best = scipy.optimize.minimize_scalar(loss, bounds=(0.05, 20), method="bounded").x
    for temperature in (1.0, best):
        probabilities = scipy.special.softmax(test.scores / temperature, axis=1)
        show(f"softmax, temperature {temperature:.2f}", test, probabilities)
    listed = dataclasses.replace(
        dev, **{name: getattr(dev, name)[:, : options.k] for name in ("ids", "scores", "hits")}
    )
    for name in ("rows", "isotonic", "logistic"):
        calibration = registry.create("probabilities", {"name": name}).fit(listed)
        show(name, test, calibration(test.scores[:, : options.k]))


def show(name: str, test: HeldOut, probabilities: np.ndarray) -> None:
    """Prints the errors of the best label, and of ranks 1 to 5 together."""
    metric = ProbabilityErrors((1, 5))
    found = test.hits[:, :5]
    labels = np.where(found.any(axis=1), test.ids[np.arange(len(found)), found.argmax(axis=1)], -1)
    metric.update(test.ids[:, :5], probabilities[:, :5], labels[:, None])
    errors = metric.result()
    print(f"{name}: ECE@1 {errors['ECE@1']:.2%}, ECE@5 {errors['ECE@5']:.2%}")


if __name__ == "__main__":
    main()
