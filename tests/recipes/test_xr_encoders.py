"""Recipe 'xr_transformer' with other encoders, objectives and kinds of training."""

import json

import numpy as np
import pytest

from tests.commands.calls import call
from tests.encoders.hub_folders import PIECES, write_folder
from tests.recipes.xr_texts import WORDS, tree_of_config, work_of, write_texts
from tfxc.commands import encode, predict, train
from tfxc.recipes.xr_transformer.recipe import XRTransformer
from tfxc.runs.loaded import load_run


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    for name, each in (("train", 3), ("dev", 1)):
        write_texts(folder / f"{name}.jsonl", each, 0)
    return folder


@pytest.mark.slow  # the encoder: end_to_end/test_pretrained.py; the recipe: test_xr_transformer.py
def test_a_pretrained_network(texts, capsys):
    """Batches of similar length, 16 bits, true and found clusters."""
    folder = texts / "bert"
    pieces = [*PIECES, *WORDS]
    write_folder(folder, pieces=pieces, vocab_size=len(pieces), num_hidden_layers=1)
    changes = tree_of_config(texts)
    text_features = dict(changes["data"]["text_features"])
    text_features["tokens"] = {"name": "pretrained", "folder": str(folder), "max_length": 12}
    more = {"precision": "mixed_bfloat16", "group_by_length": True, "clip_norm": 1.0}
    context = work_of(
        texts,
        "pretrained",
        data={**changes["data"], "text_features": text_features},
        encoder={"name": "pretrained", "folder": str(folder)},
        training={**changes["training"], **more},
        head={**changes["head"], "max_leaf_size": 14},
        recipe={"name": "xr_transformer", "steps": 2, "only_topk": 3},
    )
    summary = XRTransformer(steps=2, only_topk=3).run(context)
    assert [level["steps"] for level in summary["levels"]] == [2, 2]
    assert np.isfinite([level["loss"] for level in summary["levels"]]).all()
    folder.rename(texts / "gone")  # a run needs its encoder's folder no longer
    (texts / "raw.txt").write_text("word3 word1\nword5 word6 noise2\n")
    asked = ("--run", context.run, texts / "raw.txt")
    lines = call(capsys, predict, *asked, "--k", 3).out.splitlines()
    assert [len(json.loads(line)["labels"]) for line in lines] == [3, 3]
    assert call(capsys, encode, *asked, "--output", texts / "raw.npy").code == 0
    vectors = np.load(texts / "raw.npy")
    assert vectors.shape == (2, 16) and not np.allclose(*vectors)


@pytest.mark.slow
def test_terms_alone(texts):
    """A bag of words in front, probabilities of clusters, two ways of finding them."""
    data = {**tree_of_config(texts)["data"], "text_features": {"name": "tfidf"}}
    arguments = {"ensemble": "round_robin", "epochs": 2, "only_topk": 3}
    context = work_of(
        texts,
        "terms",
        data=data,
        encoder={"name": "bag_mlp", "hidden": [16]},
        objective={"name": "sigmoid"},
        head={"name": "tree", "nr_splits": 4, "max_leaf_size": 14},
        recipe={"name": "xr_transformer", **arguments},
    )
    summary = XRTransformer(**arguments).run(context)
    losses = [level["loss"] for level in summary["levels"]]
    assert np.isfinite(losses).all() and summary["dev"]["P@3"] > 0.2
    assert load_run(context.run).model.linear.ranker.num_features == 20 + 16


def test_what_does_not_go_together(texts, capsys):
    config = texts / "softmax.json"
    changes = {"objective": {"name": "softmax"}}
    config.write_text(json.dumps(tree_of_config(texts, "softmax", **changes)))
    asked = (train, "--config", config, "--prepared", texts / "prepared")
    problem = call(capsys, *asked, "--set", "recipe.ensemble=average").problem()
    assert problem.startswith(
        "recipe.ensemble: 'average' needs an objective that scores each cluster"
    )
    more = ("--set", "training.group_by_length=true", "--set", "training.memory_gb=1e-9")
    problem = call(capsys, *asked, *more).problem()
    assert problem.startswith("training.group_by_length: only token lists")
    problem = call(capsys, *asked, "--set", "recipe.threshold=-1").problem()
    assert problem.startswith("recipe.threshold: must be a number of at least 0, not -1")
