"""New labels for a trained linear ranker."""

import json
import shutil

import numpy as np
import pytest

from tests.commands.calls import call
from tests.folders import record_again
from tests.linear_runs import NUM_LABELS, ranker_files, texts_of
from tests.recipes import xr_texts
from tfxc.commands import add_labels, evaluate
from tfxc.data.examples.chunk import Chunk
from tfxc.inference.predictors import RunPredictor
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ranker.search import Ranker, load_layer
from tfxc.recipes.xr_transformer.recipe import XRTransformer
from tfxc.runs.loaded import load_run


def write_new(path, count=12):
    """Texts of label 3 with words of their own: they are of the new labels as well."""
    with open(path, "w") as stream:
        for number in range(count):
            new = f"new {number % 2}"
            words = ["w3a", "w3b", f"n{number % 2}", f"n{number % 2 + 10}", "w3a"]
            stream.write(json.dumps({"text": " ".join(words), "labels": [new, "label 3"]}) + "\n")


def test_new_labels(run, tmp_path, capsys):
    write_new(tmp_path / "new.jsonl")
    before = ranker_files(run)
    arguments = (run, "--data", tmp_path / "new.jsonl", "--output", tmp_path / "extended")
    outcome = call(capsys, add_labels, *arguments, "--prepared", run.parent / "prepared")
    assert outcome.code == 0 and "2 new labels (new 0, new 1)" in outcome.out
    assert ranker_files(run) == before, "the old run stays"
    extended = load_run(tmp_path / "extended")
    old_names = load_run(run).vocabulary.names
    assert extended.vocabulary.names == [*old_names, "new 0", "new 1"]
    assert extended.label_counts[-2:].tolist() == [6, 6]

    old, new = (ClusterTree.load(path / "tree.npz") for path in (run, tmp_path / "extended"))
    assert new.sizes == [*old.sizes[:-1], NUM_LABELS + 2]
    np.testing.assert_array_equal(new.parents[-1][:NUM_LABELS], old.parents[-1])
    third = old_names.index("label 3")
    leaf = old.parents[-1][third]
    assert new.parents[-1][NUM_LABELS:].tolist() == [leaf, leaf], "next to what they are like"
    assert "trained again: 1 of 8 blocks" in outcome.out

    after = ranker_files(tmp_path / "extended")
    same = [name for name in before if name.startswith(("ranker/layer-0", "ranker/layer-1"))]
    assert same and all(before[name] == after[name] for name in same)
    layers = [load_layer(path / "ranker" / "layer-2") for path in (run, tmp_path / "extended")]
    for parent in set(range(8)) - {leaf}:
        for part in zip(*(block(layer, parent) for layer in layers), strict=True):
            np.testing.assert_array_equal(*part)
    features = extended.text_features.transform(["w3a w3b n1 n11", *texts_of(run)])
    ids, _ = Ranker.load(tmp_path / "extended").predict(features, 3)
    assert NUM_LABELS + 1 in ids[0] and NUM_LABELS not in ids[0, :1]

    source = ("--run", tmp_path / "extended", "--prepared", run.parent / "prepared")
    problem = call(capsys, evaluate, *source, "--split", "dev").problem()
    assert "labels were added" in problem and "--data" in problem
    done = call(capsys, evaluate, *source, "--data", tmp_path / "new.jsonl", "--k", 2)
    assert "100.00" in done.out, "both labels of each"
    again = (tmp_path / "extended", "--data", tmp_path / "new.jsonl", "--output", tmp_path / "more")
    problem = call(capsys, add_labels, *again, "--prepared", run.parent / "prepared").problem()
    assert "Add all new labels at once" in problem


def block(layer, parent):
    """Features, entries of each, columns and values of a parent's block."""
    rows = slice(*layer.row_splits[parent : parent + 2])
    entries = layer.entry_splits[rows.start : rows.stop + 1]
    inside = slice(entries[0], entries[-1])
    return layer.rows[rows], np.diff(entries), layer.columns[inside], layer.values[inside]


