"""What every recipe shares.

TensorFlow is imported by what trains: a run whose model needs none is opened without.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tfxc.core import registry
from tfxc.core.config import Config
from tfxc.core.declared import Declared
from tfxc.core.errors import CheckpointError, ConfigError, DataError, number_spans
from tfxc.core.messages import NOTES, OUTPUT, silent
from tfxc.core.settings import TrainingSettings
from tfxc.core.storage import checksums
from tfxc.data.reading.held_out import note_on_titles
from tfxc.data.store.manifest import Manifest
from tfxc.decision.fitted import DECISION
from tfxc.runs import resuming
from tfxc.runs.folder import RunFolder
from tfxc.runs.lock import locked
from tfxc.runs.refit import HeldOutRun, epochs_of, facts_of, held_out_configs
from tfxc.runs.writer import CONFIG, SUMMARY

if TYPE_CHECKING:
    import tensorflow as tf

    from tfxc.core.settings import DataSettings
    from tfxc.inference.protocol import RunModel
    from tfxc.runs.loaded import LoadedRun
    from tfxc.training.start.run_start import RunStart


@dataclasses.dataclass
class Context:
    """What a recipe is given.

    Attributes:
        config: the resolved config.
        data_folder: prepared records.
        run: the run folder.
        repetition: number of the one repetition or fold to train, or None.
        fresh: whether an earlier run in the folder is deleted.
        from_step: the checkpoint to resume from, or None for the newest.
        drop_later: whether what came after it may be removed.
        command: command line options that child processes need, e.g. ``["--gpu", "0"]``.
        prepare: function of ``DataSettings`` that returns prepared records, for the data without
            what ``refit`` holds out; None prepares in the folder next to ``data_folder``.
        held_out: the finished runs without what ``refit`` holds out, once the run itself is
            trained.
    """

    config: Config
    data_folder: Path
    run: Path
    repetition: int | None = None
    fresh: bool = False
    from_step: int | None = None
    drop_later: bool = False
    command: tuple[str, ...] = ()
    prepare: "Callable[[DataSettings], Path] | None" = None
    held_out: tuple[HeldOutRun, ...] = ()

    @functools.cached_property
    def folder(self) -> RunFolder:
        """The run folder."""
        from tfxc.training.tf_config import is_chief

        return RunFolder(self.run, is_chief())

    @functools.cached_property
    def manifest(self) -> Manifest:
        """What the data are."""
        return Manifest.load(self.data_folder)

    @functools.cached_property
    def strategy(self) -> "tf.distribute.Strategy":
        """The distribution strategy; made before anything else of TensorFlow."""
        from tfxc.training.strategies import make_strategy

        return make_strategy(self.config.training, self.config)

    @property
    def start_options(self) -> dict[str, Any]:
        """Where a training begins: arguments of ``TrainingJob.run``."""
        return {
            "fresh": self.fresh,
            "from_step": self.from_step,
            "drop_later": self.drop_later,
        }

    @property
    def refit_options(self) -> dict[str, Any]:
        """What the runs without held-out examples have found: arguments of ``TrainingJob``."""
        if not self.held_out:
            return {}
        return {"end": epochs_of(self.held_out), "facts": facts_of(self.held_out)}

    def start(self) -> None:
        """Writes config and assets of the run, by the chief, see ``tfxc.runs.resuming.start``."""
        start = functools.partial(
            resuming.start, self.folder, self.config, self.data_folder, self.fresh
        )
        if self.config.training.strategy != "multi_worker":
            start()
            return
        from tfxc.training.strategies import by_chief

        by_chief(self.strategy, start)


#: What a training takes of the run it starts from.
StartPart = Literal["model", "encoder"]


class Recipe(Declared):
    """Determines the order of the stages of training.

    ``run(context)`` is the same for all: it locks the run folder, makes the strategy, calls
    ``check(context)``, does nothing for a finished run, and else calls ``train(context)``, which a
    recipe defines. ``assemble(loaded)`` makes the trained model of a finished run.

    Attributes:
        trains_network: whether a config has ``encoder``, ``head`` and ``objective``; without a
            network these sections, and those of its training, are refused.
        keeps_head: whether a finished run finds labels with the head.
        start: run folder whose weights the training begins with, or None for random ones, in
            recipes that have such an argument.
        start_part: what is taken of it, ``"model"`` or ``"encoder"``.
        trust: whether modules that another run's config names are imported, see docs/trust.md.
        keeps_checkpoints: whether the checkpoints of a run, or of the runs inside it, hold all that
            was trained: more epochs continue from the last one, and each can be evaluated.
        refits: whether the model can be trained on all examples after it was trained without a part
            of them, see ``refit`` of a config.
        uses_cluster: whether a part of the training is shared out to the workers of a cluster, see
            ``tfxc.parallel``.
    """

    trains_network = True
    keeps_head = True
    keeps_checkpoints = True
    refits = False
    uses_cluster = False
    start: str | None = None
    start_part = "model"
    trust = False

    @classmethod
    def check_config(cls, config: Config) -> None:
        """Refuses a config without a section that the recipe needs, or with one it does not use.

        Raises:
            ConfigError: the section is named.
        """
        for name, section in config.network_sections.items():
            if cls.trains_network and section is None:
                raise ConfigError(
                    f"recipe {config.recipe.name!r} needs the section {name!r}",
                    where=name,
                    fix="add it",
                )
            if not cls.trains_network and section is not None:
                raise ConfigError(
                    f"{name!r} does not apply to recipe {config.recipe.name!r}",
                    where=name,
                    fix=f"remove {name!r}, or choose another recipe",
                )

        for kind in ("probabilities", "labels"):
            method = getattr(config.decision, kind, None)
            if method is not None:
                registry.check_section(kind, method.section(), f"decision.{kind}")
        if config.refit is not None and not cls.refits:
            raise ConfigError(
                f"recipe {config.recipe.name!r} cannot be trained once more on all examples",
                where="refit",
                fix="remove it, and hold the dev split out with data.dev_share",
            )
        if config.refit is not None and config.training.strategy == "multi_worker":
            raise ConfigError(
                "strategy 'multi_worker' trains once",
                where="refit",
                fix="remove it, and hold the dev split out with data.dev_share",
            )
        if config.evaluation.ranks and config.head is None:
            raise ConfigError(
                "exact ranks need a head with a score for each label, and recipe "
                f"{config.recipe.name!r} has none",
                where="evaluation.ranks",
                fix="remove it",
            )

    def outline(self, config: Config, manifest: Manifest) -> tuple[list[str], dict | None]:
        """Returns what a dry run reports of the stages of training, before parameters and one step.

        Args:
            config: ``Config``.
            manifest: the data's ``Manifest``.

        Returns:
            ``(lines, data_dependent)``: list of text, and extra arguments of ``build_model`` for
            the largest training of a model, None if no model is trained step by step.

        Raises:
            ConfigError: the config does not fit the data.
        """
        return [], {}

    def num_models(self, config: Config) -> int:
        """Counts the models of one shape that are trained one by one."""
        return 1

    def models_at_once(self, config: Config) -> int:
        """Counts those that are in memory while a finished run is opened, for an export."""
        return self.num_models(config)

    def one_model(self, config: Config, repetition: int | None) -> tuple[Config, int | None]:
        """Returns what one training process trains, for a dry run: (config, repetition or None).

        The whole model, unless a recipe says otherwise.

        Args:
            repetition: the one requested, or None.

        Raises:
            ConfigError: the recipe cannot train that repetition alone.
        """
        if repetition is not None:
            raise ConfigError(
                f"recipe {config.recipe.name!r} does not train several models",
                where="--repetition",
                fix="leave it out, or use recipe 'repetitions'",
            )
        return config, None

    def run(self, context: Context) -> dict:
        """Trains, or resumes a stopped training run, while no other process may.

        Args:
            context: ``Context``.

        Returns:
            The summary; that of a finished run as it is.

        Raises:
            CheckpointError: another process is writing into the run, or it is of another config or
                of other data.
            ConfigError: config or data do not fit the method; nothing is written then.
            Stopped: by a signal; what is finished is saved.
            MachineError: another of several workers has failed.
        """
        config, _ = self.one_model(context.config, context.repetition)
        context = dataclasses.replace(context, config=config)
        with locked(context.folder):
            if self.trains_network:
                context.strategy  # noqa: B018 (made before anything else of TensorFlow)
            self._check_extension(context)
            self._check_start(context)
            self._check_decision(context)
            self.check(context)
            if context.from_step is not None:
                self.check_checkpoints(config.recipe.name, "--from-step")
                context.folder.check_step(context.from_step, "--from-step")
            elif finished := resuming.finished(
                context.folder, config, context.data_folder, context.fresh
            ):
                return self._decided(context, finished)
            if config.refit is not None:
                context = self._without_held_out(context)
            return self._decided(context, self.train(context))

    def _decided(self, context: Context, summary: dict[str, Any]) -> dict[str, Any]:
        """Learns the decision that the config describes, unless the run has it.

        Returns:
            The summary with ``decision``: its settings, and how good it is.
        """
        settings = context.config.decision
        if settings is None or not context.folder.chief:
            return summary
        wanted = settings.model_dump(mode="json")
        is_whole = checksums.are_recorded(context.run, CONFIG, SUMMARY, DECISION)
        if is_whole and (summary.get("decision") or {}).get("settings") == wanted:
            return summary
        from tfxc.runs.loaded import LoadedRun
        from tfxc.training.deciding import decide, decision_line, of_dev

        parts = [context]
        if context.config.refit is not None:
            parts = list(self._held_out_contexts(context))
        for part in parts:  # another training may have prepared them anew
            part.folder.check_data(part.data_folder)
        examined = (
            of_dev(LoadedRun(part.run, trust=True), part.config, part.data_folder) for part in parts
        )
        with checksums.replaced(context.run, CONFIG):  # without it, a run is not whole
            try:
                measured = decide(LoadedRun(context.run, trust=True), examined, settings)
            except DataError as error:  # the run is trained, however little it has learned
                NOTES.warning(f"no decision is learned: {error}")
                return summary
            OUTPUT.info(decision_line(measured))
            context.folder.write_config(context.config)
            summary = {**summary, "decision": {"settings": wanted, **measured}}
            return context.folder.write_summary(summary)

    def _held_out_contexts(self, context: Context) -> "Iterator[Context]":
        """Yields the contexts of the runs without what ``refit`` holds out."""
        for name, config in held_out_configs(context.config).items():
            with silent(NOTES):  # what there is to say was said of all examples
                if context.prepare is None:
                    from tfxc.data.store.preparation import ensure_prepared

                    folder = ensure_prepared(config.data, context.data_folder.parent)
                else:
                    folder = context.prepare(config.data)
            sources = Manifest.load(folder).sources
            of_all = context.manifest.sources
            changed = [key for key in of_all if sources.get(key, of_all[key]) != of_all[key]]
            if changed:
                raise DataError(
                    f"{of_all[changed[0]].path} has changed while it was prepared",
                    where=f"data.{changed[0]}",
                    fix="start over with --fresh",
                )
            yield dataclasses.replace(
                context, config=config, data_folder=folder, run=context.run / name, fresh=False
            )

    def _without_held_out(self, context: Context) -> Context:
        """Trains the runs without what ``refit`` holds out; returns the context of that on all.

        A step that is resumed from is one of the training on all: the others are finished.
        """
        if context.from_step is None:
            context.start()  # what is to be removed is removed before the runs inside begin
        held_out: list[HeldOutRun] = []
        for inner in list(self._held_out_contexts(context)):  # all of the file as it is now
            if context.from_step is None:
                # Its preparation was silent.
                if not held_out and (note := note_on_titles(inner.config.data)):
                    OUTPUT.info(note)
                count = Manifest.load(inner.data_folder).split("dev").examples
                OUTPUT.info(
                    f"{inner.run.name}: trained without {count:,} examples, which measure it"
                )
                self.run(inner)
            held_out.append(HeldOutRun(inner.folder, inner.data_folder))
        OUTPUT.info("training on all examples")
        return dataclasses.replace(context, fresh=False, held_out=tuple(held_out))

    def run_start(self, repetition: int | None = None) -> "RunStart | None":
        """Returns ``start`` as a ``RunStart``.

        Args:
            repetition: the one that is trained alone, or None.
        """
        if self.start is None:
            return None
        from tfxc.training.start.run_start import RunStart

        return RunStart(self.start, self.start_part, self.trust, repetition)

    def starts(self, context: Context) -> "list[RunStart]":
        """Returns the ``RunStart``s of all trainings of a run."""
        start = self.run_start()
        return [] if start is None else [start]

    def _check_start(self, context: Context) -> None:
        """Refuses a start that does not fit, unless a training of the run has begun.

        Where one of several has, each of the others checks its own, see ``TrainingJob.run``.
        """
        if context.fresh or not context.folder.has_progress():
            for start in self.starts(context):
                start.check(context.config, context.data_folder)

    def finished_repetitions(self, run: RunFolder, count: int) -> list[int]:
        """Lists the trained ones of ``count`` repetitions of a hashed head: all, in one model."""
        return list(range(count))

    @classmethod
    def check_checkpoints(cls, name: str, where: str) -> None:
        """Refuses to look for a checkpoint of a run whose recipe does not keep them.

        Args:
            name: of the recipe, for the message.
            where: for the message.

        Raises:
            ConfigError: the recipe keeps none.
        """
        if not cls.keeps_checkpoints:
            raise ConfigError(
                f"recipe {name!r} has several stages, and its checkpoints do not contain all that "
                "was trained",
                where=where,
                fix="leave it out",
            )

    def _check_decision(self, context: Context) -> None:
        """Refuses to learn a decision where there are no examples for it."""
        config = context.config
        if config.decision and not config.refit and "dev" not in context.manifest.splits:
            raise ConfigError(
                "the data have no dev split, of which a decision is learned",
                where="decision",
                fix="name a file in data.dev, or remove it",
            )

    def _check_extension(self, context: Context) -> None:
        """Refuses more epochs for a run that cannot be extended."""
        folder = context.folder
        epochs = None if context.fresh else resuming.extended_from(folder, context.config)
        if epochs is None or not folder.chief or not folder.has_progress():
            return
        if not self.keeps_checkpoints:
            raise CheckpointError(
                f"the run ends at epoch {epochs:g}, and recipe {context.config.recipe.name!r} "
                f"cannot extend it to epoch {context.config.training.epochs:g}",
                where=folder.path,
                fix="choose another folder with --set run=..., or start over with --fresh",
            )
        resuming.check_extendable(folder)

    def check(self, context: Context) -> None:
        """Refuses what cannot be trained, before anything is written.

        Raises:
            ConfigError: config or data do not fit the method.
        """

    def train(self, context: Context) -> dict:
        """Trains into the run folder; ``context.config`` is what ``one_model`` returns.

        Returns:
            The summary, which is also written.
        """
        raise TypeError(f"{type(self).__name__} must define train(context)")

    def assemble(self, loaded: "LoadedRun") -> "RunModel":
        """Returns the trained model of a run: that of its config with the run's weights."""
        from tfxc.model import build_model
        from tfxc.ops.tables.large_weights import without_starts

        with without_starts():
            model = build_model(loaded.config, **loaded.dimensions)
        loaded.folder.load_weights(model)
        return model

    def assemble_streamed(self, loaded: "LoadedRun") -> "RunModel":
        """Does as ``assemble`` for a search of many examples: one of several networks is in memory.

        See ``RunModel.stream``. The model has no search in the graph then.
        """
        return self.assemble(loaded)


