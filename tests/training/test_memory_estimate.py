"""How much memory training is expected to need."""

import pytest

from tests import tiny
from tfxc.core.config import parse_config
from tfxc.data.manifest import Manifest
from tfxc.data.preparation import ensure_prepared
from tfxc.training.memory_estimate import peak_bytes

LABELS, DIM, ENCODER = 30, 32, 61 * 32
HEADS = {  # with the rows of a step
    "partial": ({"name": "margin", "sampling": "partial", "sample_rate": 0.2}, 6),
    "batch": ({"name": "sampled"}, 30),
    "mhs": ({"name": "mhs", "heads": [6, 5], "num_sampled_heads": 2}, 10),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize(("optimizer", "slots"), [("sgd", 0), ("adagrad", 1), ("adam", 2)])
def test_gradients_of_sampled_heads_are_rows(tmp_path, name, optimizer, slots):
    head, columns = HEADS[name]
    memory = estimate(tmp_path, head, {"name": optimizer})
    assert memory.gradients == 4 * ENCODER + 2 * 4 * columns * DIM
    assert memory.slots == slots * 4 * (ENCODER + LABELS * DIM)


@pytest.mark.parametrize(
    ("head", "optimizer"),
    [
        (HEADS["batch"][0], {"name": "adam", "lazy": False}),
        ({"name": "sampled", "classes": "all"}, {"name": "sgd"}),
        ({"name": "margin"}, {"name": "sgd"}),
    ],
)
def test_others_are_whole(tmp_path, head, optimizer):
    memory = estimate(tmp_path, head, optimizer)
    assert memory.gradients == 4 * (ENCODER + LABELS * DIM)


def estimate(folder, head, optimizer):
    sections = {"head": head, "objective": {"name": "softmax"}}
    tree = tiny.tiny_tree(folder, **sections, training={"optimizer": optimizer})
    config = parse_config(tree)
    manifest = Manifest.load(ensure_prepared(config.data, folder / "prepared", jobs=1))
    return peak_bytes(config, manifest)
