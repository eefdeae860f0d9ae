"""The model behind the estimator: it can be pickled, searched and saved as a run."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.config import parse_config
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
        }
        self._kind = source.kind.name
        self._num_examples = source.num_examples
        self._label_counts: np.ndarray | None = None
        self._lengths: list[int] = []
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
        return {**self._sizes, **sizes}

    def count(self, labels: Sequence[Sequence[int]]) -> None:
        """Remembers the label statistics that a run folder holds; one list of ids per example."""
        self._lengths = [len(row) for row in labels]
        ids = np.fromiter((label for row in labels for label in row), np.int64)
        self._label_counts = np.bincount(ids, minlength=self._sizes["num_labels"])

    def search(self, rows: "Rows", k: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids int32 and scores float32 (n, k) of the best labels of ``Rows``."""
        parts = [(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))]
        found = Searcher(self.model, k).over(RowStream([rows]), batch_size)
        parts += [one[:2] for one in found]
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
            split=split_of(self._lengths),
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
