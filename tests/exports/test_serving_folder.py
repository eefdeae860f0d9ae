"""TensorFlow Serving's folder: the requests are read by protobuf's own parser, and answered."""

import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.commands.calls import call
from tests.small_runs import make_run
from tfxc.commands import export
from tfxc.exports.serving_folder import WARM_UP

STRING, MESSAGE = 9, 11
# {message: [(field, number, type of its messages)]}, from tensorflow_serving/apis/*.proto.
MESSAGES = {
    "ModelSpec": [("name", 1, None), ("signature_name", 3, None)],
    "Entry": [("key", 1, None), ("value", 2, ".tensorflow.TensorProto")],
    "PredictRequest": [("model_spec", 1, ".test.ModelSpec"), ("inputs", 2, ".test.Entry")],
    "PredictLog": [("request", 1, ".test.PredictRequest")],
    "PredictionLog": [("predict_log", 6, ".test.PredictLog")],
}


@pytest.fixture(scope="module")
def prediction_log():
    file = descriptor_pb2.FileDescriptorProto(name="test.proto", package="test", syntax="proto3")
    file.dependency.append("tensorflow/core/framework/tensor.proto")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            label = 3 if field == "inputs" else 1
            message.field.add(
                name=field, number=number, label=label, type_name=kind,
                type=MESSAGE if kind else STRING,
            )  # fmt: skip
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.PredictionLog"))


@pytest.mark.parametrize(
    "settings",
    [
        {"text_features": {"name": "tfidf"}},
        {"num_features": 9},
        {"kind": "dense", "num_features": 7, "encoder": {"name": "precomputed"}},
        {"kind": "image", "num_features": 48, "image_shape": [4, 4, 3],
         "encoder": {"name": "resnet", "depth": 10, "width": 4}},
    ],
    ids=["texts", "bags", "vectors", "images"],
)  # fmt: skip
def test_the_model_answers_its_warm_up_requests(tmp_path, capsys, prediction_log, settings):
    run, model = make_run(tmp_path / "run", **settings), tmp_path / "model"
    assert call(capsys, export, "--run", run, "--serving", model, "--version", 7).code == 0
    signatures = tf.saved_model.load(str(model / "7")).signatures
    seen = []
    for record in tf.data.TFRecordDataset(str(model / "7" / WARM_UP)):
        found = prediction_log.FromString(record.numpy())
        assert found.SerializeToString(deterministic=True) == record.numpy()  # nothing is unknown
        request = found.predict_log.request
        assert request.model_spec.name == "model"
        signature = request.model_spec.signature_name
        inputs = {e.key: tf.constant(tf.make_ndarray(e.value)) for e in request.inputs}
        seen.append((signature, signatures[signature](**inputs)["labels"].shape[0]))
    encoded = [("encoded", count) for count in (1, 2, 32)] if "image_shape" in settings else []
    assert sorted(seen) == sorted([("serving_default", count) for count in (1, 2, 32)] + encoded)


def test_versions_follow_each_other_and_are_never_replaced(tmp_path, capsys):
    run, model = make_run(tmp_path / "run"), tmp_path / "model"
    for _ in range(2):
        assert call(capsys, export, "--run", run, "--serving", model).code == 0
    assert {path.name for path in model.glob("[0-9]*")} == {"1", "2"}
    problem = call(capsys, export, "--run", run, "--serving", model, "--version", 2).problem()
    assert problem == f"--version: {model / '2'} already exists. Choose 3, or leave it out."


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--serving", "m", "--format", "onnx"],
            "--serving: it writes a SavedModel into a new folder",
        ),
        (["--serving", "m", "--output", "x"], "so --output does not apply"),
        (["--version", "2"], "--version: this option needs --serving"),
    ],
)
def test_what_does_not_go_together(tmp_path, capsys, options, words):
    assert words in call(capsys, export, "--run", tmp_path, *options).problem()
