"""Recipe 'distill': what the teacher says reaches the student, example by example."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.contracts.recipe import RecipeContract
from tests.data.sources.examples import write_jsonl
from tests.small_runs import config_tree
from tfxc.commands import distill, train
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage import checksums
from tfxc.data.sources.shards import ShardSource, open_source
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.preparation import DataSettings, ensure_prepared, prepare
from tfxc.data.store.records.reading_order import reading_order
from tfxc.encoders.precomputed import Precomputed
from tfxc.heads.dense import Dense
from tfxc.model import XCModel
from tfxc.objectives.softmax import Softmax
from tfxc.ops.divergence import teacher_divergence
from tfxc.recipes.base import Context
from tfxc.recipes.distill.objective import Distillation
from tfxc.recipes.distill.recipe import Distill
from tfxc.recipes.distill.teacher_logits import confidence, write_teacher_logits
from tfxc.runs.loaded import load_run

NAMES = ("fox", "hen", "owl")


class TestDistill(RecipeContract):
    name = "distill"
    arguments = {"teachers": ["runs/a"], "distance": "ce"}  # noqa: RUF012 (read only)

    def trained_with(self, folder):
        """A teacher of the same data."""
        return {"teachers": [self.fitted(folder, "teacher")]}

    def test_defaults_suffice(self):
        with pytest.raises(TypeError, match="teachers"):
            Distill()


def tree(folder, run, text_features, encoder, **changes):
    """A config on the texts in ``folder``; the run may lie elsewhere."""
    data = {"name": Path(run).name, "text_features": text_features, "shard_examples": 40}
    return config_tree(folder, encoder, run=run, data=data, training={"epochs": 5}, **changes)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A finished run on TF-IDF, whose file also says so of 130 texts; it lies next to the texts."""
    folder = tmp_path_factory.mktemp("teacher")
    for split, count in (("train", 130), ("dev", 30)):
        names = [NAMES[number * 7 % 3] for number in range(count)]
        texts = [(f"a {name} and word{number}", [name]) for number, name in enumerate(names)]
        write_jsonl(folder / f"{split}.jsonl", texts)
    config = folder / "teacher.json"
    encoder = {"name": "bag_mlp", "hidden": [16]}
    config.write_text(json.dumps(tree(folder, "teacher", {"name": "tfidf"}, encoder)))
    assert train.main(["--config", str(config), "--prepared", str(folder / "prepared")]) == 0
    return folder / "teacher"


@pytest.fixture
def student(teacher, tmp_path):
    encoder = {"name": "textcnn", "embedding_dim": 8, "num_filters": 24, "widths": [3]}
    path = tmp_path / "student.json"
    tokens = {"name": "characters", "max_length": 30}
    path.write_text(json.dumps(tree(teacher.parent, tmp_path / "student", tokens, encoder)))
    return path


def test_confidence(tmp_path):
    np.save(tmp_path / "logits.npy", np.log(np.float32([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25]])))
    assert confidence(tmp_path / "logits.npy", 1.0) == pytest.approx(0.65)
    # Square roots of the probabilities, to sum 1.
    wanted = np.mean([0.8**0.5 / (0.8**0.5 + 2 * 0.1**0.5), 0.5**0.5 / (0.5**0.5 + 1)])
    assert confidence(tmp_path / "logits.npy", 2.0) == pytest.approx(wanted)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
