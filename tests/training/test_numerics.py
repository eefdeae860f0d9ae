"""A run that goes on with other arithmetic says so in one line."""

import json
import shutil

import numpy as np
import pytest

from tests import tiny
from tests.training.test_resume import Killed, dies_after
from tfxc.ops.compiled_operations import CompiledOperation
from tfxc.training.numerics import numerics_changes

needs_compiler = pytest.mark.usefixtures("compiled_operations")


def forget():
    """As in a process that has not asked for a compiled operation yet."""
    for operation in CompiledOperation.all:
        operation.forget()


@pytest.fixture
def with_compiler(monkeypatch):
    """Function that chooses the optimizer step of trainings from here on."""

    def choose(switch):
        monkeypatch.setenv("TFXC_COMPILE", switch)
        forget()

    yield choose
    forget()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the trainings that the tests share."""
    return tmp_path_factory.mktemp("arithmetic")


def started(folder, switch):
    """The weights of a whole training, and the run of one that died, with this optimizer step."""
    whole, died = f"whole-{switch}", f"died-{switch}"
    if not (folder / died).exists():
        trainer = tiny.train(folder, whole)
        np.savez(folder / f"{whole}.npz", *tiny.weights(trainer))
        with pytest.raises(Killed):
            tiny.train(folder, died, dies_after(20))
    with np.load(folder / f"{whole}.npz") as stored:
        return list(stored.values()), folder / died


def remarks(run):
    lines = (run / "log.txt").read_text().splitlines()
    return [line for line in lines if "other arithmetic" in line]


# Either way the two numbers differ.
@needs_compiler
@pytest.mark.parametrize(
    ("first", "second"), [pytest.param("1", "0", marks=pytest.mark.slow), ("0", "1"), ("0", "0")]
)
def test_a_run_resumed_with_another_optimizer_step_says_so(folder, with_compiler, first, second):
    with_compiler(first)
    whole, died = started(folder, first)
    run = shutil.copytree(died, folder / f"run-{first}-{second}")
    with_compiler(second)
    found = tiny.weights(tiny.train(folder, run.name))
    said = remarks(run)
    if first == second:
        assert not said
        for one, other in zip(whole, found, strict=True):
            np.testing.assert_array_equal(one, other)
        return
    names = {"1": "compiled", "0": "TensorFlow's"}
    (line,) = said
    assert f"optimizer step {names[first]} -> {names[second]}" in line
    assert "processor" not in line
    for one, other in zip(whole, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_another_processor_is_named(folder, with_compiler):
    with_compiler("0")
    _, run = started(folder, "0")
    (path, *_) = sorted((run / "checkpoints").glob("ckpt-*.json"))
    before = json.loads(path.read_text())["progress"]["arithmetic"]
    assert before["optimizer step"] == "TensorFlow's" and before["processor"]
    assert numerics_changes(before) is None and numerics_changes(None) is None
    line = numerics_changes({**before, "processor": "another"})
    assert f"(processor another -> {before['processor']})" in line
