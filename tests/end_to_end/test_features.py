"""From examples to a feature set, its splits and a trained model, by the commands."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from tests import tiny, torch_files
from tests.commands.calls import call
from tests.data.images.examples import file_of, png, smooth_images
from tests.data.reading.formats.test_webdataset import write_tar
from tests.data.store.feature_sets.examples import files, write_set
from tests.data.store.feature_sets.test_encoder import save
from tests.small_runs import make_run
from tfxc.commands import evaluate, info, predict, prepare, train
from tfxc.commands import features as features_command
from tfxc.core import registry
from tfxc.core.storage import checksums
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.inspection.completion import load_config
from tfxc.data.reading.parsing.feature_set import FeatureSet
from tfxc.data.store.preparation import ensure_prepared
from tfxc.inference.embedder import Embedder
from tfxc.runs import resuming
from tfxc.runs.folder import RunFolder
from tfxc.runs.loaded import load_run
from tfxc.training.job import TrainingJob
from tfxc.training.strategies import make_strategy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True, scope="module")
def _trusted():
    """The runs of these tests have an encoder of their own, which they may import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "refuse_modules", lambda *_: None)
        yield


@pytest.fixture
def images(tmp_path):
    """A folder of 12 images of 3 classes, and a run whose encoder takes them."""
    for number, image in enumerate(smooth_images(12, 9, 8)):
        folder = tmp_path / "images" / "cbd"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(image))
    encoder = {"name": "tests.data.images.examples:FlatImage"}
    make_run(tmp_path / "run", kind="image", image_shape=(4, 4, 3), encoder=encoder,
             objective={"name": "softmax"}, names=["b", "c", "d"])  # fmt: skip
    return tmp_path


def test_features_of_a_run_like_its_embeddings(images, capsys):
    command = [images / "images", "--run", images / "run", "--output", images / "set"]
    command += ["--batch-size", 5, "--flip"]
    outcome = call(capsys, features_command, "extract", *command)
    assert outcome.code == 0 and "12 rows of 48 values, 3 labels; 12 rows enc" in outcome.out
    found, loaded = FeatureSet(images / "set"), load_run(images / "run")
    reader = open_reader(images / "images")
    expected = Embedder(loaded.model, True).over_rows(loaded.rows(reader), 12, 12)
    np.testing.assert_array_equal(found.features, expected)
    assert found.label_names == ["b", "c", "d"]
    assert found.labels.tolist() == [i // 4 for i in range(12)]
    before = files(images / "set")
    assert "0 rows encoded by this call" in call(capsys, features_command, "extract", *command).out
    assert files(images / "set") == before
    problem = call(capsys, features_command, "extract", *command, "--unit-norm").problem()
    assert "changed: unit_norm (False -> True)" in problem


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--run", "run", "--mean", "0.5"], "--mean: this option is for --saved-model"),
        (["--saved-model", "run", "--flip"], "--flip: this option is for --run"),
        (["--saved-model", "run"], "this folder has no saved_model.pb"),
        (["--run", "run", "--num-labels", "2"], "num_labels: is 2, but there are 3 label names"),
    ],
)
def test_extraction_that_cannot_be(images, capsys, monkeypatch, options, message):
    monkeypatch.chdir(images)
    outcome = call(capsys, features_command, "extract", "images", "--output", "set", *options)
    assert message in outcome.problem()
    assert not (images / "set").exists()


