"""What a device computes, beside the CPU; a CPU stands for the device."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.source_tree import ROOT
from tfxc.commands import doctor
from tfxc.core import registry
from tfxc.objectives.softmax import Softmax
from tfxc.training import device_check
from tfxc.training.device_check import HOST, cases, compared

WHOLE = """
import json
import tensorflow as tf
from tfxc.training.device_check import compared
parts = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
print(json.dumps(list(compared("CPU:1"))))
"""


def case(name, precision="float32"):
    (found,) = [one for one in cases() if one.name == name and one.precision == precision]
    return found


def make_devices_err(monkeypatch, factor):
    """What is compiled, which the CPU's reference is not, has a loss that is too large."""
    plain = Softmax.call

    def lossy(self, *arguments, **named):
        return plain(self, *arguments, **named) * (1.0 if tf.executing_eagerly() else factor)

    monkeypatch.setattr(Softmax, "call", lossy)


def test_every_method_is_compared():
    names = {one.name for one in cases()}
    for head in registry.names("head"):
        assert {f"head {head}", f"head {head}, hinge", f"head {head}, scent"} <= names
    objectives = {one.objective["name"] for one in cases()}
    assert objectives == set(registry.names("objective"))
    assert {one.encoder["name"] for one in cases()} == set(registry.names("encoder"))


def test_a_cpu_is_like_itself():
    (found,) = compared(HOST, [case("fused update, bfloat16 weights, sigmoid")])
    assert found["ok"], found
    assert 0 < found["difference"] < found["limit"] / 10, "one of the two was not compiled"
    assert found["host_operations"]["ReadVariableOp"] > 2, "all of it, where the host is the device"
    assert found["step_ms"] > 0 and found["search_ms"] > 0


@pytest.fixture
def one_case(monkeypatch):
    """``tfxc doctor --device-check`` compares the CPU with itself, in one case."""
    chosen = [case("head dense, softmax")]
    monkeypatch.setattr(device_check, "first_gpu", lambda: (HOST, "a processor"))
    monkeypatch.setattr(device_check, "cases", lambda: chosen)


@pytest.mark.parametrize("wrong", [False, True])
def test_a_device_that_computes_something_else_fails(capsys, monkeypatch, one_case, wrong):
    if wrong:
        make_devices_err(monkeypatch, 1.01)
    outcome = call(capsys, doctor, "--device-check")
    assert outcome.code == wrong
    lines = outcome.out.splitlines()
    assert "device check of CPU:0, a processor" in lines
    assert f"  1 cases: {int(wrong)} failed, 0 skipped" in lines
    assert ("FAILED: " in lines[-2]) == wrong


def test_json_shows_on_the_other_stream_how_far_it_is(capsys, one_case):
    outcome = call(capsys, doctor, "--device-check", "--json")
    assert [row["ok"] for row in json.loads(outcome.out)["device_check"]["cases"]] == [True]
    assert "device check of CPU:0, a processor" in outcome.err
    assert "  1 cases: 0 failed, 0 skipped" in outcome.err


def test_bfloat16_may_be_off_by_what_it_loses_itself(monkeypatch, tmp_path):
    chosen = case("head dense", "mixed_bfloat16")
    lost = device_check._rounding(
        chosen, device_check._Trial(chosen, tmp_path).run(HOST, is_reference=True), tmp_path
    )
    assert 0 < lost < 0.02
    make_devices_err(monkeypatch, 1.05)
    (found,) = compared(HOST, [chosen])
    assert not found["ok"] and found["limit"] == max(0.01, 2 * lost)
    monkeypatch.setattr(device_check, "_rounding", lambda *_: 0.03)
    (found,) = compared(HOST, [chosen])
    assert found["ok"] and found["limit"] == 0.06


def test_a_missing_package_is_a_reason_to_skip(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    (found,) = compared(HOST, [case("encoder pretrained")])
    assert found["ok"] and "pip install 'tfxc[hub]'" in found["skipped"]


def test_an_operation_without_a_kernel_fails(monkeypatch):
    def broken(self, *arguments, **named):
        raise tf.errors.UnimplementedError(None, None, "no kernel\nhere")

    monkeypatch.setattr(Softmax, "call", broken)
    (found,) = compared(HOST, [case("head dense, softmax")])
    assert not found["ok"]
    assert found["failed"].startswith("UnimplementedError: ")
    assert "no kernel here" in found["failed"]


def test_without_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr(device_check, "first_gpu", lambda: None)
    out = call(capsys, doctor, "--device-check", "--json").out
    assert json.loads(out)["device_check"] == {"device": None, "model": None, "cases": []}


def found(ids, scores):
    """What a search has come to."""
    nothing = {"paths": [], "start": [], "end": [], "loss": 1.0, "host_operations": {}}
    arrays = {"ids": np.array([ids]), "scores": np.array([scores])}
    return device_check._Result(**nothing, **arrays, peak_mb=None, times=[])


@pytest.mark.parametrize(
    ("ids", "scores", "difference"),
    [
        ([3, 1, 2], [4.0, 2.0, 2.0], 0),
        ([3, 2, 1], [4.0, 2.0, 2.0], 0),  # as good in this order
        ([3, 1, 7], [4.0, 2.0, 2.0], 0),  # as good as the last
        ([1, 3, 2], [4.0, 2.0, 2.0], 0.5),
        ([3, 1, 2], [4.0, 2.0, 1.0], 0.25),
        ([3, 1, -1], [4.0, 2.0, 0.0], np.inf),
    ],
)
def test_difference_of_searches(ids, scores, difference):
    expected = found([3, 1, 2], [4.0, 2.0, 2.0])
    assert device_check._search_difference(expected, found(ids, scores)) == difference


@pytest.mark.slow  # quick: test_a_cpu_is_like_itself
@pytest.mark.timeout(1200)
def test_a_second_cpu_is_like_the_first():
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WHOLE]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    rows = json.loads(done.stdout)
    assert len(rows) == len(cases())
    assert not [row for row in rows if not row["ok"]]
    assert not [row for row in rows if row.get("host_operations", {}).get("ReadVariableOp")]
