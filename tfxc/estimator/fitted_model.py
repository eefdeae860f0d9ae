"""The model behind the estimator: it can be pickled, searched and saved as a run."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.data.manifest import SplitInfo
from tfxc.data.sources.base import RowStream
from tfxc.inference.searcher import Searcher
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import build_model
from tfxc.runs.writer import manifest_of, new_run, split_of
from tfxc.training.data_dependent import data_dependent_arguments, resolved

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.rows import Rows
    from tfxc.data.sources.base import ArraySource
    from tfxc.runs.loaded import LoadedRun


class FittedModel:
    """A model and what is needed to make it again.

    Args:
        config: ``Config``.
        source: the training examples, a ``Source``.
        text_features: what they were made of, or None.

    Attributes:
        model: the ``XCModel``.
        summary: what training returned.
    """

    def __init__(self, config: "Config", source: "ArraySource", text_features: Any = None) -> None:
        self.config = config
        self._sizes: dict[str, Any] = {
            "num_features": source.num_features,
            "num_labels": source.num_labels,
            "vocabulary_size": getattr(text_features, "vocabulary_size", None),
            "image_shape": source.image_shape,
        }
        self._text_settings: dict[str, Any] | None = None
        self._kind = source.kind.name
        self._num_examples = source.num_examples
        self._label_counts: np.ndarray | None = None
        self._split = split_of([])
        self.summary: Any = None
        self._architecture: dict[str, Any] = {}
        self._make(**data_dependent_arguments(config, source, **self._dimensions))

    def _make(self, **found):
        """A new model; one whose weights are still to come does without what providers find."""
        self.model = build_model(self.config, **self._dimensions, **self._architecture, **found)
        found = self.model.encoder.architecture
        self._architecture = {} if found is None else {"architecture": found}

    @property
    def _dimensions(self):
        sizes = {"feature_kind": self._kind, "num_examples": self._num_examples}
        return {**self._sizes, **sizes, "text_features": self._text_settings}

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """(height, width, channels) of images, or None."""
        return self._sizes["image_shape"]

    def count(self, labels: Sequence[Sequence[int]]) -> None:
        """Remembers the label statistics that a run folder holds; one list of ids per example."""
        self._split = split_of([len(row) for row in labels])
        ids = np.fromiter((label for row in labels for label in row), np.int64)
        self._label_counts = np.bincount(ids, minlength=self._sizes["num_labels"])

    @classmethod
    def of_run(cls, loaded: "LoadedRun") -> "FittedModel":
        """The model of a run.

        Raises:
            ConfigError: its recipe makes more of a model than config and weights say.
        """
        if loaded.config.recipe.name not in _RECIPES:
            raise ConfigError(
                f"a run of recipe {' or '.join(map(repr, _RECIPES))} expected, found one of "
                f"{loaded.config.recipe.name!r}",
                where=loaded.folder.path,
                fix="use tfxc.Run, which predicts with every run",
            )
        found = cls.__new__(cls)
        sizes = loaded.dimensions
        found.config, found.model = loaded.config, loaded.model
        found._kind, found._num_examples = sizes.pop("feature_kind"), sizes.pop("num_examples")
        found._text_settings = sizes.pop("text_features")
        architecture = sizes.pop("architecture", None)
        found._architecture = {} if architecture is None else {"architecture": architecture}
        found._sizes, found._label_counts = sizes, loaded.label_counts
        found._split = SplitInfo.model_validate(loaded.manifest["splits"]["train"])
        found.summary = loaded.folder.summary()
        return found

    def search(
        self, rows: "Rows", k: int, batch_size: int, probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids int32 and scores, or probabilities, float32 (n, k) of the best labels of ``Rows``."""
        parts = [(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))]
        searcher = Searcher(self.model, k, probabilities=probabilities)
        parts += [one[:2] for one in searcher.over(RowStream([rows]), batch_size)]
        ids, scores = zip(*parts, strict=True)
        return np.concatenate(ids), np.concatenate(scores)

    def save(self, folder: str | Path, names: Iterable[str], text_features: Any) -> None:
        """Writes a run folder atomically.

        Args:
            folder: its path; an older run there is replaced.
            names: label names by id.
            text_features: fitted ``TextFeatures``, or None.

        Raises:
            UserError: the folder holds something else than a run.
        """
        vocabulary = LabelVocabulary(names, where="classes_")
        config = resolved(self.config, self._sizes["num_labels"])
        config = config.model_copy(update={"run": str(folder)})
        manifest = manifest_of(
            self.config.data.name,
            split=self._split,
            text_features=text_features,
            feature_kind=self._kind,
            **self._sizes,
        )
        with new_run(folder) as run:
            run.write_config(config)
            run.write_assets(manifest, vocabulary, self._label_counts, text_features)
            run.save_weights(self.model)
            run.write_summary(self.summary)

    def __getstate__(self):
        state = {name: value for name, value in vars(self).items() if name not in _REBUILT}
        weights = [np.asarray(variable.value) for variable in self.model.variables]
        return {**state, "config": json.loads(self.config.to_json()), "weights": weights}

    def __setstate__(self, state):
        weights, config = state.pop("weights"), state.pop("config")
        vars(self).update(state)
        self.config = parse_config(config)
        self._make()
        for variable, value in zip(self.model.variables, weights, strict=True):
            variable.assign(value)


_REBUILT = {"model", "config"}
# Recipes whose run is one model of the config's encoder and head.
_RECIPES = ("fit", "distill")
