"""The tools for runs of linear rankers: import from PECOS, ensembles."""

import json

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call
from tests.source_tree import ROOT
from tfxc.commands import evaluate, export, info, predict
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ranker.ensemble import combine
from tfxc.ranker.search import Ranker
from tfxc.recipes.xr_linear.settings import TreeSettings
from tfxc.runs import import_pecos
from tfxc.runs.loaded import load_run

DATA = ROOT / "tests" / "ranker" / "data"


@pytest.fixture
def frozen():
    """Queries and PECOS's predictions for them."""
    with np.load(DATA / "pecos_predictions.npz") as file:
        return dict(file)


def write_queries(path, frozen):
    """The queries as svmlight, the best label of PECOS as the true one."""
    best = frozen["l3-hinge/10/ids"][:, 0]
    with open(path, "w") as stream:
        for row, label in enumerate(best):
            part = slice(*frozen["q_indptr"][row : row + 2])
            pairs = zip(frozen["q_indices"][part], frozen["q_data"][part], strict=True)
            features = " ".join(f"{feature}:{value:.9g}" for feature, value in sorted(pairs))
            stream.write(f"{label} {features}\n")


def test_an_imported_model_is_a_run(tool, frozen, tmp_path, capsys):
    names = [f"name {number}" for number in range(21)] + ["one\u2028name"]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    counts = scipy.sparse.csr_matrix(np.ones((40, 22), np.float32))
    scipy.sparse.save_npz(tmp_path / "Y.npz", counts)
    run = tmp_path / "run"
    arguments = (DATA / "pecos_model", run, "--labels", tmp_path / "names.txt")
    more = ("--train-labels", tmp_path / "Y.npz")
    assert call(capsys, tool("import_pecos"), *arguments, *more).code == 0
    write_queries(tmp_path / "queries.svm", frozen)

    asked = ("--run", run, tmp_path / "queries.svm", "--k", 5, "--beam", 10)
    more = ("--reader-option", "zero_based=true", "--format", "jsonl")
    lines = call(capsys, predict, *asked, *more).out.strip().split("\n")
    for line, scores in zip(lines, frozen["l3-hinge/10/scores"], strict=True):
        np.testing.assert_allclose(sorted(json.loads(line)["scores"]), np.sort(scores), atol=1e-5)
    assert json.loads(lines[0])["labels"][0] == f"name {frozen['l3-hinge/10/ids'][0, 0]}"
    assert "22 labels, 30 features" in call(capsys, info, "--run", run).out
    assert call(capsys, export, "--run", run, "--k", 4).code == 0
    problem = call(capsys, evaluate, "--run", run).problem()
    assert "name a file with --data" in problem


def test_an_imported_model_answers_pecos_own_matrices(tool, frozen, tmp_path, capsys):
    run, folder = tmp_path / "run", tmp_path / "data"
    folder.mkdir()
    assert call(capsys, tool("import_pecos"), DATA / "pecos_model", run).code == 0
    parts = (frozen["q_data"], frozen["q_indices"], frozen["q_indptr"])
    queries = scipy.sparse.csr_matrix(parts, (len(frozen["q_indptr"]) - 1, 30))
    scipy.sparse.save_npz(folder / "X.tst.npz", queries)
    asked = ("--run", run, "--k", 5, "--beam", 10, "--format", "jsonl", "--batch-size", 7)
    from_file = call(capsys, predict, *asked, folder / "X.tst.npz").out
    lines = from_file.splitlines()
    for line, scores in zip(lines, frozen["l3-hinge/10/scores"], strict=True):
        np.testing.assert_allclose(sorted(json.loads(line)["scores"]), np.sort(scores), atol=1e-5)
    split = ("--reader-option", "split=tst")
    assert call(capsys, predict, *asked, folder, *split).out == from_file
    np.save(folder / "X.npy", queries.toarray())
    problem = call(capsys, predict, *asked, folder / "X.npy").problem()
    assert "30 sparse features as in the training split expected, found 30 dense ones" in problem


def test_the_tree_of_an_imported_model_serves_a_recipe(tool, tmp_path, capsys):
    run = tmp_path / "run"
    assert call(capsys, tool("import_pecos"), DATA / "pecos_model", run).code == 0
    settings = TreeSettings({"file": str(run / "tree.npz")})
    assert settings.sizes(22, 30)[-1] == 22
    # As docs/xr_linear.md makes a tree of PECOS's chain of clusters.
    files = sorted((DATA / "pecos_model" / "ranker").glob("*.model/C.npz"))
    chain = [scipy.sparse.load_npz(file) for file in files]
    tree = ClusterTree([matrix.tocsr().indices for matrix in chain])
    assert tree == ClusterTree.load(run / "tree.npz")


