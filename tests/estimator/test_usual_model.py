"""Without a parameter, the estimator trains texts as ``tfxc train FILE`` does."""

import json

import numpy as np
import pytest
from sklearn.base import clone

import tfxc
from tests.commands.calls import call
from tests.estimator.test_fitting import LISTS, SINGLE, TEXTS
from tfxc.commands import train
from tfxc.data.reading.inspection.contents import contents_of, inspect
from tfxc.data.reading.inspection.presets import model_of, usual_preset
from tfxc.estimator.classifier import XCClassifier


@pytest.fixture(scope="module")
def lists():
    """A model of lists of labels that no test changes."""
    return XCClassifier().fit(TEXTS, LISTS)


def write(path, texts, labels):
    lines = [{"text": text, "labels": list(row)} for text, row in zip(texts, labels, strict=True)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("labels", [LISTS, [[label] for label in SINGLE.tolist()]])
def test_examples_in_memory_are_what_a_file_of_them_is(tmp_path, labels):
    write(tmp_path / "my.jsonl", TEXTS, labels)
    expected = inspect(str(tmp_path / "my.jsonl"))
    found = contents_of(TEXTS, labels)
    for name in ("kind", "examples", "labels", "labels_each", "tokens", "length", "long"):
        assert getattr(found, name) == getattr(expected, name), name


def test_the_ranker_is_that_of_the_command(tmp_path, monkeypatch, capsys, lists):
    """Of the same examples and names, with the same terms, scores of the command's run; the solver
    stops early, so that their order shows.
    """
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my.jsonl", TEXTS, LISTS)
    assert call(capsys, train, "my.jsonl").code == 0
    run = tfxc.Run("runs/my")
    assert run.config.recipe.name == "xr_linear" == lists._recipe["name"]
    assert run.config.recipe.section() == {**run.config.recipe.section(), **lists._recipe}
    assert lists._recipe["label_text_rows"] and run.config.data.label_texts == "names"
    theirs = run.predict(TEXTS[:5], k=3, probabilities=False)
    ours = lists.predict_top_k(TEXTS[:5], 3, probabilities=False)
    for row in range(5):
        expected = dict(zip(theirs.labels[row], theirs.scores[row].tolist(), strict=True))
        found = dict(zip(ours.labels[row], ours.scores[row].tolist(), strict=True))
        for label in {*expected} & {*found}:
            assert found[label] == pytest.approx(expected[label], abs=1e-2), label


def test_both_give_probabilities_where_there_are_any(tmp_path, lists):
    lists.save(tmp_path / "run")
    found = lists.predict_top_k(TEXTS[:5], 3)
    expected = tfxc.Run(tmp_path / "run").predict(TEXTS[:5], k=3)
    assert type(found) is type(expected)
    assert found.labels.tolist() == expected.labels and found.scores.max() <= 1
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    again = XCClassifier.load(tmp_path / "run")
    np.testing.assert_allclose(again.predict_top_k(TEXTS[:5], 3).scores, found.scores, rtol=1e-5)
    again.fit([*TEXTS, "quite another", "quite other"], [*LISTS, ["new"], ["new"]])
    assert "new" in again.classes_
    shares = lists.predict_proba(TEXTS[:5])
    assert ((shares >= 0) & (shares <= 1)).all()


def test_what_the_user_has_chosen_is_trained(lists):
    """A parameter of networks, of texts or of the recipe makes it what it was made for."""
    assert clone(lists).set_params(epochs=1, batch_size=16).fit(TEXTS, LISTS)._recipe == {
        "name": "fit"
    }
    hashing = {"name": "hashing", "num_features": 64}  # by default, a table of many megabytes
    kept = clone(lists).set_params(text_features=hashing, epochs=1).fit(TEXTS, LISTS)
    assert kept._recipe == {"name": "fit"} and kept.text_features_.name == "hashing"
    named = XCClassifier(recipe="xr_linear", text_features="hashing").fit(TEXTS, LISTS)
    assert named.text_features_.name == "hashing", "the name alone is enough"
    section = clone(named).set_params(text_features={"name": "hashing"}).fit(TEXTS, LISTS)
    assert section.predict(TEXTS[:5]) == named.predict(TEXTS[:5])
    assert lists.get_params()["recipe"] is None and clone(lists).recipe is None
    weighted = XCClassifier().fit(TEXTS, LISTS, sample_weight=np.ones(len(TEXTS)))
    assert weighted._recipe == {"name": "fit"}, "a ranker has no weights of examples"


def test_one_label_each_is_what_the_preset_says():
    found = contents_of(TEXTS, [[label] for label in SINGLE.tolist()])
    sections = model_of(found, usual_preset(found))
    model = XCClassifier().fit(TEXTS, SINGLE)
    assert model._recipe["name"] == sections.get("recipe", {"name": "fit"})["name"]
    assert model.predict(TEXTS).tolist() == SINGLE.tolist()
    assert model.predict_proba(TEXTS).sum(axis=1) == pytest.approx(1)
