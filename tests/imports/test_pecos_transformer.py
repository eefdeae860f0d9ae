"""XR-Transformers of PECOS as runs: against libpecos 1.2.8, and NumPy on its files."""

import importlib
import json
import re
import shutil

import numpy as np
import pytest
import scipy.sparse

from tests import torch_files
from tests.commands.calls import call
from tfxc.commands import encode, evaluate, export, info, predict, train
from tfxc.data.examples.chunk import Chunk
from tfxc.imports.pecos_transformer import import_transformer
from tfxc.inference.savedmodel import SavedModelPredictor
from tfxc.runs.loaded import load_run

import_model = importlib.import_module("tfxc.commands.import")
SPLIT = ("--reader-option", "split=tst")

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def pecos():
    """The folder of the model, its inputs and its predictions."""
    from tests.folders import golden_folder

    pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
    return golden_folder() / "pecos_xtransformer"


@pytest.fixture(scope="module")
def imported(pecos, tmp_path_factory):
    run = tmp_path_factory.mktemp("imported") / "run"
    import_transformer(pecos / "model", run)
    return run


@pytest.fixture
def copied(pecos, tmp_path):
    """A copy of the model that may be changed."""
    shutil.copytree(pecos / "model", tmp_path / "model")
    for path in (tmp_path / "model").rglob("*"):
        path.chmod(0o755)
    return tmp_path / "model"


def best_of_pecos(matrix, k=10):
    """Ids and scores of the best labels of each row, best first."""
    rows = matrix.toarray()
    ids = np.argsort(-rows, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(rows, ids, 1)


def assert_predicts(lines, expected):
    ids, scores = expected
    found = [json.loads(line) for line in lines]
    assert len(found) == len(ids)
    np.testing.assert_allclose([row["scores"] for row in found], scores, atol=1e-6)
    assert [[int(label) for label in row["labels"]] for row in found] == ids.tolist()


def by_numpy(model, features, k=10, beam=4):
    """The best labels of rows [X | E / |E|] below the best nodes of each layer."""
    scores, inputs = np.ones((len(features), 1)), np.hstack([features, np.ones((len(features), 1))])
    for number in range(4):
        folder = model / "concat_model" / "ranker" / f"{number}.model"
        weights, parents = (scipy.sparse.load_npz(folder / f"{name}.npz") for name in "WC")
        layer = np.exp(-(np.maximum(0, 1 - inputs @ weights.toarray()) ** 3))
        scores[scores < -np.sort(-scores, axis=1)[:, :beam][:, -1:]] = 0
        scores = scores[:, parents.toarray().argmax(axis=1)] * layer
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(scores, ids, 1)


def test_predictions_are_those_of_pecos(pecos, imported, tmp_path, capsys):
    expected = best_of_pecos(scipy.sparse.load_npz(pecos / "predictions.npz"))
    asked = ("--run", imported, "--k", 10, "--format", "jsonl", "--batch-size", 17)
    assert_predicts(call(capsys, predict, *asked, pecos, *SPLIT).out.splitlines(), expected)
    given = ("--features", pecos / "X.tst.npz")
    found = call(capsys, predict, *asked, pecos / "X.tst.txt", *given)
    assert_predicts(found.out.splitlines(), expected)
    dense = scipy.sparse.load_npz(pecos / "X.tst.npz").toarray()
    np.save(tmp_path / "X.npy", dense)
    given = ("--features", tmp_path / "X.npy")
    found = call(capsys, predict, *asked, pecos / "X.tst.txt", *given)
    assert_predicts(found.out.splitlines(), expected)
    vectors = np.load(pecos / "embeddings.npy")
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert_predicts(found.out.splitlines(), by_numpy(pecos / "model", np.hstack([dense, vectors])))


def test_what_else_reads_the_run(pecos, imported, tmp_path, capsys):
    arguments = ("--run", imported, pecos / "X.tst.txt", "--output", tmp_path / "vectors.npy")
    assert call(capsys, encode, *arguments).code == 0  # it needs no features
    found = np.load(tmp_path / "vectors.npy")
    np.testing.assert_allclose(found, np.load(pecos / "embeddings.npy"), atol=1e-6)

    asked = ("--run", imported, "--data", pecos, *SPLIT, "--k", "1,3", "--output", tmp_path)
    assert call(capsys, evaluate, *asked).code == 0
    (record,) = tmp_path.glob("evaluation-*.json")
    metrics = json.loads(record.read_text())["metrics"]
    ids, _ = best_of_pecos(scipy.sparse.load_npz(pecos / "predictions.npz"), 3)
    labels = scipy.sparse.load_npz(pecos / "Y.tst.npz").toarray() > 0
    hits = np.take_along_axis(labels, ids, 1)
    assert metrics["P@1"] == pytest.approx(hits[:, 0].mean())
    assert metrics["P@3"] == pytest.approx(hits.mean())
    assert "24 labels" in call(capsys, info, "--run", imported, "--verify").out


@pytest.mark.slow
def test_a_served_model_takes_the_features_too(pecos, imported, tmp_path, capsys):
    outcome = call(capsys, export, "--run", imported, "--output", tmp_path / "served", "--k", 10)
    assert outcome.code == 0 and "text=tf.constant(['some text'], tf.string), ids=" in outcome.out
    texts = (pecos / "X.tst.txt").read_text().splitlines()
    features = scipy.sparse.load_npz(pecos / "X.tst.npz").astype(np.float32)
    served = SavedModelPredictor(tmp_path / "served")
    assert served.input_kind == "text_and_features"
    found = served(Chunk([[]] * 40, texts=texts, features=features))
    ids, scores = best_of_pecos(scipy.sparse.load_npz(pecos / "predictions.npz"))
    assert [[int(label) for label in row] for row in found.labels] == ids.tolist()
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)
    asked = ("--model", tmp_path / "served", pecos / "X.tst.txt")
    assert "texts with features expected" in call(capsys, predict, *asked).problem()


