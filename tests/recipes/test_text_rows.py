"""Texts of labels that are examples of a linear ranker where held-out examples gain by it."""

import json
import re

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call
from tfxc.commands import train
from tfxc.estimator.classifier import XCClassifier
from tfxc.recipes.xr_linear.training import text_rows_gain
from tfxc.runs.loaded import load_run

LABELS = [
    f"{name}{part}" for name in ("apple", "river", "stone", "cloud") for part in "abcdefghijklmno"
]


def examples(names_own, count=150):
    """Texts that name their label, or another one that is never theirs, and say hardly more."""
    random = np.random.default_rng(0)
    texts, labels = [], []
    for number in range(count):
        label = number % len(LABELS)
        named = LABELS[label] if names_own else LABELS[(label + 1) % len(LABELS)]
        sign = f"s{label}" if random.random() < (0.3 if names_own else 0.9) else "x"
        texts.append(f"{named} {sign} n{random.integers(300)} m{random.integers(300)}")
        labels.append(LABELS[label])
    return texts, labels


@pytest.mark.parametrize("names_own", [True, False])
def test_names_are_taken_where_they_help(tmp_path, monkeypatch, capsys, names_own):
    monkeypatch.chdir(tmp_path)
    texts, labels = examples(names_own)
    rows = zip(texts, labels, strict=True)
    lines = [json.dumps({"text": text, "labels": [label]}) for text, label in rows]
    (tmp_path / "my.jsonl").write_text("\n".join(lines) + "\n")
    outcome = call(capsys, train, "my.jsonl")
    assert outcome.code == 0, outcome.err
    said = re.findall(r"change P@1 by ([+-][\d.]+): they are (taken|left out)", outcome.out)
    gains = [float(gain) for gain, _ in said]
    assert len(said) == 6, "of five folds and the training on all"
    assert gains[-1] == pytest.approx(np.mean(gains[:-1]), abs=0.11), "their mean decides"
    assert (gains[-1] > 2) == names_own
    assert all(
        (what == "taken") == (gain >= 2) for gain, (_, what) in zip(gains, said, strict=True)
    )
    model = XCClassifier().fit(texts, labels)
    assert model._recipe["label_text_rows"] == "held_out"
    assert (model._fitted._example_texts is not None) == names_own
    # A label's name alone is its own only where it was an example.
    run = load_run("runs/my")
    ids, _ = run.model.ranker.predict(run.text_features.transform(LABELS), 1)
    own = np.mean(
        [run.vocabulary.names[i] == name for i, name in zip(ids[:, 0], LABELS, strict=True)]
    )
    assert (own > 0.9) == names_own


def test_workers_see_what_is_trained(tmp_path):
    """Both ways are in the run folder, which the workers of a cluster see, and leave nothing."""

    class SeenError(Exception):
        pass

    def train(folder, features, labels):
        assert folder.path.parent == tmp_path and features.shape[0] == labels.shape[0] == 8
        raise SeenError

    matrix = scipy.sparse.identity(10, np.float32, "csr")
    with pytest.raises(SeenError):
        text_rows_gain(train, matrix, matrix, matrix, 0, tmp_path)
    assert not list(tmp_path.iterdir())


def test_titles_are_not_measured(tmp_path):
    """They would be found by their text alone."""
    seen = []

    class SeenError(Exception):
        pass

    def train(folder, features, labels):
        seen.append(features)
        raise SeenError

    random = np.random.default_rng(0)
    texts = scipy.sparse.csr_matrix(np.triu(np.ones((40, 40), np.float32)))
    others = scipy.sparse.csr_matrix(random.random((400, 40)).astype(np.float32) + 0.1)
    features = scipy.sparse.vstack([texts, others], format="csr")
    labels = scipy.sparse.csr_matrix(
        (np.ones(440, np.float32), (np.arange(440), np.arange(440) % 40)), (440, 40)
    )
    with pytest.raises(SeenError):
        text_rows_gain(train, features, labels, texts, 0, tmp_path)
    (rest,) = seen
    assert rest.shape[0] == 360  # the 40 titles, and four fifths of the others
    np.testing.assert_array_equal(rest[:40].toarray(), texts.toarray())
