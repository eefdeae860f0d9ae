"""The estimator with recipe ``xr_linear``."""

import gc
import pickle
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

import tfxc
from tests.estimator.test_estimator import EXCLUDED as OF_NETWORKS
from tests.estimator.test_estimator import QUICK
from tests.estimator.test_fitting import LISTS, MATRIX, SINGLE, TEXTS
from tests.source_tree import ROOT
from tfxc.core.errors import ConfigError
from tfxc.data.reading.held_out import held_out_examples
from tfxc.decision.held_out import HeldOut
from tfxc.decision.probabilities.logistic import Logistic
from tfxc.estimator.classifier import XCClassifier
from tfxc.ranker.search import Ranker

LOWEST = np.finfo(np.float32).min
BINARY = np.stack([MATRIX[:, 0] > 0, MATRIX[:, 1] > 0, MATRIX[:, 2] > 0.5], 1).astype(int)
_WEIGHTS = "the classifiers of a linear ranker have no weights of examples or classes"
REFUSED = {
    "check_sample_weights_not_an_array", "check_sample_weights_list", "check_sample_weights_shape",
    "check_sample_weights_pandas_series",
    "check_sample_weights_not_overwritten", "check_classifiers_one_label_sample_weights",
    "check_class_weight_classifiers",
}  # fmt: skip
EXCLUDED = {**OF_NETWORKS, **dict.fromkeys(REFUSED, _WEIGHTS)}
# Wide enough for two levels; so narrow a beam finds few of the labels.
DEEP = {"tree": {"nr_splits": 2, "max_leaf_size": 2}, "ranker": {"only_topk": 1}}


def linear(*, recipe=None, **settings):
    return XCClassifier(recipe={"name": "xr_linear", **(recipe or {})}, **settings)


@pytest.fixture(scope="module")
def calibrated():
    model = linear(decision={"probabilities": "logistic", "labels": {"name": "threshold"}})
    return model.fit(TEXTS, LISTS, validation_data=(TEXTS[:10], LISTS[:10]))


def test_scores_are_the_rankers(tmp_path):
    model = linear(recipe=DEEP).fit(TEXTS, LISTS)
    model.save(tmp_path / "run")
    features = model.text_features_.transform(TEXTS[:5])
    ranker = Ranker.load(tmp_path / "run")
    assert len(ranker.sizes) > 1 and (ranker.predict(features, 5)[0] < 0).any(), "a narrow beam"
    ids, scores = ranker.predict(features, 5, beam_size=5)
    expected = np.empty_like(scores)
    np.put_along_axis(expected, ids.astype(np.int64), scores, axis=1)
    np.testing.assert_allclose(model.decision_function(TEXTS[:5]), expected, atol=1e-6)
    best, likely = model.predict_top_k(TEXTS[:5], 5)
    assert best.tolist() == model.classes_[ids].tolist()
    np.testing.assert_allclose(likely, scores, atol=1e-6)


def test_labels_of_texts(calibrated):
    assert [set(row) for row in calibrated.predict(TEXTS[:5])] == [set(row) for row in LISTS[:5]]
    assert calibrated.score(TEXTS, LISTS) == calibrated.validation_metrics_["P@1"] == 1
    found = calibrated.predict_proba(TEXTS[:5])
    predicted = [{calibrated.classes_[n] for n in np.flatnonzero(row >= 0.5)} for row in found]
    assert predicted == [set(row) for row in LISTS[:5]] and found.max() <= 1
    plain = linear().fit(TEXTS, LISTS)
    assert [len(row) for row in plain.predict(TEXTS[:5])] == [1] * 5, "the best label alone"
    assert hasattr(calibrated, "predict_proba") and not hasattr(plain, "predict_proba")
    with pytest.raises(AttributeError, match=r"Set decision=.*'probabilities': 'rows'"):
        plain.predict_proba(TEXTS[:1])
    with pytest.raises(ConfigError, match="are not calibrated"):
        plain.predict_top_k(TEXTS[:1], 2, probabilities=True)


