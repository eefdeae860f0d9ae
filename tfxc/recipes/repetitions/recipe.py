"""Trains the R repetitions of a hashed head as R separate models."""

from typing import TYPE_CHECKING

from tfxc.core import registry
from tfxc.core.declared import Count
from tfxc.core.errors import ConfigError
from tfxc.model import build_model
from tfxc.ops.tables.large_weights import (
    assign_in_pieces,
    assign_rows,
    shared_value,
    without_starts,
)
from tfxc.recipes.base import Context, RecipeOfRuns, StartPart
from tfxc.recipes.bases.processes import train_in_processes
from tfxc.recipes.repetitions.streamed import StreamedRepetitions, separate
from tfxc.training.job import TrainingJob
from tfxc.training.start.run_start import RunStart

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.inference.protocol import RunModel
    from tfxc.model import XCModel
    from tfxc.runs.loaded import LoadedRun


class Repetitions(RecipeOfRuns):
    """One network per repetition, each in its own run folder, ``repetition-00`` and so on.

    Repetitions share nothing, so each can run in its own process, on its own device, and be
    started again alone. ``assemble`` puts them side by side in one model.

    Args:
        parallel: processes at a time when all repetitions are started at once; None means as
            many as memory and cores hold. Where there are GPUs, each process has one, in turn, and
            None means as many as there are.
        together: train all in one process as one vectorised model instead; same weights.
        start, start_part, trust: what the repetitions begin with, see recipe ``fit``: each with the
            same repetition of a run of this recipe, or all with one that was trained together.
    """

    def __init__(
        self,
        *,
        parallel: Count | None = None,
        together: bool = False,
        start: str | None = None,
        start_part: StartPart = "model",
        trust: bool = False,
    ) -> None:
        self.parallel = parallel
        self.together = together
        self.uses_cluster = not together
        self.start = start
        self.start_part = start_part
        self.trust = trust

    def starts(self, context: Context) -> list[RunStart]:
        """Returns that of each repetition, or of all together."""
        if self.together:
            return super().starts(context)
        if context.repetition is None:
            numbers = list(range(repetition_count(context.config)))
        else:
            numbers = [context.repetition]
        starts = [self.run_start(number) for number in numbers]
        return [start for start in starts if start is not None]

    @classmethod
    def check_config(cls, config: "Config") -> None:
        """Checks as ``Recipe`` does; also refuses a head without repetitions."""
        super().check_config(config)
        repetition_count(config)

    def num_models(self, config: "Config") -> int:
        """Counts the repetitions; one if all are trained together."""
        return 1 if self.together else repetition_count(config)

    def models_at_once(self, config: "Config") -> int:
        """Counts all repetitions, and the one that is read, see ``assemble``."""
        return self.num_models(config) + (0 if self.together else 1)

    def one_model(self, config: "Config", repetition: int | None) -> "tuple[Config, int | None]":
        """Returns the whole model if all are trained together, else one repetition (the first).

        Raises:
            ConfigError: there is no such repetition, or it is not trained alone.
        """
        count = repetition_count(config)
        if self.together and repetition is not None:
            raise ConfigError(
                "recipe.together is true, which trains all repetitions in one process",
                where="--repetition",
                fix="leave it out, or add --set recipe.together=false",
            )
        if self.together:
            return separate(config), None
        self.check_number(repetition, count)
        return config, repetition or 0

    def train(self, context: Context) -> dict:
        """Trains one repetition (``context.repetition``) or all of them."""
        config = context.config
        if self.together:
            start = self.run_start()
            job = TrainingJob(config, context.data_folder, context.run, start=start)
            return job.run(**context.start_options)
        if context.repetition is None:
            count = repetition_count(config)
            train_in_processes(context, self, count, self.parallel)
            return dict.fromkeys(range(count), "finished")
        job = TrainingJob(
            config,
            context.data_folder,
            self.path_of(context.run, context.repetition),
            repetition=context.repetition,
            parent_run=context.run,
            start=self.run_start(context.repetition),
        )
        return job.run(**context.start_options)

    def assemble(self, loaded: "LoadedRun") -> "XCModel":
        """Returns one model with all repetitions side by side; those that do not count are zeros.

        Raises:
            CheckpointError: a repetition has no weights yet; it is named.
        """
        with without_starts():
            model = build_model(separate(loaded.config), **loaded.dimensions)
        if self.together:
            loaded.folder.load_weights(model)
            return model
        with without_starts():
            repetition = build_model(loaded.config, **loaded.dimensions, repetition=0)
        count = repetition_count(loaded.config)
        numbers = range(count) if loaded.counted is None else loaded.counted
        folders = self.trained(loaded.folder, numbers)
        for number, folder in zip(numbers, folders, strict=True):
            folder.load_weights(repetition)
            place_repetition(model, repetition, number)
        return model

    def assemble_streamed(self, loaded: "LoadedRun") -> "RunModel":
        """Returns a model with one repetition in memory at a time, see ``StreamedRepetitions``.

        Raises:
            CheckpointError: a repetition has no weights yet; it is named.
        """
        if self.together:
            return self.assemble(loaded)
        count = repetition_count(loaded.config)
        numbers = list(range(count) if loaded.counted is None else loaded.counted)
        return StreamedRepetitions(loaded, numbers, self.checked(loaded.folder, numbers))


def place_repetition(model: "XCModel", repetition: "XCModel", number: int) -> None:
    """Copies the weights of a model of one repetition into slot ``number`` of ``model``."""
    encoder = model.encoder.encoders[number]
    for target, source in zip(encoder.weights, repetition.encoder.weights, strict=True):
        assign_in_pieces(target, shared_value(source.value))
    for target, source in zip(model.head.weights, repetition.head.weights, strict=True):
        assign_rows(target.value, number, shared_value(source.value)[:1])


def repetition_count(config: "Config") -> int:
    """Counts the repetitions of a config's head.

    Raises:
        ConfigError: the head has none.
    """
    assert config.head is not None, "``check_config`` has asked for one"
    known = registry.arguments(registry.get("head", config.head.name))
    if "num_repetitions" not in known:
        raise ConfigError(
            "recipe 'repetitions' needs a head with repetitions, and "
            f"{config.head.name!r} has none",
            where="recipe.name",
            fix="use head 'mach', or recipe 'fit'",
        )
    return config.head.section().get("num_repetitions", known["num_repetitions"])
