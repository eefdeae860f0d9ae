"""A tiny learnable data set and a config for it, for tests that train."""

import json

import numpy as np

NUM_FEATURES, NUM_LABELS = 60, 30


def write_split(path, count, seed):
    """``count`` examples in the Extreme Classification Repository format.

    Label l is true where features 2l and 2l + 1 are both on; two labels per example.
    """
    random = np.random.default_rng(seed)
    lines = [f"{count} {NUM_FEATURES} {NUM_LABELS}"]
    for _ in range(count):
        labels = np.sort(random.choice(NUM_LABELS, 2, replace=False))
        on = {int(f) for label in labels for f in (2 * label, 2 * label + 1)}
        on |= set(random.choice(NUM_FEATURES, 3).tolist())
        features = " ".join(f"{feature}:{random.integers(1, 3)}" for feature in sorted(on))
        lines.append(f"{','.join(map(str, labels))} {features}")
    path.write_text("\n".join(lines) + "\n")


def tiny_tree(folder, **changes):
    """Nested dict of a config on files written into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dev.txt").exists():
        write_split(folder / "train.txt", 203, seed=0)
        write_split(folder / "dev.txt", 60, seed=1)
    tree = {
        "run": str(folder / "run"),
        "data": {
            "name": "tiny",
            "train": str(folder / "train.txt"),
            "dev": str(folder / "dev.txt"),
            "normalise": "l2",
        },
        "encoder": {"name": "bag_mlp", "hidden": [32], "dropout": 0.2, "initial_std": 0.1},
        "head": {"name": "dense"},
        "objective": {"name": "sigmoid"},
        "training": {
            "batch_size": 16,
            "epochs": 3,
            "optimizer": {"name": "adam", "learning_rate": 0.02},
            "schedule": {"name": "linear", "warmup": 0.1},
            "checkpoint_every": 7,
            "log_every": 5,
        },
    }
    for key, value in changes.items():
        # Another encoder has other arguments.
        other = key == "encoder" and value.get("name", "bag_mlp") != "bag_mlp"
        merged = isinstance(tree.get(key), dict) and not other
        tree[key] = {**tree[key], **value} if merged else value
    return tree


def write_config(folder, **changes):
    """Writes ``tiny_tree`` as ``folder/config.json`` and returns its path."""
    path = folder / "config.json"
    tree = tiny_tree(folder, **changes)
    path.write_text(json.dumps(tree))
    return path


def train(folder, run="run", fault=None, **changes):
    """Trains the tiny config in this process.

    Args:
        fault: function of the trainer, called before it starts.

    Returns:
        The trainer.
    """
    from tfxc.core.config import parse_config
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.runs import resuming
    from tfxc.runs.folder import RunFolder
    from tfxc.training.job import TrainingJob
    from tfxc.training.strategies import make_strategy
    from tfxc.training.tf_config import is_chief

    config = parse_config(tiny_tree(folder, **changes))
    data = ensure_prepared(config.data, folder / "prepared", jobs=1)
    run_folder = RunFolder(folder / run, is_chief())
    resuming.start(run_folder, config.model_copy(update={"run": str(folder / run)}), data)
    strategy = make_strategy(config.training)
    trainer = TrainingJob(config, data, run_folder.path).trainer(strategy)
    if fault:
        fault(trainer)
    trainer.summary = trainer.fit()
    return trainer


def weights(trainer):
    """All variables a checkpoint holds, as NumPy arrays."""
    return [variable.numpy() for variable in trainer.step_function.variables_to_save]