def test_probabilities_without_validation_data():
    """They are learned from the scores of examples that a model has not seen: of each fold."""
    random = np.random.default_rng(3)
    X = random.normal(size=(150, 4)).astype(np.float32)
    y = (X[:, 0] + random.normal(size=150) > 0).astype(int)
    X[149], y[149] = X[0], 1 - y[0]  # equal examples are in one fold
    model = linear(decision={"probabilities": "logistic"}).fit(X, y)
    np.testing.assert_array_equal(
        model.decision_function(X), linear().fit(X, y).decision_function(X)
    )
    groups = [*range(149), 0]
    scores, hits = [], []
    for part in range(5):
        inside = held_out_examples(np.array(groups), 0.2, 0, part)
        assert inside[0] == inside[149]
        without = linear().fit(X[~inside], y[~inside])
        found = without.predict_top_k(X[inside], 2)
        scores.append(found.scores)
        hits.append(found.labels == y[inside][:, None])
    lists = np.concatenate(scores)
    ones = np.ones(len(lists), int)
    examples = HeldOut(np.zeros(lists.shape, int), lists, None, np.concatenate(hits), ones)
    expected = Logistic().fit(examples)
    likely = model.predict_top_k(X, 2)
    raw = model.predict_top_k(X, 2, probabilities=False)
    np.testing.assert_allclose(likely.scores, expected(raw.scores), rtol=1e-5)


def test_titles_of_classes_are_not_held_out():
    """Where texts of classes may be examples, no decision is learned of a catalogue's own names."""
    names = [f"kind {number}" for number in range(40)]
    queries = [f"{name} seen at place {place}" for name in names for place in range(3)]
    recipe = {"name": "xr_linear", "label_text_rows": True}
    model = XCClassifier(recipe=recipe, label_texts="names", decision={"probabilities": "logistic"})
    drawn = mock.Mock(side_effect=held_out_examples)
    with mock.patch("tfxc.estimator.fitted_linear.held_out_examples", drawn):
        model.fit([*names, *queries], [[text[:7].strip()] for text in [*names, *queries]])
    assert [len(call.args[0]) for call in drawn.call_args_list] == [len(queries)] * 5


def test_classes_and_matrices():
    single = linear().fit(TEXTS, SINGLE)
    assert single.predict(TEXTS).tolist() == SINGLE.tolist() and single.score(TEXTS, SINGLE) == 1
    dense = linear(threshold=0.5).fit(MATRIX, BINARY)
    found = dense.predict(MATRIX)
    assert (found == BINARY).mean() > 0.9 and found.dtype == np.int64
    sparse = clone(dense).fit(scipy.sparse.csr_matrix(MATRIX), scipy.sparse.csr_matrix(BINARY))
    np.testing.assert_array_equal(sparse.predict(MATRIX).toarray(), found)


def test_a_label_without_examples_comes_last():
    y = np.hstack([BINARY, np.zeros((60, 1), int)])
    model = linear(threshold=0.5).fit(MATRIX, y)
    assert (model.decision_function(MATRIX)[:, 3] == LOWEST).all()
    best, scores = model.predict_top_k(MATRIX, 4)
    assert (best[:, 3] == 3).all() and (scores[:, 3] == LOWEST).all()
    assert not model.predict(MATRIX)[:, 3].any()
    assert len(model._fitted.model.similar_labels(0, 2)[0]) == 2
    assert [len(found) for found in model._fitted.model.similar_labels(3, 2)] == [0, 0]


def test_pickled_saved_and_loaded(calibrated, tmp_path):
    expected = calibrated.predict_proba(TEXTS[:5])
    again = pickle.loads(pickle.dumps(calibrated))
    folder = again._fitted._folder
    np.testing.assert_array_equal(again.predict_proba(TEXTS[:5]), expected)
    calibrated.save(tmp_path / "run")
    loaded = XCClassifier.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS[:5]), expected)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(loaded)).predict_proba(TEXTS[:5]), expected
    )
    loaded.save(tmp_path / "copy")
    best, scores = calibrated.predict_top_k(TEXTS[:5], 2, probabilities=True)
    found = tfxc.Run(tmp_path / "copy").predict(TEXTS[:5], k=2)
    assert found.labels == best.tolist()
    np.testing.assert_array_equal(found.scores, scores)
    assert folder.is_dir()
    del again
    gc.collect()
    assert not folder.exists(), "the files go with their object"


