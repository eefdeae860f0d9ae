"""Pretrained models by their name on the Hub, in a cache of its layout; there is no network."""

import pytest

from tfxc.core.errors import ConfigError
from tfxc.pretrained.hub_models import hub_folder, is_hub_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache that huggingface_hub reads, which is told not to try the network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def cached(cache, weights):
    model = cache / "models--somebody--tiny"
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    (snapshot / "config.json").write_text("{}")
    (snapshot / weights).write_bytes(b"")
    return snapshot


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_cached_model_needs_no_network(cache, weights):
    folder = cached(cache, weights)
    assert hub_folder("somebody/tiny", "--pretrained somebody/tiny") == folder


def test_a_model_that_is_not_there(cache):
    with pytest.raises(
        ConfigError,
        match=r"^--pretrained minilm: there is no such folder, huggingface\.co cannot be reached, "
        r"and its cache does not have the model\. Check the network",
    ):
        hub_folder("minilm", "--pretrained minilm")


def test_a_name_that_the_hub_refuses(cache):
    with pytest.raises(ConfigError, match=r"^x: there is no such folder, and .* refuses the name"):
        hub_folder("somebody/a--b", "x")


@pytest.mark.parametrize("path", ["./minilm", "~/minilm", "/models/minilm", "a/b/c", "${M}/minilm"])
def test_paths_are_no_names(path):
    assert not is_hub_name(path)