@pytest.mark.slow
def test_training_goes_on_from_the_encoder(pecos, imported, tmp_path, capsys):
    """The run's config trains: here without fine-tuning, so that the vectors stay."""
    changes = {
        "run": tmp_path / "run", "data.train": pecos, "data.reader": "pecos",
        "recipe.do_fine_tune": "false", "head.nr_splits": 4, "head.max_leaf_size": 6,
    }  # fmt: skip
    options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    config = ("--config", imported / "config.json", "--prepared", tmp_path / "prepared")
    assert call(capsys, train, *config, *options).code == 0
    vectors = np.load(tmp_path / "run" / "embeddings" / "train.npy")
    texts = (pecos / "X.trn.txt").read_text().splitlines()
    loaded = load_run(imported)
    embed = loaded.embedder("--run")
    expected = embed(loaded.encoder_features_of(Chunk([[]] * 200, texts=texts)))
    by_value = [rows[np.lexsort(rows.T.round(4))] for rows in (vectors, expected)]
    np.testing.assert_allclose(*by_value, atol=1e-4)
    asked = ("--run", tmp_path / "run", "--data", pecos, *SPLIT, "--k", 1)
    assert call(capsys, evaluate, *asked).code == 0


def test_weights_of_older_transformers(copied, pecos, tmp_path, capsys):
    numpy = pytest.importorskip("safetensors.numpy")
    network = copied / "text_encoder" / "text_encoder"
    torch_files.save(network / "pytorch_model.bin", numpy.load_file(network / "model.safetensors"))
    (network / "model.safetensors").unlink()
    assert call(capsys, import_model, "pecos", copied, "--run", tmp_path / "run").code == 0
    shutil.rmtree(copied)  # the run needs it no more
    asked = ("--run", tmp_path / "run", "--k", 10, "--format", "jsonl", pecos, *SPLIT)
    expected = best_of_pecos(scipy.sparse.load_npz(pecos / "predictions.npz"))
    assert_predicts(call(capsys, predict, *asked).out.splitlines(), expected)


@pytest.fixture
def encoder_alone(copied):
    """The model with a ranker that reads no features, the encoder's vectors only."""
    ranker = copied / "concat_model" / "ranker"
    for path in (ranker / "param.json", *ranker.glob("*.model/param.json")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"nr_features": 16}))
    for path in ranker.glob("*.model/W.npz"):
        scipy.sparse.save_npz(path, scipy.sparse.load_npz(path).tocsr()[60:].tocsc())
    return copied


