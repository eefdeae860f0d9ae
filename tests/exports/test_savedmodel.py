"""SavedModels: against NumPy, the native search, and in a process that knows nothing of tfxc."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tests.small_runs import NAMES, TEXTS, make_run
from tfxc.core.errors import CheckpointError, ConfigError, UserError
from tfxc.data.examples.chunk import Chunk
from tfxc.decision.calibration import Calibration, Curve
from tfxc.exports.parity import Expected, checked_difference, outputs_of_savedmodel
from tfxc.exports.savedmodel import export_savedmodel
from tfxc.inference.predictors import RunPredictor
from tfxc.inference.searcher import Searcher
from tfxc.runs.loaded import load_run

TFIDF = {"name": "tfidf", "ngram_range": [1, 2]}
HASHING = {"name": "hashing", "num_features": 64}
MACH = {"name": "mach", "num_buckets": 4, "num_repetitions": 3}


def answers(folder, signature="serving_default", **inputs):
    model = tf.saved_model.load(str(folder))
    found = model.signatures[signature](**inputs)
    return {name: tensor.numpy() for name, tensor in found.items()}


def named(ids):
    return [[NAMES[i].encode() for i in row] for row in ids]


def dense_scores(model, matrix):
    """Scores of a one-layer bag_mlp and a dense head, by NumPy."""
    table, bias, kernel, head_bias = (np.array(weight) for weight in model.weights)
    return np.maximum(matrix @ table + bias, 0) @ kernel + head_bias


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Folder of a run with a dense head, and what its export tells."""
    folder = tmp_path_factory.mktemp("dense")
    path = make_run(folder / "run", text_features=TFIDF)
    return path, export_savedmodel(load_run(path), folder / "served", k=4)


def test_dense_head_equals_numpy(dense):
    run, exported = load_run(dense[0]), dense[1]
    assert exported.input_kind == "text" and exported.score_difference < 1e-5
    found = answers(exported.folder, text=tf.constant(TEXTS))
    scores = dense_scores(run.model, run.text_features.transform(TEXTS).toarray())
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(found["ids"], ids)
    np.testing.assert_allclose(found["scores"], np.take_along_axis(scores, ids, 1), rtol=1e-5)
    assert found["labels"].tolist() == named(ids)
    assert found["ids"].dtype == np.int32 and found["scores"].dtype == np.float32


@pytest.mark.parametrize("objective", ["softmax", pytest.param("sigmoid", marks=pytest.mark.slow)])
def test_probabilities_equal_numpy(tmp_path, objective):
    sections = {"text_features": TFIDF, "objective": {"name": objective}}
    run = load_run(make_run(tmp_path / "run", **sections))
    exported = export_savedmodel(run, tmp_path / "served", k=4, probabilities=True)
    found = answers(exported.folder, text=tf.constant(TEXTS))
    scores = dense_scores(run.model, run.text_features.transform(TEXTS).toarray())
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :4]
    whole = scipy.special.softmax(scores, 1) if objective == "softmax" else None
    whole = scipy.special.expit(scores) if whole is None else whole
    np.testing.assert_array_equal(found["ids"], ids)
    np.testing.assert_allclose(found["scores"], np.take_along_axis(whole, ids, 1), rtol=1e-5)
    with pytest.raises(RuntimeError, match="does not match the trained model"):
        Expected(run, 4).largest_difference(outputs_of_savedmodel(exported.folder))


def test_probabilities_of_heads_over_digits(tmp_path):
    head = {"name": "mhp", "heads": [4, 3]}
    run = load_run(make_run(tmp_path / "run", text_features=TFIDF, head=head))
    export_savedmodel(run, tmp_path / "served", 4, probabilities=True)
    found = answers(tmp_path / "served", text=tf.constant(TEXTS))
    ids, raw = Searcher(run.model, 4)({"features": bags_of(run)})
    np.testing.assert_array_equal(found["ids"], ids)
    np.testing.assert_allclose(found["scores"], np.exp(raw), rtol=1e-5)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"head": MACH}, "head MACH has no probabilities: it has no softmax over all labels"),
        ({"objective": {"name": "hinge"}}, "has no probabilities: its scores are margins"),
    ],
)
def test_models_without_probabilities(tmp_path, sections, message):
    run = load_run(make_run(tmp_path / "run", text_features=TFIDF, **sections))
    with pytest.raises(ConfigError, match=message):
        export_savedmodel(run, tmp_path / "served", k=4, probabilities=True)
    assert not (tmp_path / "served").exists()


