"""The scikit-learn estimator."""

import pickle
import runpy
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from keras.callbacks import LambdaCallback
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator

import tfxc
from tfxc.core.errors import ConfigError, DataError, UserError
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.estimator.classifier import XCClassifier
from tfxc.estimator.targets import read_targets

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXTS = ["red fox", "blue sea", "red rose", "deep blue", "green sea"] * 8
LISTS = [["red", "animal"], ["blue", "water"], ["red"], ["blue"], ["green", "water"]] * 8
SINGLE = np.array(["fox", "sea", "rose", "deep", "sea"] * 8)

# scikit-learn's checks that do not apply, and why.
_BATCHES = "batches of other examples, as for scikit-learn's own SGDClassifier"
EXCLUDED = {
    "check_classifiers_multilabel_representation_invariance": "a list of lists is label lists here",
    "check_sample_weight_equivalence_on_dense_data": _BATCHES,
    "check_sample_weight_equivalence_on_sparse_data": _BATCHES,
}
# A check trains one to six models; the others run with -m slow. None of these asks how well.
QUICK = {
    "check_parameters_default_constructible", "check_estimator_cloneable", "check_estimator_repr",
    "check_estimator_tags_renamed", "check_no_attributes_set_in_init", "check_requires_y_none",
    "check_estimators_nan_inf", "check_dict_unchanged", "check_n_features_in",
    "check_estimators_pickle", "check_classifiers_multilabel_output_format_predict",
}  # fmt: skip


def small(**settings):
    return XCClassifier(**{"epochs": 30, "batch_size": 16, **settings})


