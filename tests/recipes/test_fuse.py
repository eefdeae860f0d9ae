"""Recipe 'fuse': ranker, memory and label texts, weighed by trees."""

import json
import re

import numpy as np
import pytest
import scipy.sparse

from tests import fused_runs
from tests.commands.calls import call
from tests.fused_runs import FUSE, KNOWN
from tests.recipes.test_memory import answers, dev_texts
from tfxc.commands import add_labels, remove_labels, train
from tfxc.core.errors import DataError
from tfxc.ranker.fusion.memory import MemorySettings
from tfxc.recipes.fuse import fitting
from tfxc.recipes.fuse.fitting import chosen_examples
from tfxc.runs.loaded import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fused_runs.train(tmp_path_factory.mktemp("fuse"), FUSE)


def test_finds_known_and_new_labels(run):
    assert json.loads((run / "summary.json").read_text())["dev"]["P@1"] > 0.9
    assert answers(run, [f"w{KNOWN + 1}a w{KNOWN + 1}b n4"])[0][0][0] == f"label {KNOWN + 1}"
    assert load_run(run).model.memory.trees is not None
    assert "150 of 300 training examples are held out" in (run / "log.txt").read_text()


def test_a_sum_holds_nothing_out(run):
    added = fused_runs.train(run.parent, {**FUSE, "fusion": "sum"}, "sum")
    assert load_run(added).model.memory.trees is None
    assert "held out" not in (added / "log.txt").read_text()
    assert json.loads((added / "summary.json").read_text())["dev"]["P@1"] > 0.9


def test_a_run_is_the_same_again(run, tmp_path):
    again = fused_runs.train(run.parent, FUSE, "again")
    for file in [*(run / "memory").rglob("*.npy"), *(run / "ranker").rglob("*.npy")]:
        np.testing.assert_array_equal(np.load(file), np.load(again / file.relative_to(run)))


def test_labels_come_and_go(run, tmp_path, capsys):
    (tmp_path / "texts.jsonl").write_text('{"label": "owl", "text": "owl barn night"}\n')
    arguments = (run, "--label-texts", tmp_path / "texts.jsonl", "--output", tmp_path / "more")
    assert call(capsys, add_labels, *arguments).code == 0
    assert answers(tmp_path / "more", ["barn owl n1"])[0][0][0] == "owl"
    (tmp_path / "gone.txt").write_text("owl\n")
    arguments = (
        tmp_path / "more",
        "--labels",
        tmp_path / "gone.txt",
        "--output",
        tmp_path / "less",
    )
    assert call(capsys, remove_labels, *arguments).code == 0
    assert answers(tmp_path / "less", dev_texts(run)) == answers(run, dev_texts(run))
    (tmp_path / "gone.txt").write_text("label 3\n")
    arguments = (run, "--labels", tmp_path / "gone.txt", "--output", tmp_path / "without")
    assert call(capsys, remove_labels, *arguments).code == 0
    found = answers(tmp_path / "without", ["w3a w3b", "w9a w9b"])
    assert found[1][0][0] == "label 9", "the labels behind it keep their names"
    assert "label 3" not in {name for row in found for name, _ in row}


def test_a_label_that_is_added_by_an_example(run, tmp_path, capsys):
    """The trees have learned of labels that the ranker does not know, and that have no text."""
    (tmp_path / "new.jsonl").write_text('{"text": "owl barn night", "labels": ["owl"]}\n')
    more = tmp_path / "more"
    arguments = (run, "--data", tmp_path / "new.jsonl", "--output", more)
    assert call(capsys, add_labels, *arguments).code == 0
    assert answers(more, ["night owl barn"])[0][0][0] == "owl"


@pytest.mark.parametrize(
    "options", [(), ("--format", "runtime", "--quantize", "int8", "--min-agreement", "0.9")]
)
def test_answers_alone_are_those_of_predict(run, tmp_path, capsys, options):
    texts = [*dev_texts(run), "", "unknown words"]
    here, expected = fused_runs.answers_alone(run, tmp_path, texts, capsys, *options)
    if not options:  # no rounding differs, so that none tips a branch of a tree
        assert here == expected
        return
    same = [
        one["labels"][:1] == other["labels"][:1] for one, other in zip(here, expected, strict=True)
    ]
    assert np.mean(same) > 0.95


@pytest.mark.parametrize("reads", ["first", "all"])
def test_what_the_ranker_reads(tmp_path, capsys, reads):
    """Words alone, or n-grams of characters too; here and in an export for NumPy alone."""
    features = {"name": "tfidf", "characters": [2, 4]}
    run = fused_runs.train(tmp_path, {**FUSE, "ranker_reads": reads}, text_features=features)
    loaded = load_run(run)
    words, everything = loaded.model.memory.settings.blocks[1:]
    assert loaded.model.ranker.num_features == (words if reads == "first" else everything)
    here, expected = fused_runs.answers_alone(run, tmp_path, dev_texts(run), capsys)
    assert here == expected


