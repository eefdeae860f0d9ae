"""Several steps in a call, losses that are read late, encoders that XLA compiles."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tfxc.commands.train import check_config
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError, NonFiniteLossError
from tfxc.encoders.bases.compiled import compiled_encoders, in_bucket
from tfxc.encoders.pretrained.encoder import Pretrained
from tfxc.ops.randomness import step_scope
from tfxc.training import reporting
from tfxc.training.step import StepResults

SHORT = {"epochs": 2, "checkpoint_every": 9}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Folder and trainer of one step in a call."""
    folder = tmp_path_factory.mktemp("calls")
    return folder, tiny.train(folder, "single", training=SHORT)


def counting(calls):
    """A fault that notes how many steps each call has."""

    def fault(trainer):
        run = trainer.step_function.run

        def noted(iterator):
            calls.append(trainer.step_function.count)
            return run(iterator)

        trainer.step_function.run = noted

    return fault


def test_several_steps_in_a_call_give_the_same_numbers(single):
    """A call ends where a line is logged (5), a checkpoint is due (9) or an epoch ends (13)."""
    folder, one = single
    calls = []
    more = tiny.train(folder, "four", counting(calls), training={**SHORT, "steps_per_call": 4})
    assert np.cumsum(calls).tolist() == [4, 5, 9, 10, 13, 15, 18, 20, 24, 25, 26]
    for expected, found in zip(tiny.weights(one), tiny.weights(more), strict=True):
        np.testing.assert_array_equal(expected, found)
    lines = [
        (folder / run / "metrics.jsonl").read_text().splitlines() for run in ("single", "four")
    ]
    for expected, found in zip(*lines, strict=True):
        assert expected.split('"examples_per_second"')[0] == found.split('"examples_per_second"')[0]
    assert {**one.summary, "seconds": 0} == {**more.summary, "seconds": 0}


def _logged(path):
    """The lines without what depends on the time."""
    lines = map(json.loads, path.read_text().splitlines())
    return [{**line, "examples_per_second": 0} for line in lines]


def test_a_technique_that_acts_between_steps_is_refused(tmp_path):
    tree = tiny.tiny_tree(tmp_path, training={"steps_per_call": 4})
    check_config(parse_config(tree))
    tree["techniques"] = [{"name": "ema"}]
    with pytest.raises(ConfigError, match=r"4 steps in a call, but technique ema"):
        check_config(parse_config(tree))
    tree = tiny.tiny_tree(tmp_path, training={"steps_per_call": 4, "strategy": "mirrored"})
    with pytest.raises(ConfigError, match=r"training.strategy 'mirrored' cannot train"):
        check_config(parse_config(tree))


def test_results_are_read_where_somebody_looks(tmp_path, monkeypatch):
    reads, read = [], StepResults.read
    monkeypatch.setattr(StepResults, "read", lambda self: reads.append(1) or read(self))
    monkeypatch.setattr(reporting, "_LONGEST", float("inf"))
    looked, losses = [], reporting.Losses.read
    monkeypatch.setattr(
        reporting.Losses, "read", lambda self: looked.append(len(self._unread)) or losses(self)
    )
    tiny.train(tmp_path, training=SHORT)
    assert looked[0] == 1, "the first one is shown"
    assert np.cumsum(looked).tolist() == [1, 5, 9, 10, 13, 15, 18, 20, 25, 26]
    assert len(reads) == 26


def test_a_gradient_that_was_not_finite_is_found_later(tmp_path, monkeypatch):
    """Steps behind it may be good: it is named all the same, and nothing is saved."""
    monkeypatch.setattr(reporting, "_LONGEST", float("inf"))

    def poison(trainer):
        run = trainer.step_function.run

        def poisoned(iterator):
            kernel = trainer.model.head.kernel
            if int(trainer.step_function.step) != 6:
                return run(iterator)
            before = kernel.numpy()
            kernel.assign(before * np.nan)
            results = run(iterator)
            kernel.assign(before)
            return results

        trainer.step_function.run = poisoned

    with pytest.raises(NonFiniteLossError, match=r"loss is nan at step 7; examples"):
        tiny.train(tmp_path, fault=poison, training=SHORT)
    assert not list((tmp_path / "run/checkpoints").glob("ckpt-*"))
    assert '"step": 10' not in (tmp_path / "run/metrics.jsonl").read_text()


def test_lengths_are_rounded_up():
    ids = tf.ones((2, 5), tf.int32)
    assert in_bucket(ids).numpy().tolist() == [[1] * 5 + [0] * 27] * 2
    assert in_bucket(ids, 8).shape == (2, 8) and in_bucket(ids, 5).shape == (2, 5)


def test_an_encoder_that_xla_cannot_compile_is_refused(tmp_path):
    tree = tiny.tiny_tree(tmp_path, training={"compile_encoder": True})
    with pytest.raises(ConfigError, match=r"encoder bag_mlp cannot be compiled"):
        check_config(parse_config(tree))


@pytest.mark.slow  # XLA takes seconds; the lengths: above
def test_gradients_of_a_compiled_encoder_are_equal():
    tiny_bert = {
        "family": "bert", "vocabulary_size": 30, "embedding_dim": 6, "hidden_dim": 6,
        "num_layers": 1, "num_heads": 2, "feed_forward_dim": 10, "max_positions": 20,
        "initial_std": 0.3,
    }  # fmt: skip
    encoder = Pretrained(30, architecture=tiny_bert, body_dropout=0.3, word_dropout=0.2)
    ids = np.random.default_rng(0).integers(1, 30, (4, 9)).astype(np.int32)
    ids[0, 5:] = 0
    encoder(ids)

    def step(compiles):
        scope = step_scope(tf.constant(3, tf.int64), tf.constant(0))
        with tf.GradientTape() as tape, scope, compiled_encoders(compiles):
            loss = tf.reduce_sum(encoder(tf.constant(ids), training=True) ** 3)
        return loss, tape.gradient(loss, encoder.trainable_variables)

    plain, compiled = (tf.function(lambda c=c: step(c), autograph=False)() for c in (False, True))
    np.testing.assert_allclose(plain[0], compiled[0], rtol=1e-4)
    for one, other in zip(plain[1], compiled[1], strict=True):
        assert type(one) is type(other), "rows of the table"
        one, other = map(tf.convert_to_tensor, (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
