"""The dual methods side by side: full cross-entropy after equal epochs, each with its best steps.

    python benchmarks/dual_methods.py --config configs/scent_omniglot.json

Each method gets the same number of settings (learning rate times one of its own parameters, for
``bsgd`` learning rates alone), each trained once with the first seed; the one with the lowest full
loss over the training set is trained with the other seeds. Runs are made in this process by the
ordinary command and stay in ``--runs`` for ``tfxc compare``; a finished one is not trained
again. A training run that ends in NaN or infinity counts as infinitely bad.
"""

import argparse
import itertools
import json
import math
import statistics
import sys
from pathlib import Path

from tfxc.commands import train
from tfxc.core.errors import UserError

# A parameter of each method and the values tried; the other parameters are the published ones.
GRIDS = {
    "scent": ("log_dual_learning_rate", (3.0, 6.0, 9.0)),
    "sox": ("last_share", (0.01, 0.1, 0.3)),
    "bsgd": (None, (None,) * 3),
    "umax": ("dual_learning_rate", (0.1, 0.3, 1.0)),
    "asgd": ("dual_learning_rate", (0.1, 0.3, 1.0)),
    "asgd_softplus": ("dual_learning_rate", (0.1, 0.3, 1.0)),
}


def main():
    """Trains all and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", required=True, help="config of any of the six methods")
    parser.add_argument("--methods", default=",".join(GRIDS))
    parser.add_argument("--rates", default="10,30,100,300", help="learning rates tried")
    parser.add_argument("--seeds", default="0,1,2", help="the first one chooses the steps")
    parser.add_argument("--set", action="append", default=[], help="passed on to tfxc train")
    parser.add_argument("--prepared", default="prepared", help="as for tfxc train")
    parser.add_argument("--runs", default="runs/dual_methods", help="folder of the runs")
    options = parser.parse_args()
    rates = tuple(map(float, options.rates.split(",")))
    rows = [measure(method, rates, options) for method in options.methods.split(",")]
    rows.sort(key=lambda row: row["mean"])
    print(table(rows))
    path = Path(options.runs) / "table.json"
    path.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"written: {path}")


def measure(method, rates, options):
    """Chooses the steps of one method, then trains with all seeds; a row of the table."""
    first, *others = options.seeds.split(",")
    tried = {setting: final(method, setting, first, options) for setting in settings(method, rates)}
    for setting, loss in tried.items():
        print(f"{method} {setting}: {loss['train']:.4f}", file=sys.stderr)
    best = min(tried, key=lambda setting: tried[setting]["train"])
    runs = [tried[best], *(final(method, best, seed, options) for seed in others)]
    losses = [run["train"] for run in runs]
    return {
        "method": method,
        "learning_rate": best[0],
        "parameter": GRIDS[method][0],
        "value": best[1],
        "losses": losses,
        "mean": statistics.mean(losses),
        "deviation": statistics.stdev(losses) if len(losses) > 1 else 0.0,
        "dev": [run["dev"] for run in runs],
        "P@1": [run["P@1"] for run in runs],
        "tried": [[*setting, loss["train"]] for setting, loss in tried.items()],
    }


def settings(method, rates):
    """(learning rate, value of the method's own parameter) of every trial; equally many."""
    name, values = GRIDS[method]
    if name is not None:
        return list(itertools.product(rates, values))
    # As many learning rates between and around the given ones.
    low = min(rates) / 3
    high = max(rates) * 3
    count = len(rates) * len(values)
    return [(low * (high / low) ** (place / (count - 1)), None) for place in range(count)]


def final(method, setting, seed, options):
    """Full losses of one training run after its last epoch, in nats."""
    rate, value = setting
    own = [] if value is None else [f"objective.{GRIDS[method][0]}={value}"]
    run = Path(options.runs) / f"{method}_{rate:.4g}_{value}_seed{seed}"
    changes = [
        f'objective={{"name": "{method}"}}', *own, f"training.optimizer.learning_rate={rate}",
        f"seed={seed}", f"run={run}", *options.set,
    ]  # fmt: skip
    arguments = ["--config", options.config, "--prepared", options.prepared]
    arguments += [part for change in changes for part in ("--set", change)]
    try:
        if not (run / "summary.json").is_file():
            train.main(arguments)
    except UserError as error:
        print(f"{run}: {error}", file=sys.stderr)
        return {"train": math.inf, "dev": math.inf, "P@1": 0.0}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = {key: value for line in lines for key, value in line.items()}
    names = {"train": "train full_loss", "dev": "dev full_loss", "P@1": "dev P@1"}
    return {name: last[key] for name, key in names.items()}


def table(rows):
    """The rows as text."""
    head = f"{'method':14} {'train full loss':>19} {'dev':>8} {'dev P@1':>8}   steps"
    lines = [head]
    for row in rows:
        own = "" if row["parameter"] is None else f", {row['parameter']} {row['value']:g}"
        lines.append(
            f"{row['method']:14} {row['mean']:9.4f} +- {row['deviation']:.4f} "
            f"{statistics.mean(row['dev']):8.4f} {100 * statistics.mean(row['P@1']):8.2f}   "
            f"learning rate {row['learning_rate']:.3g}{own}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