def test_titles_are_not_held_out_and_groups_stay_together():
    random = np.random.default_rng(0)
    titles = (random.random((20, 30)) < 0.3).astype(np.float32)
    texts = titles.copy()
    texts[:, 0] = 1  # a text is more than the title
    others = np.ones((40, 30), np.float32)
    others[:4, 1:] = 0  # in the text, but less like it than the title
    features = scipy.sparse.csr_matrix(np.concatenate([titles, others]))
    texts = scipy.sparse.csr_matrix(texts)
    labels = scipy.sparse.csr_matrix(
        (np.ones(60, np.float32), (np.arange(60), np.arange(60) % 20)), (60, 20)
    )
    settings = MemorySettings(blocks=[0, 30])
    groups = np.concatenate([np.arange(20), 100 + np.arange(40) // 4])
    chosen = chosen_examples(features, labels, texts, settings, 16, groups, seed=0)
    assert not chosen[:20].any() and chosen.sum() == 16
    assert set(np.bincount(groups[chosen])) == {0, 4}
    assert chosen_examples(features, labels, texts, settings, 30, None, 0)[20:].sum() == 30
    with pytest.raises(DataError, match="no examples that could be held out"):
        chosen_examples(features[:20], labels[:20], texts, settings, 5, None, 0)


def test_groups_of_a_file(run, tmp_path, capsys, monkeypatch):
    # The first label of the file has group 0, the second group 1, and so on.
    np.save(tmp_path / "groups.npy", np.arange(300) % KNOWN)
    recipe = {**FUSE, "groups_file": str(tmp_path / "groups.npy")}
    seen = {}

    def chosen(features, labels, texts, settings, count, groups, seed):
        seen.update(labels=labels, groups=groups)
        return chosen_examples(features, labels, texts, settings, count, groups, seed)

    monkeypatch.setattr(fitting, "chosen_examples", chosen)
    names = load_run(fused_runs.train(run.parent, recipe, "grouped")).vocabulary.names
    of_labels = [int(names[label].removeprefix("label ")) for label in seen["labels"].indices]
    assert seen["groups"].tolist() == of_labels != sorted(of_labels)
    np.save(tmp_path / "groups.npy", np.arange(7))
    config = fused_runs.write_config(run.parent, recipe, "wrong")
    prepared = ("--prepared", run.parent / "prepared")
    problem = call(capsys, train, "--config", config, *prepared).problem()
    assert "an integer for each of 300 training examples" in problem
    config = fused_runs.write_config(run.parent, recipe, "wrong", dev=None, dev_share=0.2)
    problem = call(capsys, train, "--config", config, *prepared).problem()
    assert "the dev split cannot be a part of the training file" in problem
    config = fused_runs.write_config(run.parent, {**recipe, "fusion": "sum"}, "wrong")
    problem = call(capsys, train, "--config", config, *prepared).problem()
    assert 'recipe.groups_file: with fusion "sum" nothing is held out' in problem


def test_texts_of_labels_as_examples_of_the_ranker(run):
    """They hold the words of their examples here, so they help, and new labels are trained."""
    chosen = fused_runs.train(run.parent, {**FUSE, "label_text_rows": "held_out"}, "chosen")
    line = re.search(
        r"on them: ([\d.]+), with .* ([\d.]+)$", (chosen / "log.txt").read_text(), re.M
    )
    assert float(line[1]) < float(line[2])
    given = fused_runs.train(run.parent, {**FUSE, "label_text_rows": True}, "given")
    for file in (given / "ranker").rglob("*.npy"):
        np.testing.assert_array_equal(np.load(file), np.load(chosen / file.relative_to(given)))
    ranker = load_run(given).model.ranker
    assert ranker.weights_of(fused_runs.NUM_LABELS - 1).nnz
    assert not load_run(run).model.ranker.weights_of(fused_runs.NUM_LABELS - 1).nnz


def test_a_ranker_alone_learns_from_texts_of_labels(run, capsys):
    linear = {"name": "xr_linear", "tree": FUSE["tree"], "ranker": FUSE["ranker"]}
    last = fused_runs.NUM_LABELS - 1
    for rows in (False, True):
        recipe = {**linear, "label_text_rows": rows}
        trained = load_run(fused_runs.train(run.parent, recipe, f"linear-{rows}")).model.ranker
        assert bool(trained.weights_of(last).nnz) == rows, "it has a text and no example"
    config = fused_runs.write_config(run.parent, recipe, "wrong", label_texts=None)
    problem = call(capsys, train, "--config", config).problem()
    assert "recipe.label_text_rows: it needs data.label_texts" in problem