@pytest.mark.parametrize("distance", ["kl", "ce", "mse"])
def test_distances_by_hand(link, distance):
    random = np.random.default_rng(0)
    student, teacher = random.normal(0, 3, (2, 4, 5))
    found = teacher_divergence(tf.constant(student), tf.constant(teacher), 2.5, link, distance)
    if distance == "mse":
        expected = ((student - teacher) ** 2).mean(axis=1)
    elif link == "softmax":
        q, p = (np.exp(z / 2.5) / np.exp(z / 2.5).sum(1, keepdims=True) for z in (student, teacher))
        expected = (p * np.log(p / q) if distance == "kl" else -p * np.log(q)).sum(axis=1)
    else:
        q, p = (1 / (1 + np.exp(-z / 2.5)) for z in (student, teacher))
        expected = -(p * np.log(q) + (1 - p) * np.log(1 - q)).sum(axis=1)
        if distance == "kl":
            expected += (p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    extreme = tf.constant([[1e4, -1e4]])
    assert np.isfinite(teacher_divergence(extreme, -extreme, 1.0, link, distance)).all()


def test_logits_stand_where_the_examples_do(teacher, student, tmp_path):
    """Cross-checked with the texts: each example has a word of its own."""
    config = parse_config(json.loads(student.read_text()))
    folder = ensure_prepared(config.data, tmp_path / "prepared")
    manifest, source = Manifest.load(folder), open_source(folder, "train")
    names = load_run(teacher).vocabulary.names[::-1]  # another order than the teacher's
    order = reading_order(manifest, config.data)
    assert sorted(order) == list(range(130)) and (order != np.arange(130)).any()
    arguments = ([teacher, teacher], config.data, manifest, source)
    with pytest.raises(DataError, match="has other examples or labels"):
        write_teacher_logits(tmp_path / "l.npy", *arguments, names)
    names = (folder / "labels.txt").read_text().split()
    write_teacher_logits(tmp_path / "l.npy", *arguments, names)
    found = np.load(tmp_path / "l.npy")
    assert found.shape == (130, 3) and not list(tmp_path.glob(".l*")) + list(tmp_path.glob("l-*"))
    texts = [json.loads(line)["text"] for line in (teacher.parent / "train.jsonl").open()]
    run = load_run(teacher)
    rows = run.text_features.transform([texts[number] for number in order])
    features = {
        "ids": tf.constant(rows.indices),
        "weights": tf.constant(rows.data),
        "row_splits": tf.constant(rows.indptr, tf.int64),
    }
    columns = [run.vocabulary.names.index(name) for name in names]
    expected = run.model(features).numpy()[:, columns]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1300, 40])
def test_order_of_images(tmp_path, count):
    """Images are read in smaller chunks; the order is the same."""
    pixels = np.arange(count, dtype=np.uint16)[:, None].view(np.uint8).reshape(count, 1, 2, 1)
    labels = np.arange(count) % 3
    np.savez(tmp_path / "train.npz", images=pixels, labels=labels)
    settings = DataSettings(
        name="pixels", train=str(tmp_path / "train.npz"), reader="image_arrays", shard_examples=90
    )
    manifest = prepare(settings, tmp_path / "out")
    order = reading_order(manifest, settings)
    batches = ShardSource(tmp_path / "out", "train").sequential(5000)
    found = np.concatenate([batch["features"] for batch in batches]).reshape(count, 2)
    np.testing.assert_array_equal(np.ascontiguousarray(found).view(np.uint16)[:, 0], order)
    manifest.splits["train"].corrupt_images = 2
    with pytest.raises(DataError, match="2 corrupt images were left out"):
        reading_order(manifest, settings)


