"""How many repetitions and buckets MACH needs: P@k, head parameters and step time next to dense.

    python benchmarks/repetitions.py --dense configs/dense_bibtex.json \
        --mach configs/mach_bibtex.json --shares 1,0.5 --repetitions 2,4,8,16

For every number of repetitions R and every share of the dense head's parameters, the buckets are
B = share * N / R. Each model is trained and evaluated by the ordinary commands, in its own
process; a finished run is not trained again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path


def main():
    """Trains all models and prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dense", required=True, help="config of the dense model")
    parser.add_argument("--mach", required=True, help="config of the MACH model")
    parser.add_argument("--shares", default="1,0.5", help="head parameters as a share of dense")
    parser.add_argument("--repetitions", default="2,4,8,16")
    parser.add_argument("--set", action="append", default=[], help="passed on to tfxc train")
    parser.add_argument("--runs", default="runs/repetitions", help="folder of the runs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = [measure(options.dense, "dense", [], options)]
    labels = rows[0]["labels"]
    for share in map(float, options.shares.split(",")):
        for repetitions in map(int, options.repetitions.split(",")):
            buckets = min(labels, round(share * labels / repetitions))
            if buckets < 2:
                continue
            change = [f"head.num_buckets={buckets}", f"head.num_repetitions={repetitions}"]
            name = f"mach-R{repetitions}-B{buckets}"
            rows.append(measure(options.mach, name, change, options))
    print(table(rows))
    path = Path(options.runs) / f"{Path(options.mach).stem}-table.json"
    path.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"written: {path}")


def measure(config, name, changes, options):
    """Trains and evaluates one model; returns its row of the table."""
    run = Path(options.runs) / Path(config).stem / f"{name}-seed{options.seed}"
    changes = [*changes, *options.set, f"run={run}", f"seed={options.seed}"]
    arguments = [part for change in changes for part in ("--set", change)]
    verb("train", "--config", config, *arguments)
    verb("evaluate", "--run", str(run))
    evaluation = json.loads(next(run.glob("evaluation-*.json")).read_text())
    manifest = json.loads((run / "assets/manifest.json").read_text())
    return {
        "model": name,
        "labels": manifest["num_labels"],
        "head parameters": head_parameters(run),
        "step ms": step_milliseconds(run),
        "seconds": json.loads((run / "summary.json").read_text())["seconds"],
        **{key: evaluation["metrics"][key] for key in ("P@1", "P@3", "P@5", "PSP@1", "PSP@5")},
    }


def verb(name, *arguments):
    """Runs ``python -m tfxc.<name>``; its output goes to standard error."""
    command = [sys.executable, "-m", f"tfxc.{name}", *arguments]
    print(" ".join(command[1:]), file=sys.stderr)
    subprocess.run(command, check=True, stdout=sys.stderr)


def head_parameters(run):
    """Trainable numbers of the head, from the shapes the run's config describes."""
    from tfxc.model import make_components
    from tfxc.runs.loaded import load_run
    from tfxc.training.memory.estimate import weight_shapes

    loaded = load_run(run)
    encoder, head, _ = make_components(loaded.config, **loaded.dimensions)
    shapes = weight_shapes(encoder, head)
    return sum(weight.size for weight in shapes[len(encoder.trainable_weights) :])


def step_milliseconds(run):
    """Median over the logged windows of the time of a step."""
    config = json.loads((run / "config.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = sorted(line["examples_per_second"] for line in lines if "loss" in line)
    return 1000 * config["training"]["batch_size"] / rates[len(rates) // 2]


def table(rows):
    """The rows as aligned text."""
    lines = [f"{'model':20}{'P@1':>8}{'P@3':>8}{'P@5':>8}{'PSP@1':>8}{'PSP@5':>8}"]
    lines[0] += f"{'head parameters':>18}{'of dense':>10}{'step ms':>9}{'seconds':>9}"
    dense = rows[0]["head parameters"]
    for row in rows:
        scores = "".join(f"{100 * row[k]:8.2f}" for k in ("P@1", "P@3", "P@5", "PSP@1", "PSP@5"))
        lines.append(
            f"{row['model']:20}{scores}{row['head parameters']:18,}"
            f"{row['head parameters'] / dense:10.2f}{row['step ms']:9.1f}{row['seconds']:9.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
