"""A small set of texts and configs of recipe 'xr_linear' over it."""

import json

import numpy as np

NUM_LABELS = 30
SECTION = {
    "name": "xr_linear",
    "tree": {"nr_splits": 4, "max_leaf_size": 4},
    "ranker": {"threshold": 0.01, "only_topk": [3, 4, 10]},
}
DECISION = {"probabilities": "logistic"}


def write_texts(path, count, seed, suffix=""):
    """Texts of the words of their two labels and of noise; labels ``label 0`` and so on."""
    random = np.random.default_rng(seed)
    with open(path, "w") as stream:
        for _ in range(count):
            labels = random.choice(NUM_LABELS, 2, replace=False)
            words = [f"w{label}{part}" for label in labels for part in "ab"]
            words += [f"n{number}" for number in random.choice(40, 4)]
            names = [f"label {label}{suffix}" for label in labels]
            stream.write(json.dumps({"text": " ".join(words), "labels": names}) + "\n")


def write_config(folder, name="run", recipe=SECTION, **changes):
    folder.mkdir(exist_ok=True)
    if not (folder / "train.jsonl").exists():
        write_texts(folder / "train.jsonl", 300, 0)
        write_texts(folder / "dev.jsonl", 80, 1)
    data = {
        "name": "words",
        "train": str(folder / "train.jsonl"),
        "dev": str(folder / "dev.jsonl"),
        "text_features": {"name": "tfidf"},
    }
    path = folder / f"{name}.json"
    sections = {"recipe": recipe, "decision": DECISION, **changes}
    tree = {"run": str(folder / name), "data": data, **sections}
    path.write_text(json.dumps(tree))
    return path


def command(folder, *more, **changes):
    return ("--config", write_config(folder, **changes), "--prepared", folder / "prepared", *more)


def ranker_files(run):
    """Content of every file of the model, by name."""
    files = [path for path in (run / "ranker").rglob("*") if path.is_file()]
    files += [run / "tree.npz", run / "decision.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def texts_of(run):
    lines = (run.parent / "dev.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]