def checks():
    tiny = small(epochs=40, encoder={"name": "bag_mlp", "hidden": [16]})
    generator = estimator_checks_generator(tiny, legacy=True, expected_failed_checks=EXCLUDED)
    for estimator, check in generator:
        name = getattr(check, "func", check).__name__
        quick = name in QUICK and getattr(check, "keywords", {}).get("readonly_memmap") is not True
        estimator = clone(estimator).set_params(epochs=3) if quick else estimator
        yield pytest.param(estimator, check, id=name, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learns_contract(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if getattr(check, "func", check).__name__ in EXCLUDED:
            pytest.skip(EXCLUDED[getattr(check, "func", check).__name__])
        check(estimator)


@pytest.fixture(scope="module")
def fitted():
    """A model of ``TEXTS`` that no test changes."""
    return small().fit(TEXTS, LISTS)


def test_label_lists_of_texts(fitted):
    model = fitted
    assert model.classes_.tolist() == ["animal", "blue", "green", "red", "water"]
    assert [sorted(row) for row in model.predict(TEXTS[:5])] == [sorted(row) for row in LISTS[:5]]
    best, scores = model.predict_top_k(["the RED fox!", ""], k=3)
    assert set(best[0, :2]) == {"red", "animal"} and best.shape == (2, 3)
    assert (np.diff(scores) <= 0).all() and scores.dtype == np.float32
    assert model.score(TEXTS, LISTS) == 1.0
    assert model.score(TEXTS[:2], [["red"], ["red"]]) <= 0.5
    assert not hasattr(model, "n_features_in_")


def test_mach_learns_from_texts_with_other_features():
    head = {"name": "mach", "num_buckets": 5, "num_repetitions": 8}
    model = small(head=head, text_features={"name": "hashing", "num_features": 512})
    model.fit(TEXTS, LISTS)
    assert model.score(TEXTS, LISTS) > 0.9
    # Labels that share buckets score alike, but the true ones come first.
    assert set(model.predict_top_k(["blue sea"], 2)[0][0]) == {"blue", "water"}


# The objective is all that differs; several labels are fitted with the sigmoid.
@pytest.mark.parametrize("objective", [pytest.param("sigmoid", marks=pytest.mark.slow), "softmax"])
def test_one_class_each(objective):
    model = small(objective=objective).fit(TEXTS, SINGLE)
    assert model.predict(TEXTS).tolist() == SINGLE.tolist()
    assert model.score(TEXTS, SINGLE) == 1.0
    assert model.predict(TEXTS[:1]).dtype == SINGLE.dtype


def test_matrices_in_indicator_out():
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, (60, 3))
    X = np.hstack([y, draw.normal(size=(60, 2))]).astype(np.float32)
    dense = small().fit(X, y)
    found = dense.predict(X)
    assert isinstance(found, np.ndarray) and found.dtype == np.int64
    assert (found == y).mean() > 0.95
    sparse = small().fit(scipy.sparse.csr_matrix(X), scipy.sparse.csr_matrix(y))
    assert scipy.sparse.issparse(sparse.predict(X))
    np.testing.assert_array_equal(sparse.predict(X).toarray(), found)
    vectors = small(encoder={"name": "precomputed"}, learning_rate=0.2).fit(X, y)
    assert (vectors.predict(X) == y).mean() > 0.95
    # Precision at 1 by hand: examples whose best column is a one.
    best, _ = dense.predict_top_k(X, 1)
    assert dense.score(X, y) == pytest.approx(y[np.arange(60), best[:, 0]].mean())


class OwnBags(BagMLP):
    """An encoder of sparse features that is not in tfxc."""


def test_an_encoder_of_sparse_features_by_any_name_takes_a_dense_matrix():
    X, y = np.eye(4, dtype=np.float32)[np.arange(40) % 4], np.arange(40) % 4
    model = small(encoder={"name": f"{__name__}:OwnBags", "hidden": [8]}, epochs=20).fit(X, y)
    assert model.score(X, y) == 1


def test_threshold_finds_every_label_above_it():
    model = small(epochs=1, threshold=-100.0).fit(TEXTS, [[str(i % 40)] for i in range(40)])
    assert [len(row) for row in model.predict(TEXTS[:3])] == [40, 40, 40]
    _, scores = model.predict_top_k(TEXTS[:3], 40, probabilities=False)
    middle = float(np.sort(scores[0])[20])
    model.set_params(threshold=middle)
    expected = (scores >= middle).sum(axis=1).tolist()
    assert [len(row) for row in model.predict(TEXTS[:3])] == expected


def test_same_seed_same_model_other_seed_another():
    texts = TEXTS[:5]
    one = small(encoder={"name": "bag_mlp", "dropout": 0.5}, epochs=5).fit(TEXTS, LISTS)
    scores = one.predict_top_k(texts, 5, False)[1]
    same = clone(one).fit(TEXTS, LISTS).predict_top_k(texts, 5, False)[1]
    another = clone(one).set_params(random_state=1).fit(TEXTS, LISTS)
    other = another.predict_top_k(texts, 5, False)[1]
    np.testing.assert_array_equal(scores, same)
    assert np.abs(scores - other).max() > 1e-3


def test_pickle_and_techniques(fitted):
    model = small(techniques=[{"name": "ema", "decay": 0.9}]).fit(TEXTS, LISTS)
    again = pickle.loads(pickle.dumps(model))
    scores = model.predict_top_k(TEXTS[:5], 5, False)[1]
    np.testing.assert_array_equal(again.predict_top_k(TEXTS[:5], 5, False)[1], scores)
    unlike = fitted.predict_top_k(TEXTS[:5], 5, False)[1] - scores
    assert np.abs(unlike).max() > 1e-4  # averaged weights


def test_saved_run_is_predicted_from_and_exported(tmp_path):
    from tfxc.data.examples.chunk import Chunk
    from tfxc.exports.savedmodel import export_savedmodel
    from tfxc.inference.predictors import RunPredictor
    from tfxc.runs.loaded import load_run

    head = {"name": "mach", "num_buckets": 3, "num_repetitions": 2}
    model = small(head=head, objective="softmax").fit(TEXTS, LISTS)
    model.save(tmp_path / "run")
    labels, scores = model.predict_top_k(TEXTS[:5], 4)
    run = load_run(tmp_path / "run")
    found = RunPredictor(run, 4)(Chunk(labels=[[]] * 5, texts=TEXTS[:5]))
    assert found.labels == labels.tolist()
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    assert export_savedmodel(run, tmp_path / "served", 4).score_difference < 1e-5
    assert run.label_counts.tolist() == [8, 16, 8, 16, 16]
    (tmp_path / "run" / "onnx-int8").mkdir()  # where `tfxc export --quantize int8` writes
    model.save(tmp_path / "run")
    (tmp_path / "run" / "log.txt").touch()  # as trainings write it
    with pytest.raises(ConfigError, match=r"run: this is a run of tfxc train, which would be"):
        model.save(tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("x")
    with pytest.raises(UserError, match="contains other files; nothing was removed"):
        model.save(tmp_path / "mine")


def test_silent_unless_verbose(capfd):
    small(epochs=1).fit(TEXTS, LISTS)
    captured = capfd.readouterr()
    assert "finished" not in captured.out and "training" not in captured.err
    small(epochs=1, verbose=1).fit(TEXTS, LISTS)
    assert "finished at step" in capfd.readouterr().out


def test_fits_in_threads_leave_the_streams_as_they_are(capsys):
    """One begins before the other and ends before it."""
    streams, began, ended = (sys.stdout, sys.stderr), threading.Event(), threading.Event()
    first, second = (small(epochs=2, verbose=verbose) for verbose in (1, 0))

    def fit():
        on_end = LambdaCallback(on_train_end=lambda logs=None: ended.wait(60))
        began.set()
        second.fit(TEXTS, LISTS, callbacks=[on_end])

    thread = threading.Thread(target=fit)
    first.fit(TEXTS, LISTS, callbacks=[LambdaCallback(
        on_train_begin=lambda logs=None: (thread.start(), began.wait(60))
    )])  # fmt: skip
    ended.set()
    thread.join()
    assert (sys.stdout, sys.stderr) == streams
    assert capsys.readouterr().out.count("finished at step") == 1
    np.testing.assert_array_equal(first.decision_function(TEXTS), second.decision_function(TEXTS))


@pytest.mark.parametrize(("settings", "problem"), [
    ({"head": "dens"}, "unknown head 'dens', did you mean 'dense'"),
    ({"head": {"name": "mach"}}, "needs num_buckets"),
    ({"head": {"name": "mach", "num_buckets": 999}}, "999"),
    ({"encoder": 3}, "3 is neither a method's name nor a dict"),
    ({"encoder": {"name": "bag_mlp", "hiden": [3]}}, "no argument 'hiden', did you mean 'hidden'"),
    ({"techniques": ["emma"]}, "unknown technique 'emma'"),
    ({"epochs": 0}, r"XCClassifier: training\.epochs: must be .* and at most 1e\+09, not 0"),
    ({"learning_rate": -1.0}, "learning_rate: .*positive number"),
    ({"text_features": "tf"}, "unknown kind of text features 'tf'"),
])  # fmt: skip
def test_wrong_settings_are_named(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        small(**settings).fit(TEXTS, LISTS)


def test_wrong_data_is_named(fitted):
    X = np.eye(4, dtype=np.float32)
    model = small(epochs=1)
    for y, problem in (
        ([["a"], "b", ["c"], []], "others have none. Give each example a list"),
        ([["a"], [1], [], []], "kinds that have no order: int, str"),
        (["a", 1, "a", 1], "kinds that have no order: int, str"),
        (np.array(["a", 1, "a", 1], object), "kinds that have no order: int, str"),
        ([[], [], [], []], "no example has a label"),
        (np.array([[2, 0]] * 4), "numbers other than 0 and 1"),
    ):
        with pytest.raises(DataError, match=problem):
            model.fit(X, y)
    with pytest.raises(ConfigError, match="text_features"):
        small(text_features="tfidf").fit(X, list("aabb"))
    with pytest.raises(DataError, match="example at index 1 is not a text but None"):
        model.fit(["a b", None], ["x", "y"])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        model.fit(TEXTS, LISTS[:3])
    with pytest.raises(ConfigError, match=r"validation_data: this is not a pair .*=\(X, y\)"):
        model.fit(TEXTS, LISTS, validation_data=TEXTS)
    with pytest.raises(ConfigError, match="threshold: must be a number or None, not 'high'"):
        small(threshold="high").fit(TEXTS, LISTS)
    with pytest.raises(DataError, match=r"not have the form of those of fit\. Pass texts"):
        fitted.predict(X)
    with pytest.raises(ConfigError, match="k: must be from 1 to 5, the number of labels, not 6"):
        fitted.predict_top_k(TEXTS, 6)


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (np.array([3.0, 1.0, 3.0]), ["1", "3"]),
        (np.array([3, 1]), ["1", "3"]),
        (np.array(["3.0", "3"]), ["3", "3.0"]),
        (np.array([True, False]), ["false", "true"]),
        ([[3.0, 1], [2.5]], ["1", "2.5", "3"]),
    ],
)
def test_names_of_classes_are_those_that_readers_give(y, names):
    assert read_targets(y)[0].names == names


def test_read_targets_keeps_the_form():
    targets, ids = read_targets([("b", "b"), {"a"}, []])
    assert ids == [[1], [0], []] and targets.from_ids(ids) == [["b"], ["a"], []]
    matrix = np.array([[0, 1, 1], [0, 0, 0]])
    for y in (matrix, scipy.sparse.csr_matrix(matrix)):
        targets, ids = read_targets(y)
        again = targets.from_ids([[2, 1], []])
        assert ids == [[1, 2], []] and type(again) is type(y)
        assert (again != y).sum() == 0
    targets, ids = read_targets(np.array([7, 3, 7]))
    assert ids == [[1], [0], [1]] and targets.from_ids([[1]]).tolist() == [7]


def test_lazy_name():
    assert tfxc.XCClassifier is XCClassifier


@pytest.mark.parametrize("name", ["estimator.py", "serve.py"])
def test_examples_run(name, capsys):
    began = time.monotonic()
    runpy.run_path(str(EXAMPLES / name))
    printed = capsys.readouterr().out
    print(f"{name}: {time.monotonic() - began:.1f} s")
    assert ("precision at 1" in printed) if name == "estimator.py" else ("ms per text" in printed)
