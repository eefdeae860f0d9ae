"""A network behind the estimator: encoder, head and objective, trained step by step."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.core.interrupts import Stopped
from tfxc.core.storage.locks import scratch_folder
from tfxc.estimator.fitted_model import FitData, FittedModel
from tfxc.model import XCModel, build_model
from tfxc.runs.folder import RunFolder
from tfxc.training.data_dependent import data_dependent_arguments, resolved
from tfxc.training.evaluation import Evaluation
from tfxc.training.loop import Trainer
from tfxc.training.negatives.chosen import techniques_of
from tfxc.training.start.label_texts import start_from_label_texts
from tfxc.training.start.word_vectors import start_from_vectors

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.examples.rows import Rows
    from tfxc.data.sources.base import ArraySource
    from tfxc.data.text.base import TextFeatures
    from tfxc.runs.loaded import LoadedRun
    from tfxc.runs.writer import RunWriter

_REBUILT = {"model", "config"}
_ROWS_AT_ONCE = 32


class FittedNetwork(FittedModel):
    """An ``XCModel`` and what is needed to make it again; see ``FittedModel``."""

    model: XCModel

    def __init__(
        self, config: "Config", source: "ArraySource", text_features: "TextFeatures | None" = None
    ) -> None:
        super().__init__(config, source, text_features)
        self._text_features = text_features
        self._text_settings: dict[str, Any] | None = None
        self._architecture: dict[str, Any] = {}
        self._make(**data_dependent_arguments(config, source, **self._dimensions))

    def _make(self, **arguments: Any) -> None:
        """Makes a new model; without what providers find if its weights are still to come."""
        self.model = build_model(self.config, **self._dimensions, **self._architecture, **arguments)
        architecture = self.model.encoder.architecture
        self._architecture = {} if architecture is None else {"architecture": architecture}

    @property
    def _dimensions(self) -> dict[str, Any]:
        sizes = {"feature_kind": self._kind, "num_examples": self._num_examples}
        return {**self._sizes, **sizes, "text_features": self._text_settings}

    def train(self, data: FitData, callbacks: Sequence[Any] = ()) -> None:
        """See ``FittedModel.train``."""
        objective = self.model.objective
        if data.weights is not None:
            if not objective.weighs_examples:
                raise ConfigError(
                    f"objective {type(objective).__name__} does not weigh examples",
                    where="sample_weight",
                    fix="leave it out, or choose another objective, e.g. 'softmax'",
                )
            objective.example_weights = tf.constant(data.weights)
        with scratch_folder("fit") as folder:
            run = RunFolder(folder)
            start_from_vectors(self.model, self.config, lambda: self._text_features)
            texts = data.train.label_texts()
            start_from_label_texts(
                self.model, self.config, None if texts is None else lambda: texts
            )
            evaluation = None
            if data.dev is not None:
                evaluation = Evaluation(self.model, self.config, data.labels, data.train, data.dev)
            more = techniques_of(self.model.head, self.config, data.train)
            trainer = Trainer(
                self.model,
                data.train,
                self.config,
                run,
                evaluation=evaluation,
                extra_techniques=more,
            )
            try:
                self.summary = trainer.fit(callbacks=callbacks)
            except Stopped:
                raise KeyboardInterrupt from None
            run.load_weights(self.model)  # techniques may have written other ones
        objective.example_weights = None
        self._text_features = None

    def find(
        self, rows: "Rows", k: int, batch_size: int, probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """As of ``FittedModel``; the place of an example of a matrix does not change its scores.

        The kernels of products take rows eight or more at a time, and the rest in another way,
        which rounds differently: so there is no rest.
        """
        count = len(rows)
        if rows.kind.is_matrix and count % _ROWS_AT_ONCE:
            rows = rows.select(np.arange(-(-count // _ROWS_AT_ONCE) * _ROWS_AT_ONCE) % count)
        ids, scores = super().find(rows, k, batch_size, probabilities)
        return ids[:count], scores[:count]

    @classmethod
    def of_run(cls, loaded: "LoadedRun") -> "FittedNetwork":
        """See ``FittedModel.of_run``."""
        fitted = super().of_run(loaded)
        assert isinstance(fitted, FittedNetwork)
        sizes = loaded.dimensions
        fitted._text_features = None
        fitted._text_settings = sizes["text_features"]
        architecture = sizes.get("architecture")
        fitted._architecture = {} if architecture is None else {"architecture": architecture}
        return fitted

    def _saved_config(self) -> "Config":
        return resolved(self.config, self._sizes["num_labels"])

    def _save_model(self, run: "RunWriter") -> None:
        run.save_weights(self.model)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name not in _REBUILT}
        weights = [np.asarray(variable.value) for variable in self.model.variables]
        decision = self.model.decision
        config = json.loads(self.config.to_json())
        return {**state, "config": config, "weights": weights, "decision": decision}

    def __setstate__(self, state: dict[str, Any]) -> None:
        weights = state.pop("weights")
        decision = state.pop("decision")
        config = state.pop("config")
        vars(self).update(state)
        self.config = parse_config(config)
        self._make()
        self.model.decision = decision
        for variable, value in zip(self.model.variables, weights, strict=True):
            variable.assign(value)
