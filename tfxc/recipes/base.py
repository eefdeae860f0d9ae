"""What every recipe shares."""

import dataclasses
from pathlib import Path

from tfxc.core.config import Config
from tfxc.core.errors import ConfigError
from tfxc.runs.folder import RunFolder
from tfxc.training.strategies import is_chief

PARTS = ("encoder", "head", "objective")


@dataclasses.dataclass
class Context:
    """What a recipe is given.

    Attributes:
        config: the resolved config.
        data_folder: prepared records.
        run: the run folder.
        repetition: number of the one repetition to train, or None.
        fresh: whether an earlier run in the folder is thrown away.
        command: command line options that child processes need, e.g. ``["--gpu", "0"]``.
    """

    config: Config
    data_folder: Path
    run: Path
    repetition: int | None = None
    fresh: bool = False
    command: tuple = ()


class Recipe:
    """Owns the order of the stages of a training.

    ``run(context)`` locks the run folder, calls ``train(context)``, which a recipe defines, and
    returns its summary dict; ``assemble(loaded)`` returns the trained model of a finished run;
    ``one_model`` tells what a single process trains.

    The model is an ``XCModel``, or one that is searched outside TensorFlow, as
    ``recipes._linear_model.LinearModel``: it has ``num_labels``, ``has_probabilities``,
    ``find_top_k(features, k, probabilities)`` on arrays, ``top_k(features, k, probabilities)`` in
    the graph, and ``calibration``, which may be None.

    Attributes:
        parts: the sections of a config that the recipe needs, of ``PARTS``; others mean nothing.
        keeps_head: whether a finished run finds labels with the head.
    """

    from_data = ()
    parts = PARTS
    keeps_head = True

    @classmethod
    def check_config(cls, config):
        """Refuses a config without a part that the recipe needs, or with one it has no use for.

        Raises:
            ConfigError: the part is named.
        """
        for part in PARTS:
            given = getattr(config, part) is not None
            if part in cls.parts and not given:
                raise ConfigError(
                    f"recipe {config.recipe.name!r} needs {part!r}, it is missing",
                    where=part,
                    fix=f"add {part!r}",
                )
            if given and part not in cls.parts:
                raise ConfigError(
                    f"{part!r} means nothing to recipe {config.recipe.name!r}",
                    where=part,
                    fix=f"remove {part!r}, or choose another recipe",
                )

    def outline(self, config, manifest):
        """What a dry run tells of the stages of a training, before parameters and one step.

        Args:
            config: ``Config``.
            manifest: the data's ``Manifest``.

        Returns:
            ``(lines, decided)``: list of text, and further arguments of ``build_model`` for the
            largest training of a model, None where no model is trained step by step.

        Raises:
            ConfigError: the config does not fit the data.
        """
        return [], {}

    def one_model(self, config, repetition):
        """What one training process trains, for a dry run: (config, repetition or None).

        The whole model, unless a recipe says otherwise.

        Args:
            repetition: the one asked for, or None.

        Raises:
            ConfigError: the recipe cannot train that repetition alone.
        """
        if repetition is not None:
            raise ConfigError(
                f"recipe {config.recipe.name!r} trains one model",
                where="--repetition",
                fix="leave it out; recipe 'repetitions' trains the repetitions of a head apart",
            )
        return config, None

    def run(self, context):
        """Trains, or goes on with a stopped training, while no other process may.

        A single repetition or fold locks its own folder only: others may be trained next to it.

        Args:
            context: ``Context``.

        Returns:
            The summary, as a dict.

        Raises:
            CheckpointError: another process is writing into the run.
        """
        config, _ = self.one_model(context.config, context.repetition)
        context = dataclasses.replace(context, config=config)
        if context.repetition is not None:
            return self.train(context)
        with RunFolder(context.run, is_chief()).locked():
            return self.train(context)

    def train(self, context):
        """Trains; ``context.config`` is what ``one_model`` made of the given one."""
        raise TypeError(f"{type(self).__name__} must define train(context)")

    def assemble(self, loaded):
        """The trained model of a run folder (``recipes.runs.LoadedRun``)."""
        raise TypeError(f"{type(self).__name__} must define assemble(loaded)")
