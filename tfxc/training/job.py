"""One training from a config and prepared data: the piece every recipe is built from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tfxc.core import registry
from tfxc.core.config import Config
from tfxc.core.errors import ConfigError
from tfxc.core.messages import NOTES
from tfxc.core.storage.locks import scratch_folder
from tfxc.data.examples.kinds import KINDS
from tfxc.data.sources.base import Source
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import Manifest
from tfxc.data.text.registry import load_text_features
from tfxc.model import XCModel, build_model
from tfxc.runs import resuming
from tfxc.runs.dev_examples import write_dev_examples
from tfxc.runs.folder import RunFolder
from tfxc.runs.lock import locked
from tfxc.training.data_dependent import data_dependent_arguments
from tfxc.training.evaluation import Evaluation, evaluation_of_texts, labels_of
from tfxc.training.loop import Trainer
from tfxc.training.strategies import by_chief, make_strategy
from tfxc.training.tf_config import is_chief

if TYPE_CHECKING:
    import tensorflow as tf

    from tfxc.data.label_texts.prepared import LabelTexts
    from tfxc.techniques.base import Technique


_FEWEST_ANSWERS = 20  # that say something about a model that answers them alike


class Start(Protocol):
    """What a model begins with instead of random weights; a ``RunFolder`` is one."""

    def architecture(self) -> dict | None:
        """Returns the shape of the encoder's network where its config does not say it."""

    def load_weights(self, model: XCModel) -> None:
        """Gives the built model its first weights."""


