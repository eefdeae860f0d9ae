"""Residual networks of torchvision, against the published network by NumPy."""

import importlib
import re

import numpy as np
import pytest

from tests.commands.calls import call
from tests.imports.torch_networks import RESNETS, resnet, resnet_vectors
from tests.torch_files import save
from tfxc.encoders.resnet import BLOCKS
from tfxc.imports.torchvision import import_torchvision, layer_names
from tfxc.runs.loaded import load_run

import_model = importlib.import_module("tfxc.commands.import")


@pytest.fixture
def few_blocks(monkeypatch):
    """Fewer than published: all that can differ shows, in half the time."""
    for depth in RESNETS:
        monkeypatch.setitem(BLOCKS, depth, (2, 1, 1, 1))
        monkeypatch.setitem(RESNETS, depth, (2, 1, 1, 1))


@pytest.mark.parametrize(("depth", "keys"), [(18, 122), (34, 218), (50, 320), (101, 626)])
def test_published_numbers_of_tensors(depth, keys):
    """A normalisation has 5 tensors, the linear layer 2."""
    found = list(layer_names(depth))
    norms = [name for name in found if re.search(r"(bn\d|downsample\.1)$", name)]
    assert len(set(found)) == len(found)
    assert 5 * len(norms) + (len(found) - len(norms)) + 2 == keys


# The small stem has the same blocks of depth 18.
@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize(
    ("depth", "arguments", "side"),
    [
        pytest.param(18, {}, 40, marks=pytest.mark.slow),
        (50, {"width": 2}, 40),
        (18, {"stem": 3, "classes": 0}, 16),
    ],
)
def test_vectors_and_scores_are_those_of_the_network(tmp_path, depth, arguments, side):
    tensors = resnet(depth, **arguments)
    save(tmp_path / "resnet.pth", dict(tensors))
    found = import_torchvision(tmp_path / "resnet.pth", tmp_path / "run", image_size=side)
    classes = arguments.get("classes", 5)
    labels = f"{classes} labels" if classes else "no labels"
    assert found == f"ResNet of depth {depth}, {side} x {side}, {labels}"
    images = np.random.default_rng(1).integers(0, 256, (3, side, side, 3), np.uint8)
    vectors = resnet_vectors(tensors, images, depth)
    loaded = load_run(tmp_path / "run")
    np.testing.assert_allclose(
        loaded.embedder("--run")(images), vectors, atol=1e-5 * np.abs(vectors).max()
    )
    if classes:
        scores = vectors @ tensors["fc.weight"].T + tensors["fc.bias"]
        ids, found = loaded.model.find_top_k(images, 5)
        np.testing.assert_array_equal(ids, np.argsort(-scores, axis=1))
        np.testing.assert_allclose(found, -np.sort(-scores, axis=1), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("few_blocks")
def test_networks_that_do_not_fit(tmp_path, capsys):
    tensors = resnet()
    tensors["layer1.0.se.fc.weight"] = np.zeros((2, 2), "f4")
    save(tmp_path / "resnet.pth", dict(tensors))
    command = (capsys, import_model, "torchvision", tmp_path / "resnet.pth")
    problem = call(*command, "--run", tmp_path / "run").problem()
    assert "not the tensors of a ResNet of depth 18 (1 unknown: layer1.0.se.fc.w" in problem
    (tmp_path / "names.txt").write_text("a\nb\n")
    names = ("--labels", tmp_path / "names.txt")
    problem = call(*command, "--run", tmp_path / "run", *names).problem()
    assert "there are 2 names for 5 labels" in problem
    tensors = resnet() | {"fc.weight": np.zeros((), "f4")}
    save(tmp_path / "resnet.pth", tensors)
    problem = call(*command, "--run", tmp_path / "run").problem()
    assert "the tensor fc.weight has shape () instead of (classes, channels)" in problem
    outcome = call(*command, "--run", tmp_path / "run", "--centres", tmp_path)
    assert outcome.code == 2 and "unrecognized arguments: --centres" in outcome.err
    assert not (tmp_path / "run").exists()
