"""``tfxc import``: models of PECOS and of the original MACH code as runs."""

import importlib
import json
import shutil

import numpy as np
import pytest
import scipy.sparse
from sklearn.linear_model import LogisticRegression

from tests.commands.calls import call
from tests.source_tree import ROOT
from tfxc.commands import decide, evaluate, export, info, predict
from tfxc.imports import pecos
from tfxc.inference.prediction_files import read_predictions
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.hashing import bucket_lookup
from tfxc.ranker.search import Ranker
from tfxc.recipes.xr_linear.settings import TreeSettings
from tfxc.runs.loaded import load_run

import_model = importlib.import_module("tfxc.commands.import")
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


def test_an_imported_model_is_a_run(frozen, tmp_path, capsys):
    names = [f"name {number}" for number in range(21)] + ["one\u2028name"]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    counts = scipy.sparse.csr_matrix(np.ones((40, 22), np.float32))
    scipy.sparse.save_npz(tmp_path / "Y.npz", counts)
    run = tmp_path / "run"
    arguments = (DATA / "pecos_model", "--run", run, "--labels", tmp_path / "names.txt")
    more = ("--train-labels", tmp_path / "Y.npz")
    assert call(capsys, import_model, "pecos", *arguments, *more).code == 0
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


def test_an_imported_model_answers_pecos_own_matrices(frozen, tmp_path, capsys):
    run, folder = tmp_path / "run", tmp_path / "data"
    folder.mkdir()
    assert call(capsys, import_model, "pecos", DATA / "pecos_model", "--run", run).code == 0
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
    assert "these are 30 dense features, but the training split has 30 sparse ones" in problem


def test_the_tree_of_an_imported_model_serves_a_recipe(tmp_path, capsys):
    run = tmp_path / "run"
    assert call(capsys, import_model, "pecos", DATA / "pecos_model", "--run", run).code == 0
    settings = TreeSettings({"file": str(run / "tree.npz")})
    assert settings.sizes(22, 30)[-1] == 22
    # As docs/xr_linear.md makes a tree of PECOS's chain of clusters.
    files = sorted((DATA / "pecos_model" / "ranker").glob("*.model/C.npz"))
    chain = [scipy.sparse.load_npz(file) for file in files]
    tree = ClusterTree([matrix.tocsr().indices for matrix in chain])
    assert tree == ClusterTree.load(run / "tree.npz")


def test_an_import_without_names_and_counts(frozen, tmp_path, capsys):
    run = tmp_path / "run"
    assert call(capsys, import_model, "pecos", DATA / "pecos_model", "--run", run).code == 0
    assert load_run(run).vocabulary.names[:3] == ["0", "1", "2"]
    write_queries(tmp_path / "queries.svm", frozen)
    asked = ("--run", run, "--data", tmp_path / "queries.svm", "--reader-option", "zero_based=true")
    outcome = call(capsys, evaluate, *asked, "--k", "1,3")
    assert outcome.code == 0 and "PSP" not in outcome.out
    assert "100.00" in outcome.out, "the best label is the true one"
    problem = call(capsys, evaluate, *asked, "--tables", tmp_path / "tables").problem()
    assert problem.startswith("--tables: ") and "--train-labels" in problem