def test_student_learns_from_the_teacher_alone(teacher, student, tmp_path, capsys):
    """With weight 0 of the true labels, it agrees with the teacher, another tokenisation or not."""
    command = ["--config", student, "--teacher", teacher, "--prepared", tmp_path / "prepared"]
    command += ["--hard-weight", "0", "--temperature", "2", "--set", "training.epochs=8"]
    outcome = call(capsys, distill, *command, "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["dev"]["P@1"] > 0.9
    run = load_run(tmp_path / "student")
    assert run.model.head.num_labels == 3
    assert (tmp_path / "student" / "teachers.txt").read_text() == f"{teacher}\n"
    again = call(capsys, distill, *command)
    assert again.code == 0 and "already finished" in again.out


def test_hard_weight_1_is_training_without_a_teacher(teacher, student, tmp_path, capsys):
    prepared = ("--prepared", tmp_path / "prepared")
    alone = call(capsys, train, "--config", student, *prepared, "--json")
    expected = json.loads(alone.out)["loss"]
    command = ("--config", student, *prepared, "--teacher", teacher, "--hard-weight", "1")
    with_teacher = call(capsys, distill, *command, "--fresh", "--json")
    assert json.loads(with_teacher.out)["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teachers": []}, "teachers: must be .*list of at least one"),
        ({"teachers": "a", "hard_weight": 1.5}, "must be a number from 0 to 1, or two, not 1.5"),
        ({"teachers": "a", "temperature": 0}, r"recipe.temperature: must be a number from 0\.001"),
        ({"teachers": "a", "hard_weight": [1, 2, 3]}, "or two, not"),
        ({"teachers": "a", "distance": "js"}, "must be one of kl, ce, mse, not 'js'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Distill(**arguments)


def test_teachers_that_do_not_fit(teacher, student, tmp_path, capsys):
    teacher = shutil.copytree(teacher, tmp_path / "teacher")
    command = ("--config", student, "--prepared", tmp_path / "prepared")
    problem = call(capsys, distill, *command, "--teacher", tmp_path / "none").problem()
    assert "there is no finished run in" in problem
    labels = teacher / "assets" / "labels.txt"
    labels.write_text(labels.read_text().replace("owl", "eagle"))
    checksums.add(teacher, "assets/labels.txt")
    problem = call(capsys, distill, *command, "--teacher", teacher).problem()
    assert "such as 'owl'" in problem and "the teacher lacks 1 of" in problem
    labels.write_text(labels.read_text().replace("eagle", "owl"))
    checksums.add(teacher, "assets/labels.txt")
    head = 'head={"name": "mhp", "num_heads": 2}'
    problem = call(capsys, distill, *command, "--teacher", teacher, "--set", head).problem()
    assert "the student's head does not score all labels in training" in problem
    assert not (tmp_path / "student").exists(), "all this is found before a run is started"


def test_teachers_one_after_the_other(teacher, student, tmp_path, capsys):
    """In its turn each teacher alone determines what the student learns."""
    opposite = tmp_path / "opposite"
    shutil.copytree(teacher, opposite)
    with h5py.File(opposite / "model.weights.h5", "r+") as file:
        kernel = file["head/vars/0"]
        kernel[...] = -kernel[...]
    checksums.add(opposite, "model.weights.h5")
    command = ("--config", student, "--prepared", tmp_path / "prepared", "--hard-weight", 0)
    both = ("--teacher", teacher, "--teacher", opposite, "--set", "recipe.turns=[3, 1]")
    outcome = call(capsys, distill, *command, *both)
    assert outcome.code == 0, outcome.err
    assert "teacher of turn 0: highest" in outcome.out and "teacher of turn 1" in outcome.out
    run = tmp_path / "student"
    logits = [np.load(run / f"turn-{n}-teacher_logits.npy") for n in (0, 1)]
    assert not (run / "teacher_logits.npy").exists()
    bias = (logits[0] + logits[1]).mean(axis=0) / 2  # all that the two agree in
    np.testing.assert_allclose(logits[0] - bias, bias - logits[1], atol=1e-4)

    recipe = load_run(run).config.recipe.section()
    made = Distill(**{key: value for key, value in recipe.items() if key != "name"})
    context = Context(load_run(run).config, tmp_path, run)
    technique = made.technique(context)
    technique.on_train_begin(10.0, 40)
    technique.build(load_run(run).model, None)
    seen = []
    for step in range(40):
        technique.before_step(step)
        seen.append(technique._teacher_logits(np.arange(5)))
    for step, found in enumerate(seen):
        np.testing.assert_array_equal(found, logits[step >= 30][:5])


@pytest.mark.parametrize("turns", [[1], [1, 0], [1, 2, 3], "both", [True, 1]])
def test_turns_that_cannot_be(turns):
    with pytest.raises(ConfigError, match=r"turns: must be "):
        Distill(teachers=["a", "b"], turns=turns)


def test_schedules_move():
    technique = Distillation([], (1.0, 0.0), (8.0, 2.0), "kl", True)
    technique.on_train_begin(10.0, 101)
    technique.build(XCModel(Precomputed(4), Dense(10), Softmax()), None)
    seen = []
    for step in (0, 50, 100):
        technique.before_step(step)
        seen.append([float(value.numpy()) for value in technique._values])
    np.testing.assert_allclose(seen, [[1, 8], [0.5, 5], [0, 2]])