def test_scikit_learns_searches():
    model = linear(threshold=0.5)
    assert (cross_val_score(model, MATRIX, BINARY, cv=2, scoring="f1_micro") > 0.5).all()
    ranked = cross_val_score(model, MATRIX, BINARY, cv=2, scoring="roc_auc")
    assert (ranked > 0.8).all()
    grid = {"recipe__ranker": [{"threshold": 0.1}, {"threshold": 0.5}]}
    search = GridSearchCV(model, grid, cv=2, scoring="f1_micro").fit(MATRIX, BINARY)
    assert search.best_params_["recipe__ranker"] in grid["recipe__ranker"]


@pytest.mark.parametrize(("settings", "problem"), [
    ({"epochs": 3}, "epochs: recipe 'xr_linear' does not use this parameter"),
    ({"head": "mach"}, "head: recipe 'xr_linear' does not use"),
    ({"recipe": "xr_liner"}, r"must be one of fit, xr_linear, not 'xr_liner'"),
    ({"recipe": {"name": "fit", "start": "runs/a"}}, "recipe.start: recipe 'fit' has no arguments"),
    ({"recipe": {"name": "xr_linear", "label_text_rows": True}}, "label_texts: .* there are none"),
    ({"label_texts": "names"}, "label_texts: recipe 'xr_linear' does not use texts"),
    ({"recipe": {"name": "xr_linear", "beam": 3}}, "recipe 'xr_linear' has no argument 'beam'"),
    ({"recipe": {"name": "xr_linear", "ranker": {"relevance_file": "r.npz"}}}, "relevance_file"),
])  # fmt: skip
def test_wrong_settings_are_named(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        XCClassifier(**{"recipe": "xr_linear", **settings}).fit(TEXTS, LISTS)


def test_arguments_of_arguments():
    model = linear(recipe=DEEP)
    model.set_params(recipe__ranker__threshold=0.2, recipe__tree__nr_splits=4)
    assert model.recipe["ranker"] == {"only_topk": 1, "threshold": 0.2}
    assert model.recipe["tree"] == {"nr_splits": 4, "max_leaf_size": 2}
    assert DEEP["ranker"] == {"only_topk": 1}
    assert model.get_params()["recipe__ranker__threshold"] == 0.2
    assert clone(model).get_params() == model.get_params()
    plain = XCClassifier(recipe="xr_linear").set_params(recipe__ranker__threshold=0.3)
    assert plain.recipe == {"name": "xr_linear", "ranker": {"threshold": 0.3}}
    with pytest.raises(ConfigError, match=r"'threshold' is 0\.3, which has no arguments"):
        plain.set_params(recipe__ranker__threshold__least=1)
    grid = {"recipe__ranker__threshold": [0.1, 0.5]}
    search = GridSearchCV(linear(), grid, cv=2).fit(MATRIX, SINGLE[:5][MATRIX[:, 0].argsort() % 5])
    assert search.best_params_["recipe__ranker__threshold"] in (0.1, 0.5)


def test_defaults_in_other_words():
    assert len(linear(techniques=[]).fit(TEXTS, LISTS).predict(TEXTS[:1])) == 1


def test_weights_of_examples_are_refused():
    with pytest.raises(ConfigError, match="sample_weight: recipe 'xr_linear' does not take this"):
        linear().fit(TEXTS, LISTS, sample_weight=np.ones(40))


def test_no_tensorflow_is_needed(tmp_path):
    code = f"""
import sys, tfxc
model = tfxc.XCClassifier(recipe="xr_linear").fit({TEXTS!r}, {LISTS!r})
model.save({str(tmp_path / "run")!r})
assert tfxc.XCClassifier.load({str(tmp_path / "run")!r}).predict(["red fox"]) == [["red"]]
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["[]"], done.stdout + done.stderr


# As of networks: the others run with -m slow.
SLOW = pytest.mark.slow


def checks():
    generator = estimator_checks_generator(
        XCClassifier(recipe="xr_linear"), legacy=True, expected_failed_checks=EXCLUDED
    )
    for estimator, check in generator:
        name = getattr(check, "func", check).__name__
        yield pytest.param(estimator, check, id=name, marks=[] if name in QUICK else SLOW)


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_contract(estimator, check):
    name = getattr(check, "func", check).__name__
    if name in EXCLUDED:
        pytest.skip(EXCLUDED[name])
    check(estimator)