def test_a_ranker_on_the_encoder_alone(encoder_alone, pecos, tmp_path, capsys):
    outcome = call(capsys, import_model, "pecos", encoder_alone, "--run", tmp_path / "run")
    assert "a ranker on an encoder (bert)" in outcome.out
    asked = ("--run", tmp_path / "run", "--k", 10, "--format", "jsonl")
    texts = pecos / "X.tst.txt"
    vectors = np.load(pecos / "embeddings.npy")
    expected = by_numpy(encoder_alone, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    found = call(capsys, predict, *asked, texts)
    assert_predicts(found.out.splitlines(), expected)
    problem = call(capsys, predict, *asked, texts, "--features", pecos / "X.tst.npz").problem()
    assert problem.startswith("--features: the option is for models on texts with features")


@pytest.mark.slow
def test_an_export_of_a_ranker_on_the_encoder_alone(encoder_alone, tmp_path, capsys):
    import_transformer(encoder_alone, tmp_path / "run")
    assert call(capsys, export, "--run", tmp_path / "run", "--k", 3).code == 0


@pytest.mark.parametrize("matcher", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_model_without_a_ranker(copied, pecos, tmp_path, capsys, matcher):
    shutil.rmtree(copied / "concat_model")
    folder, run = copied / "text_encoder" if matcher else copied, tmp_path / "run"
    outcome = call(capsys, import_model, "pecos", folder, "--run", run)
    assert "an encoder (bert) without a ranker" in outcome.out
    arguments = ("--run", run, pecos / "X.tst.txt", "--output", tmp_path / "vectors.npy")
    assert call(capsys, encode, *arguments).code == 0
    found = np.load(tmp_path / "vectors.npy")
    np.testing.assert_allclose(found, np.load(pecos / "embeddings.npy"), atol=1e-6)
    problem = call(capsys, predict, "--run", run, pecos / "X.tst.txt").problem()
    assert "the run has only an encoder" in problem


def test_features_that_are_missing_or_do_not_fit(pecos, imported, tmp_path, capsys):
    asked = ("--run", imported, pecos / "X.tst.txt")
    problem = call(capsys, predict, *asked).problem()
    assert "the texts have no features next to them" in problem
    assert "Name their file with --features" in problem
    features = scipy.sparse.load_npz(pecos / "X.tst.npz")
    for name, matrix, message in (
        ("rows", features[:39], "there are 39 rows for the 40 examples of .*X.tst.txt"),
        (
            "wide",
            scipy.sparse.hstack([features, features]),
            "120 sparse features, but 60",
        ),
    ):
        scipy.sparse.save_npz(tmp_path / f"{name}.npz", matrix)
        outcome = call(capsys, predict, *asked, "--features", tmp_path / f"{name}.npz")
        assert re.search(message, outcome.problem())
    (tmp_path / "X.txt").write_text("no matrix")
    problem = call(capsys, predict, *asked, "--features", tmp_path / "X.txt").problem()
    assert "is neither a sparse matrix in .npz nor a dense one in .npy" in problem
    assert "Name a file, and its features" in call(capsys, predict, "--run", imported).problem()
    asked = ("--run", imported, "--split", "train", "--features", "x")
    assert "Name the file with --data" in call(capsys, evaluate, *asked).problem()


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda model: change(
                model / "text_encoder" / "text_encoder" / "config.json", model_type="xlnet"
            ),
            "family xlnet cannot be imported: PECOS passes it token types",
        ),
        (
            lambda model: (model / "text_encoder" / "param.json").unlink(),
            "param.json: no such file",
        ),
        (
            lambda model: change(
                model / "text_encoder" / "param.json", pred_params={"truncate_length": "24"}
            ),
            "truncate_length is '24', not an integer",
        ),
        (
            lambda model: change(
                model / "text_encoder" / "param.json", pred_params={"truncate_length": 65}
            ),
            "is 65, but the model has only 64 positions",
        ),
        (
            lambda model: (model / "text_encoder" / "text_encoder" / "model.safetensors").unlink(),
            "the file model.safetensors is missing",
        ),
        (
            lambda model: shutil.rmtree(model / "concat_model" / "ranker" / "3.model"),
            "3.model/param.json: no such file",
        ),
    ],
)
def test_models_that_are_refused(copied, tmp_path, capsys, spoil, message):
    spoil(copied)
    problem = call(capsys, import_model, "pecos", copied, "--run", tmp_path / "run").problem()
    assert message in problem
    assert not (tmp_path / "run").exists()
