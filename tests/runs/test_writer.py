"""Runs that are written as a whole: they are read like those of a training, or are not there."""

import numpy as np
import pytest

from tfxc.core.config import parse_config
from tfxc.core.errors import UserError
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import build_model
from tfxc.runs.folder import RunFolder
from tfxc.runs.loaded import load_run
from tfxc.runs.writer import manifest_of, new_run, split_of

TREE = {
    "run": "-",
    "data": {"name": "made", "train": "-"},
    "encoder": {"name": "precomputed"},
    "head": {"name": "dense", "initial_std": 1.0},
    "objective": {"name": "softmax"},
}
NAMES = ["one", "two", "three"]


def write(run, model, config):
    sizes = {"feature_kind": "dense", "num_features": 5, "num_labels": len(NAMES)}
    run.write_config(config)
    manifest = manifest_of("made", split=split_of([1, 2]), **sizes)
    run.write_assets(manifest, LabelVocabulary(NAMES), np.array([1, 1, 1]))
    run.save_weights(model)
    run.write_summary({"steps": 7, "dev": {}})


@pytest.fixture
def model():
    return build_model(parse_config(TREE), feature_kind="dense", num_features=5, num_labels=3)


def test_a_run_written_as_a_whole(tmp_path, model):
    with new_run(tmp_path / "run") as run:
        assert not (tmp_path / "run").exists()
        write(run, model, parse_config(TREE))
    loaded = load_run(tmp_path / "run")
    loaded.folder.verify()
    assert loaded.vocabulary.names == NAMES and loaded.label_counts.tolist() == [1, 1, 1]
    assert loaded.folder.summary()["steps"] == 7 and loaded.config == parse_config(TREE)
    features = np.eye(5, dtype=np.float32)
    for ours, theirs in zip(
        loaded.model.find_top_k(features, 3), model.find_top_k(features, 3), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_failure_leaves_the_older_run(tmp_path, model):
    with new_run(tmp_path / "run") as run:
        write(run, model, parse_config(TREE))
    with pytest.raises(ZeroDivisionError), new_run(tmp_path / "run") as run:
        run.write_config(parse_config(TREE))
        raise ZeroDivisionError
    RunFolder(tmp_path / "run").verify()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_something_else_is_not_replaced(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="run"), new_run(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / "diary.txt").read_text() == "mine"


def test_splits_known_by_their_labels():
    split = split_of([2, 0, 1])
    assert (split.examples, split.labels, split.without_labels) == (3, 3, 1)
    assert (split.min_labels, split.max_labels) == (0, 2)
    assert split_of([]).examples == split_of(()).max_labels == 0
