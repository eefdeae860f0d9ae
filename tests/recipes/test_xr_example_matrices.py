"""Relevance and user negatives of recipe 'xr_linear', from files whose rows are the file's."""

import json

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call
from tests.linear_runs import NUM_LABELS, SECTION, command
from tfxc.commands import train
from tfxc.core.errors import DataError
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.records.reading_order import reading_order
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.settings import RankerSettings
from tfxc.recipes.xr_linear.example_matrices import ExampleMatrices, negatives_of
from tfxc.recipes.xr_linear.stages import training_matrices
from tfxc.runs.loaded import load_run

EXAMPLES = 300
RANKER = {"threshold": 0.01, "only_topk": [3, 4, 10]}


@pytest.fixture(scope="module")
def prepared(run):
    """The prepared data's folder."""
    (folder,) = {path.parent for path in (run.parent / "prepared").rglob("manifest.json")}
    return folder


@pytest.fixture(scope="module")
def labels_of_file(run, prepared):
    """Y of the training file in its own order, dense."""
    names = {name: i for i, name in enumerate(LabelVocabulary.load(prepared / "labels.txt").names)}
    found = np.zeros((EXAMPLES, NUM_LABELS), np.float32)
    for row, line in enumerate((run.parent / "train.jsonl").read_text().splitlines()):
        found[row, [names[label] for label in json.loads(line)["labels"]]] = 1
    return found


