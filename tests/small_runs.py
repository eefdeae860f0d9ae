"""Run folders with random weights, for what reads runs: no training needed."""

import numpy as np

from tfxc.core.config import parse_config
from tfxc.data.text.registry import build_text_features
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import build_model
from tfxc.runs.writer import RunWriter, manifest_of, split_of

TEXTS = [
    "Melt the butter, then add flour.",
    "How long does Käse keep? Straße, ΟΔΟΣ",
    "chicken soup for two; the soup freezes",
    "İstanbul street food: simit and tea",
    "the butter and the flour and the tea",
]
NAMES = ["käse, alt", "soup", "with  spaces", "日本", "e", "f|g", "h", "i", "tea", "0", "1", "2"]


def config_tree(folder, encoder, *, run="run", data=(), training=(), **sections):
    """A config to train on ``folder/train.jsonl`` and ``dev.jsonl``, as a dict.

    Args:
        encoder: config section.
        run: name of the run folder in ``folder``.
        data, training: keys of these sections besides, or in place of, what is here.
        sections: other sections.
    """
    optimizer = {"name": "adam", "learning_rate": 0.02}
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev")}
    return {
        "run": str(folder / run),
        "data": {"name": "small", **files, **dict(data)},
        "encoder": encoder,
        "head": {"name": "dense"},
        "objective": {"name": "softmax"},
        "training": {"batch_size": 20, "epochs": 6, "optimizer": optimizer, **dict(training)},
        **sections,
    }


def make_run(
    folder, *, text_features=None, num_features=20, kind="sparse", normalise=None,
    image_shape=None, names=NAMES, **parts,
):  # fmt: skip
    """Writes a run folder and returns its path.

    Args:
        text_features: config section; the features are fitted on ``TEXTS``.
        num_features: where there are no text features.
        image_shape: (height, width, channels) of images.
        names: of the labels.
        parts: config sections ``encoder``, ``head``, ``objective``, ``recipe``.
    """
    features = vocabulary_size = None
    if text_features is not None:
        features = build_text_features(text_features).fit([TEXTS])
        num_features = features.num_features
        vocabulary_size = getattr(features, "vocabulary_size", None)
    tree = {
        "run": str(folder),
        "data": {"name": "small", "train": "train.jsonl", "text_features": text_features},
        "encoder": {"name": "bag_mlp", "hidden": [6]},
        "head": {"name": "dense"},
        "objective": {"name": "sigmoid"},
        **parts,
    }
    config = parse_config(tree)
    sizes = {
        "feature_kind": kind,
        "num_features": num_features,
        "vocabulary_size": vocabulary_size,
        "image_shape": image_shape,
        "num_labels": len(names),
    }
    split = split_of([1, 2, 1, 1, 1])
    manifest = manifest_of(
        "small", split=split, text_features=features, row_normalise=normalise, **sizes
    )
    run = RunWriter(folder)
    run.write_config(config)
    counts = np.ones(len(names), np.int64)
    run.write_assets(manifest, LabelVocabulary(names), counts, features)
    run.save_weights(build_model(config, **sizes))
    return folder
