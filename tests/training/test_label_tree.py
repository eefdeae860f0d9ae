"""Recipe 'fit' with head 'tree': the tree comes from the data, and with the weights."""

import json

import numpy as np
import pytest

from tfxc.config import parse_config
from tfxc.data.label_vectors import label_vectors
from tfxc.data.preparation import ensure_prepared
from tfxc.data.source import open_source
from tfxc.errors import ConfigError
from tfxc.labels.tree_building import build_tree
from tfxc.recipes.base import Context
from tfxc.recipes.fit import Fit
from tfxc.recipes.runs import load_run


def config_of(folder, text_features, encoder, **head):
    return parse_config(
        {
            "run": str(folder / "run"),
            "data": {
                "name": "words",
                "train": str(folder / "train.jsonl"),
                "dev": str(folder / "train.jsonl"),
                "text_features": text_features,
            },
            "encoder": encoder,
            "head": {"name": "tree", "nr_splits": 2, "max_leaf_size": 4, **head},
            "objective": {"name": "squared_hinge", "weighted": True},
            "training": {
                "batch_size": 24,
                "epochs": 30,
                "optimizer": {"name": "adam", "learning_rate": 0.02},
            },
            "evaluation": {"k": [1]},
        }
    )


@pytest.fixture
def texts(tmp_path):
    with open(tmp_path / "train.jsonl", "w") as stream:
        for number in range(96):
            labels = [f"label{number % 24}"]
            text = f"word{number % 24} of family{number % 3}"
            stream.write(json.dumps({"text": text, "labels": labels}) + "\n")
    return tmp_path


def test_trains_and_is_read_again(texts):
    config = config_of(texts, {"name": "tfidf"}, {"name": "bag_mlp", "hidden": [16]})
    folder = ensure_prepared(config.data, texts / "prepared")
    summary = Fit().run(Context(config, folder, texts / "run"))
    assert summary["dev"]["P@1"] > 0.9
    head = load_run(texts / "run").model.head
    source = open_source(folder, "train")
    expected = build_tree(label_vectors(source, 24), nr_splits=2, max_leaf_size=4, seed=config.seed)
    assert [level.nodes for level in head.shape] == expected.sizes == [2, 4, 8, 24]
    for level in (1, 2, 3):
        np.testing.assert_array_equal(head.parents[level].numpy(), expected.parents[level])


def test_tokens_alone_make_no_tree(texts):
    words = {"name": "words", "min_count": 1, "max_length": 8}
    config = config_of(texts, words, {"name": "fasttext", "embedding_dim": 8})
    folder = ensure_prepared(config.data, texts / "prepared")
    with pytest.raises(ConfigError, match="built from bags of terms"):
        Fit().run(Context(config, folder, texts / "run"))
    assert not (texts / "run").exists()
