"""Whether every way out of a run returns the same labels of 1,000 texts.

    python benchmarks/same_labels.py [--texts 1000] [--decisions f_measure thresholds ...]

Trains a linear ranker and a network over words on random texts with one to four of 60 labels, lets
both learn each decision of the same dev split, and compares the labels of ``tfxc predict`` with
those of ``XCClassifier``, of ``tfxc serve`` by HTTP, and of every format that ``tfxc export``
writes, each as it is used without tfxc. A format that a run has none of says why. Needs the extras
``onnx`` and ``serve``; without ``ai-edge-litert``, LiteRT runs in TensorFlow's own interpreter.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import types
import urllib.request
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LABELS = 60
MODELS = {
    "linear": {"recipe": {"name": "xr_linear", "tree": {"max_leaf_size": 8}}},
    "network": {
        "encoder": {"name": "bag_mlp", "hidden": [64]},
        "head": {"name": "dense"},
        "objective": {"name": "sigmoid"},
        "training": {"epochs": 6, "batch_size": 64},
    },
}
FORMATS = ("savedmodel", "onnx", "litert", "runtime")
AT_ONCE = 100


def write_examples(path, count, seed):
    """Texts of the words of their labels and of noise; returns the texts."""
    import numpy as np

    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, LABELS + 1)
    texts = []
    with open(path, "w", encoding="utf-8") as stream:
        for _ in range(count):
            number = int(random.integers(1, 5))
            labels = random.choice(LABELS, number, replace=False, p=shares / shares.sum())
            words = [f"w{label}{random.choice(list('abc'))}" for label in labels]
            words += [f"w{random.integers(LABELS)}a", *(f"n{x}" for x in random.choice(80, 6))]
            texts.append(" ".join(random.permutation(words)))
            names = [f"label {label}" for label in labels]
            stream.write(json.dumps({"text": texts[-1], "labels": names}) + "\n")
    return texts


def call(command, *arguments):
    """Calls a command in this process."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = command.main([str(argument) for argument in arguments])
    if code:
        sys.exit(f"{command.__name__}: exit code {code}")


def by_command(command, folder, *model):
    """Labels that ``tfxc predict`` writes."""
    answers = folder / "answers.jsonl"
    answers.unlink(missing_ok=True)
    call(command, *model, folder / "texts.txt", "--output", answers)
    lines = answers.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["labels"] for line in lines]


def by_http(run, texts):
    """Labels that a server says are returned."""
    command = [sys.executable, "-m", "tfxc", "serve", str(run), "--port", "0", "--drain", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for line in server.stdout:
            if "serving at " in line:
                address = line.split("serving at ")[1].split()[0].rstrip("/")
                break
        answers = []
        for first in range(0, len(texts), AT_ONCE):
            body = json.dumps({"texts": texts[first : first + AT_ONCE], "k": 20}).encode()
            with urllib.request.urlopen(f"{address}/predict", body) as answer:
                answers += json.load(answer)["predictions"]
        return [[label["label"] for label in row if label["returned"]] for row in answers]
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def by_program(folder, texts):
    """Labels of ``predict.py`` of an export."""
    try:
        import ai_edge_litert  # noqa: F401 (the program imports it)
    except ImportError:
        import tensorflow as tf

        package = types.ModuleType("ai_edge_litert")
        module = types.ModuleType("ai_edge_litert.interpreter")
        module.Interpreter = tf.lite.Interpreter
        sys.modules |= {package.__name__: package, module.__name__: module}
    for name in [name for name in sys.modules if name.startswith("text_features")]:
        del sys.modules[name]  # of another export
    spec = importlib.util.spec_from_file_location("predict", folder / "predict.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    predictor = program.Predictor(folder)
    parts = (texts[first : first + AT_ONCE] for first in range(0, len(texts), AT_ONCE))
    return [found.labels for part in parts for found in predictor(part)]


def main():
    """Prints a row for each run and decision."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--decisions", nargs="+", default=["f_measure", "thresholds"])
    options = parser.parse_args()
    from tfxc.commands import decide, export, predict, train
    from tfxc.core.errors import ConfigError
    from tfxc.estimator.classifier import XCClassifier

    print("| run | labels | of predict, a text | the same of as many |", flush=True)
    print("|---|---|---|---|")
    different = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_examples(folder / "train.jsonl", 2000, 0)
        write_examples(folder / "dev.jsonl", 600, 1)
        texts = write_examples(folder / "new.jsonl", options.texts, 2)
        (folder / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        files = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev")}
        data = {"name": "words", **files, "text_features": {"name": "tfidf"}}
        for model, sections in MODELS.items():
            run = folder / model
            config = {"run": str(run), "data": data, "decision": {"probabilities": "rows"}}
            (folder / "config.json").write_text(json.dumps(config | sections), encoding="utf-8")
            prepared = ("--prepared", folder / "prepared")
            call(train, "--config", folder / "config.json", *prepared)
            for decision in options.decisions:
                call(decide, run, "--labels", decision, *prepared)
                expected = by_command(predict, folder, run)
                ways = {
                    "XCClassifier": XCClassifier.load(run).predict(texts),
                    "HTTP": by_http(run, texts),
                }
                for form in FORMATS:
                    output = folder / f"{model}-{form}-{len(list(folder.iterdir()))}"
                    arguments = ("--format", form, "--probabilities", "--output", output)
                    try:
                        call(export, "--run", run, *arguments)
                    except ConfigError as error:
                        ways[f"{form} ({error.problem})"] = None
                        continue
                    if form == "savedmodel":
                        ways[form] = by_command(predict, folder, "--model", output)
                    else:
                        ways[form] = by_program(output, texts)
                cells = []
                for way, found in ways.items():
                    if found is None:
                        cells.append(way)
                        continue
                    same = sum(map(list.__eq__, map(list, found), expected))
                    cells.append(f"{way} {same:,}")
                    different += len(texts) - same
                mean = sum(map(len, expected)) / len(texts)
                print(f"| {model} | {decision} | {mean:.2f} |", ", ".join(cells), "|", flush=True)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