def test_shards_with_a_catalog_by_a_saved_model(tmp_path, capsys, monkeypatch):
    """The form of TreeOfLife-10M."""
    monkeypatch.chdir(tmp_path)
    pictures = smooth_images(5, 8, 6)
    keys = ["e", "d", "c", "b", "a"]
    for shard in (0, 1):
        pairs = [(f"{keys[i]}.jpg", file_of(pictures[i], "PNG")) for i in range(shard, 5, 2)]
        write_tar(Path(f"s-{shard}.tar"), pairs)
    species = {"a": "Zea mays", "b": "Poa annua", "c": "Ara", "d": "", "e": "Zea mays"}
    rows = [f"{key},{name}" for key, name in species.items()]
    Path("catalog.csv").write_text("\n".join(["treeoflife_id,species", *rows]))
    save(Path("model"), [None, 8, 6, 3])
    command = ["s-{0..1}.tar", "--reader-option", "catalog=catalog.csv", "--output", "set"]
    command += ["--saved-model", "model", "--mean", ".485", ".456", ".406", "--unit-norm"]
    command += ["--std", ".229", ".224", ".225", "--batch-size", "2"]
    outcome = call(capsys, features_command, "extract", *command)
    assert "4 rows of 3 values, 3 labels" in outcome.out, outcome.err
    assert "0 rows encoded by this call" in call(capsys, features_command, "extract", *command).out
    found, order = FeatureSet("set"), [0, 2, 4, 3]  # d has no species
    assert found.label_names == ["Ara", "Poa annua", "Zea mays"]
    assert found.labels.tolist() == [2, 0, 2, 1]
    scaled = (pictures[order] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = scaled.mean(axis=(1, 2))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.features, expected, rtol=1e-4, atol=1e-5)
    Path("catalog.csv").write_text("treeoflife_id,species\na,Ara\n")
    problem = call(capsys, features_command, "extract", *command).problem()
    assert "s-0.tar: sample 'e': catalog.csv has no row with the key 'e'" in problem


