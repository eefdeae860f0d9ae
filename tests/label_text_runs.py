"""Runs with head ``label_text`` whose labels are animals of a colour."""

import json

import numpy as np

from tests.small_runs import config_tree
from tfxc.core.config import parse_config
from tfxc.data.store.preparation import ensure_prepared
from tfxc.training.job import TrainingJob

COLOURS = ["red", "green", "blue", "black", "white", "brown", "grey", "pink"]
ANIMALS = ["fox", "owl", "hen", "cow", "bat", "yak"]
HELD_OUT = {"pink yak", "red cow", "blue owl"}


def write_data(folder, seed=0):
    """Questions after an animal of a colour; some pairs are asked for in dev only."""
    random = np.random.default_rng(seed)
    names = [f"{colour} {animal}" for colour in COLOURS for animal in ANIMALS]
    for split, count in (("train", 480), ("dev", 96)):
        rows = []
        for number in range(count):
            name = names[number % len(names)]
            if split == "train" and name in HELD_OUT:
                continue
            words = [*name.split(), *random.choice(["where", "is", "my", "the"], 2)]
            random.shuffle(words)
            rows.append({"text": " ".join(words), "labels": [name.replace(" ", "_")]})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries = [{"label": name.replace(" ", "_"), "text": name} for name in names]
    (folder / "labels.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def tree_of(folder, run="run", head=(), training=(), data=(), encoder=None, **sections):
    data = {
        "label_texts": str(folder / "labels.jsonl"), "text_features": {"name": "tfidf"},
        **dict(data),
    }  # fmt: skip
    encoder = encoder or {
        "name": "bag_mlp", "hidden": [16], "activation": "linear", "residual": 8, "dropout": 0.1
    }  # fmt: skip
    return config_tree(
        folder, encoder, run=run, data=data,
        training={"batch_size": 32, "epochs": 6, "keep_checkpoints": 1, **dict(training)},
        head={"name": "label_text", **dict(head)}, objective={"name": "decoupled_softmax"},
        **sections,
    )  # fmt: skip


def train(folder, **changes):
    config = parse_config(tree_of(folder, **changes))
    data = ensure_prepared(config.data, folder / "prepared")
    return TrainingJob(config, data, folder / changes.get("run", "run")).run()
