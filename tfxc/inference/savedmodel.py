"""Labels for chunks of raw examples, by a SavedModel of ``tfxc export``."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage import checksums
from tfxc.data.examples.kinds import DENSE, IMAGE, input_of
from tfxc.data.store.conversion import check_kind
from tfxc.data.store.image_conversion import ImageConverter
from tfxc.data.store.manifest import LABELS_FILE
from tfxc.inference.predictors import Predictor, checked_k
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.ops.text.subwords import require_text

if TYPE_CHECKING:
    from tfxc.data.examples.chunk import Chunk


class SavedModelPredictor(Predictor):
    """Predicts with a SavedModel of ``tfxc export``.

    Its answers have k columns, also where the run has learned to decide.

    Args:
        folder: the SavedModel.
        k: labels per example, at most as many as it was exported with; None means those that the
            run returns, if it has learned that, else all.

    Attributes:
        num_features: length of dense vectors, else None: the signature does not show it.

    Raises:
        ConfigError: no such SavedModel, one of another program, or it outputs fewer labels.
    """

    def __init__(self, folder: str | Path, k: int | None = None) -> None:
        self._model = _load(folder)  # kept: its functions do not keep their variables alive
        self._signature = self._model.signatures["serving_default"]
        inputs = self._signature.structured_input_signature[1]
        kind = input_of(inputs)
        if kind is None:
            raise ConfigError(
                "this SavedModel was not written by tfxc export: its inputs are "
                f"{', '.join(sorted(inputs)) or 'none'}",
                where=folder,
                fix="export the run again: tfxc export --run RUN",
            )
        self._input = kind
        self.input_kind = kind.name
        self.num_features = inputs["features"].shape[1] if self._input is DENSE else None
        self._images = None
        if self._input is IMAGE:
            self._images = ImageConverter.of_shape(inputs["images"].shape[1:].as_list())
        outputs = self._signature.structured_outputs
        self._decides = k is None and "returned" in outputs
        available = outputs["labels"].shape[1]
        self.k = checked_k(available if k is None else k, available)
        self.names = LabelVocabulary.load(Path(folder) / "assets" / LABELS_FILE).names

    def find(self, chunk: "Chunk", where: str = "input") -> tuple[np.ndarray, np.ndarray]:
        arguments = self._arguments(chunk, where)
        try:
            outputs = self._signature(**arguments)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise DataError(
                f"the SavedModel does not accept these features ({str(error).splitlines()[0]})",
                where=where,
                fix="give features of the space the model was trained on",
            ) from error
        ids = outputs["ids"].numpy()
        if self._decides:
            ids = np.where(outputs["returned"].numpy(), ids, -1)
        return ids[:, : self.k], outputs["scores"].numpy()[:, : self.k]

    def _arguments(self, chunk: "Chunk", where: str) -> dict[str, tf.Tensor]:
        if self._images is not None:
            check_kind(chunk, self._input.chunk_field, where)
            _, arrays = self._images.convert(chunk, where, 0)
            inputs: Any = IMAGE.tensors_of(arrays)
        else:
            inputs = self._input.given(chunk)
        if inputs is None:
            raise DataError(
                f"the examples are not {self._input.description}",
                where=where,
                fix="give what the model was trained on",
            )
        return {name: tf.constant(values) for name, values in inputs.items()}


# What TensorFlow raises over a SavedModel that is damaged.
_UNLOADABLE = (
    tf.errors.OpError,
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _load(folder: str | Path) -> Any:
    if not (Path(folder) / "saved_model.pb").is_file():
        raise ConfigError(
            "this folder is not a SavedModel: it has no saved_model.pb",
            where=folder,
            fix="write one with tfxc export",
        )
    with contextlib.suppress(checksums.Unrecorded):  # one that tfxc has not written
        checksums.check(folder, "write it again with tfxc export", all_files=True)
    try:
        model = _loaded(folder)
    except _UNLOADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"this SavedModel cannot be loaded ({reason[:200]})",
            where=folder,
            fix="write it again with tfxc export",
        ) from error
    outputs = getattr(model.signatures.get("serving_default"), "structured_outputs", {})
    if not {"ids", "labels", "scores"} <= set(outputs):
        raise ConfigError(
            "this SavedModel does not output ids, labels and scores",
            where=folder,
            fix="give a SavedModel of tfxc export",
        )
    return model


def _loaded(folder: str | Path) -> Any:
    try:
        return tf.saved_model.load(str(folder))
    except RuntimeError as error:
        if "Op type not registered" not in str(error):
            raise
        require_text()  # whose ops cut the texts of pretrained models
        return tf.saved_model.load(str(folder))