def learnable(folder, count=400):
    """Vectors around the centres of 20 classes."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 20, count)
    noise = 0.3 * random.standard_normal((count, 16))
    features = random.standard_normal((20, 16))[labels] + noise
    write_set(folder, features.astype(np.float32), labels, num_labels=20)
    return folder


def write_config(folder, **changes):
    tree = {
        "run": str(folder / "run"),
        "data": {"name": "set", "train": str(folder / "sets/train"),
                 "dev": str(folder / "sets/val")},
        "encoder": {"name": "precomputed"},
        "head": {"name": "sampled"},
        "objective": {"name": "scent"},
        "training": {"batch_size": 16, "epochs": 4, "memory_gb": 3e-6,
                     "optimizer": {"name": "sgd", "learning_rate": 1.0}},
        **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(tree))
    return ["--config", folder / "config.json", "--prepared", folder / "prepared"]


@pytest.fixture
def sets(tmp_path, capsys):
    command = [learnable(tmp_path / "all"), "--output", tmp_path / "sets", "--val", "50"]
    outcome = call(capsys, features_command, "split", *command, "--test", "0.1", "--seed", "3")
    output = [
        f"{tmp_path}/sets/{n}: {r} rows" for n, r in (("train", 310), ("val", 50), ("test", 40))
    ]
    assert outcome.out.splitlines() == output
    return tmp_path


def test_trained_measured_and_used(sets, capsys):
    arguments = write_config(sets)
    assert "all checksums match" in call(capsys, prepare, *arguments, "--verify").out
    assert "tried one batch" in call(capsys, train, *arguments, "--dry-run").out
    outcome = call(capsys, train, *arguments, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["dev"]["P@1"] > 0.9
    run, kept = sets / "run", ["--prepared", sets / "prepared"]
    one = call(capsys, evaluate, "--run", run, "--split", "dev", *kept)
    other = call(capsys, evaluate, "--run", run, "--data", sets / "sets/val", *kept)
    tables = [o.out.split("full_loss")[0].splitlines()[1:] for o in (one, other)]
    assert tables[0] == tables[1] and "examples: 50" in one.out
    assert "20 labels, 16 features (dense)" in call(capsys, info, "--run", run).out
    lines = call(capsys, predict, "--run", run, sets / "sets/test", "--k", "1").out.splitlines()
    truth = FeatureSet(sets / "sets/test").labels
    right = [str(label) in line for label, line in zip(truth, lines, strict=True)]
    assert np.mean(right) > 0.8


class Fault(Exception):
    """A crash in the middle of a training."""


def stop_after_17_steps(trainer):
    train_step, count = trainer.step_function.run, itertools.count()

    def failing(iterator):
        if next(count) == 17:
            raise Fault
        return train_step(iterator)

    trainer.step_function.run = failing


def trained(folder, name, prepare_trainer=None):
    """Trains a run of the config in ``folder`` in this process; returns the trainer."""
    changes = [f"run={folder / name}", "training.checkpoint_every=7"]
    config = load_config(folder / "config.json", changes)
    data = ensure_prepared(config.data, folder / "prepared")
    run = RunFolder(Path(config.run))
    resuming.start(run, config, data)
    trainer = TrainingJob(config, data, config.run).trainer(make_strategy(config.training))
    if prepare_trainer:
        prepare_trainer(trainer)
    trainer.fit()
    return trainer


@pytest.mark.slow  # training/test_resume.py; the order of a set: data/sources
def test_stopped_and_resumed_training_is_the_same(sets):
    write_config(sets)
    whole = trained(sets, "whole")
    assert not whole.source.in_memory
    with pytest.raises(Fault):
        trained(sets, "stopped", stop_after_17_steps)
    resumed = trained(sets, "stopped")
    for one, other in zip(tiny.weights(whole), tiny.weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("memory", [3e-6, 1.0])
def test_damage_found_in_training_is_one_line(sets, capsys, memory):
    stored = np.load(sets / "sets/train/features.npy", mmap_mode="r+")
    stored[200, 3] = np.nan
    stored.flush()
    checksums.add(sets / "sets/train", "features.npy")
    arguments = write_config(sets)
    outcome = call(capsys, train, *arguments, "--set", f"training.memory_gb={memory}")
    assert "features.npy: row 200 (counted from 0) has a feature that is NaN or infinite" in (
        outcome.problem()
    )


def test_half_written_set_in_training_is_one_line(sets, capsys):
    settings = sets / "sets/train/features.json"
    settings.write_text(settings.read_text().replace('"finished": true', '"finished": false'))
    (sets / "sets/train/features.npy").rename(sets / "sets/train/.features.npy.unfinished")
    problem = call(capsys, train, *write_config(sets)).problem()
    assert "sets/train: incomplete" in problem


def test_import(tmp_path, capsys):
    random = np.random.default_rng(0)
    features, labels = random.standard_normal((9, 4)).astype(np.float32), np.arange(9) % 4
    np.save(tmp_path / "x.npy", features)
    np.save(tmp_path / "y.npy", labels)
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    command = [tmp_path / "x.npy", tmp_path / "y.npy", "--output", tmp_path / "set"]
    outcome = call(
        capsys, features_command, "import", *command, "--label-names", tmp_path / "names.txt"
    )
    assert outcome.out == f"{tmp_path / 'set'}: 9 rows\n"
    found = FeatureSet(tmp_path / "set")
    np.testing.assert_array_equal(found.features, features)
    assert found.labels.tolist() == labels.tolist() and found.label_names == list("abcd")
    np.savez(tmp_path / "z.npz", features)
    (tmp_path / "bad.npy").write_bytes(b"no")
    (tmp_path / "x.pt").touch()
    for name, message in (
        ("absent.npy", "absent.npy: no such file"),
        ("z.npz", "z.npz: it is an archive of several arrays, not an .npy file"),
        ("bad.npy", "bad.npy: damaged, or of another format"),
        ("x.pt", "x.pt: the file is truncated or damaged, or was not written by torch.save"),
    ):
        outcome = call(capsys, features_command, "import", tmp_path / name, *command[1:])
        assert message in outcome.problem()
    np.save(tmp_path / "y.npy", labels.astype(float))
    problem = call(capsys, features_command, "import", *command[:3], tmp_path / "new").problem()
    assert f"{tmp_path / 'y.npy'}: they are float64 (9,), not integers (n,)" in problem


def test_import_of_tensors(tmp_path, capsys):
    features = np.random.default_rng(0).standard_normal((9, 4)).astype("f4")
    torch_files.save(tmp_path / "features.pt", features)
    torch_files.save(tmp_path / "labels.pt", np.arange(9))
    torch_files.save(tmp_path / "dict.pt", {"x": features})
    command = [tmp_path / "labels.pt", "--output", tmp_path / "set"]
    outcome = call(capsys, features_command, "import", tmp_path / "dict.pt", *command)
    assert "the file contains a dict, not a single tensor" in outcome.problem()
    assert call(capsys, features_command, "import", tmp_path / "features.pt", *command).code == 0
    np.testing.assert_array_equal(FeatureSet(tmp_path / "set").features, features)
