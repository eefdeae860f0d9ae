"""Checkpoints that are damaged, unfinished or of something else; steps that must not be saved."""

import json
import math
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.contracts.technique import TinyTraining, eagerly, tiny_model
from tests.training.test_resume import Killed, dies_after
from tfxc.core.errors import CheckpointError, NonFiniteLossError
from tfxc.core.storage.reading import checksum
from tfxc.data.examples.kinds import SPARSE
from tfxc.heads.dense import Dense
from tfxc.model import XCModel, example_features
from tfxc.objectives.softmax import Softmax
from tfxc.runs.folder import RunFolder
from tfxc.training.checkpoints import Checkpoints


def saved(folder, *steps, **more):
    """``Checkpoints`` of two variables that hold the step, after saves at these steps."""
    variables = [tf.Variable(tf.zeros(300)), tf.Variable(0, dtype=tf.int64)]
    checkpoints = Checkpoints(folder, variables, **more)
    checkpoints.own = variables
    for step in steps:
        set_to(checkpoints, step)
        checkpoints.save(step, {"loss": 1 / step})
    return checkpoints


def set_to(checkpoints, value):
    for variable in checkpoints.own:
        variable.assign(tf.cast(tf.fill(variable.shape, value), variable.dtype))


def restored(checkpoints):
    """(step that was restored or None, what was reported)."""
    set_to(checkpoints, -1)
    lines = []
    found = checkpoints.restore(lines.append)
    values = {float(value) for variable in checkpoints.own for value in np.ravel(variable.numpy())}
    assert len(values) == 1
    return (int(values.pop()) if found else None), lines


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def test_the_last_two_are_kept_with_hashes_of_their_files(tmp_path):
    checkpoints = saved(tmp_path, 5, 10, 15)
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"ckpt-10", "ckpt-15"}
    for step in (10, 15):
        files = json.loads((tmp_path / f"ckpt-{step}.json").read_text())["files"]
        assert len(files) == 2
        for name, expected in files.items():
            path = tmp_path / name
            assert expected == {"size": path.stat().st_size, "sha256": checksum(path)}
    assert restored(checkpoints) == (15, [])
    assert checkpoints.progress == {"loss": 1 / 15}


@pytest.mark.parametrize("file", ["index", "data-00000-of-00001", "json"])
@pytest.mark.parametrize("damage", [flip, cut, empty, remove])
def test_the_one_before_a_damaged_checkpoint_is_taken(tmp_path, file, damage):
    checkpoints = saved(tmp_path, 5, 10)
    damage(tmp_path / f"ckpt-10.{file}")
    step, (line,) = restored(checkpoints)
    assert step == 5 and checkpoints.progress == {"loss": 1 / 5}
    assert line.startswith(f"{tmp_path / 'ckpt-10'}: skipped: ")
    set_to(checkpoints, 7)
    checkpoints.save(7)
    assert restored(checkpoints) == (7, []), "nothing of the damaged one is left"


@pytest.mark.parametrize("file", ["index", "data-00000-of-00001"])
def test_no_whole_checkpoint_is_no_start_from_step_0(tmp_path, file):
    checkpoints = saved(tmp_path, 5, 10)
    for step in (5, 10):
        flip(tmp_path / f"ckpt-{step}.{file}")
    with pytest.raises(CheckpointError, match=r"no checkpoint is intact: ckpt-10\..* --fresh"):
        restored(checkpoints)


def test_a_first_checkpoint_that_was_not_finished_counts_for_nothing(tmp_path):
    checkpoints = saved(tmp_path, 5)
    (tmp_path / "ckpt-5.json").unlink()
    step, (line,) = restored(checkpoints)
    assert step is None and "ckpt-5: skipped: it was not finished when" in line


@pytest.mark.parametrize("content", ["", "model_checkpoint_path: 'x", "\0\1", None])
def test_a_state_file_of_tensorflow_means_nothing(tmp_path, content):
    checkpoints = saved(tmp_path, 5)
    assert not (tmp_path / "checkpoint").exists()
    if content is not None:
        (tmp_path / "checkpoint").write_text(content)
    assert restored(checkpoints) == (5, [])


def test_another_identity_is_refused(tmp_path):
    saved(tmp_path, 5, identity={"train": "aa", "dev": "bb"})
    assert restored(saved(tmp_path, identity={"dev": "bb", "train": "aa"})) == (5, [])
    assert restored(saved(tmp_path)) == (5, [])
    for identity, changed in (
        ({"train": "aa", "dev": "cc"}, "dev"),
        ({"train": "ab", "dev": "bb", "test": "dd"}, "train, test"),
        ({"train": "aa"}, "dev"),
    ):
        with pytest.raises(CheckpointError, match=rf"ckpt-5: .* changed: {changed}\. .*--fresh"):
            restored(saved(tmp_path, identity=identity))


def test_damaged_shards_are_passed_over(tmp_path):
    def of(number, *steps):
        shard = {number: [tf.Variable(tf.zeros(300))]}
        checkpoints = Checkpoints(tmp_path, [tf.Variable(0)], number == 0, shard, 2)
        checkpoints.own = [*shard[number], *checkpoints._variables]
        for step in steps:
            set_to(checkpoints, step)
            checkpoints.save(step)
        return checkpoints

    worker, chief = of(1, 5, 10), of(0, 5, 10)
    assert restored(worker) == restored(chief) == (10, [])
    flip(tmp_path / "shard-1-of-2-10.data-00000-of-00001")
    assert restored(worker)[0] == 5
    cut(tmp_path / "shard-1-of-2-10.data-00000-of-00001")
    assert restored(chief)[0] == 5
    flip(tmp_path / "shard-1-of-2-5.json")
    with pytest.raises(CheckpointError, match=r"no checkpoint is intact: .* as many replicas as"):
        restored(chief)


