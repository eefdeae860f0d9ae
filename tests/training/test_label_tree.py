"""Recipe 'fit' with head 'tree': the tree comes from the data, and with the weights."""

import numpy as np
import pytest
import scipy.sparse

from tests.data.sources.examples import write_jsonl
from tests.small_runs import config_tree
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.data.examples.rows import Rows
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.matrices import matrices
from tfxc.data.sources.shards import open_source
from tfxc.data.store.preparation import ensure_prepared
from tfxc.labels.label_embeddings import pifa
from tfxc.labels.tree_building import ClusteringSettings, build_tree
from tfxc.recipes.base import Context
from tfxc.recipes.fit import Fit
from tfxc.recipes.xr_linear.settings import TreeSettings
from tfxc.runs.loaded import load_run
from tfxc.training.data_dependent import data_dependent_arguments


def config_of(folder, text_features, encoder, head=None):
    softmax, hinge = {"name": "softmax"}, {"name": "squared_hinge", "weighted": True}
    tree = config_tree(
        folder,
        encoder,
        data={"dev": str(folder / "train.jsonl"), "text_features": text_features},
        head=head or {"name": "tree", "nr_splits": 2, "max_leaf_size": 4},
        objective=softmax if head else hinge,
        training={"batch_size": 24, "epochs": 30},
        evaluation={"k": [1]},
    )
    return parse_config(tree)


@pytest.fixture
def texts(tmp_path):
    names = [(number % 24, number % 3) for number in range(96)]
    texts = [(f"word{one} of family{other}", [f"label{one}"]) for one, other in names]
    write_jsonl(tmp_path / "train.jsonl", texts)
    return tmp_path


def test_trains_and_is_read_again(texts):
    config = config_of(texts, {"name": "tfidf"}, {"name": "bag_mlp", "hidden": [16]})
    folder = ensure_prepared(config.data, texts / "prepared")
    summary = Fit().run(Context(config, folder, texts / "run"))
    assert summary["dev"]["P@1"] > 0.9
    head = load_run(texts / "run").model.head
    source = open_source(folder, "train")
    features, labels = matrices(source)
    settings = {"nr_splits": 2, "max_leaf_size": 4, "seed": config.seed}
    expected = build_tree(pifa(labels, features), ClusteringSettings(**settings))
    assert [level.nodes for level in head.shape] == expected.sizes == [2, 4, 8, 24]
    for level in (1, 2, 3):
        np.testing.assert_array_equal(head.parents[level].numpy(), expected.parents[level])


@pytest.mark.parametrize(
    ("head", "purpose"),
    [
        ({}, "to build the label tree from"),
        ({"name": "mhp", "heads": [6, 4], "label_order": "clusters"}, "to order the labels by"),
    ],
)
def test_tokens_alone_make_neither_tree_nor_order(texts, head, purpose):
    words = {"name": "words", "min_count": 1, "max_length": 8}
    config = config_of(texts, words, {"name": "fasttext", "embedding_dim": 8}, head=head)
    folder = ensure_prepared(config.data, texts / "prepared")
    with pytest.raises(ConfigError, match=f"lists of .* have no bags of terms {purpose}"):
        Fit().run(Context(config, folder, texts / "run"))
    assert not (texts / "run").exists()


def test_one_tree_for_all_who_build_it(tmp_path):
    """Same data and settings: the head's tree is the ranker's, whatever length the features have.

    Texts of several labels, whose features are no unit vectors: what tells one PIFA from another.
    """
    random = np.random.default_rng(0)
    rows = [sorted(random.choice(24, random.integers(1, 5), replace=False)) for _ in range(300)]
    matrix = np.zeros((300, 40), np.float32)
    for row, labels in enumerate(rows):
        matrix[row, labels] = random.random(len(labels)) * 10 ** random.random()
        matrix[row, 24 + random.integers(0, 16, 5)] = 3
    source = ArraySource(Rows.from_csr(scipy.sparse.csr_matrix(matrix), rows), 24)
    head = {"name": "tree", "nr_splits": 2, "max_leaf_size": 3}
    config = parse_config(config_tree(tmp_path, {"name": "bag_mlp"}, head=head))
    sizes = {"num_features": 40, "num_labels": 24, "num_examples": 300}
    found = data_dependent_arguments(config, source, **sizes)["label_tree"]
    features, labels = matrices(source)
    settings = {"nr_splits": 2, "max_leaf_size": 3, "seed": config.seed}
    assert found == TreeSettings(settings).build(features, labels)
