"""What every recipe shares."""

import dataclasses
from pathlib import Path

from tfxc.config import Config


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

    ``run(context)`` trains and returns a summary dict; ``assemble(loaded)`` returns the trained
    model of a finished run; ``one_model`` tells what a single process trains.
    """

    from_data = ()

    def one_model(self, config, repetition):
        """What one training process trains, for a dry run: (config, repetition or None).

        Args:
            repetition: the one asked for, or None.

        Raises:
            ConfigError: the recipe cannot train that repetition alone.
        """
        raise TypeError(f"{type(self).__name__} must define one_model(config, repetition)")

    def run(self, context):
        """Trains."""
        raise TypeError(f"{type(self).__name__} must define run(context)")

    def assemble(self, loaded):
        """The trained model of a run folder (``recipes.runs.LoadedRun``)."""
        raise TypeError(f"{type(self).__name__} must define assemble(loaded)")
