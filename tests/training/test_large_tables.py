"""Trainings whose tables are started, saved and restored in pieces, as if they were large."""

import shutil

import numpy as np
import pytest

from tests import tiny
from tests.faults.test_checkpoints import flip
from tests.training.test_resume import Killed, dies_after
from tfxc.core.errors import CheckpointError
from tfxc.inference.search_options import SearchOptions
from tfxc.ops.tables import large_weights
from tfxc.runs.loaded import load_run

SECTIONS = {
    "head": {"name": "sampled", "bias": True},
    "objective": {"name": "softmax"},
    "techniques": [{"name": "ema", "decay": 0.9, "every": 3}],
    "training": {"keep_checkpoints": 2},
}
PIECE = 32 * 4 * 7  # seven labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run that was killed, in pieces."""
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(large_weights, "_PIECE", PIECE)
        tiny.train(folder, "killed", dies_after(17), **SECTIONS)
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """All variables of an uninterrupted run in one piece, and the model's weights by step."""
    trainer = tiny.train(folder, "whole", **SECTIONS)
    return tiny.weights(trainer), {step: weights_of(folder / "whole", step) for step in (None, 35)}


@pytest.fixture
def pieces(monkeypatch):
    monkeypatch.setattr(large_weights, "_PIECE", PIECE)


def weights_of(run, step=None):
    return [
        variable.numpy().copy()
        for variable in load_run(run, options=SearchOptions(step=step)).model.variables
    ]


def same(one, other):
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_killed_and_resumed_in_pieces_equals_whole(folder, whole, pieces):
    shutil.copytree(folder / "killed", folder / "resumed")
    assert (folder / "resumed/checkpoints/ckpt-14.tables.index").exists()
    same(whole[0], tiny.weights(tiny.train(folder, "resumed", **SECTIONS)))
    for step, expected in whole[1].items():
        same(expected, weights_of(folder / "resumed", step))


def test_a_checkpoint_with_damaged_tables_is_skipped(folder, whole, pieces):
    shutil.copytree(folder / "killed", folder / "damaged")
    flip(folder / "damaged/checkpoints/ckpt-14.tables.data-00000-of-00001")
    found = tiny.train(folder, "damaged", **SECTIONS)
    log = (folder / "damaged/log.txt").read_text()
    assert "ckpt-14: skipped: ckpt-14.tables.data-00000-of-00001 is damaged" in log
    same(whole[0], tiny.weights(found))


def test_tables_are_not_read_into_another_model(folder):
    """Without pieces, the variables are expected elsewhere."""
    shutil.copytree(folder / "killed", folder / "other")
    with pytest.raises(CheckpointError, match=r"ckpt-14: does not contain this model's variables"):
        tiny.train(folder, "other", **SECTIONS)
