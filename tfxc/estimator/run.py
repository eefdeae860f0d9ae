"""A trained run in Python: ``tfxc.Run("runs/my").predict(texts)``."""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import INPUTS
from tfxc.estimator.examples import Examples
from tfxc.inference.search_options import SearchOptions
from tfxc.runs.loaded import load_run

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.inference.predictors import Predictions, RunPredictor

_BATCH = 256


class Run:
    """A trained run: finds labels, measures itself, encodes and exports.

    The model is loaded when it is first needed, and kept.

    Args:
        path: run folder, as ``tfxc train`` and ``XCClassifier.save`` write it.
        trust: whether modules that the run's config names may be imported, see docs/trust.md.
        options: how it is searched, and with which weights, e.g.
            ``tfxc.SearchOptions(step=1200, beam=20)``.

    Attributes:
        labels: list of the labels' names, by id.
        config: the run's ``Config``.
        path: of the run folder.

    Raises:
        CheckpointError: no run folder, or it has no such checkpoint.
        DataError: a file of it is missing or damaged.

    Example:
        >>> run = Run("runs/quickstart")                                   # doctest: +SKIP
        >>> run.predict(["Sorts a list."], k=2).labels                     # doctest: +SKIP
        [['key', 'reverse']]
        >>> run.evaluate(split="test")["P@1"]                              # doctest: +SKIP
        0.665
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        trust: bool = False,
        options: SearchOptions = SearchOptions(),
    ) -> None:
        self.path = Path(path)
        self._loaded = load_run(self.path, trust, options)
        self._predictors: dict[tuple[int | None, bool | None], RunPredictor] = {}

    def __repr__(self) -> str:
        count = self._loaded.manifest["num_labels"]
        return f"Run({str(self.path)!r}: {count:,} labels, recipe {self.config.recipe.name!r})"

    @property
    def labels(self) -> list[str]:
        """Names of the labels, by id."""
        return list(self._loaded.vocabulary.names)

    @property
    def config(self) -> "Config":
        """The config of the run, complete."""
        return self._loaded.config

    def predict(
        self,
        examples: Examples,
        k: int | None = None,
        *,
        features: Examples | None = None,
        probabilities: bool | None = None,
    ) -> "Predictions":
        """Returns the best labels of examples.

        Args:
            examples: what the run was trained on: a list of n texts; a sparse or dense matrix (n,
                num_features); or a list of n images, each the name of a file, its bytes, or a uint8
                array (height, width, channels).
            k: labels per example; None means 5, or all if there are fewer.
            features: of texts whose run reads given features next to them, (n, num_features).
            probabilities: whether to return probabilities instead of scores; None does so where the
                model has any.

        Returns:
            ``Predictions``: ``labels``, n lists of k names, best first, and ``scores``, float32
            (n, k).

        Raises:
            DataError: examples of another kind or width, or an image that cannot be read.
            ConfigError: k exceeds the number of labels, or the model has no probabilities.
        """
        from tfxc.inference.predictors import Predictions, RunPredictor

        if (k, probabilities) not in self._predictors:
            self._loaded.require_labels()
            self._predictors[k, probabilities] = RunPredictor(self._loaded, k, probabilities)
        predictor = self._predictors[k, probabilities]
        parts = [predictor(chunk, "examples") for chunk in self._chunks(examples, features)]
        if not parts:
            return Predictions([], np.zeros((0, predictor.k), np.float32))
        names = [labels for part in parts for labels in part.labels]
        return Predictions(names, np.concatenate([part.scores for part in parts]))

    def encode(self, examples: Examples) -> np.ndarray:
        """Returns the encoder's vectors of examples.

        Args:
            examples: see ``predict``.

        Returns:
            float32 (n, dim).

        Raises:
            ConfigError: the run has no encoder.
            DataError: see ``predict``.
        """
        embed = self._loaded.embedder("Run.encode")
        vectors = [
            embed(self._loaded.encoder_features_of(chunk, "examples"))
            for chunk in self._chunks(examples, None, self._loaded.encoder_takes)
        ]
        if not vectors:
            raise DataError(
                "there are no examples to encode", where="examples", fix="pass at least one"
            )
        return np.concatenate(vectors)

    def evaluate(
        self,
        data: str | os.PathLike[str] | None = None,
        *,
        split: str | None = None,
        k: Sequence[int] | None = None,
        prepared: str | os.PathLike[str] = "prepared",
    ) -> dict[str, float]:
        """Returns the metrics of the run on a file or on a split of its data, as ``tfxc evaluate``
        prints them.

        Warns of true labels that the run does not know, and names some.

        Args:
            data: a readable file with labels.
            split: ``"train"``, ``"dev"`` or ``"test"``; without it and ``data`` the test split, or
                dev where there is none.
            k: cut-offs; None means the config's.
            prepared: folder of prepared records, where a split is measured.

        Returns:
            Metrics by name, e.g. ``"P@1"``.

        Raises:
            ConfigError: both data and split, or no such split.
            DataError: the file cannot be read.
        """
        from tfxc.reports.measurement import Measurement, of_unknown_labels

        if data is not None and split is not None:
            raise ConfigError(
                "data and split exclude each other", where="Run.evaluate", fix="leave out one"
            )
        self._loaded.require_labels()
        file = None if data is None else os.fspath(data)
        measurement = Measurement(split=split, data=file, k=k, prepared=os.fspath(prepared))
        _, rows = measurement.examples(self._loaded)
        metrics = measurement.metrics(self._loaded)
        _, unknown = measurement.update(self._loaded, rows, metrics)
        if unknown:
            examples = f"{metrics.num_examples:,} examples"
            warnings.warn(f"{examples}, {of_unknown_labels(unknown, self._loaded)}", stacklevel=2)
        return metrics.result()

    def export(
        self,
        folder: str | os.PathLike[str] | None = None,
        format: str = "savedmodel",
        *,
        k: int | None = None,
        probabilities: bool = False,
        quantize: str | None = None,
    ) -> Path:
        """Writes the run's model for a server and compares its results with the run's.

        Args:
            folder: what to write; None means a folder inside the run, named after the format, e.g.
                ``onnx-int8``.
            format: ``"savedmodel"``, ``"onnx"``, ``"litert"`` or ``"runtime"``.
            k: labels per example; None means 5, or all if there are fewer.
            probabilities: whether the scores are probabilities.
            quantize: ``"int8"`` stores the weights in 8 bits, but not those of a SavedModel.

        Returns:
            The folder.

        Raises:
            ConfigError: an impossible choice, see ``tfxc export``.
        """
        from tfxc.exports.export import check_quantize, default_k, default_name, export

        check_quantize(quantize, format)
        folder = Path(folder or self.path / default_name(format, quantize))
        k = default_k(self._loaded, probabilities) if k is None else k
        export(self._loaded, folder, format, k, probabilities, int8=quantize is not None)
        return folder

    def _chunks(
        self, examples: Examples, features: Examples | None, input_kind: str | None = None
    ) -> Iterator[Chunk]:
        """Yields examples as ``Chunk``s of a bounded size."""
        kind = INPUTS[input_kind or self._loaded.input_kind]
        fields: dict[str, Any] = {kind.chunk_field: _as_field(kind.chunk_field, examples)}
        if features is not None:
            fields["features"] = _matrix(features)
        sizes = {name: len(v) if isinstance(v, list) else v.shape[0] for name, v in fields.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(
                f"there are features of {sizes['features']:,} examples, but "
                f"{sizes[kind.chunk_field]:,} texts",
                where="features",
                fix="pass a row for each text",
            )
        for first in range(0, sizes[kind.chunk_field], _BATCH):
            part = {name: value[first : first + _BATCH] for name, value in fields.items()}
            count = min(_BATCH, sizes[kind.chunk_field] - first)
            if "images" in part:
                part["names"] = [f"image {first + n + 1}" for n in range(count)]
            yield Chunk(labels=[[]] * count, **part)


def _as_field(field: str, examples: Examples) -> Any:
    """Returns examples in the form that ``Chunk`` has them."""
    if field == "texts":
        texts = [examples] if isinstance(examples, str) else list(examples)
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(
                    f"the example at index {number} is not a text but {type(text).__name__}",
                    where="examples",
                    fix="pass a list of strings",
                )
        return texts
    if field == "features":
        return _matrix(examples)
    if isinstance(examples, np.ndarray) and examples.ndim == 4:
        return examples
    single = isinstance(examples, (str, bytes, os.PathLike)) or getattr(examples, "ndim", 0) == 3
    return [_image(image) for image in ([examples] if single else examples)]


def _image(image: object) -> bytes | np.ndarray:
    """Returns an array or the bytes of an encoded image."""
    if isinstance(image, (str, os.PathLike)):
        from tfxc.core.storage.reading import existing_file, read_errors

        path = os.fspath(image)
        with read_errors(path):
            return existing_file(path).read_bytes()
    if isinstance(image, (bytes, np.ndarray)):
        return image
    raise DataError(
        f"an image is {type(image).__name__}",
        where="examples",
        fix="pass the name of an image file, its bytes or an array",
    )


def _matrix(values: Examples) -> scipy.sparse.csr_matrix | np.ndarray:
    if scipy.sparse.issparse(values):
        return scipy.sparse.csr_matrix(values, dtype=np.float32)
    matrix = np.asarray(values)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiub":
        raise DataError(
            f"the features are {type(values).__name__} of shape {matrix.shape}",
            where="examples",
            fix="pass a matrix of numbers (examples, features)",
        )
    return matrix.astype(np.float32)
