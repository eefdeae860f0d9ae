"""The command tree."""

import dataclasses
import html.parser
import re

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call
from tests.data.prepared import numbered_rows, prepared
from tfxc.commands import tree as tree_command
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.label_embeddings import pifa, pifa_with_label_features, pii
from tfxc.labels.tree_building import ClusteringSettings, build_tree


@pytest.fixture
def files(tmp_path):
    """X, Y (label 3 without an example) and label features; the matrices by name."""
    rng = np.random.default_rng(0)
    given = {
        "x": scipy.sparse.random(60, 25, 0.3, format="csr", rng=rng, dtype=np.float32),
        "y": scipy.sparse.csr_matrix((rng.random((60, 40)) < 0.1).astype(np.float32)),
        "z": scipy.sparse.random(40, 25, 0.3, format="csr", rng=rng, dtype=np.float32),
    }
    given["y"] = given["y"].multiply(np.arange(40) != 3).tocsr()
    for name, matrix in given.items():
        scipy.sparse.save_npz(tmp_path / f"{name}.npz", matrix)
    return given


SHAPE = ["--nr-splits", 4, "--max-leaf-size", 4]


def test_trees_from_matrices(files, tmp_path, capsys):
    x, y, z = files["x"], files["y"], files["z"]
    cases = {
        (): pifa(y, x),
        ("--vectors", "pii"): pii(y),
        ("--max-nonzeros", "3"): pifa(y, x, 3),
        ("--label-features", tmp_path / "z.npz"): pifa_with_label_features(y, x, z),
        ("--label-features", tmp_path / "z.npz", "--join", "convex", "--alpha", "0.2"):
            pifa_with_label_features(y, x, z, "convex", 0.2),
    }  # fmt: skip
    data = ["--features", tmp_path / "x.npz", "--labels", tmp_path / "y.npz"]
    for options, vectors in cases.items():
        output = tmp_path / "tree.npz"
        outcome = call(
            capsys, tree_command, "build", *data, *SHAPE, "--output", output, "--seed", 7, *options
        )
        assert outcome.code == 0, outcome.err
        expected = build_tree(vectors, ClusteringSettings(nr_splits=4, max_leaf_size=4, seed=7))
        assert ClusterTree.load(output) == expected
        assert "levels: 4, 16, 40 (the last are the labels)" in outcome.out
        assert "leaves: 16 of 2 to 3 labels, 2.5 on average" in outcome.out
        alone = re.search("without an example or a vector: (.*), put", outcome.out)
        assert (alone and alone[1]) == ("1" if "--label-features" not in options else None)


def test_trees_from_label_vectors_and_prepared_data(tmp_path, capsys):
    vectors = np.random.default_rng(1).random((30, 5))
    np.save(tmp_path / "z.npy", vectors)
    output = tmp_path / "tree.npz"
    given = ["--label-vectors", tmp_path / "z.npy", "--means", "--output", output, *SHAPE]
    assert call(capsys, tree_command, "build", *given).code == 0
    settings = ClusteringSettings(nr_splits=4, max_leaf_size=4, spherical=False)
    expected = build_tree(vectors, settings)
    assert ClusterTree.load(output) == expected
    rates = {"min_sample_rate": 0.5, "max_sample_rate": 0.75, "warmup_ratio": 0.5}
    more = [part for name, rate in rates.items() for part in (f"--{name.replace('_', '-')}", rate)]
    assert call(capsys, tree_command, "build", *given, *more).code == 0
    drawn = build_tree(vectors, dataclasses.replace(settings, **rates))
    assert ClusterTree.load(output) == drawn != expected
    folder = prepared(tmp_path / "prepared", numbered_rows(20), 7)
    given = ["--prepared-data", folder, "--output", output, *SHAPE]
    outcome = call(capsys, tree_command, "build", *given)
    assert outcome.code == 0, outcome.err
    assert ClusterTree.load(output).num_labels == 20


