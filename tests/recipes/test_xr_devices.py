"""Recipe 'xr_transformer' on replicas and workers: the numbers of a single device."""

import json
import os
import socket
import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.sparse

from tests.processes import finish
from tests.recipes.xr_texts import work_of, write_texts
from tests.source_tree import ROOT
from tfxc.core import registry
from tfxc.ranker.search import load_layer
from tfxc.training.step import TrainStep
from tfxc.training.strategies import by_chief, make_strategy

# A larger epsilon: Adam would blow the rounding of gradients near 0 up.
TRAINING = {
    "batch_size": 32,
    "epochs": 2,
    "clip_norm": 0.5,
    "accumulate": 2,
    "optimizer": {"name": "adam", "learning_rate": 0.02, "epsilon": 1e-3},
}
RECIPE = {"name": "xr_transformer", "only_topk": 3, "max_match_clusters": 16}
PROGRAM = """
import sys, json
from pathlib import Path
from tests.recipes import test_xr_devices
test_xr_devices.train(Path(sys.argv[1]), sys.argv[2], **json.loads(sys.argv[3]))
"""


class Killed(Exception):
    pass


def train(folder, run, dies_at=None, **training):
    """Trains in this process, what is killed in a step before goes on; prints the summary."""
    encoder = {"name": "fasttext", "embedding_dim": 8, "hidden_dim": 8}
    training = {**TRAINING, **training}
    context = work_of(folder, run, training=training, encoder=encoder, recipe=RECIPE)
    recipe = registry.create("recipe", context.config.recipe.section())
    if dies_at is not None:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            _kill(patch, dies_at)
            recipe.run(context)
    print(json.dumps(recipe.run(context)), flush=True)
    return make_strategy(context.config.training)


def _kill(patch, step):
    original, calls = TrainStep.run, []

    def counted(self, iterator):
        calls.append(1)
        if len(calls) == step:
            raise Killed
        return original(self, iterator)

    patch.setattr(TrainStep, "run", counted)


def fail(strategy):
    """Work of the chief that fails; in the program of every worker."""

    def work():
        raise KeyError("the chief's own")

    try:
        by_chief(strategy, work)
    except (KeyError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", flush=True)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    write_texts(folder / "train.jsonl", 2, 0)
    write_texts(folder / "dev.jsonl", 1, 1)
    train(folder, "single")
    return folder


def start(folder, run, program=PROGRAM, variables=None, **training):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(variables or {})}
    command = [sys.executable, "-c", program, str(folder), run, json.dumps(training)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def assert_same(folder, run):
    """Every weight, every encoding, every cluster found and the ranker."""
    one, other = folder / "single", folder / run
    names = ("level-00/model.weights.h5", "level-01/model.weights.h5", "model.weights.h5")
    for name in names:
        expected, found = _weights(one / name), _weights(other / name)
        assert expected.keys() == found.keys() and expected
        for key, values in expected.items():
            np.testing.assert_allclose(
                found[key], values, rtol=1e-5, atol=1e-5, err_msg=f"{name} {key}"
            )
    for name in ("level-00/embeddings.npy", "embeddings/train.npy"):
        np.testing.assert_allclose(np.load(other / name), np.load(one / name), atol=1e-5)
    expected, found = (scipy.sparse.load_npz(r / "level-00/matched.npz") for r in (one, other))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.data, expected.data, atol=1e-5)
    for number in range(3):
        expected, found = (load_layer(r / f"ranker/layer-{number}") for r in (one, other))
        np.testing.assert_array_equal(found.children, expected.children)
    one, other = (json.loads((r / "summary.json").read_text()) for r in (one, other))
    assert other["steps"] == one["steps"] == 14
    assert other["dev"] == pytest.approx(one["dev"])


def _weights(path):
    found = {}

    def collect(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as stored:
        stored.visititems(collect)
    return found


@pytest.mark.slow
def test_two_mirrored_replicas_equal_one_device(single):
    devices = {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]}
    finish(start(single, "mirrored", **devices))
    assert_same(single, "mirrored")


@pytest.mark.slow  # two workers: training/test_two_workers.py
def test_two_workers_equal_one_device(single):
    """Both are killed in the second level and go on; then the chief fails."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("localhost", 0))
        two.bind(("localhost", 0))
        workers = [f"localhost:{s.getsockname()[1]}" for s in (one, two)]
    program = PROGRAM.replace("test_xr_devices.train(", "s = test_xr_devices.train(")
    program += "test_xr_devices.fail(s)\n"
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        variables = {"TF_CONFIG": json.dumps(task)}
        options = {"strategy": "multi_worker", "dies_at": 12}
        processes.append(start(single, "workers", program, variables, **options))
    output = finish(*processes)
    assert_same(single, "workers")
    assert 'KeyError: "the chief\'s own"' in output[0].splitlines()[-1]
    assert "MachineError: worker 1: the chief has failed" in output[1].splitlines()[-1]
    summaries = [json.loads(next(x for x in t.splitlines() if x[:2] == '{"')) for t in output]
    assert [summary["steps"] for summary in summaries] == [14, 14]
    assert summaries[0]["dev"] and not summaries[1]["dev"], "the chief alone trains the ranker"
