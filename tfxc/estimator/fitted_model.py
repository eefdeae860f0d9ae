"""What is behind the estimator: a model that is searched, pickled and saved as a run."""

import abc
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.data.sources.base import RowStream
from tfxc.data.store.manifest import SplitInfo
from tfxc.decision.decision import Decision
from tfxc.inference.deciding import Examined, learn_decision
from tfxc.inference.decision import decision_of
from tfxc.inference.predictors import reaching
from tfxc.inference.searcher import Searcher
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.runs.writer import manifest_of, new_run, split_of

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.examples.rows import Rows
    from tfxc.data.sources.base import ArraySource
    from tfxc.data.text.base import TextFeatures
    from tfxc.inference.protocol import RunModel
    from tfxc.runs.loaded import LoadedRun
    from tfxc.runs.writer import RunWriter


@dataclasses.dataclass(frozen=True)
class FitData:
    """What a model is fitted to.

    Attributes:
        train: the training examples.
        dev: examples to measure, or None.
        labels: of ``tfxc.training.evaluation.Evaluation``.
        weights: float32 (examples,) factors of the losses, or None.
    """

    train: "ArraySource"
    dev: "ArraySource | None"
    labels: tuple[bool, Sequence[str]]
    weights: np.ndarray | None = None


class FittedModel(abc.ABC):
    """A model and what is needed to save it. A subclass trains it.

    Args:
        config: ``Config``.
        source: the training examples, a ``Source``.
        text_features: what they were made of, or None.

    Attributes:
        model: the ``RunModel``.
        summary: what training returned.
        label_texts: the text of each label; empty without any.
    """

    model: "RunModel"
    summary: dict[str, Any]
    label_texts: Sequence[str] = ()

    def __init__(
        self, config: "Config", source: "ArraySource", text_features: "TextFeatures | None" = None
    ) -> None:
        self.config = config
        self._sizes: dict[str, Any] = {
            "num_features": source.num_features,
            "num_labels": source.num_labels,
            "vocabulary_size": getattr(text_features, "vocabulary_size", None),
            "image_shape": source.image_shape,
        }
        self._kind = source.kind.name
        self._num_examples = source.num_examples
        self._label_counts: np.ndarray | None = None
        self._split = split_of([])

    def decide(self, data: FitData) -> None:
        """Learns the decision that the config describes, of validation data if there are any."""
        settings = self.config.decision
        if settings is None:
            return
        assert self._label_counts is not None, "``describe`` comes first"
        names = range(self.model.num_labels)
        if data.dev is None:
            examined = self.held_out(data)
        else:
            examined = iter([Examined(self.model, data.dev, names)])
        size = self.config.evaluation.batch_size
        learned = learn_decision(examined, size, settings, self._label_counts, names)
        self.model.decision = learned.fitted

    def held_out(self, data: FitData) -> Iterator[Examined]:
        """Yields models that were trained without a part of the examples, and that part.

        Raises:
            ConfigError: that would take too long.
        """
        raise ConfigError(
            "a decision is learned of validation_data",
            where="decision",
            fix="pass validation_data=(X, y) to fit, or leave decision out",
        )

    @abc.abstractmethod
    def train(self, data: FitData, callbacks: Sequence[Any] = ()) -> None:
        """Trains the model.

        Args:
            data: what to train on.
            callbacks: Keras callbacks that watch the training.

        Raises:
            ConfigError: a setting does not fit, or there can be no weights or callbacks.
        """

    @property
    def single_label(self) -> bool:
        """Whether every training example has exactly one label."""
        return self._split.single_label

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """(height, width, channels) of images, or None."""
        return self._sizes["image_shape"]

    def describe(self, labels: Sequence[Sequence[int]], label_texts: Sequence[str]) -> None:
        """Remembers what else a run folder holds.

        Args:
            labels: one list of ids per example.
            label_texts: see the attribute.
        """
        self.label_texts = label_texts
        self._split = split_of([len(row) for row in labels])
        ids = np.fromiter((label for row in labels for label in row), np.int64)
        self._label_counts = np.bincount(ids, minlength=self._sizes["num_labels"])

    @classmethod
    def of_run(cls, loaded: "LoadedRun") -> "FittedModel":
        """Returns the model of a run.

        Raises:
            ConfigError: its recipe makes more of a model than this class holds.
        """
        fitted = cls.__new__(cls)
        sizes = loaded.dimensions
        fitted.config = loaded.config
        fitted.model = loaded.model
        fitted._kind = sizes["feature_kind"]
        fitted._num_examples = sizes["num_examples"]
        fitted._sizes = {name: sizes.get(name) for name in _SIZES}
        fitted._label_counts = loaded.label_counts
        fitted._split = SplitInfo.model_validate(loaded.manifest["splits"]["train"])
        fitted.summary = loaded.folder.summary() or {}
        fitted.label_texts = loaded.label_texts
        return fitted

    def search(
        self, rows: "Rows", k: int, batch_size: int, probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns ids int32 and scores, or probabilities, float32 (n, k) of the best labels of
        ``Rows``.
        """
        return self.find(rows, k, batch_size, probabilities)

    def predict(
        self, rows: "Rows", batch_size: int, threshold: float | None = None
    ) -> list[list[int]]:
        """Returns the ids of the labels that count as predicted, best first.

        They are those of ``tfxc evaluate --tables`` for the saved run, see ``decision_of``.

        Args:
            rows: the examples.
            batch_size: how many are searched at a time.
            threshold: smallest score that counts; None applies the rule for the model.
        """
        rule = decision_of(self.model, self.single_label, threshold)
        predicted: list[list[int]] = []
        for first in range(0, len(rows), batch_size):
            part = rows.slice(first, first + batch_size)
            search = functools.partial(
                self.find, part, batch_size=batch_size, probabilities=rule.probabilities
            )
            if rule.best_alone:
                ids = search(self._depth(rule))[0][:, :1]
            else:
                ids, _ = reaching(rule, search, self.model.num_labels)
            predicted += [[label for label in row if label >= 0] for row in ids.tolist()]
        return predicted

    def best(self, rows: "Rows", batch_size: int) -> np.ndarray:
        """Returns the best label of each of the examples, int32 (n,)."""
        return self.search(rows, self._depth(Decision()), batch_size)[0][:, 0]

    def _depth(self, rule: Decision) -> int:
        """Returns labels to search for a decision: as many as an evaluation, as a beam widens with
        them.
        """
        num_labels = self.model.num_labels
        ks = [k for k in self.config.evaluation.k if k <= num_labels]
        return rule.depth(max(ks, default=1), num_labels)

    def find(
        self, rows: "Rows", k: int, batch_size: int, probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """As ``search``, padded with id -1 where the model's own search finds fewer labels."""
        return best_labels(self.model, rows, k, batch_size, probabilities)

    def save(
        self,
        folder: str | Path,
        names: Iterable[str],
        text_features: "TextFeatures | None",
        threshold: float | None = None,
    ) -> None:
        """Writes a run folder atomically.

        Args:
            folder: its path; an older run there is replaced.
            names: label names by id.
            text_features: fitted ``TextFeatures``, or None.
            threshold: ``evaluation.threshold`` of the run's config.

        Raises:
            UserError: the folder holds something else than a run.
        """
        vocabulary = LabelVocabulary(names, where="classes_")
        manifest = manifest_of(
            self.config.data.name,
            split=self._split,
            text_features=text_features,
            feature_kind=self._kind,
            **self._sizes,
        )
        config = self._saved_config()
        evaluation = config.evaluation.model_copy(update={"threshold": threshold})
        changes = {"run": str(folder), "evaluation": evaluation}
        with new_run(folder) as run:
            run.write_config(config.model_copy(update=changes))
            run.write_assets(manifest, vocabulary, self._label_counts, text_features)
            run.write_label_texts(vocabulary, self.label_texts)
            self._save_model(run)
            self.model.decision.save(run.path)
            run.write_summary(self.summary)

    def _saved_config(self) -> "Config":
        """Returns the config that a run folder of this model has, but for ``run``."""
        return self.config

    @abc.abstractmethod
    def _save_model(self, run: "RunWriter") -> None:
        """Writes the files that the model is made of again."""


def best_labels(
    model: "RunModel", rows: "Rows", k: int, batch_size: int, probabilities: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids int32 and scores, or probabilities, float32 (n, k) that a model finds for
    ``Rows``.
    """
    parts = [(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))]
    searcher = Searcher(model, k, probabilities=probabilities)
    parts += [part[:2] for part in searcher.over(RowStream(lambda: [rows]), batch_size)]
    ids, scores = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(scores)


_SIZES = ("num_features", "num_labels", "vocabulary_size", "image_shape")


def check_recipe(loaded: "LoadedRun", known: Sequence[str]) -> None:
    """Refuses a run of another recipe than those whose model an estimator holds.

    Raises:
        ConfigError: it is of another one.
    """
    if loaded.config.recipe.name not in known:
        raise ConfigError(
            f"an estimator needs a run of recipe {' or '.join(map(repr, known))}, not of "
            f"{loaded.config.recipe.name!r}",
            where=loaded.folder.path,
            fix="use tfxc.Run, which predicts with every run",
        )
