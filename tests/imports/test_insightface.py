"""Backbones and class centres of InsightFace, against the published network by NumPy."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.imports.torch_networks import IRESNETS, iresnet, iresnet_vectors
from tests.torch_files import save
from tfxc.commands import encode, evaluate, export, info, predict, verify
from tfxc.core.config import parse_config
from tfxc.core.errors import DataError
from tfxc.data.store.preparation import ensure_prepared
from tfxc.encoders.iresnet import BLOCKS
from tfxc.imports.class_centres import read_centres
from tfxc.imports.insightface import import_insightface, layer_names
from tfxc.runs.loaded import load_run
from tfxc.training.job import TrainingJob

import_model = importlib.import_module("tfxc.commands.import")

IMAGES = np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3), np.uint8)
CLASSES = 7  # over three ranks: 3, 2, 2


def write_shards(folder, centres, form):
    """The class centres in the files of three ranks; returns the folder."""
    folder.mkdir()
    for rank, rows in enumerate(np.array_split(centres, 3)):
        if form == "checkpoint":
            content = {"epoch": 3, "state_dict_backbone": {}}
            content["state_dict_softmax_fc"] = {"weight": rows}
            save(folder / f"checkpoint_gpu_{rank}.pt", content)
        elif form == "softmax":
            save(folder / f"softmax_fc_gpu_{rank}.pt", {"weight": rows})
        else:
            save(folder / f"rank_{rank}_softmax_weight.pt", rows)
    return folder


def random_centres(shape=(CLASSES, 6)):
    return np.random.default_rng(2).normal(0, 3, shape).astype("f4")


@pytest.fixture(scope="module", autouse=True)
def _one_block_a_stage():
    """In place of two: all that can differ shows, in half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BLOCKS, 18, (1, 1, 1, 1))
        patch.setitem(IRESNETS, 18, (1, 1, 1, 1))
        yield


