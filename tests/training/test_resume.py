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
from tfxc.training.checkpoints import Checkpoints

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
