"""The estimator: probabilities, weights, validation, nested parameters, images, loading."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ShuffleSplit, cross_validate

from tests.small_runs import make_run
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.messages import NOTES
from tfxc.estimator.classifier import XCClassifier

TEXTS = ["red fox", "blue sea", "red rose", "deep blue", "green sea"] * 8
LISTS = [["red", "animal"], ["blue", "water"], ["red"], ["blue"], ["green", "water"]] * 8
SINGLE = np.array(["fox", "sea", "rose", "deep", "sea"] * 8)
MATRIX = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)


def small(**settings):
    return XCClassifier(**{"epochs": 20, "batch_size": 16, **settings})


@pytest.fixture(scope="module")
def single():
    return small(objective="softmax").fit(TEXTS, SINGLE)


@pytest.fixture(scope="module")
def several():
    return small().fit(TEXTS, LISTS)


def test_scores_and_probabilities_of_one_class(single):
    scores, found = single.decision_function(TEXTS[:5]), single.predict_proba(TEXTS[:5])
    assert scores.shape == found.shape == (5, 4)
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert single.classes_[found.argmax(1)].tolist() == single.predict(TEXTS[:5]).tolist()
    best, likely = single.predict_top_k(TEXTS[:5], 2, probabilities=True)
    np.testing.assert_allclose(likely, -np.sort(-found, 1)[:, :2], atol=1e-6)
    assert best[:, 0].tolist() == single.predict(TEXTS[:5]).tolist()


def test_scores_and_probabilities_of_several_classes(several):
    scores, found = several.decision_function(TEXTS[:5]), several.predict_proba(TEXTS[:5])
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-scores)), atol=1e-5)
    predicted = [{several.classes_[n] for n in np.flatnonzero(row >= 0)} for row in scores]
    assert predicted == [set(row) for row in several.predict(TEXTS[:5])]


def test_two_classes_by_a_sigmoid():
    y = (MATRIX[:, 0] > 0).astype(int)
    model = small(learning_rate=0.05).fit(MATRIX, y)
    scores, found = model.decision_function(MATRIX), model.predict_proba(MATRIX)
    assert scores.shape == (60,) and found.shape == (60, 2)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(scores, np.log(found[:, 1] / found[:, 0]), atol=1e-4)
    assert ((scores > 0) == model.predict(MATRIX)).all()
    assert (found.argmax(1) == model.predict(MATRIX)).all()


def test_a_search_by_a_beam_finds_all_classes_and_margins_are_no_probabilities():
    mhc = small(head={"name": "mhc", "heads": [2, 2], "beam": 1}, objective="softmax", epochs=1)
    assert np.isfinite(mhc.fit(TEXTS, SINGLE).decision_function(TEXTS)).all()
    with pytest.raises(ConfigError, match="probabilities"):
        small(objective="hinge", epochs=1).fit(TEXTS, SINGLE).predict_proba(TEXTS)


def test_weights_of_examples_decide():
    """The same examples with contradicting labels: the heavier ones win."""
    texts, y = ["one", "two"] * 10 + ["one", "two"] * 10, ["a", "b"] * 10 + ["b", "a"] * 10
    weights = np.repeat([9.0, 1.0], 20)
    for factors, expected in ((weights, ["a", "b"]), (weights[::-1], ["b", "a"])):
        model = small(objective="softmax").fit(texts, y, sample_weight=factors)
        assert model.predict(["one", "two"]).tolist() == expected
    same = [
        small(epochs=2).fit(texts, y, sample_weight=given).decision_function(["one"])
        for given in (None, np.full(40, 3.0))
    ]
    np.testing.assert_allclose(*same, atol=1e-6)
    with pytest.raises(DataError, match="sample_weight: all weights are 0"):
        small().fit(texts, y, sample_weight=np.zeros(40))
    for wrong in (np.ones(3), -np.ones(40), np.full(40, np.nan)):
        with pytest.raises(DataError, match=r"sample_weight: (the weights have shape|a weight is)"):
            small().fit(texts, y, sample_weight=wrong)
    with pytest.raises(ConfigError, match="objective SCENT does not weigh examples"):
        small(objective="scent", head="sampled").fit(texts, y, sample_weight=weights)


def test_weights_of_classes():
    model = small(objective="softmax", class_weight={"fox": 5.0}, epochs=2)
    model.fit(TEXTS, SINGLE)
    weights = model._fitted.model.objective.label_weights.numpy().tolist()
    assert dict(zip(model.classes_.tolist(), weights, strict=True))["fox"] == 5.0
    assert sorted(weights) == [1.0, 1.0, 1.0, 5.0]
    balanced = small(objective="softmax", class_weight="balanced", epochs=1).fit(TEXTS, SINGLE)
    weights = balanced._fitted.model.objective.label_weights.numpy()
    expected = 40 / (4 * np.unique(SINGLE, return_counts=True)[1])
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    with pytest.raises(ConfigError, match="class_weight: 'wolf' is not a class in y"):
        small(objective="softmax", class_weight={"wolf": 2}).fit(TEXTS, SINGLE)


def test_validation_and_early_stopping():
    others = ["red fox", "unknown words"], ["fox", "never seen"]
    model = small(objective="softmax", early_stopping=2, epochs=40)
    model.fit(TEXTS, SINGLE, validation_data=others)
    assert model.validation_metrics_["P@1"] == 0.5
    assert model._fitted.summary["epochs"] < 40
    plain = small(epochs=1).fit(TEXTS, LISTS, validation_data=(TEXTS[:2], LISTS[:2]))
    assert 0 <= plain.validation_metrics_["P@1"] <= 1
    assert small(epochs=1).fit(TEXTS, LISTS).validation_metrics_ == {}
    with pytest.raises(ConfigError, match="early_stopping needs validation_data"):
        small(early_stopping=2).fit(TEXTS, SINGLE)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        small(epochs=1).fit(TEXTS, SINGLE, validation_data=(TEXTS[:2], SINGLE[:3]))


def test_nested_parameters():
    model = small(head="mach").set_params(
        head__num_buckets=5, head__num_repetitions=3, text_features__min_df=2, epochs=2
    )
    assert model.head == {"name": "mach", "num_buckets": 5, "num_repetitions": 3}
    assert model.text_features == {"name": "tfidf", "min_df": 2}
    assert model.get_params()["head__num_buckets"] == 5 and model.epochs == 2
    assert "head__num_buckets" not in model.get_params(deep=False)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(ValueError, match="Invalid parameter 'wings'"):
        model.set_params(wings__number=2)
    with pytest.raises(ConfigError, match="no argument 'num_bucket', did you mean 'num_buckets'"):
        small(head="mach").set_params(head__num_bucket=4).fit(TEXTS, SINGLE)


def test_scikit_learns_searches_and_scorers():
    Y = np.stack([MATRIX[:, 0] > 0, MATRIX[:, 1] > 0, MATRIX[:, 2] > 0.5], 1).astype(int)
    model = small(epochs=15, learning_rate=0.05)
    once = ShuffleSplit(1, test_size=0.5, random_state=0)
    found = cross_validate(model, MATRIX, Y, cv=once, scoring=["f1_micro", "accuracy"])
    assert (found["test_f1_micro"] > 0.5).all() and found["test_accuracy"].max() <= 1
    grid = {"encoder__hidden": [[4], [8]]}
    small_one = small(encoder={"name": "bag_mlp"}, epochs=2)
    search = GridSearchCV(small_one, grid, cv=once, scoring="roc_auc_ovr", refit=False)
    search.fit(MATRIX, MATRIX[:, :3].argmax(1))
    assert search.best_params_["encoder__hidden"] in ([4], [8])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_images(tmp_path):
    draw = np.random.default_rng(0)
    y = np.arange(24) % 2
    X = (draw.integers(0, 40, (24, 6, 6, 1)) + 180 * y[:, None, None, None]).astype(np.uint8)
    model = small(encoder={"name": "resnet", "depth": 10, "width": 4}, objective="softmax",
                  epochs=6, batch_size=8)  # fmt: skip
    assert model.fit(X, y).score(X, y) > 0.9
    model.save(tmp_path / "run")
    loaded = XCClassifier.load(tmp_path / "run")
    np.testing.assert_allclose(loaded.predict_proba(X), model.predict_proba(X), atol=1e-6)
    with pytest.raises(DataError, match=r"Pass a uint8 array \(n, 6, 6, 1\)"):
        model.predict(X[:, :5])
    with pytest.raises(DataError, match=r"an array of float64 .*height, width, 1 or 3\)"):
        clone(model).fit(X.astype(float), y)


def test_loaded_is_what_was_saved(single, several, tmp_path):
    for name, model in (("single", single), ("several", several)):
        model.save(tmp_path / name)
        loaded = XCClassifier.load(tmp_path / name)
        assert list(loaded.predict(TEXTS)) == list(model.predict(TEXTS))
        again = pickle.loads(pickle.dumps(loaded))
        np.testing.assert_array_equal(
            again.decision_function(TEXTS), loaded.decision_function(TEXTS)
        )
        loaded.save(tmp_path / f"{name}-again")
        assert XCClassifier.load(tmp_path / f"{name}-again").predict(TEXTS[:1]) == loaded.predict(
            TEXTS[:1]
        )
    parts = {"head": {"name": "dense"}, "recipe": {"name": "kfold", "folds": 2}}
    path = make_run(tmp_path / "folds", text_features={"name": "tfidf"}, **parts)
    with pytest.raises(
        ConfigError,
        match=r"needs a run of recipe 'fit' or 'distill' or 'xr_linear', not of 'kfold'",
    ):
        XCClassifier.load(path)


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": {"name": "bag_mlp", "hidden": [4], "dropout": 0.5}, "epochs": 1.5,
         "batch_size": 8, "learning_rate": 0.03, "early_stopping": 2, "random_state": 7,
         "class_weight": {"red": 3.0}, "text_features": {"name": "tfidf", "min_df": 2},
         "techniques": [{"name": "ema", "decay": 0.9}]},
        {"recipe": {"name": "xr_linear", "tree": {"nr_splits": 2, "max_leaf_size": 2}},
         "random_state": 7},
    ],
    ids=["fit", "xr_linear"],
)  # fmt: skip
def test_a_clone_of_a_loaded_one_trains_the_same(tmp_path, settings):
    data = {"validation_data": (TEXTS[:10], LISTS[:10])}
    model = XCClassifier(**settings).fit(TEXTS, LISTS, **data)
    model.save(tmp_path / "run")
    again = clone(XCClassifier.load(tmp_path / "run"))
    for name in ("epochs", "batch_size", "learning_rate", "early_stopping", "random_state"):
        assert getattr(again, name) == getattr(model, name)
    again.fit(TEXTS, LISTS, **data)
    np.testing.assert_array_equal(model.decision_function(TEXTS), again.decision_function(TEXTS))


def test_a_loaded_one_knows_the_width_of_its_features(tmp_path):
    small(epochs=1).fit(MATRIX, MATRIX[:, 0] > 0).save(tmp_path / "run")
    loaded = XCClassifier.load(tmp_path / "run")
    assert loaded.n_features_in_ == 6
    with pytest.raises(ValueError, match="X has 5 features, but XCClassifier is expecting 6"):
        loaded.predict(MATRIX[:, :5])


def as_written(matrix):
    """A CSR matrix whose rows end with the first column, once more, and a 0; and its arrays."""
    matrix = scipy.sparse.csr_matrix(matrix)
    parts = [
        (np.r_[row.indices[::-1], row.indices[:1], 0], np.r_[row.data[::-1], 0, 0])
        for row in matrix
    ]
    indices, values = map(np.concatenate, zip(*parts, strict=True))
    bounds = matrix.indptr + 2 * np.arange(len(matrix.indptr), dtype=np.int32)
    found = scipy.sparse.csr_matrix((values, indices, bounds), matrix.shape)
    for array in (found.data, found.indices, found.indptr):
        array.flags.writeable = False
    return found, [array.copy() for array in (found.data, found.indices, found.indptr)]


@pytest.mark.parametrize("recipe", ["fit", "xr_linear"])
def test_nothing_of_the_callers_is_changed(recipe):
    X, before = as_written(np.abs(MATRIX[:12]))
    y, wanted = as_written(np.eye(3, dtype=np.int64)[np.arange(12) % 3])
    model = XCClassifier(recipe=recipe) if recipe != "fit" else small(epochs=1)
    model.fit(X, y, validation_data=(X, y)).score(X, y)
    for matrix, arrays in ((X, before), (y, wanted)):
        for array, given in zip((matrix.data, matrix.indices, matrix.indptr), arrays, strict=True):
            np.testing.assert_array_equal(array, given)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[0, 1, 0], [1, 0, 0]] * 6, "lists of the labels 0 and 1; if it is a binary matrix"),
        (["a", "b", "a|b"] * 4, "1 of 3 label names look like several"),
        ([["a"], ["b"], ["a|b"]] * 4, "1 of 3 label names look like several"),
    ],
)
def test_labels_that_may_mean_others_are_warned_about(y, message):
    with pytest.warns(UserWarning, match=message) as record:
        small(epochs=1).fit(MATRIX[:12], y)
    assert [each.filename for each in record if message in str(each.message)] == [__file__]


def test_zeros_and_ones_in_other_forms_are_not_warned_about():
    rows = [[0, 1, 0], [1, 0, 0]] * 6
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        small(epochs=1).fit(MATRIX[:12], np.array(rows))
        small(epochs=1).fit(MATRIX[:12], [[0], [1]] * 6)


def test_classes_that_no_file_can_name_are_noted(tmp_path, caplog):
    texts = ["red fox", "blue sea", "red rose", "deep blue"] * 5
    for names, noted in ((["1.0", "2.1", "1.0", "2.1"], True), (["1", "2.1", "1", "2.1"], False)):
        classifier = XCClassifier(recipe="xr_linear").fit(texts, names * 5)
        caplog.clear()
        with caplog.at_level("WARNING", NOTES.name):
            classifier.save(tmp_path / names[0])
        assert ("1 classes have names that no file can give them, as '1.0'" in caplog.text) is noted
