"""Labels that are learned of held-out examples, beside those that are fitted to the file itself.

    python benchmarks/whole_file.py RUN FILE --count 3

RUN is a run with probabilities, FILE has examples with labels that it was not trained on. For each
way to choose as many labels for every example it prints the precision, the mean of the F-measures
over all labels of the run, and the share of them that are right at least once. RUN is not changed.
"""

import argparse
import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from tfxc.commands import decide, predict
from tfxc.runs.loaded import load_run

METHODS = (
    {"name": "top_k"},
    {"name": "macro_f1_at_k"},
    {"name": "macro_f1_at_k", "precision": 0.3},
    {"name": "coverage_at_k"},
    {"name": "coverage_at_k", "precision": 0},
)


def measured(answers: Path, truth: list[list[str]], names: list[str]) -> str:
    """Returns precision, macro-F1 and coverage of the answers, in words."""
    numbers = {name: number for number, name in enumerate(names)}
    right, predicted, true = np.zeros((3, len(names)))
    for line, labels in zip(answers.read_text("utf-8").splitlines(), truth, strict=True):
        own = [numbers[label] for label in set(labels) if label in numbers]
        chosen = [numbers[label] for label in json.loads(line)["labels"]]
        true[own] += 1
        predicted[chosen] += 1
        right[[label for label in chosen if label in own]] += 1
    shares = 2 * right / np.maximum(predicted + true, 1)
    values = (right.sum() / predicted.sum(), shares.mean(), (right > 0).mean())
    return " | ".join(f"{100 * value:.1f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path, help="JSON lines")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--prepared", default="prepared")
    options = parser.parse_args()
    rows = options.file.read_text("utf-8").splitlines()
    truth = [json.loads(row)["labels"] for row in rows]
    names = list(load_run(options.run).vocabulary.names)
    print("| labels | learned of | precision | macro-F1 | found |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        answers = Path(scratch) / "answers.jsonl"
        shutil.copytree(options.run, run)
        for method in METHODS:
            ways = {"held-out examples": ["--prepared", options.prepared]}
            if method["name"] != "top_k":
                ways["the file"] = ["--unlabelled", str(options.file)]
            for way, arguments in ways.items():
                section = json.dumps({**method, "count": options.count})
                with contextlib.redirect_stdout(io.StringIO()):
                    decide.main([str(run), "--labels", section, *arguments])
                    predict.main([str(run), str(options.file), "--output", str(answers)])
                print(f"| `{section}` | {way} | {measured(answers, truth, names)} |", flush=True)


if __name__ == "__main__":
    main()