def test_rounding_where_a_calibration_is_steep():
    """Scores a rounding difference apart may lie on both sides of a step, but nowhere else."""
    knots = np.array([0.0, 0.5, 0.50001, 1.0])
    calibration = Calibration(Curve(knots, np.array([0.0, 0.2, 0.7, 0.8])))
    ids, scores = np.array([[3, 1, -1]]), np.float32([[0.9, 0.5, -np.inf]])
    for chance, right in ((0.2, True), (0.7, True), (0.71, False), (0.19, False), (np.nan, False)):
        found = ids, np.float32([[0.78, chance, -np.inf]])
        arguments = (found, (ids, scores), 1e-4, "it", calibration)
        if right:
            assert checked_difference(*arguments) == pytest.approx(chance - 0.2, abs=1e-6)
        else:
            with pytest.raises(RuntimeError, match="it does not match"):
                checked_difference(*arguments)


def test_rounding_of_log_odds_where_their_curve_is_steep():
    odds = float(np.log(0.5) - np.log1p(-0.5))
    last = Curve(np.array([odds - 1e-7, odds]), np.array([0.2, 0.7]))
    calibration = Calibration(None, np.array([0.0, 1.0, 0.0, 0.0]), last)
    ids, scores = np.array([[3]]), np.float32([[odds]])
    low, high = calibration(scores - np.float32(1e-6)), calibration(scores)
    assert high - low > 0.4
    assert checked_difference((ids, low), (ids, scores), 0.0, "it", calibration) > 0.4
    with pytest.raises(RuntimeError, match="it does not match"):
        checked_difference((ids, low - 0.01), (ids, scores), 0.0, "it", calibration)


def test_rounding_where_a_sure_best_label_makes_the_others_less_likely():
    """A calibration may fall where the best score of the list rises."""
    curve = Curve(np.array([0.0, 1.0]), np.array([0.1, 0.9]))
    calibration = Calibration(curve, np.array([0.0, 1.0, 0.0, -1.5]))
    ids, scores = np.array([[3, 1]]), np.float32([[0.9, 0.5]])
    right = calibration(scores)
    assert calibration(scores - 1e-3)[0, 1] > right[0, 1] + 1e-6, "so it is no bound"
    assert checked_difference((ids, right), (ids, scores), 1e-3, "it", calibration) == 0


def bags_of(run):
    """``TEXTS`` as the features of a run on sparse bags."""
    rows = run.text_features.transform(TEXTS)
    features = {"ids": rows.indices, "weights": rows.data, "row_splits": np.int64(rows.indptr)}
    return tf.nest.map_structure(tf.constant, features)


# Every aggregate with every trunk: two of them suffice here, heads/test_mach.py has all.
ALL = pytest.mark.slow


@pytest.mark.parametrize(
    ("aggregate", "trunk"),
    [
        pytest.param("logits", "shared", marks=ALL),
        pytest.param("probabilities", "separate", marks=ALL),
        pytest.param("log_probabilities", "separate", marks=ALL),
        ("median", "shared"),
        pytest.param("logits", "separate", marks=ALL),
        pytest.param("probabilities", "shared", marks=ALL),
        pytest.param("log_probabilities", "shared", marks=ALL),
        pytest.param("median", "separate", marks=ALL),
    ],
)
def test_mach_in_the_graph_equals_the_native_search(tmp_path, aggregate, trunk):
    head = {**MACH, "aggregate": aggregate, "trunk": trunk}
    run = load_run(make_run(tmp_path / "run", text_features=HASHING, head=head))
    export_savedmodel(run, tmp_path / "served", k=5)
    found = answers(tmp_path / "served", text=tf.constant(TEXTS))
    features = bags_of(run)
    ids, scores = Searcher(run.model, 5)({"features": features})
    np.testing.assert_array_equal(found["ids"], ids)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5)
    by_features = answers(tmp_path / "served", "features", **features)
    np.testing.assert_array_equal(by_features["ids"], ids)


def test_sparse_features_are_scaled_as_in_training(tmp_path):
    run = load_run(make_run(tmp_path / "run", normalise="l2"))
    assert export_savedmodel(run, tmp_path / "served", k=12).input_kind == "sparse"
    found = answers(
        tmp_path / "served",
        ids=tf.constant([3, 7, 19, 2]),
        weights=tf.constant([3.0, 4.0, 12.0, 0.0]),
        row_splits=tf.constant([0, 3, 3, 4], tf.int64),
    )
    matrix = np.zeros((3, 20))
    matrix[0, [3, 7, 19]] = [3 / 13, 4 / 13, 12 / 13]
    expected = -np.sort(-dense_scores(run.model, matrix), axis=1)
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-5)


# As they are: test_serving_folder.py, and every export is compared with its run.
@pytest.mark.parametrize("normalise", [pytest.param(None, marks=pytest.mark.slow), "l2"])
def test_dense_vectors(tmp_path, normalise):
    parts = {"encoder": {"name": "precomputed"}, "kind": "dense", "normalise": normalise}
    run = load_run(make_run(tmp_path / "run", num_features=5, **parts))
    assert export_savedmodel(run, tmp_path / "served", k=2).input_kind == "dense"
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    found = answers(tmp_path / "served", features=tf.constant(x))
    kernel, bias = (np.array(weight) for weight in run.model.weights)
    x = x / np.linalg.norm(x, axis=1, keepdims=True) if normalise else x
    expected = -np.sort(-(x @ kernel + bias), axis=1)[:, :2]
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-5)


