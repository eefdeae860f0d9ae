"""Small data with texts of labels, and runs of recipes 'memory' and 'fuse' over it."""

import json

import numpy as np

from tests.commands.calls import call
from tests.exports.test_bundle import alone
from tfxc.commands import export, predict

NUM_LABELS = 30
KNOWN = 26  # the labels that have training examples
MEMORY = {"name": "memory", "neighbours": 10}
FUSE = {
    "name": "fuse",
    "neighbours": 10,
    "held_out": 150,
    "new_labels": 0.3,
    "rare": 40,
    "tree": {"nr_splits": 4, "max_leaf_size": 4},
    "ranker": {"threshold": 0.01, "only_topk": [3, 4, 10]},
}


def words_of(label):
    return [f"w{label}{part}" for part in "abc"]


def write(folder):
    """Examples hold two of the three words of one label's text, and noise."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for split, count in (("train", 300), ("dev", 90)):
        with open(folder / f"{split}.jsonl", "w") as stream:
            for number in range(count):
                label = number % (KNOWN if split == "train" else NUM_LABELS)
                words = [*random.choice(words_of(label), 2, replace=False)]
                words += [f"n{noise}" for noise in random.choice(40, 3)]
                line = {"text": " ".join(words), "labels": [f"label {label}"]}
                stream.write(json.dumps(line) + "\n")
    with open(folder / "texts.jsonl", "w") as stream:
        for label in range(NUM_LABELS):
            line = {"label": f"label {label}", "text": " ".join(words_of(label))}
            stream.write(json.dumps(line) + "\n")


def write_config(folder, recipe, name="run", **data):
    if not (folder / "train.jsonl").exists():
        write(folder)
    data = {
        "name": "words",
        "train": str(folder / "train.jsonl"),
        "dev": str(folder / "dev.jsonl"),
        "label_texts": str(folder / "texts.jsonl"),
        # Its columns do not depend on the data.
        "text_features": {"name": "hashing", "num_features": 2**16},
        **data,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"run": str(folder / name), "data": data, "recipe": recipe}))
    return path


def answers_alone(run, folder, texts, capsys, *options):
    """What an export for NumPy alone and ``tfxc predict`` answer to texts: two lists of dicts."""
    (folder / "texts.txt").write_text("\n".join(texts) + "\n")
    arguments = ("--k", 4, *options, "--output", folder / "alone")
    exported = call(capsys, export, run, *arguments)
    assert exported.code == 0, exported.err
    done = alone(folder / "alone", folder / "texts.txt")
    assert done.returncode == 0, done.stderr
    output = folder / "p.jsonl"
    call(capsys, predict, run, folder / "texts.txt", "--k", 4, "--scores", "--output", output)
    return [
        [json.loads(line) for line in lines.splitlines()]
        for lines in (done.stdout, output.read_text())
    ]


def train(folder, recipe, name="run", **data):
    """Trains and returns the run folder."""
    from tfxc.commands import train

    config = write_config(folder, recipe, name, **data)
    assert train.main(["--config", str(config), "--prepared", str(folder / "prepared")]) == 0
    return folder / name