@pytest.mark.parametrize(("depth", "keys"), [(34, 331), (50, 475), (100, 925), (200, 1807)])
def test_published_numbers_of_tensors(depth, keys):
    """A normalisation has 5 tensors, the linear layer 2; the numbers are those of the files."""
    found = list(layer_names(BLOCKS[depth]))
    norms = [name for name in found if re.search(r"(bn\d|downsample\.1|features)$", name)]
    assert len(set(found)) == len(found)
    assert 5 * len(norms) + (len(found) - len(norms)) + 1 == keys


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A state dict, its file, and the folder of a run with three shards of centres."""
    folder = tmp_path_factory.mktemp("insightface")
    tensors = iresnet()
    save(folder / "backbone.pth", {f"module.{name}": x for name, x in tensors.items()})
    shards = write_shards(folder / "shards", random_centres(), "checkpoint")
    names = "".join(f"person {number}\n" for number in range(CLASSES))
    (folder / "names.txt").write_text(names)
    found = import_insightface(
        folder / "backbone.pth", folder / "run", names=folder / "names.txt", centres=shards
    )
    assert found == "IResNet of depth 18, 32 x 32, 7 labels"
    for number, image in enumerate(IMAGES):
        path = folder / "faces" / f"person {number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    return tensors, folder


def cosines(vectors, centres):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, centres.astype("f8"))]
    return unit[0] @ unit[1].T


def test_vectors_and_scores_are_those_of_the_network(backbone):
    """The factors of the last normalisation, which InsightFace holds at 1, are random here."""
    tensors, folder = backbone
    expected = iresnet_vectors(tensors, IMAGES)
    loaded = load_run(folder / "run")
    found = loaded.embedder("--run")(IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    ids, scores = loaded.model.find_top_k(IMAGES, CLASSES)
    own = 64 * cosines(expected, random_centres())
    np.testing.assert_array_equal(ids, np.argsort(-own, axis=1))
    np.testing.assert_allclose(scores, -np.sort(-own, axis=1), atol=1e-3)


def test_the_commands_read_the_run(backbone, tmp_path, capsys):
    tensors, folder = backbone
    run, faces = folder / "run", folder / "faces"
    command = ("--run", run, faces, "--output", tmp_path / "vectors.npy")
    assert call(capsys, encode, *command).code == 0
    order = np.argsort([number % 3 for number in range(6)], kind="stable")
    vectors = iresnet_vectors(tensors, IMAGES[order])
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), vectors, rtol=1e-3, atol=1e-4)
    out = call(capsys, predict, "--run", run, faces, "--k", 1).out.splitlines()
    best = cosines(vectors, random_centres()).argmax(axis=1)
    assert [json.loads(line)["labels"] for line in out] == [[f"person {n}"] for n in best]
    assert call(capsys, evaluate, "--run", run, "--data", faces).code == 0
    assert "7 labels" in call(capsys, info, "--run", run, "--verify").out


@pytest.mark.slow  # of images: end_to_end/test_images.py; of the encoder: its contract
def test_an_imported_run_is_exported(backbone, tmp_path, capsys):
    run = backbone[1] / "run"
    assert call(capsys, export, "--run", run, "--k", 2, "--output", tmp_path / "saved").code == 0
    loaded = tf.saved_model.load(tmp_path / "saved")
    assert loaded.signatures


def test_verification_with_an_imported_backbone(backbone, tmp_path, capsys):
    """Without centres; pairs of the user's own images by a list, with their mirror images."""
    tensors, folder = backbone
    run = tmp_path / "run"
    outcome = call(capsys, import_model, "insightface", folder / "backbone.pth", "--run", run)
    assert outcome.out == f"{run}: IResNet of depth 18, 32 x 32, no labels\n"
    pairs = [(0, 3, 1), (1, 4, 1), (0, 1, 0), (2, 3, 0)]
    lines = [f"person {a % 3}/{a}.png,person {b % 3}/{b}.png,{same}\n" for a, b, same in pairs]
    (tmp_path / "pairs.csv").write_text("".join(lines))
    command = ("--run", run, "--pairs", tmp_path / "pairs.csv", "--images", folder / "faces")
    assert call(capsys, verify, *command, "--folds", 2).code == 0
    vectors = iresnet_vectors(tensors, IMAGES) + iresnet_vectors(tensors, IMAGES[:, :, ::-1])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = [((unit[a] - unit[b]) ** 2).sum() for a, b, _ in pairs]
    with np.load(run / "verification-pairs-csv.npz") as stored:
        np.testing.assert_allclose(stored["distance"], expected, atol=1e-4)
    problem = call(capsys, predict, "--run", run, folder / "faces").problem()
    assert "this run has no labels" in problem
    problem = call(capsys, evaluate, "--run", run, "--data", folder / "faces").problem()
    assert "this run has no labels" in problem
    problem = call(capsys, export, "--run", run).problem()
    assert "this run has no labels" in problem


class EncoderOf:
    """What a training begins with: the encoder of a run."""

    def __init__(self, run):
        self.run = run

    def architecture(self):
        return None

    def load_weights(self, model):
        model.encoder.set_weights(load_run(self.run).model.encoder.get_weights())


@pytest.mark.slow
def test_training_goes_on_from_an_imported_backbone(backbone, tmp_path):
    """Three people of one's own; where the encoder is frozen, it keeps the imported weights."""
    _, folder = backbone
    run = tmp_path / "run"
    import_insightface(folder / "backbone.pth", run)
    tree = json.loads((run / "config.json").read_text())
    tree["data"] |= {"train": str(folder / "faces"), "reader": "image_folder"}
    imported = load_run(run).model.encoder.get_weights()
    for head, frozen in (("adaface", False), ("magface", True)):
        optimizer = {"name": "sgd", "learning_rate": 0.1}
        optimizer |= {"rates": {"encoder": 0}} if frozen else {}
        tree["training"] = {"batch_size": 6, "epochs": 2, "optimizer": optimizer}
        config = parse_config({**tree, "head": {"name": head}, "run": str(tmp_path / head)})
        data = ensure_prepared(config.data, tmp_path / "prepared")
        TrainingJob(config, data, Path(config.run), start=EncoderOf(run)).run()
        model = load_run(config.run).model
        kept = zip(imported, model.encoder.get_weights(), strict=True)
        changed, trained = [(a != b).any() for a, b in kept], model.encoder.trainable_weights
        assert model.head.num_labels == 3 and len(trained) < len(changed)
        # Moving statistics change in any training.
        assert sum(changed) == len(changed) - (len(trained) if frozen else 0)


