"""Replicas and workers give the numbers of a single device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests import tiny
from tfxc.core.errors import ConfigError
from tfxc.training.strategies import check_tf_config

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, json, numpy as np
from pathlib import Path
from tests import tiny
changes = json.loads(sys.argv[2])
trainer = tiny.train(Path(sys.argv[1]), sys.argv[3], **changes)
np.savez(Path(sys.argv[1]) / sys.argv[4], *tiny.weights(trainer))
"""
TWO_TRAININGS = """
import sys, json
from pathlib import Path
from tests import tiny
changes = json.loads(sys.argv[2])
for units in (8, 16):
    encoder = {"name": "bag_mlp", "hidden": [units]}
    tiny.train(Path(sys.argv[1]), f"{sys.argv[3]}-{units}", encoder=encoder, **changes)
"""


def start(folder, run, changes, output, program=PROGRAM, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", program, str(folder), json.dumps(changes), run, output]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(*processes):
    """Waits for all and returns their output; a worker whose partner died would wait for ever."""
    outputs = []
    try:
        for process in reversed(processes):
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output[-3000:]
            outputs.insert(0, output)
        return outputs
    finally:
        for process in processes:
            process.kill()


def arrays(path):
    with np.load(path) as stored:
        return [stored[name] for name in stored.files]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    changes = {"training": training()}
    return folder, tiny.weights(tiny.train(folder, "single", **changes))


def training(**more):
    return {"epochs": 2, "clip_norm": 0.5, "accumulate": 2, **more}


def assert_close(expected, found):
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_two_mirrored_replicas_equal_one_device(single):
    folder, expected = single
    devices = {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]}
    changes = {"training": training(**devices)}
    finish(start(folder, "mirrored", changes, "mirrored.npz"))
    assert_close(expected, arrays(folder / "mirrored.npz"))


@pytest.mark.slow
def test_two_mirrored_replicas_save_the_average(tmp_path):
    """The averages change places with the weights on every replica, and back."""
    changes = {"training": training(), "techniques": [{"name": "ema", "decay": 0.9}]}
    trainer = tiny.train(tmp_path, "single", **changes)
    raw = [variable.numpy() for variable in trainer.step_function.variables]
    changes["training"] |= {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]}
    finish(start(tmp_path, "mirrored", changes, "mirrored.npz"))
    assert_close(tiny.weights(trainer), arrays(tmp_path / "mirrored.npz"))
    saved = [load_h5(tmp_path / run / "model.weights.h5") for run in ("single", "mirrored")]
    assert saved[0].keys() == saved[1].keys() and saved[0]
    for name, values in saved[0].items():
        np.testing.assert_allclose(saved[1][name], values, atol=1e-5)
        assert all(values.shape != one.shape or (values != one).any() for one in raw)


def load_h5(path):
    """{name: array} of a file of weights."""
    found = {}
    with h5py.File(path) as stored:
        stored.visititems(
            lambda name, item: found.update({name: item[()]} if hasattr(item, "dtype") else {})
        )
    return found


def test_models_of_several_sizes_in_one_process(tmp_path):
    devices = {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1", "CPU:2", "CPU:3"]}
    changes = {"training": {**devices, "epochs": 1, "batch_size": 32}}
    finish(start(tmp_path, "several", changes, "unused", program=TWO_TRAININGS))


@pytest.mark.parametrize(
    "sampling",
    [
        {"sampling": "batch_heads", "heads": [10, 3]},
        {"sampling": "partial", "sample_rate": 0.5},
    ],
    ids=lambda sampling: sampling["sampling"],
)
def test_class_centres_sampled_by_the_whole_batch(tmp_path, sampling):
    """The classes of a replica's softmax are those of the examples of all replicas."""
    # A larger epsilon: Adam would blow the rounding of gradients near 0 up.
    optimizer = {"name": "adam", "learning_rate": 0.02, "epsilon": 1e-3}
    changes = {
        "head": {"name": "margin", "scale": 8.0, "m2": 0.2, **sampling},
        "objective": {"name": "softmax"},
        "training": training(epochs=1, optimizer=optimizer),
    }
    expected = tiny.weights(tiny.train(tmp_path, "single", **changes))
    changes["training"] |= {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]}
    finish(start(tmp_path, "mirrored", changes, "mirrored.npz"))
    assert_close(expected, arrays(tmp_path / "mirrored.npz"))


def test_two_workers_equal_one_device(single):
    folder, expected = single
    with socket.socket() as one, socket.socket() as two:
        one.bind(("localhost", 0))
        two.bind(("localhost", 0))
        workers = [f"localhost:{s.getsockname()[1]}" for s in (one, two)]
    changes = {"training": training(strategy="multi_worker")}
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        output = f"worker-{index}.npz"
        processes.append(start(folder, "workers", changes, output, TF_CONFIG=json.dumps(task)))
    finish(*processes)
    for index in range(2):
        assert_close(expected, arrays(folder / f"worker-{index}.npz"))
    lines = (folder / "workers/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if '"loss"' in line]
    assert len(steps) == len(set(steps)), "only the chief reports"


def test_missing_tf_config_is_explained(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"TF_CONFIG.*e\.g\. TF_CONFIG="):
        check_tf_config()
    monkeypatch.setenv("TF_CONFIG", "{not json")
    with pytest.raises(ConfigError, match="'cluster' and 'task'"):
        check_tf_config()


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size: .*multiple of 3 .*found 16.*use 15"):
        tiny.train(tmp_path, training={"accumulate": 3})