def test_the_run_says_that_it_goes_back(tmp_path):
    with pytest.raises(Killed):
        tiny.train(tmp_path, "run", dies_after(17))
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    flip(next((tmp_path / "run/checkpoints").glob("ckpt-14.data*")))
    one, other = tiny.train(tmp_path, "run"), tiny.train(tmp_path, "other")
    log = (tmp_path / "run/log.txt").read_text()
    assert "ckpt-14: skipped: ckpt-14.data-00000-of-00001 is damaged" in log
    assert "resumed at step 7 of" in log
    for found, expected in zip(tiny.weights(one), tiny.weights(other), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_killed_between_the_last_checkpoint_and_the_summary(tmp_path, monkeypatch):
    """The summary is that of an uninterrupted run, but for the time."""
    whole = tiny.train(tmp_path, "whole").summary

    def dies(self, summary):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, "write_summary", dies)
        tiny.train(tmp_path, "killed")
    found = tiny.train(tmp_path, "killed").summary
    text = (tmp_path / "killed/summary.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == found
    assert {**found, "seconds": 0} == {**whole, "seconds": 0}
    assert found["seconds"] > 0.1 and math.isfinite(found["loss"])


class RootOfZero(Softmax):
    """Its loss is finite; its gradient is not where the batch holds example 7."""

    def call(self, group, example_index=None):
        zero = tf.reduce_sum(group.logits - tf.stop_gradient(group.logits), axis=1)
        poisoned = tf.reduce_any(tf.equal(example_index, 7))
        return super().call(group) + tf.where(poisoned, 1.0, 0.0) * tf.sqrt(tf.square(zero))


def poisoned_training(**settings):
    encoder = tiny_model().encoder
    model = XCModel(encoder, Dense(5), RootOfZero())
    model(example_features(SPARSE, {"num_features": 12}))
    return TinyTraining(model=model, **settings)


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1.0}, {"accumulate": 2}], ids=str)
def test_a_gradient_that_is_not_finite_is_not_applied(settings):
    training = poisoned_training(**settings)
    seen = 0
    for _ in range(3):  # an epoch; one batch holds example 7
        before = training.state
        with eagerly("accumulate" not in settings):  # in a graph once
            (loss,) = training.run(1)
        outcome = training.step_function.outcome
        assert math.isfinite(loss)
        if not outcome.healthy:
            seen += 1
            for one, other in zip(before[:-1], training.state[:-1], strict=True):
                np.testing.assert_array_equal(one, other)
        assert all(np.isfinite(weight).all() for weight in training.weights)
    assert seen == 1


@pytest.mark.parametrize("place", [0, -1], ids=["rows of a table", "dense"])
def test_a_nan_gradient_with_a_finite_loss_is_never_saved(tmp_path, place):
    """The step, and the examples of its batch, are named; the last checkpoint is untouched."""
    clean = {"epochs": 1}

    def poison(trainer):
        step, compute = trainer.step_function, trainer.step_function._gradients

        def gradients(*arguments):
            loss, found = compute(*arguments)
            late = tf.where(step.step >= 9, math.nan, 1.0)
            bad = found[place]
            if isinstance(bad, tf.IndexedSlices):
                bad = tf.IndexedSlices(bad.values * late, bad.indices, bad.dense_shape)
            else:
                bad = bad * late
            found[place] = bad
            return loss, found

        step._gradients = gradients

    message = r"the gradient is not finite, with a loss of 0?\d*\.\d+, at step 10; examples of"
    with pytest.raises(NonFiniteLossError, match=message):
        tiny.train(tmp_path, fault=poison, training=clean)
    names = {path.stem for path in (tmp_path / "run/checkpoints").glob("ckpt-*.json")}
    assert names == {"ckpt-7"}
    assert tiny.train(tmp_path, training=clean).summary["steps"] == 13


def test_a_scaled_loss_whose_gradient_is_never_finite_ends_too(tmp_path):
    """Dynamic loss scaling skips a step that overflows, but not all steps for ever."""

    def poison(trainer):
        compute = trainer.step_function._gradients

        def gradients(*arguments):
            loss, found = compute(*arguments)
            return loss, [found[0], *(part * math.nan for part in found[1:])]

        trainer.step_function._gradients = gradients

    training = {"epochs": 20, "precision": "mixed_float16", "checkpoint_every": 1000}
    with pytest.raises(NonFiniteLossError, match=r"gradient is not finite.* at step 36;"):
        tiny.train(tmp_path, fault=poison, training=training)


# Three of them need what one does.
@pytest.mark.parametrize(
    ("keep", "steps"), [(0, []), pytest.param(1, [26], marks=pytest.mark.slow), (3, [14, 21, 26])]
)
def test_a_finished_run_keeps_the_checkpoints_it_is_asked_to(tmp_path, keep, steps):
    tiny.train(tmp_path, training={"epochs": 2, "keep_checkpoints": keep})
    found = [path.stem for path in (tmp_path / "run/checkpoints").glob("ckpt-*.json")]
    assert sorted(found) == [f"ckpt-{step}" for step in steps]
    assert (tmp_path / "run/checkpoints").exists() == bool(keep)