@pytest.mark.slow  # here, in the process that exported it: above
def test_moved_model_in_a_process_with_tensorflow_only(tmp_path):
    run = load_run(make_run(tmp_path / "run", text_features=TFIDF, head=MACH))
    exported = export_savedmodel(run, tmp_path / "served", k=3)
    expected = answers(exported.folder, text=tf.constant(TEXTS))
    shutil.move(exported.folder, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "run")
    code = (
        "import json, sys, tensorflow as tf; texts = json.loads(sys.argv[2])\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "found = model.signatures['serving_default'](text=tf.constant(texts))\n"
        "assert not {'tfxc', 'tensorflow_text'} & set(sys.modules)\n"
        "names = [[x.decode() for x in row] for row in found['labels'].numpy()]\n"
        "print(json.dumps([names, found['scores'].numpy().tolist()]))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "elsewhere"), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    assert "custom gradients" not in result.stderr
    names, scores = json.loads(result.stdout)
    assert [[name.encode() for name in row] for row in names] == expected["labels"].tolist()
    np.testing.assert_allclose(scores, expected["scores"], rtol=1e-5)


def test_every_weight_is_written_once(tmp_path):
    encoder = {"name": "bag_mlp", "hidden": [64]}
    run = load_run(make_run(tmp_path / "run", num_features=5000, encoder=encoder))
    exported = export_savedmodel(run, tmp_path / "served")
    parameters = sum(weight.numpy().nbytes for weight in run.model.trainable_variables)
    assert exported.weight_bytes == parameters
    written = sum(f.stat().st_size for f in (exported.folder / "variables").iterdir())
    assert parameters <= written < 1.05 * parameters
    assert exported.size_bytes < 1.3 * parameters


def test_what_cannot_be_exported_leaves_nothing(tmp_path):
    run = load_run(make_run(tmp_path / "run", text_features=TFIDF))
    target = tmp_path / "served"
    with pytest.raises(ConfigError, match="k: must be from 1 to 12, the number of labels, not 13"):
        export_savedmodel(run, target, k=13)
    bare = make_run(tmp_path / "bare")
    (bare / "model.weights.h5").unlink()
    with pytest.raises(CheckpointError, match="no trained weights yet"):
        export_savedmodel(load_run(bare), target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bare", "run"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="contains other files; nothing was removed"):
        export_savedmodel(run, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


# The features fasttext are words with n-grams: tests/data/text/test_ngrams.py.
@pytest.mark.parametrize(
    "name", ["tfidf", "words", pytest.param("fasttext", marks=pytest.mark.slow)]
)
def test_other_patterns_of_words_are_served_alike(tmp_path, name):
    features = {"name": name, "token_pattern": r"[\w'-]+"}
    parts = {"encoder": {"name": "fasttext", "embedding_dim": 4}, "kind": "tokens"}
    features, parts = (features, {}) if name == "tfidf" else ({**features, "min_count": 1}, parts)
    features |= {"min_chars": 2, "max_chars": 3, "buckets": 50} if name == "fasttext" else {}
    run = load_run(make_run(tmp_path / "run", text_features=features, **parts))
    export_savedmodel(run, tmp_path / "served", k=4)
    texts = ["bread-and-butter isn't soup", "the butter, the tea", ""]
    found = answers(tmp_path / "served", text=tf.constant(texts))
    expected = RunPredictor(run, 4)(Chunk(labels=[[]] * 3, texts=texts))
    assert [[x.decode() for x in row] for row in found["labels"]] == expected.labels
    np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-5)


def test_an_older_savedmodel_is_replaced(tmp_path):
    run = load_run(make_run(tmp_path / "run"))
    export_savedmodel(run, tmp_path / "served", k=2)
    export_savedmodel(run, tmp_path / "served", k=3)
    bag = {"ids": [1], "weights": [1.0]}
    inputs = {name: tf.constant(values) for name, values in bag.items()}
    found = answers(tmp_path / "served", row_splits=tf.constant([0, 1], tf.int64), **inputs)
    assert found["ids"].shape == (1, 3)


def test_the_check_notices_other_weights(dense):
    run, exported = load_run(dense[0]), dense[1]
    assert Expected(run, 4).largest_difference(outputs_of_savedmodel(exported.folder)) < 1e-5
    weight = run.model.head.weights[0]
    weight.assign(weight + 0.1)
    with pytest.raises(RuntimeError, match="does not match the trained model"):
        Expected(run, 4).largest_difference(outputs_of_savedmodel(exported.folder))
