"""Labels for chunks of raw examples: by a run's own model, or by a SavedModel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.conversion import check_kind
from tfxc.data.images.conversion import ImageConverter
from tfxc.data.kinds import DENSE, IMAGE, input_of
from tfxc.inference.searcher import Searcher
from tfxc.ops.text.subwords import require_text
from tfxc.ranker.ensemble import check_weights, combine, label_map

if TYPE_CHECKING:
    from tfxc.data.chunk import Chunk


_DEFAULT_K = 5


class Predictions(NamedTuple):
    """Labels of a chunk, best first.

    Attributes:
        labels: n lists of k label names.
        scores: float32 (n, k), or probabilities where they were requested.
    """

    labels: list
    scores: np.ndarray


class RunPredictor:
    """Predicts with a run's text features and the head's native search.

    Args:
        loaded_run: a ``tfxc.runs.loaded.LoadedRun``.
        k: labels per example; None means 5, or all if there are fewer.
        probabilities: whether to return probabilities instead of scores; None if the head has
            any.

    Attributes:
        input_kind: a name in ``tfxc.data.kinds.INPUTS``.
        num_features: width of given features.
        names: of the labels, by id.

    Raises:
        ConfigError: k exceeds the number of labels, or the head has no probabilities.

    Example:
        >>> predictor = RunPredictor(load_run("runs/quickstart"), k=1)  # doctest: +SKIP
        >>> predictor(Chunk(labels=[[]], texts=["Sorts a list."])).labels  # doctest: +SKIP
        [['key']]
    """

    def __init__(
        self, loaded_run: Any, k: int | None = None, probabilities: bool | None = False
    ) -> None:
        num_labels = loaded_run.manifest["num_labels"]
        self.k = _checked_k(min(_DEFAULT_K, num_labels) if k is None else k, num_labels)
        self.num_features = loaded_run.manifest["num_features"]
        self.input_kind, self.names = loaded_run.input_kind, loaded_run.vocabulary.names
        model = loaded_run.model
        if probabilities is None:
            probabilities = model.has_probabilities
        self._search = Searcher(model, self.k, probabilities=probabilities)
        self._features = loaded_run.features_of

    def find(self, chunk: "Chunk", where: str = "input") -> tuple[np.ndarray, np.ndarray]:
        """Ids int32 and scores float32 (n, k) of a chunk, best first, padded with id -1.

        Raises:
            DataError: examples of another kind or width than the run was trained on, or an image
                that cannot be decoded.
        """
        return self._search({"features": self._features(chunk, where)})

    def __call__(self, chunk: "Chunk", where: str = "input") -> "Predictions":
        """``Predictions`` of a chunk; raises as ``find`` does."""
        return _named(*self.find(chunk, where), self.names)


class EnsemblePredictor:
    """Predicts with several runs over the same labels, whose lists are joined.

    Args:
        predictors: dict of ``RunPredictor`` by the path of their run, two or more; each lists as
            many labels as its ``k`` says.
        method: one of ``tfxc.ranker.ensemble.METHODS``.
        k: labels per example; None means 5, or all if there are fewer.
        weights: one per run, see ``tfxc.ranker.ensemble.combine``.

    Attributes:
        input_kind, num_features: see ``RunPredictor``.

    Raises:
        ConfigError: runs on other kinds of examples or other labels, or k exceeds the number of
            labels that a run lists.
    """

    def __init__(
        self,
        predictors: "Mapping[str, RunPredictor]",
        method: str,
        k: int | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        (_, first), *others = predictors.items()
        self.input_kind, self.num_features, self._names = (
            first.input_kind,
            first.num_features,
            first.names,
        )
        for path, other in others:
            if other.input_kind != self.input_kind:
                raise ConfigError(
                    f"a run with input {self.input_kind!r}, like the first one, expected, found "
                    f"one with {other.input_kind!r}",
                    where=path, fix="combine runs that read the same examples",
                )  # fmt: skip
        self._maps = [label_map(one.names, first.names, path) for path, one in predictors.items()]
        self._predictors, self._method = list(predictors.values()), method
        self._weights = check_weights(weights, method, len(predictors))
        listed = max(one.k for one in self._predictors)
        self.k = _checked_k(min(_DEFAULT_K, listed) if k is None else k, listed)

    def __call__(self, chunk: "Chunk", where: str = "input") -> "Predictions":
        """``Predictions`` of a chunk; see ``RunPredictor``."""
        lists = []
        for predictor, numbers in zip(self._predictors, self._maps, strict=True):
            ids, scores = predictor.find(chunk, where)
            lists.append((np.where(ids >= 0, numbers[ids], -1), scores))
        return _named(*combine(lists, self._method, self.k, self._weights), self._names)


def _named(ids, scores, names):
    """``Predictions`` of label ids."""
    found = [[names[i] if i >= 0 else "" for i in row] for row in ids.tolist()]
    return Predictions(found, scores)


class SavedModelPredictor:
    """Predicts with a SavedModel of ``tfxc export``.

    Args:
        folder: the SavedModel.
        k: labels per example, at most as many as it was exported with; None means all of these.

    Attributes:
        input_kind: a name in ``tfxc.data.kinds.INPUTS``.
        num_features: length of dense vectors, else None: the signature does not show it.

    Raises:
        ConfigError: no such SavedModel, one of another program, or it outputs fewer labels.
    """

    def __init__(self, folder: str | Path, k: int | None = None) -> None:
        self._model = _load(folder)  # kept: its functions do not keep their variables alive
        self._signature = self._model.signatures["serving_default"]
        inputs = self._signature.structured_input_signature[1]
        self._input = input_of(inputs)
        if self._input is None:
            raise ConfigError(
                f"a SavedModel of tfxc export expected, found one with the inputs "
                f"{', '.join(sorted(inputs)) or 'none'}",
                where=folder,
                fix="export the run again: tfxc export --run RUN",
            )
        self.input_kind = self._input.name
        self.num_features = inputs["features"].shape[1] if self._input is DENSE else None
        self._images = None
        if self._input is IMAGE:
            self._images = ImageConverter.of_shape(inputs["images"].shape[1:].as_list())
        available = self._signature.structured_outputs["labels"].shape[1]
        self.k = _checked_k(available if k is None else k, available)

    def __call__(self, chunk: "Chunk", where: str = "input") -> "Predictions":
        """``Predictions`` of a chunk; see ``RunPredictor``."""
        arguments = self._arguments(chunk, where)
        try:
            found = self._signature(**arguments)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise DataError(
                f"the SavedModel does not accept these features ({str(error).splitlines()[0]})",
                where=where,
                fix="give features of the space the model was trained on",
            ) from error
        names = [[name.decode("utf-8") for name in row] for row in found["labels"].numpy()]
        return Predictions([row[: self.k] for row in names], found["scores"].numpy()[:, : self.k])

    def _arguments(self, chunk, where):
        if self._images is not None:
            check_kind(chunk, self._input.chunk_field, where)
            _, arrays = self._images.convert(chunk, where, 0)
            found = IMAGE.tensors_of(arrays)
        else:
            found = self._input.given(chunk)
        if found is None:
            raise DataError(
                f"{self._input.description} expected",
                where=where,
                fix="give what the model was trained on",
            )
        return {name: tf.constant(values) for name, values in found.items()}


# What TensorFlow raises over a SavedModel that is damaged.
_UNLOADABLE = (
    tf.errors.OpError, AssertionError, AttributeError, IndexError, KeyError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip


def _load(folder):
    if not (Path(folder) / "saved_model.pb").is_file():
        raise ConfigError("a SavedModel expected", where=folder, fix="write one with tfxc export")
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
    if not {"labels", "scores"} <= set(outputs):
        raise ConfigError(
            "a SavedModel that outputs labels and scores expected, found other outputs",
            where=folder,
            fix="give a SavedModel of tfxc export",
        )
    return model


def _loaded(folder):
    try:
        return tf.saved_model.load(str(folder))
    except RuntimeError as error:
        if "Op type not registered" not in str(error):
            raise
        require_text()  # whose ops cut the texts of pretrained models
        return tf.saved_model.load(str(folder))


def _checked_k(k, available):
    if not 1 <= k <= available:
        raise ConfigError(
            f"1 to {available} labels per example expected, found {k}",
            where="--k",
            fix=f"choose k up to {available}",
        )
    return k
