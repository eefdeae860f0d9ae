"""The folder that TensorFlow Serving reads: a SavedModel for each version, with warm-up requests.

``FOLDER/VERSION/`` is the SavedModel; ``assets.extra/tf_serving_warmup_requests`` in it holds
requests that the server answers before the version is available, so that the first client does not
wait for the graph. It is a TFRecord of ``PredictionLog`` messages.

Sources: https://www.tensorflow.org/tfx/serving/saved_model_warmup;
tensorflow_serving/apis/prediction_log.proto, predict.proto and model.proto.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.core.protocol_buffers import bytes_field
from tfxc.data.examples.kinds import ENCODED, IMAGE, KINDS, SPARSE, TEXT, TEXT_AND_FEATURES
from tfxc.exports.savedmodel import Exported, export_savedmodel

if TYPE_CHECKING:
    from tfxc.runs.loaded import LoadedRun


WARM_UP = Path("assets.extra", "tf_serving_warmup_requests")
_BATCHES = (1, 2, 32)
# Numbers of the fields of the messages.
_PREDICT_LOG = 6
_REQUEST = _MODEL_SPEC = _NAME = _KEY = 1
_INPUTS = _VALUE = 2
_SIGNATURE_NAME = 3


def export_for_serving(
    loaded_run: "LoadedRun",
    folder: str | Path,
    version: int | None = None,
    k: int = 5,
    probabilities: bool = False,
) -> Exported:
    """Writes a SavedModel as a new version of a model of TensorFlow Serving.

    Args:
        loaded_run: a ``LoadedRun``.
        folder: the model's folder, whose name is that of the model; other versions in it stay.
        version: number of the version; None takes the next one.
        k, probabilities: see ``export_savedmodel``.

    Raises:
        ConfigError: there is such a version already, which a server may have loaded.
        UserError: as ``export_savedmodel``.

    Example:
        >>> from tfxc.runs.loaded import load_run
        >>> run = load_run("runs/quickstart")  # doctest: +SKIP
        >>> export_for_serving(run, "models/quickstart").folder  # doctest: +SKIP
        PosixPath('models/quickstart/1')
    """
    folder = Path(folder)
    known = [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal()]
    following = max(known, default=0) + 1
    version = following if version is None else version
    if version in known:
        raise ConfigError(
            f"{folder / str(version)} already exists",
            where="--version",
            fix=f"choose {following}, or leave it out",
        )
    name = folder.resolve().name

    def add_requests(saved: Path) -> None:
        path = saved / WARM_UP
        path.parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for signature, inputs in _requests(loaded_run.input_kind, loaded_run.manifest):
                writer.write(prediction_log(name, signature, inputs))

    return export_savedmodel(loaded_run, folder / str(version), k, probabilities, add=add_requests)


def _requests(input_kind: str, sizes: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Signatures and inputs of the warm-up requests."""
    for count in _BATCHES:
        if input_kind in (TEXT.name, TEXT_AND_FEATURES.name):
            inputs: dict[str, Any] = {"text": ["some text"] * count}
            if input_kind == TEXT_AND_FEATURES.name:
                inputs |= SPARSE.tensors_of(SPARSE.example(sizes, count))
        else:
            kind = KINDS[input_kind]
            inputs = kind.tensors_of(kind.example(sizes, count))
        yield "serving_default", inputs
        if input_kind == IMAGE.name:
            yield "encoded", ENCODED.tensors_of(ENCODED.example(sizes, count))


def prediction_log(model: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    """Returns one serialised ``tensorflow.serving.PredictionLog`` of a predict request.

    Args:
        model: name of the model.
        signature: name of the signature.
        inputs: arrays or lists by the name of the input.
    """
    spec = bytes_field(_NAME, model.encode())
    spec += bytes_field(_SIGNATURE_NAME, signature.encode())
    request = bytes_field(_MODEL_SPEC, spec)
    for name in sorted(inputs):
        tensor = tf.make_tensor_proto(inputs[name]).SerializeToString()
        entry = bytes_field(_KEY, name.encode()) + bytes_field(_VALUE, tensor)
        request += bytes_field(_INPUTS, entry)
    return bytes_field(_PREDICT_LOG, bytes_field(_REQUEST, request))
