"""Images through the commands: train, evaluate, predict, export."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.data.images.examples import file_of, png, smooth_images
from tests.small_runs import NAMES, config_tree, make_run
from tfxc.commands import evaluate, export, info, predict, prepare, train
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.images.decoding import decode_files, fit_arrays
from tfxc.exports.savedmodel import export_savedmodel
from tfxc.inference.predictors import RunPredictor
from tfxc.inference.savedmodel import SavedModelPredictor
from tfxc.inference.searcher import Searcher
from tfxc.runs.loaded import load_run

SHAPE = (9, 8, 3)
FLAT = {"name": "tests.data.images.examples:FlatImage"}


@pytest.fixture(autouse=True, scope="module")
def _trusted():
    """The runs of these tests have an encoder of their own, which they may import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "refuse_modules", lambda *_: None)
        yield


def tree_of(folder, **training):
    """A config on class folders: noise and a bright spot in one of 8 places, made here."""
    rng = np.random.default_rng(0)
    for number in range(64):
        image = rng.integers(0, 60, (10, 12, 3), np.uint8)
        row, column = divmod(number % 8, 4)
        image[5 * row : 5 * row + 5, 1 + 2 * column : 4 + 2 * column] += 150
        place = folder / "images" / f"place {number % 8}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02}.png").write_bytes(png(image))
    augmentation = [{"name": "random_crop", "padding": 1}, {"name": "affine", "rotation": 5}]
    images = {"height": 8, "width": 8, "channels": 1}
    return config_tree(
        folder,
        FLAT,
        data={**dict.fromkeys(("train", "dev"), str(folder / "images")), "images": images},
        training={
            "batch_size": 32,
            "epochs": 15,
            "optimizer": {"name": "adam", "learning_rate": 0.03},
            "augmentation": augmentation,
            **training,
        },
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Config file, image folder and run of a training through the command."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "config.json").write_text(json.dumps(tree_of(folder)))
    config = str(folder / "config.json")
    assert train.main(["--config", config, "--prepared", str(folder / "prepared")]) == 0
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with random weights, its model and its SavedModel."""
    path = make_run(
        tmp_path_factory.mktemp("run") / "run", kind="image", image_shape=SHAPE,
        num_features=216, encoder=FLAT,
    )  # fmt: skip
    export_savedmodel(load_run(path), path / "savedmodel", k=4)
    return path


def best(run, images, k):
    """Names and scores by NumPy."""
    kernel, bias = (np.array(weight) for weight in load_run(run).model.weights)
    scores = (images.reshape(len(images), -1) / 127.5 - 1) @ kernel + bias
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[NAMES[i] for i in row] for row in ids], np.take_along_axis(scores, ids, 1)


def test_training_learns_and_evaluation_sees_the_same_pixels(trained, capsys):
    config = ["--config", trained / "config.json", "--prepared", trained / "prepared"]
    output = call(capsys, prepare, *config).out
    assert ": 8 labels, images of 8 x 8 x 1, layout" in output and "64 examples" in output
    assert "8 labels, images of 8 x 8 x 1\n" in call(capsys, info, *config).out
    arguments = ["--run", trained / "run", "--k", "1"]
    call(capsys, evaluate, *arguments, "--split", "dev", "--prepared", trained / "prepared")
    call(capsys, evaluate, *arguments, "--data", trained / "images")
    found = [json.loads((trained / "run" / f"evaluation-{name}.json").read_text())["metrics"]
             for name in ("dev", "images")]  # fmt: skip
    assert found[0]["P@1"] > 0.9 and found[0] == found[1]


def test_a_mistake_in_augmentation_is_reported_before_any_work(tmp_path, capsys):
    tree = tree_of(tmp_path, augmentation=[{"name": "afine"}])
    (tmp_path / "config.json").write_text(json.dumps(tree))
    prepared = ["--prepared", tmp_path / "prepared"]
    problem = call(capsys, train, "--config", tmp_path / "config.json", *prepared).problem()
    assert "training.augmentation.0: unknown augmentation 'afine', did you mean" in problem
    assert not (tmp_path / "prepared").exists()


def test_micro_batches_are_augmented_as_the_whole_batch(tmp_path):
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.runs import resuming
    from tfxc.runs.folder import RunFolder
    from tfxc.training.job import TrainingJob
    from tfxc.training.strategies import make_strategy

    weights = []
    for accumulate in (1, 4):
        tree = tree_of(tmp_path, accumulate=accumulate, epochs=2)
        config = parse_config({**tree, "run": str(tmp_path / f"run{accumulate}")})
        data = ensure_prepared(config.data, tmp_path / "prepared")
        folder = RunFolder(config.run)
        resuming.start(folder, config, data)
        strategy = make_strategy(config.training)
        trainer = TrainingJob(config, data, folder.path).trainer(strategy)
        trainer.fit()
        weights.append([np.array(weight) for weight in trainer.model.weights])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_both_signatures_of_the_savedmodel(run):
    images = smooth_images(5, 20, 31)
    fitted = fit_arrays(images, SHAPE)
    names, scores = best(run, fitted, 4)
    signatures = tf.saved_model.load(str(run / "savedmodel")).signatures
    files = [png(image) for image in images]
    files[1] = tf.io.encode_jpeg(images[1], quality=100).numpy()
    for found in (
        signatures["serving_default"](images=tf.constant(fitted)),
        signatures["encoded"](image_bytes=tf.constant([files[0], *files[2:]])),
    ):
        rows = range(5) if len(found["ids"]) == 5 else [0, 2, 3, 4]
        assert found["labels"].numpy().tolist() == [[n.encode() for n in names[r]] for r in rows]
        np.testing.assert_allclose(found["scores"], scores[list(rows)], rtol=1e-4, atol=1e-5)
    jpeg = signatures["encoded"](image_bytes=tf.constant([files[1]]))["scores"].numpy()
    expected = best(run, decode_files([files[1]], SHAPE), 4)[1]
    np.testing.assert_allclose(jpeg, expected, rtol=1e-4, atol=1e-5)


def test_resnet_exports_and_answers_as_in_training(tmp_path):
    encoder = {"name": "resnet", "depth": 10, "width": 4}
    path = make_run(tmp_path / "run", kind="image", image_shape=SHAPE, num_features=216,
                    encoder=encoder)  # fmt: skip
    loaded = load_run(path)
    exported = export_savedmodel(loaded, tmp_path / "served", k=3)
    assert exported.input_kind == "image" and exported.score_difference < 1e-4
    images = smooth_images(3, *SHAPE[:2])
    ids, scores = Searcher(loaded.model, 3)({"features": tf.constant(images)})
    served = SavedModelPredictor(tmp_path / "served")(Chunk([[]] * 3, images=images))
    assert served.labels == [[NAMES[i] for i in row] for row in ids]
    np.testing.assert_allclose(served.scores, scores, rtol=1e-4, atol=1e-5)


def test_export_tells_how_to_call_it(run, tmp_path, capsys):
    outcome = call(capsys, export, "--run", run, "--output", tmp_path / "served", "--k", "2")
    assert "images: uint8 (batch, 9, 8, 3)" in outcome.out
    assert "image_bytes: string (batch,)" in outcome.out
    assert "model(images=tf.zeros([1, 9, 8, 3], tf.uint8))" in outcome.out


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images of several kinds at two depths, in the order they are read."""
    pytest.importorskip("PIL")
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    images = smooth_images(4, 15, 10)
    files = {
        "a.png": png(images[0]),
        "b.jpg": tf.io.encode_jpeg(images[1]).numpy(),
        "more/c.bmp": file_of(images[2], "BMP"),
        "more/d.PNG": png(images[3][..., :1]),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder, list(files), decode_files(list(files.values()), SHAPE)


@pytest.mark.parametrize("model", ["run", "savedmodel"])
def test_predicting_a_folder_an_image_an_archive_and_paths(
    run, photos, tmp_path, capsys, monkeypatch, model
):
    folder, names, images = photos
    expected, scores = best(run, images, 2)
    source = ["--run", str(run), "--scores"] if model == "run" else ["--model", str(run / model)]

    def answers(*arguments):
        predict.main([*source, "--k", "2", *arguments])
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        given, labels, values = (
            [row[key] for row in found] for key in ("name", "labels", "scores")
        )
        return given, labels, np.array(values)

    given, labels, found = answers(str(folder), "--batch-size", "3")
    assert given == names and labels == expected
    np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-5)
    one = str(folder / names[1])
    assert answers(one)[:2] == ([one], expected[1:2])
    np.savez(tmp_path / "bare.npz", images=images)
    rows = [f"images[{row}]" for row in range(4)]
    assert answers(str(tmp_path / "bare.npz"))[:2] == (rows, expected)
    paths = [str(folder / name) for name in reversed(names)]
    (tmp_path / "lines").write_text("\n".join(paths))
    with open(tmp_path / "lines") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert answers()[:2] == (paths, expected[::-1])
    predict.main([*source, "--format", "table", one])
    assert capsys.readouterr().out.startswith(f"{one}  ")


def test_images_that_cannot_be_predicted_are_named(run, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("bad", r"bad: 1 of the images cannot be decoded: x\.png"),
        ("bad/x.png", r"1 of the images cannot be decoded: .*x\.png"),
        ("empty", r"the folder has no image files \(\.jpg, \.jpeg, \.png, \.bmp, \.gif\)"),
        ("absent", "no such file"),
    ):
        for source in (["--run", str(run)], ["--model", str(run / "savedmodel")]):
            with pytest.raises(DataError, match=message) as caught:
                predict.main([*source, str(tmp_path / name)])
            assert "max_corrupt" not in str(caught.value) and "refuses" not in str(caught.value)
    for predictor in (RunPredictor(load_run(run)), SavedModelPredictor(run / "savedmodel")):
        with pytest.raises(DataError, match=r"have no images, but texts.*as in training"):
            predictor(Chunk([[]], texts=["x"]))