def test_an_imported_model_learns_a_decision_of_a_file(frozen, tmp_path, capsys):
    run, queries = tmp_path / "run", tmp_path / "queries.svm"
    assert call(capsys, import_model, "pecos", DATA / "pecos_model", "--run", run).code == 0
    write_queries(queries, frozen)
    option = ("--reader-option", "zero_based=true")
    asked = (predict, "--run", run, queries, *option, "--k", 10, "--output", tmp_path / "P.jsonl")
    assert call(capsys, *asked).code == 0
    before = read_predictions(tmp_path / "P.jsonl")
    assert "--probabilities: " in call(capsys, *asked, "--probabilities").problem()
    problem = call(capsys, decide, run).problem()
    assert problem.startswith(f"{run}: the run's data have no dev split. Name a file with --data")
    deciding = (decide, run, "--data", queries, *option, "--k", 10, "--labels", "threshold")
    problem = call(capsys, *deciding, "--probabilities", "platt").problem()
    assert problem.startswith("decision.probabilities: unknown probabilities 'platt'")
    for _ in range(2):  # again, in place of the first one
        outcome = call(capsys, *deciding, "--probabilities", "logistic")
        assert outcome.code == 0, outcome.err
    assert f"learned of {queries}: decision: micro-F1 " in outcome.out
    assert call(capsys, info, "--run", run, "--verify").code == 0
    assert call(capsys, *asked, "--probabilities").code == 0
    after = read_predictions(tmp_path / "P.jsonl")
    assert after.labels == before.labels
    scores = np.concatenate(before.scores)
    best = frozen["l3-hinge/10/ids"][:, 0]
    hits = [int(name) == label for row, label in zip(before.labels, best, strict=True)
            for name in row]  # fmt: skip
    units = ((scores - scores.mean()) / scores.std())[:, None]
    solver = LogisticRegression(C=1e6, solver="newton-cholesky", tol=1e-12).fit(units, hits)
    expected = solver.predict_proba(units)[:, 1]
    np.testing.assert_allclose(np.concatenate(after.scores), expected, atol=1e-4)
    # Without training examples that say how frequent a label is.
    for labels in ("f_measure", '{"name": "macro_f1_at_k", "count": 2}'):
        assert call(capsys, *deciding[:-1], labels, "--probabilities", "rows").code == 0
        answers = (predict, "--run", run, queries, *option, "--output", tmp_path / "D.jsonl")
        assert call(capsys, *answers).code == 0
        counts = [len(row) for row in read_predictions(tmp_path / "D.jsonl").labels]
        assert 0 < sum(counts) < 10 * len(counts) and (labels == "f_measure" or set(counts) == {2})
        (tmp_path / "D.jsonl").unlink()
    outcome = call(capsys, evaluate, "--run", run, "--data", queries, *option, "--k", "1")
    assert "micro-F1" in outcome.out


def test_imports_that_do_not_fit(tmp_path, capsys):
    for content, message in (
        (b"\xff\n", "the label names are not in UTF-8: the byte at offset 0 is invalid"),
        (b"a\nb\na\n", "the labels 0 and 2 have the same name, 'a'"),
    ):
        (tmp_path / "names.txt").write_bytes(content)
        arguments = (DATA / "pecos_model", "--run", tmp_path / "run")
        arguments += ("--labels", tmp_path / "names.txt")
        assert message in call(capsys, import_model, "pecos", *arguments).problem()
    (tmp_path / "names.txt").write_text("a\nb\n")
    arguments = (import_model, "pecos", DATA / "pecos_model", "--run", tmp_path / "run")
    problem = call(capsys, *arguments, "--labels", tmp_path / "names.txt").problem()
    assert "names.txt: there are 2 names for 22 labels" in problem
    scipy.sparse.save_npz(tmp_path / "Y.npz", scipy.sparse.eye(5, format="csr"))
    problem = call(capsys, *arguments, "--train-labels", tmp_path / "Y.npz").problem()
    assert "the matrix has 5 columns instead of one for each of the 22 labels" in problem
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    assert "contains other files; nothing was removed" in call(capsys, *arguments).problem()


def test_the_vectoriser_comes_along(tmp_path, capsys, monkeypatch):
    from tfxc.data.text.pecos import PecosTfidfFeatures

    texts = [" ".join(f"t{number}" for number in range(row, row + 3)) for row in range(28)]
    features = PecosTfidfFeatures().fit([texts])
    assert features.num_features == 30
    monkeypatch.setattr(pecos, "load_pecos_vectorizer", lambda folder: features)
    run = tmp_path / "run"
    arguments = (DATA / "pecos_model", "--run", run, "--vectorizer", tmp_path)
    assert call(capsys, import_model, "pecos", *arguments).code == 0
    (tmp_path / "texts.txt").write_text("\n".join(texts[:5]) + "\n")
    lines = call(capsys, predict, "--run", run, tmp_path / "texts.txt", "--k", 3).out.splitlines()
    ids, _ = Ranker.load(run).predict(features.transform(texts[:5]), 3)
    assert [json.loads(line)["labels"] for line in lines] == [
        [str(label) for label in row] for row in ids.tolist()
    ]


