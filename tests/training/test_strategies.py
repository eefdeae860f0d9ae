"""Replicas and workers give the numbers of a single device."""

import h5py
import numpy as np
import pytest

from tests import tiny
from tests.processes import Started, finish
from tfxc.core.errors import ConfigError
from tfxc.training.strategies import choose_gpu
from tfxc.training.tf_config import check_tf_config

TWO = {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]}
# A larger epsilon: Adam would blow the rounding of gradients near 0 up.
OPTIMIZER = {"name": "adam", "learning_rate": 0.02, "epsilon": 1e-3}
SAMPLINGS = {
    "batch_heads": {"heads": [10, 3]},
    "partial": {"sample_rate": 0.5},
}


def train(folder, trainings):
    """Trains one after the other: ``{name: changes}``; a .npz file of each one's weights."""
    for name, changes in trainings.items():
        np.savez(folder / f"{name}.npz", *tiny.weights(tiny.train(folder, name, **changes)))


def arrays(path):
    with np.load(path) as stored:
        return [stored[name] for name in stored.files]


def training(**more):
    return {"epochs": 2, "clip_norm": 0.5, "accumulate": 2, **more}


def sampled(name):
    """Changes of a head that draws class centres."""
    head = {"name": "margin", "scale": 8.0, "m2": 0.2, "sampling": name, **SAMPLINGS[name]}
    objective = {"name": "softmax"}
    return {
        "head": head,
        "objective": objective,
        "training": training(epochs=1, optimizer=OPTIMIZER),
    }


def two(name):
    """``{name: changes}`` of the same on two replicas."""
    changes = sampled(name)
    return {name: {**changes, "training": {**changes["training"], **TWO}}}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    changes = {"training": training()}
    return folder, tiny.weights(tiny.train(folder, "single", **changes))


@pytest.fixture(scope="module")
def mirrored(single):
    """The folder of what one process has trained on two replicas: models of two sizes."""
    folder, _ = single
    finish(Started(train, folder, {"mirrored": {"training": training(**TWO)}, **two("partial")}))
    return folder


def assert_close(expected, found):
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_two_mirrored_replicas_equal_one_device(single, mirrored):
    assert_close(single[1], arrays(mirrored / "mirrored.npz"))


@pytest.mark.slow
def test_two_mirrored_replicas_save_the_average(tmp_path):
    """The averages change places with the weights on every replica, and back."""
    changes = {"training": training(), "techniques": [{"name": "ema", "decay": 0.9}]}
    trainer = tiny.train(tmp_path, "single", **changes)
    raw = [variable.numpy() for variable in trainer.step_function.variables]
    changes["training"] |= TWO
    finish(Started(train, tmp_path, {"mirrored": changes}))
    assert_close(tiny.weights(trainer), arrays(tmp_path / "mirrored.npz"))
    saved = [load_h5(tmp_path / run / "model.weights.h5") for run in ("single", "mirrored")]
    assert saved[0].keys() == saved[1].keys() and saved[0]
    for name, values in saved[0].items():
        np.testing.assert_allclose(saved[1][name], values, atol=1e-5)
        assert all(values.shape != one.shape or (values != one).any() for one in raw)


ADAFACE = {
    "head": {"name": "adaface", "scale": 8.0, "margin": 0.2, "momentum": 0.5},
    "objective": {"name": "softmax"},
    "training": {"epochs": 1, "batch_size": 40, "optimizer": {"name": "sgd", "learning_rate": 0.1}},
}


def train_adaface(folder, name, **changes):
    """Trains head ``adaface``, whole on every replica, and saves its statistics of lengths."""
    tree = {**ADAFACE, "training": {**ADAFACE["training"], **changes}}
    head = tiny.train(folder, name, **tree).model.head
    found = [head.length_mean.numpy(), head.length_std.numpy()]
    np.savez(folder / f"{name}.npz", *found, head.centres.numpy())


