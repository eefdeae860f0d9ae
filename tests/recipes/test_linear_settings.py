"""How labels are clustered: by themselves, by features of theirs, or as a file says."""

import json

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call
from tests.linear_runs import NUM_LABELS, SECTION, command
from tests.recipes.xr_texts import NAMES, work_of, write_texts
from tfxc.commands import train
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.sources.matrices import matrices
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import Manifest
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.label_embeddings import pifa_with_label_features
from tfxc.labels.tree_building import ClusteringSettings, build_tree
from tfxc.recipes.xr_linear.settings import TreeSettings
from tfxc.recipes.xr_transformer.recipe import XRTransformer

BY_HAND = ClusterTree([[0, 0, 0], [0] * 20 + [1] * 7 + [2] * 3])  # as no 2-means would


@pytest.fixture
def files(tmp_path):
    BY_HAND.save(tmp_path / "tree.npz")
    np.save(tmp_path / "labels.npy", np.random.default_rng(0).normal(0, 1, (NUM_LABELS, 5)))
    return tmp_path


@pytest.mark.parametrize("join", ["concat", "convex"])
def test_features_of_labels(join, tmp_path):
    random = np.random.default_rng(1)
    labels = scipy.sparse.csr_matrix(random.random((90, 12)) < 0.2, dtype=np.float32)
    features, given = random.random((90, 6)), random.random((12, 6)).astype(np.float32)
    np.save(tmp_path / "given.npy", given)
    settings = {"label_features": str(tmp_path / "given.npy"), "join": join}
    settings |= {"alpha": 0.25} if join == "convex" else {}
    tree = TreeSettings({**settings, "max_leaf_size": 3}, seed=4)
    vectors = pifa_with_label_features(labels, features, given, join, 0.25)
    built = tree.build(features, labels)
    assert built == build_tree(vectors, ClusteringSettings(seed=4, max_leaf_size=3))
    assert built.sizes == tree.sizes(12, 6)
    alone = {"label_features": settings["label_features"], "label_embedding": "given"}
    tree = TreeSettings({**alone, "max_leaf_size": 3}, seed=4)
    expected = build_tree(given, ClusteringSettings(seed=4, max_leaf_size=3))
    assert tree.build(features[:, :2], labels) == expected


def test_a_ranker_over_a_tree_from_a_file(run, files, capsys):
    recipe = {**SECTION, "tree": {"file": str(files / "tree.npz")}}
    recipe["ranker"] = {"threshold": 0.01, "only_topk": 3}
    arguments = command(run.parent, name="by-hand", recipe=recipe)
    assert "layers of 3, 30 nodes" in call(capsys, train, *arguments, "--dry-run").out
    assert call(capsys, train, *arguments).code == 0
    assert ClusterTree.load(run.parent / "by-hand" / "tree.npz") == BY_HAND
    summary = json.loads((run.parent / "by-hand" / "summary.json").read_text())
    assert [layer["trained"] for layer in summary["layers"]] == [3, 30]
    assert summary["dev"]["P@1"] > 0.9