@pytest.mark.parametrize("form", ["checkpoint", "softmax", "rank"])
def test_shards_of_uneven_sizes(tmp_path, capsys, form):
    centres = random_centres()
    folder = write_shards(tmp_path / form, centres, form)
    np.testing.assert_array_equal(read_centres(folder), centres)
    assert f"{folder}: 3 ranks, 7 classes" in capsys.readouterr().err
    middle = sorted(folder.iterdir())[1]
    with pytest.raises(DataError, match=r"has the centres of rank 1 alone, of 3 ranks"):
        read_centres(middle)
    middle.rename(folder / "elsewhere")
    with pytest.raises(DataError, match=r"1.* is missing: the ranks go up to 2"):
        read_centres(folder)


def test_heads_of_mhe(tmp_path, backbone):
    """(C0, C1, dim) is C0 blocks of C1 classes; the last block may have places to spare."""
    _, folder = backbone
    centres = random_centres((2, 4, 6))
    save(tmp_path / "softmax_fc_gpu_0.pt", {"weight": centres})
    import_insightface(
        folder / "backbone.pth",
        tmp_path / "run",
        names=folder / "names.txt",
        centres=tmp_path / "softmax_fc_gpu_0.pt",
    )
    head = load_run(tmp_path / "run").model.head
    assert (head.sampling, head.heads) == ("batch_heads", [2, 4])
    np.testing.assert_array_equal(head.centres.numpy(), centres.reshape(8, 6)[:7])
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(DataError, match="has 4 names, but the 2 heads of 4 have 5 to 8 classes"):
        import_insightface(
            folder / "backbone.pth",
            tmp_path / "run",
            names=tmp_path / "names.txt",
            centres=tmp_path / "softmax_fc_gpu_0.pt",
        )


def test_files_that_do_not_fit(tmp_path, backbone, capsys):
    _, folder = backbone
    tensors = iresnet(seed=3)
    del tensors["layer2.0.bn3.running_var"]
    tensors["extra.weight"] = np.zeros(3, "f4")
    tensors["bn2.bias"] = np.zeros(4, "f4")
    save(tmp_path / "model.pt", dict(tensors))
    command = (capsys, import_model, "insightface", tmp_path / "model.pt")
    problem = call(*command, "--run", tmp_path / "run").problem()
    for part in (
        "these are not the tensors of an IResNet of depth 18",
        "1 missing: layer2.0.bn3.running_var",
        "1 unknown: extra.weight",
        "1 of another shape: bn2.bias (4,) for (32,)",
    ):
        assert part in problem
    save(tmp_path / "other.pt", {"layer1.0.conv1.weight": np.zeros((2, 2, 3, 3), "f4")})
    problem = call(*command[:-1], tmp_path / "other.pt", "--run", tmp_path / "run").problem()
    assert "this is not an IResNet of a known depth: it has 1 blocks" in problem
    assert "Give the state dict of an IResNet of depth 18, 34, 50, 100, 200." in problem
    for name, shape in (("conv1.weight", (4,)), ("conv1.weight", (0, 3, 3, 3)), ("fc.weight", ())):
        save(tmp_path / "other.pt", iresnet() | {name: np.zeros(shape, "f4")})
        with pytest.raises(DataError, match=rf"the tensor {name} has shape \(.*\) instead of \("):
            import_insightface(tmp_path / "other.pt", tmp_path / "run")
    save(tmp_path / "empty.pt", np.zeros((0, 6), "f4"))
    with pytest.raises(DataError, match="class centres"):
        read_centres(tmp_path / "empty.pt")
    save(tmp_path / "softmax_fc_gpu_0.pt", {"weight": random_centres((3, 5))})
    command = (*command[:3], folder / "backbone.pth", "--run", tmp_path / "run", "--centres")
    problem = call(*command, tmp_path / "softmax_fc_gpu_0.pt").problem()
    assert "the centres have 5 dimensions, the backbone has 6" in problem
    save(tmp_path / "softmax_fc_gpu_1.pt", {"weight": random_centres((1, 5))})
    problem = call(*command, tmp_path).problem()
    assert "the ranks have 3, 1 classes instead of 2, 2, the shares of 4 classes" in problem
    assert not (tmp_path / "run").exists()