@pytest.mark.slow
def test_statistics_of_lengths_are_those_of_all_replicas(tmp_path):
    train_adaface(tmp_path, "single")
    finish(Started(train_two_adaface, tmp_path))
    assert_close(arrays(tmp_path / "single.npz"), arrays(tmp_path / "mirrored.npz"))


def train_two_adaface(folder):
    train_adaface(folder, "mirrored", **TWO)


def load_h5(path):
    """{name: array} of a file of weights."""
    found = {}
    with h5py.File(path) as stored:
        stored.visititems(
            lambda name, item: found.update({name: item[()]} if hasattr(item, "dtype") else {})
        )
    return found


def test_class_centres_sampled_by_the_whole_batch(single, mirrored):
    """The classes of a replica's softmax are those of the examples of all replicas."""
    expected = tiny.weights(tiny.train(single[0], "single-partial", **sampled("partial")))
    assert_close(expected, arrays(mirrored / "partial.npz"))


@pytest.mark.slow  # over replicas: the other sampling, above
def test_class_centres_of_the_heads_of_a_batch(tmp_path):
    expected = tiny.weights(tiny.train(tmp_path, "single", **sampled("batch_heads")))
    finish(Started(train, tmp_path, two("batch_heads")))
    assert_close(expected, arrays(tmp_path / "batch_heads.npz"))


@pytest.mark.slow
def test_models_of_several_sizes_on_four_replicas_of_one_process(tmp_path):
    devices = {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1", "CPU:2", "CPU:3"]}
    changes = {"training": {**devices, "epochs": 1, "batch_size": 32}}
    encoders = {f"of-{n}": {"name": "bag_mlp", "hidden": [n]} for n in (8, 16)}
    trainings = {name: {**changes, "encoder": encoder} for name, encoder in encoders.items()}
    finish(Started(train, tmp_path, trainings))


def test_missing_tf_config_is_explained(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"TF_CONFIG.*e\.g\. TF_CONFIG="):
        check_tf_config()
    monkeypatch.setenv("TF_CONFIG", "{not json")
    with pytest.raises(ConfigError, match="'cluster' and 'task'"):
        check_tf_config()


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"16 is not a multiple of 3, the micro-batches times replicas"
    ):
        tiny.train(tmp_path, training={"accumulate": 3})


def test_memory_of_gpus(monkeypatch):
    """As the driver reports it; a share that was asked for counts instead."""
    import subprocess
    from types import SimpleNamespace

    import tensorflow as tf

    from tfxc.training.strategies import gpu_bytes

    gpus = [SimpleNamespace(name=f"/physical_device:GPU:{number}") for number in range(2)]
    limited = {gpus[1].name: [SimpleNamespace(memory_limit=500)]}
    asked = []

    def run(command, **_):
        asked.append(command)
        return SimpleNamespace(stdout="1234\n")

    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: gpus)
    monkeypatch.setattr(
        tf.config, "get_logical_device_configuration", lambda gpu: limited.get(gpu.name)
    )
    monkeypatch.setattr(subprocess, "run", run)
    assert gpu_bytes() == [1234 * 2**20, 500 * 2**20]
    assert asked[0][1:3] == ["--id=0", "--query-gpu=memory.free"] and len(asked) == 1
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="[N/A]"))
    assert gpu_bytes() == [], "the driver does not say"


def test_a_chosen_gpu(monkeypatch, capsys):
    """Where there is none, the CPU is used, as by the original code of MACH, and said."""
    import tensorflow as tf

    gpus, seen = ["first", "second"], []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda some, kind: seen.append(some))
    choose_gpu(1, None)
    assert seen == [["second"]] and not capsys.readouterr().err
    with pytest.raises(ConfigError, match="--gpu: there is no GPU 2; TensorFlow knows 2"):
        choose_gpu(2, None)
    gpus.clear()
    choose_gpu(0, 0.45)
    assert len(seen) == 1
    assert capsys.readouterr().err == "warning: --gpu 0: there is no GPU, the CPU is used\n"