# With a fixed tree the labels are added in the same way.
@pytest.mark.parametrize("fixed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_new_labels_behind_an_encoder(fixed, tmp_path, capsys):
    changes = {"do_fine_tune": False, "encoding_length": 0.5}
    changes |= {"fix_clustering": fixed, "ranker": {"negatives": "tfn+man"}}
    for name, each in (("train", 4), ("dev", 1)):
        xr_texts.write_texts(tmp_path / f"{name}.jsonl", each, 0)
    sections = {"decision": {"probabilities": "rows", "labels": "f_measure"}}
    recipe = {"name": "xr_transformer", **changes}
    context = xr_texts.work_of(tmp_path, "old", recipe=recipe, **sections)
    XRTransformer(**changes).run(context)
    texts = [f"word3 word1 word3 noise{number} word3" for number in range(8)]
    lines = [json.dumps({"text": text, "labels": ["thrice"]}) for text in texts]
    (tmp_path / "new.jsonl").write_text("\n".join(lines))
    arguments = (add_labels, context.run, "--data", tmp_path / "new.jsonl", "--prepared")
    arguments = (capsys, *arguments, tmp_path / "prepared", "--output")
    outcome = call(*arguments, tmp_path / "one")
    assert outcome.code == 0 and "trained again: 1 of 16 blocks" in outcome.out
    shutil.rmtree(context.run / "embeddings")
    assert call(*arguments, tmp_path / "two").code == 0
    one, two = (load_layer(tmp_path / name / "ranker" / "layer-2") for name in ("one", "two"))
    for mine, theirs in zip(one, two, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)

    old, extended = load_run(context.run), load_run(tmp_path / "one")
    for mine, theirs in zip(
        *(run.model.encoder.get_weights() for run in (old, extended)), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert extended.vocabulary.names == [*old.vocabulary.names, "thrice"]
    assert extended.model.has_probabilities
    found = RunPredictor(extended, 2)(Chunk(labels=[[]] * 8, texts=texts))
    assert all("thrice" in row for row in found.labels), "two of 57 labels"
    leaf = ClusterTree.load(tmp_path / "one" / "tree.npz").parents[-1][-1]
    layer = load_layer(context.run / "ranker" / "layer-2")
    for parent in set(range(16)) - {leaf}:
        for mine, theirs in zip(block(layer, parent), block(one, parent), strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("changed", "key", "value", "message"),
    [
        ("summary.json", "imported", "folder", "the run was imported without its training data"),
        (
            "config.json",
            "recipe",
            {"name": "xr_transformer", "only_encoder": True},
            "only an encoder",
        ),
        ("config.json", "recipe", {"name": "fit"}, "the run is of recipe 'fit', which has no"),
    ],
)
def test_runs_that_get_no_labels(run, changed, key, value, message, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    tree = json.loads((tmp_path / "run" / changed).read_text())
    if key == "recipe":
        parts = {"encoder": "bag_mlp", "head": "tree", "objective": "squared_hinge"}
        tree |= {part: {"name": name} for part, name in parts.items()}
    (tmp_path / "run" / changed).write_text(json.dumps({**tree, key: value}))
    record_again(tmp_path / "run")
    arguments = (tmp_path / "run", "--data", run.parent / "dev.jsonl")
    problem = call(capsys, add_labels, *arguments, "--output", tmp_path / "extended").problem()
    assert message in problem


def test_what_cannot_be_added(run, tmp_path, capsys):
    prepared = ("--prepared", run.parent / "prepared")
    arguments = (run, "--data", run.parent / "dev.jsonl", "--output", tmp_path / "extended")
    problem = call(capsys, add_labels, *arguments, *prepared).problem()
    assert "all labels are known to the run" in problem
    assert not (tmp_path / "extended").exists()
    new = tmp_path / "new.jsonl"
    write_new(new)
    little = (run, "--data", new, "--output", tmp_path / "extended", "--memory-gb", 1e-7, *prepared)
    problem = call(capsys, add_labels, *little).problem()
    assert problem.startswith("--memory-gb: 1e-07 is too little for")
    problem = call(capsys, add_labels, *arguments[:-1], run, *prepared).problem()
    assert "the folder already exists" in problem
