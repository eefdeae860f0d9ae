"""A made set of texts in which the order of two words makes the label."""

import itertools
import json

import numpy as np

WORDS = [f"word{number}" for number in range(8)]
NAMES = [f"{one} {other}" for one, other in itertools.permutations(WORDS, 2)]  # 56 labels


def write_texts(path, each, seed):
    """Writes JSON lines, ``each`` texts of every label, with some noise around the two words."""
    random, lines = np.random.default_rng(seed), []
    for name in NAMES * each:
        noise = [f"noise{number}" for number in random.integers(0, 12, 4)]
        text = " ".join([*noise[: random.integers(0, 4)], name, noise[-1]])
        lines.append(json.dumps({"text": text, "labels": [name]}) + "\n")
    path.write_text("".join(lines))


def work_of(folder, run, **changes):
    """Config, prepared data and run folder of a run, for the recipe's ``run``."""
    from tfxc.core.config import parse_config
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.recipes.base import Context

    config = parse_config(tree_of_config(folder, run, **changes))
    return Context(config, ensure_prepared(config.data, folder / "prepared"), folder / run)


def tree_of_config(folder, run="run", **changes):
    """A config of the recipe on these texts, as a dict."""
    return {
        "run": str(folder / run),
        "data": {
            "name": "pairs",
            "train": str(folder / "train.jsonl"),
            "dev": str(folder / "dev.jsonl"),
            "text_features": {
                "name": "joined",
                "tokens": {"name": "words", "min_count": 1, "max_length": 12},
                "terms": {"name": "tfidf"},
            },
        },
        "encoder": {
            "name": "textcnn",
            "embedding_dim": 16,
            "num_filters": 48,
            "widths": [2],
            "dropout": 0.0,
        },
        "head": {"name": "tree", "nr_splits": 4, "max_leaf_size": 4},
        "objective": {"name": "squared_hinge", "weighted": True},
        "recipe": {"name": "xr_transformer", "only_topk": 3},
        "training": {
            "batch_size": 64,
            "epochs": 4,
            "optimizer": {"name": "adam", "learning_rate": 0.01},
            "schedule": {"name": "linear", "warmup": 0.1},
        },
        "evaluation": {"k": [1, 3]},
        **changes,
    }