def refuse_settings_of_networks(config: Config, advice: str = "remove it") -> None:
    """Refuses settings that only the training loop of networks reads.

    Raises:
        ConfigError: the first of them is named.
    """
    defaults = TrainingSettings()
    useless = [
        f"training.{key}"
        for key in TrainingSettings.model_fields
        if getattr(config.training, key) != getattr(defaults, key)
    ]
    useless += ["techniques"] if config.techniques else []
    useless += ["evaluation.full_loss"] if config.evaluation.full_loss else []
    if useless:
        raise ConfigError(
            f"it does not apply to recipe {config.recipe.name!r}", where=useless[0], fix=advice
        )


class StagedRecipe(Recipe):
    """A recipe of stages that leave their files in the run folder.

    A stopped run resumes after the last of them. A subclass defines ``stages(context)``.

    Attributes:
        saved: what is saved when a signal ends training, in words, e.g. ``"finished blocks
            are"``.
    """

    keeps_checkpoints = False
    saved = "finished stages are"

    def train(self, context: Context) -> dict[str, Any]:
        """Begins the run, runs the stages and writes the summary."""
        from tfxc.core.interrupts import StopAtOnce

        with StopAtOnce(self.saved):
            stages = self.stages(context)
            context.start()
            summary = stages()
        return context.folder.write_summary(summary)

    def stages(self, context: Context) -> Callable[[], dict]:
        """Returns what trains: a function that skips the stages whose files are there.

        The function returns the summary.

        It is made before the run starts, and refuses what cannot be.
        """
        raise TypeError(f"{type(self).__name__} must define stages(context)")