@pytest.fixture(scope="module")
def texts_of_file(run):
    lines = (run.parent / "train.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.fixture(scope="module")
def files(run, labels_of_file, tmp_path_factory):
    """Matrices of random numbers by the key of their file, and the files."""
    draw, folder = np.random.default_rng(0), tmp_path_factory.mktemp("matrices")
    shape, clusters = labels_of_file.shape, ClusterTree.load(run / "tree.npz").sizes[-2]
    matrices = {
        "relevance_file": labels_of_file * draw.uniform(0.2, 5, shape),
        "negative_labels_file": (draw.random(shape) < 0.05) * draw.normal(size=shape),
        "negative_clusters_file": draw.random((EXAMPLES, clusters)) < 0.1,
    }
    found = {}
    for key, values in matrices.items():
        matrix = scipy.sparse.csr_matrix(values, dtype=np.float32)
        scipy.sparse.save_npz(folder / f"{key}.npz", matrix)
        found[key] = (matrix, str(folder / f"{key}.npz"))
    return found


def test_rows_of_the_file_are_found_again(run, prepared, labels_of_file, texts_of_file):
    features, labels = training_matrices(prepared)
    manifest = Manifest.load(prepared)
    order = reading_order(manifest, load_run(run).config.data)
    assert (order != np.arange(EXAMPLES)).any()
    np.testing.assert_array_equal(labels.toarray(), labels_of_file[order])
    expected = load_run(run).text_features.transform(texts_of_file)[order]
    np.testing.assert_array_equal(features.toarray(), expected.toarray())


@pytest.mark.parametrize(
    "keys",
    [
        ("relevance_file",),
        ("negative_labels_file",),
        tuple(sorted(("negative_clusters_file", "relevance_file", "negative_labels_file"))),
    ],
)
def test_as_with_matrices_from_python(
    run, prepared, files, texts_of_file, labels_of_file, tmp_path, capsys, keys
):
    """The weights of a ranker that is trained from the rows of the file with these matrices."""
    tree = ClusterTree.load(run / "tree.npz")
    given = {}
    if "relevance_file" in keys:
        given |= {"relevance_mode": "induce", "relevance_norm": "max"}
    if keys != ("relevance_file",):
        given["negatives"] = "tfn+usn"
    exact = {"epsilon": 1e-6, "max_passes": 5000}
    ranker = {**RANKER, **given, **exact, **{key: files[key][1] for key in keys}}
    recipe = {"name": "xr_linear", "tree": {"file": str(run / "tree.npz")}, "ranker": ranker}
    name = f"own-{len(keys)}-{keys[0]}"
    assert call(capsys, train, *command(run.parent, name=name, recipe=recipe)).code == 0
    features = load_run(run).text_features.transform(texts_of_file)
    train_ranker(
        features,
        scipy.sparse.csr_matrix(labels_of_file),
        tree,
        tmp_path,
        RankerSettings(**RANKER, **given, **exact),
        relevance=files["relevance_file"][0] if "relevance_file" in keys else None,
        negatives=_walked_up(tree, {key: files[key][0] for key in keys}),
    )
    for layer in range(tree.depth):
        ours, theirs = (
            np.load(folder / "ranker" / f"layer-{layer}" / "values.npy")
            for folder in (run.parent / name, tmp_path)
        )
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
        plain = np.load(run / "ranker" / f"layer-{layer}" / "values.npy")
        if layer == tree.depth - 1:
            assert plain.shape != ours.shape or np.abs(plain - ours).max() > 0.02


def _walked_up(tree, matrices):
    """User negatives of all levels, one example and one label after the other."""
    found = {}
    for level in range(1, tree.depth):
        nodes = np.zeros((EXAMPLES, tree.sizes[level - 1]), np.float32)
        for key, matrix in matrices.items():
            if key == "relevance_file":
                continue
            begins = tree.depth - 1 if key == "negative_labels_file" else tree.depth - 2
            for row, node in zip(*matrix.nonzero(), strict=True):
                for above in range(begins, level - 1, -1):
                    node = tree.parents[above][node]
                nodes[row, node] = 1
        found[level] = scipy.sparse.csr_matrix(nodes)
    return found


def test_user_negatives_of_all_levels(run, files):
    tree = ClusterTree.load(run / "tree.npz")
    for keys in (
        ("negative_labels_file",),
        ("negative_clusters_file",),
        ("negative_labels_file", "negative_clusters_file"),
    ):
        matrices = {key: files[key][0] for key in keys}
        expected, found = _walked_up(tree, matrices), negatives_of(matrices, tree)
        assert sorted(found) == [1, 2]
        for level, nodes in expected.items():
            np.testing.assert_array_equal(found[level].toarray(), nodes.toarray())
    assert negatives_of({}, tree) == {}


def test_what_cannot_be_used(run, files, tmp_path, capsys):
    relevance, negatives = files["relevance_file"], files["negative_labels_file"]
    scipy.sparse.save_npz(tmp_path / "short.npz", relevance[0][:-1])
    missing = relevance[0].copy()
    missing.data[3] = 0
    scipy.sparse.save_npz(tmp_path / "zero.npz", missing)
    induce, usn = {"relevance_mode": "induce"}, {"negatives": "tfn+usn"}
    clusters = {"negative_clusters_file": files["negative_clusters_file"][1]}
    for ranker, message in (
        ({"relevance_file": relevance[1]}, "relevance_file: no setting uses this file"),
        ({"negative_labels_file": negatives[1]}, "negative_labels_file: no setting uses this"),
        ({"relevance_file": 3, **induce}, "relevance_file: 3 is not the name of a file"),
        (
            {"relevance_file": str(tmp_path / "short.npz"), **induce},
            f"relevance_file: the matrix in {tmp_path}/short.npz is 299 x 30 instead of 300 x 30",
        ),
        ({"relevance_mode": "ranker-only"}, "relevance_mode: 'ranker-only' needs a matrix. Leave"),
        (
            {**clusters, **usn},
            "negative_clusters_file: its clusters are numbered as in recipe.tree",
        ),
    ):
        arguments = command(run.parent, name="bad", recipe={**SECTION, "ranker": ranker})
        for more in ([], ["--dry-run"]):
            problem = call(capsys, train, *arguments, *more).problem()
            assert problem.startswith(f"recipe.ranker.{message}"), problem
    zero = {"relevance_file": str(tmp_path / "zero.npz"), **induce}
    arguments = command(run.parent, name="zero", recipe={**SECTION, "ranker": zero})
    problem = call(capsys, train, *arguments).problem()
    assert "zero.npz (recipe.ranker.relevance_file): only " in problem
    assert not (run.parent / "zero" / "tree.npz").exists()
    ranker = {"relevance_file": str(tmp_path / "none.npz"), **induce}
    arguments = command(run.parent, name="bad", recipe={**SECTION, "ranker": ranker})
    assert "none.npz" in call(capsys, train, *arguments).problem()


@pytest.mark.parametrize("key", ["relevance_file", "negative_labels_file"])
def test_another_training_file_than_the_prepared_one(run, prepared, files, key):
    """Its rows would be other examples: nothing else would notice it."""
    used = {"relevance_mode": "induce"} if key == "relevance_file" else {"negatives": "tfn+usn"}
    config, manifest = load_run(run).config, Manifest.load(prepared)
    names = LabelVocabulary.load(prepared / "labels.txt").names
    matrices = ExampleMatrices({key: files[key][1], **used})
    labels = scipy.sparse.csr_matrix(training_matrices(prepared)[1])
    found = matrices.load(config, manifest, labels, names)[key]
    assert found.shape == labels.shape
    for other in (labels[::-1], labels[:-1]):
        with pytest.raises(
            DataError, match=r"the training file has other examples or labels .*Run prepare again"
        ):
            matrices.load(config, manifest, other.tocsr(), names)


def test_a_dev_split_out_of_the_training_file(run, files, capsys):
    ranker = {"relevance_file": files["relevance_file"][1], "relevance_mode": "induce"}
    arguments = command(run.parent, name="share", recipe={"name": "xr_linear", "ranker": ranker})
    path = run.parent / "share.json"
    config = json.loads(path.read_text())
    del config["data"]["dev"]
    config["data"]["dev_share"] = 0.1
    path.write_text(json.dumps(config))
    problem = call(capsys, train, *arguments).problem()
    assert problem.startswith("data.dev_share: recipe.ranker.relevance_file has a row for each")