def write_mach(folder, num_labels=40, num_features=30, num_hashed=12, hidden=5, num_buckets=8):
    """Three repetitions as the original code saves them; returns the options to import them."""
    rng = np.random.default_rng(0)
    for name in ("lookups", "queries"):
        (folder / name).mkdir(parents=True)
    for r in range(3):
        np.savez(
            folder / f"r_{r}_epoch_10.npz",
            W1=rng.standard_normal((num_hashed, hidden)).astype("f4"),
            b1=rng.standard_normal(hidden).astype("f4"),
            W2=rng.standard_normal((hidden, num_buckets)).astype("f4"),
            b2=rng.standard_normal(num_buckets).astype("f4"),
        )
        for name, items, buckets in (
            ("lookups", num_labels, num_buckets),
            ("queries", num_features, num_hashed),
        ):
            lookup = bucket_lookup(items, buckets, r).astype(np.int64)
            np.save(folder / name / f"bucket_order_{r}.npy", lookup)
    return (folder, "--lookups", folder / "lookups", "--query-lookups", folder / "queries")


def check_mach(run, weights, features, lookups, queries):
    """The scores of a run against NumPy's, from the original files."""
    expected = 0
    for arrays, labels, hashed in zip(weights, lookups, queries, strict=True):
        x = np.zeros((len(features), len(arrays["W1"])), np.float32)
        np.add.at(x.T, hashed, features.T)
        hidden = np.maximum(x @ arrays["W1"] + arrays["b1"], 0)
        expected = expected + (hidden @ arrays["W2"] + arrays["b2"])[:, labels]
    loaded = load_run(run)
    rows, ids = np.nonzero(features)
    bag = {
        "ids": ids.astype(np.int32),
        "weights": features[rows, ids],
        "row_splits": np.searchsorted(rows, np.arange(len(features) + 1)).astype(np.int64),
    }
    found_ids, found = loaded.model.find_top_k(bag, 10)
    np.testing.assert_allclose(found, -np.sort(-expected, axis=1)[:, :10], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        found, np.take_along_axis(expected, found_ids, 1), rtol=1e-5, atol=1e-5
    )
    return expected


@pytest.mark.golden
def test_original_weights_of_mach(golden_folder, tmp_path, capsys):
    folder, run = golden_folder / "mach_original", tmp_path / "run"
    arguments = ("--lookups", folder / "lookups", "--query-lookups", folder / "q")
    outcome = call(capsys, import_model, "mach", folder, "--run", run, *arguments)
    assert outcome.out == f"{run}: 3 repetitions\n"
    weights = [dict(np.load(folder / f"r_{r}_epoch_10.npz")) for r in range(3)]
    lookups, queries = (
        [np.load(folder / name / f"bucket_order_{r}.npy") for r in range(3)]
        for name in ("lookups", "q")
    )
    with np.load(folder / "expected.npz") as expected:
        own = check_mach(run, weights, expected["features"], lookups, queries)
        np.testing.assert_allclose(own, expected["summed_logits"], rtol=1e-5, atol=1e-5)


def test_an_imported_mach_is_a_run(tmp_path, capsys):
    arguments, run = write_mach(tmp_path / "mach"), tmp_path / "run"
    (tmp_path / "names.txt").write_text("".join(f"name {n}\n" for n in range(40)))
    labels = ("--labels", tmp_path / "names.txt")
    assert call(capsys, import_model, "mach", *arguments, "--run", run, *labels).code == 0
    weights = [dict(np.load(tmp_path / "mach" / f"r_{r}_epoch_10.npz")) for r in range(3)]
    features = np.random.default_rng(1).random((6, 30), np.float32).round(1)
    lookups = [bucket_lookup(40, 8, r) for r in range(3)]
    check_mach(run, weights, features, lookups, [bucket_lookup(30, 12, r) for r in range(3)])
    (tmp_path / "x.svm").write_text("3 0:1 4:0.5\n7 29:2\n")
    zero = ("--reader-option", "zero_based=true")
    lines = call(
        capsys, predict, "--run", run, tmp_path / "x.svm", *zero, "--k", 3
    ).out.splitlines()
    assert len(lines) == 2 and json.loads(lines[0])["labels"][0].startswith("name ")
    asked = ("--run", run, "--data", tmp_path / "x.svm", *zero)
    assert call(capsys, evaluate, *asked, "--search", "approximate").code == 0
    problem = call(capsys, evaluate, *asked, "--tables", tmp_path / "tables").problem()
    assert "Import it again with --train-labels" in problem
    counts = np.arange(160).reshape(4, 40) % 3 > 0
    np.save(tmp_path / "y.npy", counts.astype(np.float32))
    again = (*arguments, "--run", run, *labels, "--train-labels", tmp_path / "y.npy")
    assert call(capsys, import_model, "mach", *again).code == 0
    np.testing.assert_array_equal(load_run(run).label_counts, counts.sum(0))
    assert call(capsys, evaluate, *asked, "--tables", tmp_path / "tables").code == 0
    assert "40 labels, 30 features" in call(capsys, info, "--run", run, "--verify").out
    assert call(capsys, export, "--run", run, "--k", 4).code == 0


