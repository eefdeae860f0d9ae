"""Killed and started again equals uninterrupted, bit for bit."""

import os
import signal
import time

import numpy as np
import pytest

from tests import tiny
from tests.processes import Started
from tfxc.commands import train
from tfxc.core import cli
from tfxc.core.interrupts import Stopped
from tfxc.core.messages import NOTES
from tfxc.training.checkpoints import Checkpoints
from tfxc.training.job import note_on_one_answer

TECHNIQUES = {"techniques": [{"name": "ema", "decay": 0.9, "every": 3}]}


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def dies_after(step):
    """A fault that ends the process' work right after ``step``, before anything is saved."""

    def fault(trainer):
        run, done = trainer.step_function.run, []

        def counting(iterator):
            if len(done) == step:
                raise Killed
            done.append(1)
            return run(iterator)

        trainer.step_function.run = counting

    return fault


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    return folder, tiny.weights(tiny.train(folder, "whole", **TECHNIQUES))


def test_what_was_answered_before_a_kill_behind_the_last_step_is_known(uninterrupted):
    folder, _ = uninterrupted
    trainers = []

    def dies_at_the_end(trainer):
        def die(*_):
            raise Killed

        trainers.append(trainer)
        trainer._finish = die

    with pytest.raises(Killed):
        tiny.train(folder, "ended", dies_at_the_end, **TECHNIQUES)
    resumed = tiny.train(folder, "ended", **TECHNIQUES)
    answers = [[best, list(true)] for best, true in trainers[0].dev_answers]
    assert len(answers) > 50 and [list(one) for one in resumed.dev_answers] == answers


@pytest.mark.parametrize(("count", "other", "says"), [(30, 0, True), (30, 1, False), (9, 0, False)])
def test_a_model_that_answers_all_alike_is_noted(caplog, count, other, says):
    answers = [(other if number == 3 else 0, [number % 5, -1]) for number in range(count)]
    with caplog.at_level("WARNING", NOTES.name):
        note_on_one_answer(answers)
    expected = f"the same label is the best one for each of the {count} examples of dev"
    assert (expected in caplog.text) is says


# Before the first checkpoint, right behind one, and between two.
@pytest.mark.parametrize("step", [3, 7, 38, pytest.param(20, marks=pytest.mark.slow)])
def test_resumed_weights_are_bit_identical(uninterrupted, step):
    folder, expected = uninterrupted
    run = f"killed-{step}"
    with pytest.raises(Killed):
        tiny.train(folder, run, dies_after(step), **TECHNIQUES)
    found = tiny.weights(tiny.train(folder, run, **TECHNIQUES))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
    steps = (folder / run / "metrics.jsonl").read_text().splitlines()
    whole = (folder / "whole" / "metrics.jsonl").read_text().splitlines()
    assert len(steps) == len(whole), "lines beyond the last checkpoint are reported once"


def test_stop_signal_saves_at_the_step(uninterrupted):
    folder, expected = uninterrupted

    def ask_to_stop(trainer):
        run = trainer.step_function.run

        def signalling(iterator):
            loss = run(iterator)
            if int(trainer.step_function.step) == 10:
                os.kill(os.getpid(), signal.SIGTERM)
            return loss

        trainer.step_function.run = signalling

    with pytest.raises(Stopped, match="SIGTERM, saved at step 10"):
        tiny.train(folder, "stopped", ask_to_stop, **TECHNIQUES)
    found = tiny.weights(tiny.train(folder, "stopped", **TECHNIQUES))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def train_up_to_a_checkpoint(arguments):
    """Trains, and waits to be killed after the first checkpoint."""
    save = Checkpoints.save

    def save_and_wait(self, *given):
        save(self, *given)
        print("saved", flush=True)
        signal.pause()

    Checkpoints.save = save_and_wait
    cli.run(train.main, arguments)


@pytest.mark.slow  # killed after any step: test_resumed_weights_are_bit_identical
def test_sigkill_of_a_real_process(tmp_path):
    config = tiny.write_config(tmp_path, training={"epochs": 30})
    arguments = ["--config", str(config), "--prepared", str(tmp_path / "prepared")]
    process = Started(train_up_to_a_checkpoint, arguments)
    deadline = time.monotonic() + 120
    while "saved" not in process.output:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert list((tmp_path / "run/checkpoints").glob("ckpt-*.index"))
    assert not (tmp_path / "run/summary.json").exists()
    found = tiny.train(tmp_path, training={"epochs": 30, "evaluate_every": 10_000})
    whole = tiny.train(tmp_path, "whole", training={"epochs": 30, "evaluate_every": 10_000})
    for one, other in zip(tiny.weights(whole)[:-1], tiny.weights(found)[:-1], strict=True):
        np.testing.assert_array_equal(one, other)
