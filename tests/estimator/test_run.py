"""``tfxc.Run``: the same answers as the commands."""

import io
import json

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from PIL import Image

import tfxc
from tests.small_runs import NAMES, TEXTS, make_run
from tfxc.commands import evaluate, predict
from tfxc.core.errors import CheckpointError, ConfigError, DataError

TFIDF = {"name": "tfidf"}
SOFTMAX = {"name": "softmax"}


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "run"
    return make_run(folder, text_features=TFIDF, objective=SOFTMAX)


def test_a_run_of_a_storage_is_copied_by_commands_only():
    with pytest.raises(ConfigError, match=r"'s3:/+bucket/run' is the address of a remote"):
        tfxc.Run("s3://bucket/run")


def test_predicts_as_the_command(text_run, tmp_path, capsys):
    run = tfxc.Run(text_run)
    assert run.labels == NAMES
    assert run.config.encoder.name == "bag_mlp"
    assert repr(run) == f"Run({str(text_run)!r}: 12 labels, recipe 'fit')"
    found = run.predict(TEXTS, k=3)
    (tmp_path / "in.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    for more, answers in (
        (["--scores"], run.predict(TEXTS, 3, probabilities=False)),
        (["--probabilities"], found),
        ([], found),
    ):
        predict.main(["--run", str(text_run), str(tmp_path / "in.txt"), "--k", "3", *more])
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["labels"] for line in lines] == answers.labels
        np.testing.assert_allclose([line["scores"] for line in lines], answers.scores, atol=1e-5)
    assert (found.scores > 0).all() and (found.scores.sum(1) <= 1).all()
    many = run.predict(TEXTS * 60, k=3)
    assert many.labels == found.labels * 60 and many.scores.shape == (300, 3)


def test_one_text_none_and_no_text(text_run):
    run = tfxc.Run(text_run)
    assert run.predict(TEXTS[0], k=2).labels == run.predict(TEXTS[:1], k=2).labels
    nothing = run.predict([], k=2)
    assert nothing.labels == [] and nothing.scores.shape == (0, 2)
    with pytest.raises(DataError, match="examples: the example at index 1 is not a text but int"):
        run.predict(["a", 3])
    with pytest.raises(DataError, match="there are no examples to encode"):
        run.encode([])
    for k in (13, 0, "five"):
        with pytest.raises(ConfigError, match=f"k: must be from 1 to 12, .*, not {k!r}"):
            run.predict(TEXTS, k=k)
    with pytest.raises(CheckpointError):
        tfxc.Run(text_run.parent)


def test_matrices(tmp_path):
    run = tfxc.Run(make_run(tmp_path / "run"))
    dense = np.random.default_rng(0).random((4, 20)) * (np.arange(20) % 3 == 0)
    sparse = run.predict(scipy.sparse.csc_matrix(dense), k=2)
    np.testing.assert_array_equal(
        run.predict(scipy.sparse.coo_matrix(dense), 2).scores, sparse.scores
    )
    assert sparse.scores.shape == (4, 2)
    with pytest.raises(DataError, match=r"Pass a matrix of numbers \(examples, features\)"):
        run.predict(["a text"])
    vectors = run.encode(scipy.sparse.csr_matrix(dense))
    assert vectors.shape == (4, 6) and vectors.dtype == np.float32


def test_answers_do_not_depend_on_the_order_of_calls(tmp_path):
    """A run that computes in another precision encodes in float32, and changes nothing by it."""
    path = make_run(tmp_path / "run", text_features=TFIDF, objective=SOFTMAX,
                    training={"precision": "mixed_bfloat16"})  # fmt: skip
    first, second = tfxc.Run(path), tfxc.Run(path)
    config = first.config
    vectors, scores = first.encode(TEXTS), first.predict(TEXTS, 3).scores
    np.testing.assert_array_equal(second.predict(TEXTS, 3).scores, scores)
    np.testing.assert_array_equal(second.encode(TEXTS), vectors)
    assert first.config == second.config == config
    assert config.training.precision == "mixed_bfloat16"
    loaded = first._loaded
    assert loaded.embedder("test").model is not loaded.model
    assert {one.dtype for one in (vectors, scores)} == {np.dtype(np.float32)}


