"""The estimator with texts of its classes."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from tfxc import XCClassifier
from tfxc.core.errors import ConfigError, DataError
from tfxc.runs.loaded import load_run
from tfxc.runs.new_labels import add_labels_by_text

TEXTS = ["red fox", "blue sea", "red rose", "deep blue"] * 8
LISTS = [["red", "animal"], ["blue"], ["red"], ["blue"]] * 8
NAMES = {"red": "red", "blue": "blue", "animal": "a fox or a lamb", "flower": "a rose"}
TRAINED = {label: NAMES[label] for label in ("red", "blue", "animal")}


def estimator(label_texts=NAMES, head="label_text", epochs=5, **more):
    return XCClassifier(
        head=head,
        objective="decoupled_softmax",
        label_texts=label_texts,
        epochs=epochs,
        batch_size=16,
        **more,
    )


@pytest.fixture(scope="module")
def fitted():
    return estimator().fit(TEXTS, LISTS)


def test_a_class_without_an_example_is_found_by_its_text(fitted):
    assert fitted.classes_.tolist() == ["animal", "blue", "red", "flower"]
    best, _ = fitted.predict_top_k(["a rose", "deep blue", "a fox"], k=1)
    assert best[:, 0].tolist() == ["flower", "blue", "animal"]


def test_the_best_label_alone_unless_there_is_a_threshold(fitted):
    assert fitted.predict(["a rose"]) == [["flower"]]
    fitted.set_params(threshold=-100.0)
    try:
        assert len(fitted.predict(["a rose"])[0]) == 4
    finally:
        fitted.set_params(threshold=None)


def test_with_a_bias_each_label_is_decided_on():
    head = {"name": "label_text", "columns": "all", "positives": None, "score_bias": -10.0}
    model = estimator(head=head, label_texts=TRAINED, epochs=60, learning_rate=0.05)
    model.set_params(objective="sigmoid").fit(TEXTS, LISTS)
    found = model.predict(TEXTS[:4])
    assert [set(labels) for labels in found] == [set(labels) for labels in LISTS[:4]]


def test_a_pickled_and_a_saved_one_answer_alike(fitted, tmp_path):
    wanted = fitted.predict_top_k(TEXTS[:4], k=4)
    fitted.save(tmp_path / "run")
    loaded = XCClassifier.load(tmp_path / "run")
    assert loaded.label_texts == NAMES
    for other in (pickle.loads(pickle.dumps(fitted)), loaded):
        for one, found in zip(wanted, other.predict_top_k(TEXTS[:4], k=4), strict=True):
            np.testing.assert_array_equal(one, found)
    loaded.save(tmp_path / "again")
    assert XCClassifier.load(tmp_path / "again").label_texts == NAMES
    assert clone(loaded).set_params(epochs=1).fit(TEXTS, LISTS).classes_.tolist()[-1] == "flower"


def test_a_saved_one_takes_labels_by_their_texts(fitted, tmp_path):
    fitted.save(tmp_path / "run")
    (tmp_path / "new.jsonl").write_text('{"label": "water", "text": "the deep sea"}\n')
    add_labels_by_text(load_run(tmp_path / "run"), tmp_path / "new.jsonl", tmp_path / "more")
    found = XCClassifier.load(tmp_path / "more")
    assert found.predict_top_k(["the deep sea"], k=1)[0].tolist() == [["water"]]
    assert found.label_texts == {**NAMES, "water": "the deep sea"}


def test_names_of_single_classes():
    found = estimator("names").fit(TEXTS, ["fox", "sea", "red_rose", "blue"] * 8)
    assert found.predict(["a red rose", "sea"]).tolist() == ["red_rose", "sea"]


def test_text_features_learn_from_the_texts_of_trained_classes_only(fitted):
    terms = fitted.text_features_.transform(["lamb", "a", "zebra"])
    known = np.diff(terms.indptr).tolist()
    assert known[0] == 1 and known[2] == 0
    unknown = {**NAMES, "stripes": "zebra"}
    found = estimator(unknown).fit(TEXTS, LISTS)
    assert not found.text_features_.transform(["zebra"]).nnz


def test_wrong_labels_that_are_searched_for():
    head = {"name": "label_text", "mined": 1, "mined_candidates": 2, "mine_from": 1, "refresh": 1}
    plain = estimator(TRAINED).fit(TEXTS, LISTS, validation_data=(TEXTS, LISTS))
    mined = estimator(TRAINED, {**head, "batching": "near", "near_size": 4}).fit(TEXTS, LISTS)
    assert plain.validation_metrics_["P@1"] > 0.9
    assert not np.array_equal(plain.decision_function(TEXTS), mined.decision_function(TEXTS))


def test_weights_of_classes_begin_with_their_texts():
    found = [
        XCClassifier(head={"name": "dense", "start": start}, label_texts=texts, epochs=0.5)
        .fit(TEXTS, LISTS)
        .decision_function(TEXTS)
        for start, texts in (("label_texts", TRAINED), ("uniform", None))
    ]
    assert not np.array_equal(*found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_texts": None}, "reads texts of the classes, and there are none"),
        ({"label_texts": {"red": "red"}}, "no text for 'animal', 'blue'"),
        ({"label_texts": {**NAMES, "x": " "}}, "the text of class 'x' is ' '"),
        ({"label_texts": 3}, "3 is neither 'names' nor a dict of texts by class"),
        ({"head": "dense"}, "head 'dense' does not use texts of the classes"),
        ({"head": {"name": "dense", "start": "label_texts"}}, "that y does not have: 'flower'"),
    ],
)
def test_wrong_texts_are_refused(changes, message):
    with pytest.raises(ConfigError, match=r"^label_texts: ") as error:
        estimator(**changes).fit(TEXTS, LISTS)
    assert message in str(error.value)


def test_other_kinds_of_classes_and_examples_are_refused():
    with pytest.raises(ConfigError, match="'four' are of another kind than those of y, such as 0"):
        estimator({0: "a", 1: "b", "four": "c"}).fit(TEXTS, [0, 1] * 16)
    with pytest.raises(DataError, match="X: label_texts need texts"):
        estimator({0: "a", 1: "b"}).fit(np.eye(4), [0, 1] * 2)
    with pytest.raises(ConfigError, match="texts of classes that y does not have: 3"):
        estimator({0: "a", 1: "b", 2: "c", 3: "d"}).fit(TEXTS[:3], np.eye(3, dtype=int))


def test_a_linear_ranker_has_no_use_for_them():
    with pytest.raises(ConfigError, match=r"^label_texts: recipe 'xr_linear' does not use"):
        XCClassifier(recipe="xr_linear", label_texts=NAMES).fit(TEXTS, LISTS)