def test_a_leaf_for_all_labels(run, capsys):
    recipe = {**SECTION, "tree": {"max_leaf_size": NUM_LABELS}, "ranker": {"threshold": 0.01}}
    arguments = command(run.parent, name="one-level", recipe=recipe)
    assert call(capsys, train, *arguments).code == 0
    assert ClusterTree.load(run.parent / "one-level" / "tree.npz").sizes == [NUM_LABELS]
    summary = json.loads((run.parent / "one-level" / "summary.json").read_text())
    assert summary["dev"]["P@1"] > 0.9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"file": "absent.npz"}, r"absent\.npz: no such file"),
        ({"file": "labels.npy"}, r"labels\.npy: the file cannot be read as a label tree"),
        ({"file": ""}, r"recipe\.tree\.file: must be .*, not ''"),
        ({"label_features": 7}, r"recipe\.tree\.label_features: must be .*, not 7"),
        (
            {"file": "tree.npz", "nr_splits": 4},
            r"recipe\.tree\.nr_splits: this key has no effect on a complete tree",
        ),
        ({"label_features": "absent.npy"}, r"absent\.npy: no such file"),
        (
            {"label_features": "labels.npy", "join": "sum"},
            r"recipe\.tree\.join: must be one of concat, co",
        ),
        (
            {"label_features": "labels.npy", "join": "convex"},
            r"the shape \(30, 5\) instead of \(30, 9\)",
        ),
        (
            {"label_features": "labels.npy", "alpha": 2},
            r"recipe\.tree\.alpha: must be a number from 0 to 1",
        ),
        ({"label_features": "labels.npy", "label_embedding": "pii"}, "only with label_embedding"),
        ({"max_nonzeros": 5, "label_embedding": "pii"}, r"max_nonzeros: this key is used only"),
        ({"max_nonzeros": -1}, r"max_nonzeros: .*at least 0"),
        ({"label_embedding": "given"}, r"label_embedding 'given' needs label_features"),
        (
            {"label_features": "labels.npy", "alpha": 0.5},
            "alpha: this key is used only with join",
        ),
        (
            {"label_features": "labels.npy", "alpha": [0.5]},
            r"alpha: must be a number from 0 to 1, not \[0",
        ),
        ({"max_iter": 0}, r"recipe\.tree\.max_iter: must be an integer of at least 1"),
        ({"seed": -1}, r"recipe\.tree\.seed: must be an integer of at least 0"),
        ({"warmup_ratio": 2}, r"recipe\.tree\.warmup_ratio: must be a number from 0 to 1"),
        ({"join": "concat"}, r"recipe\.tree\.join: this key is used only with label_embedding"),
    ],
)
def test_what_cannot_be(given, message, files, monkeypatch):
    monkeypatch.chdir(files)
    with pytest.raises((ConfigError, DataError), match=message):
        TreeSettings(given).sizes(NUM_LABELS, 9)


def test_files_of_other_labels(files):
    with pytest.raises(ConfigError, match=r"the tree has 30 labels, the data 31"):
        TreeSettings({"file": str(files / "tree.npz")}).sizes(31, 9)
    with pytest.raises(ConfigError, match=r"the shape \(30, 5\) instead of \(31, 5\)"):
        TreeSettings({"label_features": str(files / "labels.npy")}).sizes(31, 9)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trees")
    for name in ("train", "dev"):
        write_texts(folder / f"{name}.jsonl", 2, 0)
    first = [index % 4 for index in range(len(NAMES))]
    ClusterTree([[0] * 4, first]).save(folder / "four.npz")
    np.save(folder / "names.npy", np.random.default_rng(2).normal(0, 1, (len(NAMES), 3)))
    return folder


@pytest.mark.slow
def test_trees_of_an_xr_transformer(texts):
    """The first tree from a file, the second by features of the labels as well."""
    changes = {"steps": 2, "first_tree": {"file": str(texts / "four.npz")}}
    changes["refined_tree"] = {"label_features": str(texts / "names.npy"), "max_leaf_size": 16}
    context = work_of(texts, "run", recipe={"name": "xr_transformer", **changes})
    summary = XRTransformer(**changes).run(context)
    assert [level["steps"] for level in summary["levels"]] == [2, 2]
    first = ClusterTree.load(context.run / "tree-preliminary.npz")
    assert first == ClusterTree.load(texts / "four.npz")
    terms, labels = matrices(open_source(context.data_folder, "train"))
    vectors = np.load(context.run / "embeddings" / "train.npy")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    both = scipy.sparse.hstack([terms, scipy.sparse.csr_matrix(vectors)], "csr", np.float32)
    given = np.load(texts / "names.npy")
    settings = ClusteringSettings(nr_splits=4, max_leaf_size=16)
    expected = build_tree(pifa_with_label_features(labels, both, given), settings)
    assert ClusterTree.load(context.run / "tree.npz").sizes == expected.sizes == [4, 56]
    assert ClusterTree.load(context.run / "tree.npz") == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_tree": {"nr_splits": 4}}, r"recipe\.first_tree\.nr_splits: this setting belongs"),
        ({"first_tree": {"file": "no.npz"}}, r"no\.npz: no such file"),
        (
            {"refined_tree": {"label_features": "x.npy", "join": "convex"}},
            "labels have no encodings",
        ),
        ({"refined_tree": {"max_iter": 0}}, r"recipe\.refined_tree\.max_iter: must be an integer"),
        ({"first_tree": 3}, r"first_tree: must be a section, not 3"),
    ],
)
def test_trees_that_cannot_be(texts, changes, message):
    context = work_of(texts, "never", recipe={"name": "xr_transformer", **changes})
    with pytest.raises((ConfigError, DataError), match=message):
        XRTransformer(**changes).planned(context.config, Manifest.load(context.data_folder))