def test_the_last_complete_epoch(tmp_path, capsys):
    arguments, run = write_mach(tmp_path / "mach"), tmp_path / "run"
    for r in range(2):  # the third repetition stopped before
        shutil.copy(
            tmp_path / "mach" / f"r_{r}_epoch_10.npz", tmp_path / "mach" / f"r_{r}_epoch_15.npz"
        )
    command = (capsys, import_model, "mach", *arguments, "--run", run)
    assert call(*command).code == 0
    summary = json.loads((run / "repetition-01" / "summary.json").read_text())
    assert summary["imported"].endswith("r_1_epoch_10.npz")
    problem = call(*command, "--epoch", 15).problem()
    assert "all of the weights r_0_epoch_15.npz to r_2_epoch_15.npz. Give" in problem
    assert problem.endswith("an epoch that all repetitions have: 10.")


def test_imports_of_mach_that_do_not_fit(tmp_path, capsys):
    arguments, run = write_mach(tmp_path / "mach"), tmp_path / "run"
    command = (capsys, import_model, "mach", *arguments, "--run", run)
    lookup = np.load(tmp_path / "mach" / "lookups" / "bucket_order_1.npy")
    lookup[7] = (lookup[7] + 1) % 8
    np.save(tmp_path / "mach" / "lookups" / "bucket_order_1.npy", lookup)
    problem = call(*command).problem()
    assert "bucket_order_1.npy: the bucket of label 7 is not that of MurmurHash3" in problem
    np.savez(tmp_path / "mach" / "r_2_epoch_10.npz", W1=np.zeros((3, 4)))
    assert "the file has no b1, W2, b2, it has W1" in call(*command).problem()
    problem = call(capsys, import_model, "mach", tmp_path, *arguments[1:], "--run", run).problem()
    assert "the folder does not have all of the weights r_0_epoch_E.npz" in problem
    assert not run.exists()


def change_weights(path, name, change):
    with np.load(path) as arrays:
        arrays = dict(arrays)
    arrays[name] = change(arrays[name])
    np.savez(path, **arrays)


def test_damaged_weights_of_mach(tmp_path, capsys):
    arguments, run = write_mach(tmp_path / "mach"), tmp_path / "run"
    command = (capsys, import_model, "mach", *arguments, "--run", run)
    path = tmp_path / "mach" / "r_1_epoch_10.npz"
    shutil.copy(path, tmp_path / "mach" / "r_01_epoch_10.npz")
    assert "npz also has repetition 1 of epoch 10" in call(*command).problem()
    (tmp_path / "mach" / "r_01_epoch_10.npz").unlink()
    original = path.read_bytes()
    for change, found in (
        (lambda values: values * np.nan, "b1 contains NaN or infinity instead of finite"),
        (lambda values: values * 1j, "b1 contains complex"),
        (lambda values: values.astype(str), "b1 contains <U"),
    ):
        change_weights(path, "b1", change)
        assert found in call(*command).problem()
        path.write_bytes(original)
    for name, change in (
        ("W1", lambda values: values[:, :1]), ("b1", lambda values: values[:1]),
        ("W2", lambda values: values[:1]),
    ):  # fmt: skip
        change_weights(path, name, change)
    assert "are not those of r_0_epoch_10.npz" in call(*command).problem()
    path.write_bytes(original)
    for values in (np.zeros(0, np.int64), np.zeros((2, 2), np.int64), np.zeros(3)):
        np.save(tmp_path / "mach" / "lookups" / "bucket_order_1.npy", values)
        problem = call(*command).problem()
        assert "bucket_order_1.npy: the array is" in problem
        assert "instead of integers (labels,)" in problem
    assert not run.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mach", "x", "--run", "r", "--lookups", "y"), "are required: --query-lookups"),
        (("pecos", "x", "--run", "r", "--epoch", 3), "unrecognized arguments: --epoch 3"),
        (("matconvnet", "x", "--run", "r"), "invalid choice: 'matconvnet'"),
        ((), "are required: KIND"),
    ],
)
def test_options_of_a_kind(capsys, arguments, message):
    outcome = call(capsys, import_model, *arguments)
    assert outcome.code == 2 and message in outcome.err