def test_what_cannot_be_built(files, tmp_path, capsys):
    end = ["--output", tmp_path / "tree.npz"]
    none = call(capsys, tree_command, "build", *end).problem()
    assert none.startswith("labels are clustered by one of --prepared-data")
    half = ["--features", tmp_path / "x.npz", *end]
    assert (
        "--features and --labels need each other, and one is missing"
        in call(capsys, tree_command, "build", *half).problem()
    )
    both = [*half, "--labels", tmp_path / "z.npz"]
    assert (
        "60 rows of features, but 40 of labels"
        in call(capsys, tree_command, "build", *both).problem()
    )
    whole = [*half, "--labels", tmp_path / "y.npz", "--max-leaf-size", 1]
    assert (
        "--max-leaf-size: must be an integer of at least 2"
        in call(capsys, tree_command, "build", *whole).err
    )
    for more in (["--vectors", "pii", "--label-features", "z.npz"], ["--alpha", 0.3]):
        problem = call(
            capsys, tree_command, "build", *half, "--labels", tmp_path / "y.npz", *more
        ).problem()
        assert "this option is used only with" in problem
    assert not (tmp_path / "tree.npz").exists()


NAMES = ["bread", "cake", "pie & <tart>", "soup", "stew", "b*o*ld"]


@pytest.fixture
def tree(tmp_path):
    """A tree of six labels and the file of their names."""
    ClusterTree([[0, 0], [0, 0, 1], [0, 1, 1, 2, 2, 2]]).save(tmp_path / "tree.npz")
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return tmp_path / "tree.npz", "--names", tmp_path / "names.txt"


def test_printing(tree, capsys):
    outcome = call(capsys, tree_command, "show", *tree)
    assert outcome.out.splitlines() == [
        "all: 6 labels (bread, cake, pie & <tart>, …)",
        "  cluster 0.0: 3 labels (bread, cake, pie & <tart>)",
        "    cluster 1.0: 1 labels (bread)",
        "    cluster 1.1: 2 labels (cake, pie & <tart>)",
        "  cluster 0.1: 3 labels (soup, stew, b*o*ld)",
        "    cluster 1.2: 3 labels (soup, stew, b*o*ld)",
    ]
    outcome = call(capsys, tree_command, "show", tree[0], "--depth", 9, "--most", 1)
    assert outcome.out.splitlines() == [
        "all: 6 labels (0, 1, 2, …)",
        "  cluster 0.0: 3 labels (0, 1, 2)",
        "    cluster 1.0: 1 labels (0)",
        "      0",
        "    … 1 more",
        "  … 1 more",
    ]


def test_the_way_to_a_label(tree, tmp_path, capsys):
    outcome = call(capsys, tree_command, "show", *tree, "--label", "stew")
    assert outcome.out.splitlines() == [
        "all: 6 labels (bread, cake, pie & <tart>, …)",
        "  cluster 0.1: 3 labels (soup, stew, b*o*ld)",
        "    cluster 1.2: 3 labels (soup, stew, b*o*ld)",
        "      stew",
        "next to it: soup, b*o*ld",
    ]
    lines = call(capsys, tree_command, "show", *tree, "--label", "bread").out.splitlines()
    assert lines[-1] == "next to it: nothing"
    ClusterTree([[0, 0]]).save(tmp_path / "flat.npz")
    outcome = call(capsys, tree_command, "show", tmp_path / "flat.npz", "--label", "1")
    assert outcome.out.splitlines() == ["all: 2 labels (0, 1)", "  1", "next to it: 0"]


class Page(html.parser.HTMLParser):
    """Checks that elements are closed in turn, and collects the texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("summary", "p"):
            self.texts.append(data)


def test_writing(tree, tmp_path, capsys):
    for name in ("tree.html", "tree.md"):
        outcome = call(capsys, tree_command, "show", *tree, "--output", tmp_path / name)
        assert outcome.out == f"{tmp_path / name}: all: 6 labels (bread, cake, pie & <tart>, …)\n"
    texts = Page((tmp_path / "tree.html").read_text("utf-8")).texts
    assert len(texts) == 1 + 2 + 3 + 6 and [text for text in texts if text in NAMES] == NAMES
    lines = (tmp_path / "tree.md").read_text("utf-8").splitlines()
    assert len(lines) == 12 and lines[3] == "      - bread"
    assert lines[-1] == "      - b\\*o\\*ld" and "      - pie &amp; &lt;tart&gt;" in lines


def test_what_cannot_be_shown(tree, tmp_path, capsys):
    assert (
        "did you mean 'soup'?"
        in call(capsys, tree_command, "show", *tree, "--label", "soop").problem()
    )
    assert (
        ".html or .md"
        in call(capsys, tree_command, "show", *tree, "--output", "tree.pdf").problem()
    )
    (tmp_path / "names.txt").write_text("one\n")
    assert "names, but the tree has 6 labels" in call(capsys, tree_command, "show", *tree).problem()
    assert "no such file" in call(capsys, tree_command, "show", tmp_path / "absent.npz").problem()