class TrainingJob:
    """One model, trained from a config and prepared data into one run folder.

    ``run`` is all that happens, from the lock of the folder to the summary. A recipe whose training
    differs in one step derives a class that overrides the method of that step.

    Args:
        config: ``Config``.
        data_folder: prepared records.
        run_path: run folder; nothing is written before the model is built, so that a config that
            is invalid leaves no run behind.
        repetition: number of the repetition this model is, or None for the whole model.
        parent_run: folder of the run that this one belongs to, as a repetition or a fold; started
            as well, so that what reads it finds config and assets.
        start: what the model begins with, or None for random weights.
        end, facts: see ``Trainer``.

    Attributes:
        title: of the progress line.
        resumes: whether there is a checkpoint to resume from, which makes ``start`` unnecessary.

    Example:
        >>> TrainingJob(config, data_folder, "runs/mine").run()["steps"]  # doctest: +SKIP
        1200
    """

    title = "training"

    def __init__(
        self,
        config: Config,
        data_folder: Path,
        run_path: Path,
        *,
        repetition: int | None = None,
        parent_run: Path | None = None,
        start: Start | None = None,
        end: float | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.data_folder = data_folder
        self.folder = RunFolder(run_path, is_chief())
        self.parent = RunFolder(parent_run, self.folder.chief) if parent_run else None
        self.repetition = repetition
        self.start = start
        self.end = end
        self.facts = facts
        self.resumes = False

    def run(
        self,
        fresh: bool = False,
        fresh_parent: bool = False,
        from_step: int | None = None,
        drop_later: bool = False,
    ) -> dict:
        """Trains, resumes a stopped training run, or returns the summary of a finished one.

        With more epochs than the run has, its training goes on from its last checkpoint.

        Args:
            fresh: remove an earlier run in the run folder.
            fresh_parent: remove an earlier parent run, with all that belongs to it.
            from_step: resume from this checkpoint instead of the newest.
            drop_later: whether what came after it may be removed.

        Returns:
            The run's summary, see ``Trainer.fit``.

        Raises:
            CheckpointError: another process is writing into the run, or it is of another config, or
                of other data.
            ConfigError: a section of the config is invalid, e.g. more buckets than labels.
        """
        config = self.config
        data_folder = self.data_folder
        with locked(self.folder):
            strategy = make_strategy(config.training, config)  # before anything else of TensorFlow
            if self.parent:
                resuming.check(self.parent, config, fresh_parent)
                if not fresh_parent:
                    self.parent.check_data(data_folder)
            anew = fresh or fresh_parent
            drops = False  # whether something after ``from_step`` has to be removed
            if from_step is not None:
                resuming.check(self.folder, config)
                self.folder.check_data(data_folder)
                drops = resuming.check_go_back(self.folder, from_step, drop_later)
            finished = None if drops else resuming.finished(self.folder, config, data_folder, anew)
            if finished:
                return finished
            self.resumes = not anew and self.folder.has_checkpoint()
            if self.start is not None and not self.resumes:
                from tfxc.training.start.run_start import RunStart

                if isinstance(self.start, RunStart):
                    self.start.check(config, data_folder)
            epochs = None if anew else resuming.extended_from(self.folder, config)
            trainer = self.trainer(strategy)
            if from_step is not None or epochs:
                trainer.check_resume(from_step)
            remarks = [trainer.extended(epochs)] if epochs else []

            def begin() -> None:
                if drops:
                    assert from_step is not None
                    if self.parent:
                        resuming.reopen(self.parent)
                    resuming.drop_later(self.folder, from_step)
                if self.parent:
                    resuming.start(self.parent, config, data_folder, fresh_parent)
                resuming.start(self.folder, config, data_folder, fresh)

            by_chief(strategy, begin)
            self.on_begin()
            summary = trainer.fit(self.title, remarks)
            if self.parent is None:
                write_dev_examples(self.folder, config, trainer.dev_answers)
            if self.folder.chief:
                note_on_one_answer(trainer.dev_answers)
            return summary

    def trainer(self, strategy: "tf.distribute.Strategy") -> Trainer:
        """Returns data, model, techniques and evaluation, put together.

        Args:
            strategy: a ``tf.distribute.Strategy``.

        Raises:
            ConfigError: a section of the config is invalid, or does not fit the data.
            DataError: the data cannot be read.
        """
        config = self.config
        assert config.objective is not None, "a network is trained"
        manifest = Manifest.load(self.data_folder)
        source = self.open_source("train")
        if registry.get("objective", config.objective.name).link == "softmax":
            name = config.objective.name
            if manifest.num_labels == 1:
                raise ConfigError(
                    f"there is one label only: the loss of objective {name!r} would always be 0",
                    where="data.train",
                    fix="check the labels, or use an objective with a binary decision per label",
                )
            split = manifest.split("train")
            if split.without_labels and self.folder.chief:
                NOTES.warning(
                    f"{split.without_labels:,} of {split.examples:,} training examples have no "
                    f"label: with objective {name!r} their loss is 0 and nothing is learned from "
                    "them; leave them out, or use 'sigmoid', which also learns from absent labels"
                )
        dimensions = {**manifest.dimensions, "num_examples": source.num_examples}
        dimensions |= self.data_dependent_arguments(source, dimensions)
        if config.training.group_by_length:
            source.group_by_length(config.training.batch_size)
        if self.start is not None and self.start.architecture() is not None:
            dimensions["architecture"] = self.start.architecture()
        with strategy.scope():
            model = build_model(config, repetition=self.repetition, **dimensions)
            if self.start is not None and not self.resumes:
                self.start.load_weights(model)
            else:
                self._start(model)
        techniques = self.extra_techniques()
        if model.head.reads_label_texts:
            from tfxc.training.negatives.chosen import techniques_of

            techniques = [*techniques, *techniques_of(model.head, config, source)]
        return Trainer(
            model,
            source,
            config,
            self.folder,
            strategy=strategy,
            extra_techniques=techniques,
            evaluation=self.evaluation(model, source, manifest),
            data_fingerprint=manifest.fingerprints or None,
            end=self.end,
            facts=self.facts,
        )

    def _start(self, model: XCModel) -> None:
        """Gives weights that begin with something the start that the config names."""
        assert self.config.encoder is not None and self.config.head is not None
        if self.config.encoder.section().get("vectors"):
            from tfxc.training.start.word_vectors import start_from_vectors

            texts = self.data_folder / "text_features"
            start_from_vectors(model, self.config, lambda: load_text_features(texts))
        if self.config.head.section().get("start") == registry.LABEL_TEXTS:
            from tfxc.training.start.label_texts import start_from_label_texts

            start_from_label_texts(model, self.config, self._label_texts)

    def _label_texts(self) -> "LabelTexts":
        from tfxc.data.label_texts.prepared import load_label_texts

        manifest = Manifest.load(self.data_folder)
        kind = KINDS[manifest.feature_kind]
        return load_label_texts(self.data_folder, kind, manifest.num_features)

    def open_source(self, split: str) -> Source:
        """Returns the examples of a split."""
        memory = int(self.config.training.memory_gb * 2**30)
        return open_source(self.data_folder, split, memory)

    def data_dependent_arguments(
        self, source: Source, dimensions: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns the arguments of ``build_model`` computed from the data, other than
        ``dimensions``.
        """
        return data_dependent_arguments(self.config, source, **dimensions)

    def extra_techniques(self) -> "Sequence[Technique]":
        """Returns ``Technique``s around those of the config."""
        return []

    def splits(self, manifest: Manifest) -> set[str]:
        """Returns the names of the splits there are."""
        return {*manifest.splits}

    def evaluation(self, model: XCModel, source: Source, manifest: Manifest) -> Evaluation | None:
        """Returns what is measured during training, or None."""
        splits = self.splits(manifest)
        training = self.config.training
        refit = self.config.refit is not None  # what is held out has chosen, before this training
        tests = self.config.evaluation.test_on_improvement and not refit
        for where, is_set, needed in (
            ("training.early_stopping", training.early_stopping, ["dev"]),
            ("training.watch", training.watch, ["dev"]),
            ("evaluation.test_on_improvement", tests, ["dev", "test"]),
        ):
            missing = [split for split in needed if split not in splits]
            if is_set and missing and not refit:
                raise ConfigError(
                    f"it needs a {missing[0]} split, which the data does not have",
                    where=where,
                    fix=f"name a file in data.{missing[0]}, or remove {where.split('.')[1]}",
                )
        names = ("dev", "test") if tests else ("dev",)
        measured = {name: self.open_source(name) for name in names if name in splits}
        labels = labels_of(self.data_folder, model.num_labels)
        kinds = self.config.evaluation.exclude
        texts = evaluation_of_texts(self.data_folder, kinds, source, **measured)
        return Evaluation(model, self.config, labels, source, **measured, label_texts=texts)

    def on_begin(self) -> None:
        """Called when the run folder has its config, before the first step."""


class StageJob(TrainingJob):
    """Trains a part of a model, such as one level of a tree: it finds something else than labels.

    So nothing is measured, and the recipe says what else the data would decide.

    Args:
        config, data_folder, run_path, start: see ``TrainingJob``.
        arguments: extra arguments of ``build_model``.
        source: the training split where it is open already.
        title: of the progress line.
    """

    def __init__(
        self,
        config: Config,
        data_folder: Path,
        run_path: Path,
        *,
        arguments: Mapping[str, Any],
        start: Start | None = None,
        source: Source | None = None,
        title: str = "training",
    ) -> None:
        super().__init__(config, data_folder, run_path, start=start)
        self._arguments = arguments
        self._source = source
        self.title = title

    def open_source(self, split: str) -> Source:
        """Returns the source that was given, or the training split."""
        return self._source or super().open_source(split)

    def data_dependent_arguments(
        self, source: Source, dimensions: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns the arguments that were given, and what providers find in addition."""
        arguments = dict(self._arguments)
        return arguments | super().data_dependent_arguments(source, {**dimensions, **arguments})

    def evaluation(self, model: XCModel, source: Source, manifest: Manifest) -> None:
        """Returns None."""


def note_on_one_answer(answers: Sequence[tuple[int, Sequence[int]]]) -> None:
    """Says it where a model answers the same to whatever it is asked, and is often wrong.

    Args:
        answers: best label and true labels, padded with -1, of examples of the dev split.
    """
    best = {label for label, _ in answers}
    differ = len({tuple(true) for _, true in answers}) > 1  # or dev is sorted by labels
    wrong = sum(label not in true for label, true in answers)
    alike = len(answers) >= _FEWEST_ANSWERS and len(best) == 1 and best != {-1}
    if alike and differ and 2 * wrong > len(answers):
        NOTES.warning(
            f"the same label is the best one for each of the {len(answers)} examples of dev that "
            f"were looked at, and wrong for {wrong}: the model does not tell them apart. Perhaps "
            "training.optimizer.learning_rate is too high, or the training too short"
        )


def try_one_step(
    config: Config, data_folder: Path, repetition: int | None = None, arguments: dict | None = None
) -> tuple[float, int]:
    """Trains one step on one batch and throws the result away.

    Args:
        config, data_folder, repetition: see ``TrainingJob``.
        arguments: those of a ``StageJob``, or None for a whole model.

    Returns:
        (loss, total number of training steps).
    """
    strategy = make_strategy(config.training, config)
    with scratch_folder("try") as folder:
        job = TrainingJob(config, data_folder, folder, repetition=repetition)
        if arguments:
            job = StageJob(config, data_folder, folder, arguments=arguments)
        trainer = job.trainer(strategy)
        return trainer.one_step(), trainer.total_steps
