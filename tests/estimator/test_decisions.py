"""``XCClassifier.predict`` and ``tfxc evaluate --tables`` predict the same labels of a run."""

import itertools
import json
import typing

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from tests.estimator.test_estimator import LISTS, TEXTS, small
from tests.exports.methods import head_of
from tests.small_runs import NAMES, make_run
from tests.small_runs import TEXTS as EXAMPLES
from tfxc.core import registry
from tfxc.core.settings import DecisionSettings
from tfxc.data.examples.chunk import Chunk
from tfxc.estimator.classifier import XCClassifier
from tfxc.heads.mach import Aggregate
from tfxc.inference.deciding import Examined
from tfxc.inference.predictors import RunPredictor
from tfxc.reports.measurement import Measurement
from tfxc.runs.loaded import load_run
from tfxc.training.deciding import decide

AGGREGATES = typing.get_args(Aggregate)

LINKS = ("sigmoid", "softmax", "hinge")  # each has an objective of its name
HEADS = [{**head_of(name)} for name in registry.names("head") if name not in ("mach", "label_text")]
HEADS += [{**head_of("mach"), "aggregate": aggregate} for aggregate in AGGREGATES]
SOFTMAX = {"name": "softmax"}
LEARNED = {"probabilities": "rows", "labels": "f_measure"}
LABELS = [["soup", "tea"], ["e"], [], ["tea", "日本", "0"], ["1"]]


def write_examples(folder, examples, labels):
    lines = [json.dumps({"text": t, "labels": y}) for t, y in zip(examples, labels, strict=True)]
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measured(folder, examples, labels, loaded=None):
    """The metric of the decisions that the tables have."""
    write_examples(folder, examples, labels)
    loaded = loaded or load_run(folder / "run")
    measurement = Measurement(data=str(folder / "examples.jsonl"))
    decisions = measurement.decisions(loaded)
    _, rows = measurement.examples(loaded)
    measurement.update(loaded, rows, measurement.metrics(loaded), decisions)
    return decisions.per_label.classification


def averages(classification):
    found = classification.result()
    return [found[f"micro-{value}"] for value in ("precision", "recall", "F1")]


def by_prediction(model, examples, labels):
    """The same from what the estimator predicts."""
    truth, predicted = (
        np.array([[name in row for name in model.classes_] for row in rows])
        for rows in (labels, model.predict(examples))
    )
    found = precision_recall_fscore_support(truth, predicted, average="micro", zero_division=0)
    return list(found[:3])


SAYINGS = [" ".join(f"{first} {second}".split()[::2]) for first in EXAMPLES for second in EXAMPLES]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: "-".join(map(str, head.values())))
def test_what_every_head_has_learned_to_decide(tmp_path, head):
    """The best two labels are the true ones: neither none nor all are then predicted."""
    make_run(tmp_path / "run", text_features={"name": "tfidf"}, head=head, objective=SOFTMAX)
    loaded = load_run(tmp_path / "run")
    lists = RunPredictor(loaded, len(NAMES))(Chunk(labels=[[]] * len(SAYINGS), texts=SAYINGS))
    best = [row[:2] for row in lists.labels]
    write_examples(tmp_path, SAYINGS, best)
    examples = Measurement(data=str(tmp_path / "examples.jsonl")).examples(loaded)[1]
    section = DecisionSettings.model_validate(LEARNED)
    decide(loaded, [Examined(loaded.model, examples, loaded.vocabulary.names)], section)
    found = by_prediction(XCClassifier.load(tmp_path / "run"), SAYINGS, best)
    assert found == pytest.approx(averages(measured(tmp_path, SAYINGS, best, loaded)))
    assert found[2] > 0.95


def _pairs():
    """Every head with one of the links, in turn; the others are slow."""
    for number, (head, link) in enumerate(itertools.product(HEADS, LINKS)):
        quick = number % len(LINKS) == number // len(LINKS) % len(LINKS)
        name = "-".join(map(str, (*head.values(), link)))
        yield pytest.param(head, link, id=name, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("head", "link"), list(_pairs()))
def test_every_head_link_and_aggregate(tmp_path, head, link):
    make_run(tmp_path / "run", text_features={"name": "tfidf"}, head=head, objective={"name": link})
    model = XCClassifier.load(tmp_path / "run")
    found = by_prediction(model, EXAMPLES, LABELS)
    assert found == pytest.approx(averages(measured(tmp_path, EXAMPLES, LABELS)))


MHC = {"name": "mhc", "heads": [12, 10], "beam": 1, "initial_std": 3.0}
TREE = {**head_of("tree"), "beam": 1, "initial_std": 3.0}


# A threshold and a head have nothing to do with each other.
@pytest.mark.parametrize(
    ("head", "threshold"),
    [
        pytest.param(MHC, -4.79, id="mhc--4.79"),
        pytest.param(TREE, None, id="tree-None"),
        pytest.param(MHC, None, id="mhc-None", marks=pytest.mark.slow),
        pytest.param(TREE, -4.79, id="tree--4.79", marks=pytest.mark.slow),
    ],
)
def test_a_narrow_beam_is_as_wide_as_in_an_evaluation(tmp_path, head, threshold):
    names = [f"label {number}" for number in range(120)]
    make_run(
        tmp_path / "run", text_features={"name": "tfidf"}, head=head, names=names,
        objective={"name": "softmax"}, evaluation={"threshold": threshold},
    )  # fmt: skip
    model = XCClassifier.load(tmp_path / "run")
    _, predicted, _ = measured(tmp_path, EXAMPLES, [names[:1]] * 5).per_label()
    found = np.bincount([names.index(name) for row in model.predict(EXAMPLES) for name in row])
    assert found.tolist() == predicted[: len(found)].tolist() and found.sum() == predicted.sum()


LABEL_TEXT = {"name": "label_text", "columns": "all", "positives": None}
NARROW = {"ranker": {"only_topk": 1}, "tree": {"nr_splits": 2, "max_leaf_size": 2}}


@pytest.mark.parametrize(
    "settings",
    [
        {"head": {"name": "mhp", "heads": [3, 2]}},
        {"head": LABEL_TEXT, "label_texts": "names", "epochs": 1},
        {"head": LABEL_TEXT, "label_texts": "names", "epochs": 1, "decision": LEARNED},
        {"threshold": -1.0, "epochs": 1},
        {"recipe": {"name": "xr_linear", **NARROW}, "threshold": 0.01},
    ],
    ids=["mhp", "label_text", "decided", "threshold", "xr_linear"],
)
def test_a_trained_and_saved_one(tmp_path, settings):
    """As fitted, as loaded, and as the run's tables have it; a row may have no label at all."""
    model = XCClassifier(**settings) if "recipe" in settings else small(**settings)
    labels = [*LISTS[:4], []]
    model.fit(TEXTS, LISTS, validation_data=(TEXTS, LISTS) if "decision" in settings else None)
    model.save(tmp_path / "run")
    found = by_prediction(model, TEXTS[:5], labels)
    assert found == pytest.approx(averages(measured(tmp_path, TEXTS[:5], labels)))
    loaded = XCClassifier.load(tmp_path / "run")
    assert loaded.threshold == model.threshold
    assert loaded.predict(TEXTS[:5]) == model.predict(TEXTS[:5])
    assert any(loaded.predict(TEXTS[:5]))


def test_lists_of_one_label_each_are_single_label():
    """As ``evaluate`` has it: the best label alone, whatever its probability."""
    model = small(epochs=1).fit(TEXTS, [row[:1] for row in LISTS])
    assert [len(row) for row in model.predict(TEXTS[:5])] == [1] * 5
