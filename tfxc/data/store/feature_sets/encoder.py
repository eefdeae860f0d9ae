"""Any SavedModel as the encoder of a feature set."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.chunk import ChunkSource
from tfxc.data.examples.kinds import DENSE, IMAGE
from tfxc.data.examples.rows import Rows
from tfxc.data.store.conversion import check_kind
from tfxc.data.store.image_conversion import ImageConverter


class SavedModelEncoder:
    """A signature of a SavedModel with one input, whose output are vectors.

    Images come to it as (batch, height, width, channels): as they are (0 to 255) if the input is
    uint8, else as ``(x / 255 - mean) / std``. Dense vectors come as they are.

    Args:
        path: folder of the SavedModel.
        signature: name of the signature.
        output: name of the output; None if there is one.
        image_size: [height, width] where the signature leaves them open.
        mean, std: one number or one per channel, of pixels from 0 to 1; needed for images as
            floats.

    Attributes:
        num_features: length of the vectors.
        settings: what determines the vectors.

    Raises:
        ConfigError: no SavedModel, no such signature or output, an input of another form, an option
            that is missing or has no effect.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        signature: str = "serving_default",
        output: str | None = None,
        image_size: Sequence[int] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ) -> None:
        self.path = Path(path)
        if not (self.path / "saved_model.pb").is_file():
            raise ConfigError(
                "this folder has no saved_model.pb",
                where=path,
                fix="give the folder of a SavedModel",
            )
        self._model = tf.saved_model.load(str(path))
        known = list(self._model.signatures)
        if signature not in known:
            raise _choice("signature", known, signature, path)
        self._function = self._model.signatures[signature]
        inputs = self._function.structured_input_signature[1]
        if len(inputs) != 1:
            raise ConfigError(
                f"the signature has several inputs: {', '.join(inputs)}",
                where=path,
                fix="save a signature with one input",
            )
        ((self._input, self._spec),) = inputs.items()
        dtype = self._spec.dtype
        if self._spec.shape.rank not in (2, 4) or not (dtype.is_floating or dtype == tf.uint8):
            raise ConfigError(
                f"the input is {dtype.name} {self._spec.shape}, neither images (batch, height, "
                "width, 1 or 3) nor vectors (batch, dim), of floats or uint8",
                where=path,
                fix="save a signature with such an input",
            )
        self._shape = self._image_shape(image_size)
        self._scale = self._scaling(mean, std)
        self._output = self._chosen(output)
        self.num_features = self._width()
        self.settings = {
            "encoder_sha256": folder_checksum(self.path),
            "signature": signature,
            "output": self._output,
            "image_shape": self._shape,
            "mean": mean,
            "std": std,
        }

    def rows(self, reader: "ChunkSource", size: int) -> Iterator[Rows]:
        """Yields the ``Rows`` of a reader's chunks, without labels.

        Raises:
            DataError: examples of another kind, or an image that cannot be decoded.
        """
        first = 0
        images = None if self._shape is None else ImageConverter.of_shape(self._shape)
        kind = DENSE if images is None else IMAGE
        for chunk in reader.chunks(size):
            check_kind(chunk, kind.chunk_field, reader.path)
            if images is None:
                arrays = {"matrix": self._vectors(chunk.features, reader.path)}
            else:
                arrays = images.convert(chunk, reader.path, first)[1]
            unlabelled: dict[str, Any] = {"label_indptr": np.zeros(len(chunk) + 1), "label_ids": []}
            yield Rows(kind, arrays, **unlabelled, num_features=0)
            first += len(chunk)

    def __call__(self, rows: Rows) -> np.ndarray:
        """Returns the vectors of ``Rows``, float32 (n, num_features)."""
        features = rows.batch()["features"]
        if self._scale is not None:
            features = (features.astype(np.float32) / np.float32(255) - self._scale[0]) / (
                self._scale[1]
            )
        inputs = tf.cast(tf.constant(features), self._spec.dtype)
        vectors = self._function(**{self._input: inputs})[self._output]
        return tf.reshape(tf.cast(vectors, tf.float32), [len(rows), -1]).numpy()

    def _image_shape(self, image_size: Sequence[int] | None) -> tuple[int, ...] | None:
        """Returns (height, width, channels), or None for vectors."""
        if self._spec.shape.rank == 2:
            if image_size is not None:
                raise ConfigError(
                    "the model reads vectors, not images",
                    where="image_size",
                    fix="leave it out",
                )
            return None
        height, width, channels = self._spec.shape[1:]
        size = tuple(image_size or (height, width))
        fits = all(have in (None, want) for have, want in zip((height, width), size, strict=True))
        if None in size or not fits or channels not in (1, 3, None):
            raise ConfigError(
                f"images of {size} with 1 or 3 channels last do not fit the model, whose input is "
                f"{self._spec.shape[1:]}",
                where="image_size",
                fix="give a height and width that the model accepts",
            )
        return (*size, channels or 3)

    def _scaling(
        self, mean: float | Sequence[float] | None, std: float | Sequence[float] | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        shape = self._shape
        if shape is None or not self._spec.dtype.is_floating:
            if mean is None and std is None:
                return None
            raise ConfigError(
                "the input of the model is not an image of floats, so it is not scaled",
                where="mean, std",
                fix="leave them out",
            )
        for name, value in (("mean", mean), ("std", std)):
            if value is None or np.size(value) not in (1, shape[2]):
                raise ConfigError(
                    f"must be one number, or one for each of the {shape[2]} channels, not {value}",
                    where=name,
                    fix="give the values of the model's training, for pixels from 0 to 1",
                )
        assert mean is not None and std is not None, "both are checked above"
        if np.min(std) <= 0:
            raise ConfigError(f"must be positive, not {std}", where="std")
        return np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def _chosen(self, output: str | None) -> str:
        known = list(self._function.structured_outputs)
        if output is None and len(known) == 1:
            return known[0]
        if output is None or output not in known:
            raise _choice("output", known, output, self.path)
        return output

    def _width(self) -> int:
        shape = self._shape or self._spec.shape[1:]
        if None in shape:
            raise ConfigError(
                f"the input {tuple(shape)} has no fixed width",
                where=self.path,
                fix="save a signature whose input has one",
            )
        zeros = tf.zeros([1, *shape], self._spec.dtype)
        return int(tf.size(self._function(**{self._input: zeros})[self._output]))

    def _vectors(self, features: object, where: str | Path) -> np.ndarray:
        width = self._spec.shape[1]
        if not isinstance(features, np.ndarray) or features.shape[1] != width:
            kind = "dense" if isinstance(features, np.ndarray) else "sparse"
            raise DataError(
                f"the features are {kind} {getattr(features, 'shape', '')}, but the model reads "
                f"dense vectors of length {width}",
                where=where,
                fix="give such vectors, or another model",
            )
        return features


def folder_checksum(path: str | Path) -> str:
    """Returns SHA-256 over the names and contents of the files of a folder."""
    total = hashlib.sha256()
    for file in sorted(file for file in Path(path).rglob("*") if file.is_file()):
        total.update(str(file.relative_to(path)).encode())
        with open(file, "rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _choice(what: str, known: Sequence[str], name: str | None, where: str | Path) -> ConfigError:
    if name is None:
        problem = f"it has several {what}s: {', '.join(known)}"
    else:
        problem = f"it has no {what} {name!r}, only {', '.join(known)}"
    return ConfigError(problem, where=where, fix=f"name one with --{what}")