def test_an_import_without_names_and_counts(tool, frozen, tmp_path, capsys):
    run = tmp_path / "run"
    assert call(capsys, tool("import_pecos"), DATA / "pecos_model", run).code == 0
    assert load_run(run).vocabulary.names[:3] == ["0", "1", "2"]
    write_queries(tmp_path / "queries.svm", frozen)
    asked = ("--run", run, "--data", tmp_path / "queries.svm", "--reader-option", "zero_based=true")
    outcome = call(capsys, evaluate, *asked, "--k", "1,3")
    assert outcome.code == 0 and "PSP" not in outcome.out
    assert "100.00" in outcome.out, "the best label is the true one"
    problem = call(capsys, evaluate, *asked, "--tables", tmp_path / "tables").problem()
    assert problem.startswith("--tables: ") and "--train-labels" in problem


def test_imports_that_do_not_fit(tool, tmp_path, capsys):
    for content, message in (
        (b"\xff\n", "label names in UTF-8 expected, found an invalid byte at offset 0"),
        (b"a\nb\na\n", "distinct label names expected, found 'a' for the labels 0 and 2"),
    ):
        (tmp_path / "names.txt").write_bytes(content)
        arguments = (DATA / "pecos_model", tmp_path / "run", "--labels", tmp_path / "names.txt")
        assert message in call(capsys, tool("import_pecos"), *arguments).problem()
    (tmp_path / "names.txt").write_text("a\nb\n")
    arguments = (tool("import_pecos"), DATA / "pecos_model", tmp_path / "run")
    problem = call(capsys, *arguments, "--labels", tmp_path / "names.txt").problem()
    assert problem.endswith("names.txt: 22 names, one for each label, expected, found 2")
    scipy.sparse.save_npz(tmp_path / "Y.npz", scipy.sparse.eye(5, format="csr"))
    problem = call(capsys, *arguments, "--train-labels", tmp_path / "Y.npz").problem()
    assert "a column for each of the 22 labels expected, found 5" in problem
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    assert "found other files; nothing was removed" in call(capsys, *arguments).problem()


def test_the_vectoriser_comes_along(tool, tmp_path, capsys, monkeypatch):
    from tfxc.data.text.pecos import PecosTfidfFeatures

    texts = [" ".join(f"t{number}" for number in range(row, row + 3)) for row in range(28)]
    features = PecosTfidfFeatures().fit([texts])
    assert features.num_features == 30
    monkeypatch.setattr(import_pecos, "load_pecos_vectorizer", lambda folder: features)
    run = tmp_path / "run"
    arguments = (DATA / "pecos_model", run, "--vectorizer", tmp_path)
    assert call(capsys, tool("import_pecos"), *arguments).code == 0
    (tmp_path / "texts.txt").write_text("\n".join(texts[:5]) + "\n")
    lines = call(capsys, predict, "--run", run, tmp_path / "texts.txt", "--k", 3).out.splitlines()
    ids, _ = Ranker.load(run).predict(features.transform(texts[:5]), 3)
    assert [json.loads(line)["labels"] for line in lines] == [
        [str(label) for label in row] for row in ids.tolist()
    ]


def make_runs(folder):
    """Two runs over the same labels in another order, and a file of examples."""
    from tests.small_runs import NAMES, TEXTS, make_run

    one = make_run(folder / "one", text_features={"name": "tfidf"})
    other = make_run(folder / "other", text_features={"name": "tfidf"}, names=NAMES[::-1])
    lines = [{"text": t, "labels": [NAMES[n], "new"]} for n, t in enumerate(TEXTS)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return one, other


def test_ensemble(tool, tmp_path, capsys):
    from tests.small_runs import NAMES, TEXTS, make_run

    one, other = make_runs(tmp_path)
    arguments = (one, other, "--data", tmp_path / "texts.jsonl", "--k", "1,3", "--top", 6)
    outcome = call(capsys, tool("ensemble"), *arguments, "--method", "rank_average")
    assert outcome.code == 0
    lists = []
    for number, path in enumerate((one, other)):
        loaded = load_run(path)
        bag = loaded.text_features.transform(TEXTS)
        weights = [np.asarray(weight.value) for weight in loaded.model.trainable_variables]
        table, bias, kernel, head_bias = weights
        scores = np.maximum(bag @ table + bias, 0) @ kernel + head_bias
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :6]
        lists.append((len(NAMES) - 1 - ids if number else ids, np.take_along_axis(scores, ids, 1)))
    expected = combine(lists, "rank_average", 3)[0]
    hits = (expected == np.arange(len(TEXTS))[:, None]).sum(axis=1).mean() / 3
    line = next(line for line in outcome.out.splitlines() if line.startswith("rank_average of 2"))
    assert f"P@3 {100 * hits:.2f}" in line

    third = make_run(tmp_path / "third", text_features={"name": "tfidf"}, names=NAMES[:-1])
    problem = call(capsys, tool("ensemble"), one, third, *arguments[2:]).problem()
    assert problem.startswith(f"{third}: the 12 labels of the first run expected, found 11")