def test_images_as_arrays_bytes_and_files(tmp_path):
    encoder = {"name": "resnet", "depth": 10, "width": 4}
    run = tfxc.Run(
        make_run(tmp_path / "run", kind="image", image_shape=[8, 8, 3], num_features=192,
                 encoder=encoder, objective=SOFTMAX)
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    expected = run.predict(pixels, k=2)
    files, encoded = [], []
    for number, image in enumerate(pixels):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "png")
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(buffer.getvalue())
        encoded.append(buffer.getvalue())
    for given in (list(pixels), encoded, files, [str(file) for file in files]):
        found = run.predict(given, k=2)
        assert found.labels == expected.labels
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert run.predict(files[0], k=2).labels == expected.labels[:1]
    with pytest.raises(DataError, match=r"absent\.png: no such file"):
        run.predict([tmp_path / "absent.png"])
    with pytest.raises(DataError, match="Pass the name of an image file, its bytes or an array"):
        run.predict([3])


def test_given_features_next_to_texts(tmp_path):
    terms = {
        "name": "joined",
        "tokens": {"name": "words", "min_count": 1},
        "terms": {"name": "given", "num_features": 3},
    }
    path = make_run(tmp_path / "run", text_features=terms, kind="joined",
                    encoder={"name": "textcnn", "embedding_dim": 4, "num_filters": 3})  # fmt: skip
    run = tfxc.Run(path)
    features = np.arange(15).reshape(5, 3)
    found = run.predict(TEXTS, k=2, features=features)
    same = run.predict(TEXTS[1:2], k=2, features=scipy.sparse.csr_matrix(features[1:2]))
    assert same.labels == found.labels[1:2]
    assert run.encode(TEXTS).shape[0] == 5  # its encoder reads the texts alone
    with pytest.raises(DataError, match="there are features of 2 examples, but 5 texts"):
        run.predict(TEXTS, features=np.zeros((2, 3)))


def test_measures_as_the_command(text_run, tmp_path, capsys):
    lines = [{"text": t, "labels": [NAMES[n], "new"]} for n, t in enumerate(TEXTS)]
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.warns(UserWarning, match="5 of their labels are unknown to the run: 'new'"):
        found = tfxc.Run(text_run).evaluate(file, k=[1, 3])
    evaluate.main(["--run", str(text_run), "--data", str(file), "--k", "1,3",
                   "--output", str(tmp_path / "out")])  # fmt: skip
    written = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert found["P@1"] == written["metrics"]["P@1"]
    assert found["nDCG@3"] == written["metrics"]["nDCG@3"]
    with pytest.raises(ConfigError, match="data and split exclude each other"):
        tfxc.Run(text_run).evaluate(file, split="dev")


def test_exports(text_run, tmp_path, capsys):
    run = tfxc.Run(text_run)
    folder = run.export(tmp_path / "served", k=2, probabilities=True)
    model = tf.saved_model.load(str(folder)).signatures["serving_default"]
    served = model(text=tf.constant(TEXTS))
    np.testing.assert_allclose(served["scores"], run.predict(TEXTS, k=2).scores, atol=1e-5)
    assert capsys.readouterr().out == ""
    with pytest.raises(ConfigError, match="format: must be one of savedmodel, onnx, litert"):
        run.export(format="pickle")
    folder = run.export(tmp_path / "other", "litert", k=2, probabilities=True)
    assert json.loads((folder / "export.json").read_text())["probabilities"] is True


def test_a_checkpoint_that_is_not_there(text_run):
    with pytest.raises((CheckpointError, ConfigError), match="step"):
        tfxc.Run(text_run, options=tfxc.SearchOptions(step=7))


def test_saved_by_the_estimator(tmp_path):
    model = tfxc.XCClassifier(epochs=5, batch_size=4).fit(TEXTS, list("abcab"))
    model.save(tmp_path / "run")
    best, scores = model.predict_top_k(TEXTS, 2)
    found = tfxc.Run(tmp_path / "run").predict(TEXTS, 2)
    assert found.labels == best.tolist()
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"beam": 0}, "beam: must be an integer of at least 1, not 0. Change it."),
        ({"step": "7"}, "step: must be an integer of at least 0, not '7'. Change it."),
        ({"seen_penalty": 5.0}, "seen_penalty: must be a number from -2 to 2, not 5.0. Change it."),
    ],
)
def test_impossible_options_of_a_search(wrong, problem):
    with pytest.raises(ConfigError) as caught:
        tfxc.SearchOptions(**wrong)
    assert str(caught.value) == problem