class RecipeOfRuns(Recipe):
    """A recipe that trains several models, each in its own run folder inside the run's.

    Each of these knows by itself what is finished, may be trained alone (``context.repetition``)
    while others are trained by other processes, and then locks its own folder only.

    Attributes:
        unit: what one of them is, ``"repetition"`` or ``"fold"``.
        together: whether they are trained as one model after all.
    """

    unit = "repetition"
    together = False

    def run(self, context: Context) -> dict[str, Any]:
        """Trains as ``Recipe.run``; the runs inside make the strategy and know what is finished."""
        config, _ = self.one_model(context.config, context.repetition)
        context = dataclasses.replace(context, config=config)
        alone = context.repetition is not None
        with contextlib.nullcontext() if alone else locked(context.folder):
            self._check_extension(context)
            self._check_start(context)
            self._check_decision(context)
            self.check(context)
            if context.from_step is not None and not (alone or self.together):
                raise ConfigError(
                    f"all {self.unit}s would be trained, but a step belongs to one of them",
                    where="--from-step",
                    fix="add --repetition R",
                )
            summary = self.train(context)
            return summary if alone else self._decided(context, summary)

    def path_of(self, run: Path, number: int) -> Path:
        """Returns the folder of one of the runs."""
        return run / f"{self.unit}-{number:02d}"

    def check_number(self, number: int | None, count: int) -> None:
        """Refuses to train one that does not exist.

        Raises:
            ConfigError: it is not one of 0 .. count - 1.
        """
        if number is not None and not 0 <= number < count:
            raise ConfigError(
                f"there is no {self.unit} {number}",
                where="--repetition",
                fix=f"choose one from 0 to {count - 1}",
            )

    def finished_repetitions(self, run: RunFolder, count: int) -> list[int]:
        """Lists those that are trained as long as the run, or have a checkpoint of its step."""
        if self.together:
            return super().finished_repetitions(run, count)
        return [number for number in range(count) if self._is_trained(run, number)]

    def _is_trained(self, run: RunFolder, number: int) -> bool:
        """Tells whether one of the runs counts in the whole; not while it is extended."""
        folder = RunFolder(self.path_of(run.path, number))
        if run.step is not None or not folder.has_step(None):
            return folder.has_step(run.step)
        return folder.config().training.epochs == run.config().training.epochs

    def trained(self, run: RunFolder, numbers: Iterable[int]) -> list[RunFolder]:
        """Returns the folders of runs inside a run, to load the same step of each.

        Raises:
            CheckpointError: one is not finished, or has fewer epochs than the run; it is named.
        """
        numbers = list(numbers)
        paths = [self.path_of(run.path, number) for number in numbers]
        folders = [RunFolder(path, step=run.step) for path in paths]
        if run.step is not None:
            for folder in folders:
                folder.check_step(run.step, "--step")
            return folders
        missing = [number for number in numbers if not self._is_trained(run, number)]
        if missing:
            epochs = run.config().training.epochs
            raise CheckpointError(
                f"some {self.unit}s have no weights after {epochs:g} epochs: "
                f"{number_spans(missing)}",
                where=run.path,
                fix=f"train them, e.g. with --repetition {missing[0]}"
                + (", or evaluate the others with --repetitions" * (self.unit == "repetition")),
            )
        return folders

    def checked(self, run: RunFolder, numbers: Iterable[int]) -> list[RunFolder]:
        """Does as ``trained``, once no weights are missing or damaged: before the first has run.

        Raises:
            CheckpointError: one is not finished, or has no weights.
            DataError: the weights of one are damaged.
        """
        folders = self.trained(run, numbers)
        for folder in folders:
            if folder.step is None:  # of a step, ``trained`` has looked
                folder.check_weights()
        return folders
