"""Trains a student that also learns what trained teachers say of its examples."""

import tempfile
from pathlib import Path

from tfxc.data.manifest import LABELS_FILE, Manifest
from tfxc.data.source import open_source
from tfxc.errors import ConfigError
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.recipes._teacher import (
    rows_of,
    save_origin,
    teacher_columns,
    write_teacher_logits,
)
from tfxc.recipes.base import Recipe
from tfxc.recipes.fit import Fit
from tfxc.recipes.runs import load_run
from tfxc.techniques._distillation import Distillation
from tfxc.training.job import train_model

DISTANCES = ("kl", "ce", "mse")
LOGITS, ORIGIN = "teacher_logits.npy", "teachers.txt"


class Distill(Recipe):
    """One student, one training, with teachers.

    The student may be any model and read its texts in any way: the teachers, finished runs, read
    the same raw training file with their own features. Several teachers (the folds of a ``kfold``
    run are one) speak with the mean of their logits. What they say of each training example is
    computed once and kept in the run folder.

    The loss is ``hard_weight L + (1 - hard_weight) D``, with L the objective and D the distance of
    the student's logits from the teachers' (``ops.divergence.teacher_divergence``). Weight and
    temperature may be a pair: they go from its first value to its second, linearly over the steps.

    Args:
        teachers: run folder or list of run folders.
        hard_weight: weight of the true labels, 0 to 1.
        temperature: T, positive.
        distance: ``"kl"``, ``"ce"`` or ``"mse"``.
        squared: whether D counts T^2 times (Hinton et al.); no difference to ``"mse"``.

    Raises:
        ConfigError: an argument out of range.

    Reference: Hinton et al. 2015, arXiv 1503.02531.
    """

    def __init__(self, *, teachers, hard_weight=0.1, temperature=4.0, distance="kl", squared=True):
        self.teachers = [teachers] if isinstance(teachers, str) else list(teachers)
        if not self.teachers:
            raise ConfigError("at least one teacher expected, found none", where="recipe.teachers")
        self.hard_weight = _pair("hard_weight", hard_weight, 0, 1)
        self.temperature = _pair("temperature", temperature, 1e-3, 1e3)
        if distance not in DISTANCES:
            raise ConfigError(
                f"one of {', '.join(DISTANCES)} expected, found {distance!r}",
                where="recipe.distance",
            )
        self.distance, self.squared = distance, squared and distance != "mse"

    def one_model(self, config, repetition):
        """The student.

        Raises:
            ConfigError: a single repetition is asked for.
        """
        return Fit().one_model(config, repetition)

    def run(self, context):
        """Asks the teachers, then trains the student into the run folder.

        Raises:
            ConfigError: a teacher does not fit; it is named.
        """
        config, _ = self.one_model(context.config, context.repetition)
        names = LabelVocabulary.load(Path(context.data_folder) / LABELS_FILE).names
        for teacher in self.teachers:
            if not (Path(teacher) / "config.json").is_file():
                raise ConfigError(
                    f"a finished run expected, {teacher} is none",
                    where="recipe.teachers",
                    fix="train the teacher first",
                )
            teacher_columns(load_run(teacher), teacher, names)
        technique = Distillation(
            rows_of(Path(context.run) / LOGITS),
            self.hard_weight,
            self.temperature,
            self.distance,
            self.squared,
        )
        return train_model(
            config,
            context.data_folder,
            context.run,
            fresh=context.fresh,
            further=[technique],
            begun=lambda run: self._ask(config, context.data_folder, run),
        )

    def _ask(self, config, data_folder, run):
        manifest = Manifest.load(data_folder)
        names = LabelVocabulary.load(Path(data_folder) / LABELS_FILE).names
        source = open_source(data_folder, "train", int(config.training.memory_gb * 2**30))
        save_origin(run / ORIGIN, self.teachers)
        with tempfile.TemporaryDirectory() as scratch:
            write_teacher_logits(
                run / LOGITS, self.teachers, config.data, manifest, source, names, scratch
            )

    def assemble(self, loaded):
        """The student with the run's weights."""
        return Fit().assemble(loaded)


def _pair(name, value, least, most):
    values = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(values) != 2 or not all(
        isinstance(v, int | float) and least <= v <= most for v in values
    ):
        raise ConfigError(
            f"a number from {least:g} to {most:g}, or two, expected, found {value!r}",
            where=f"recipe.{name}",
        )
    return tuple(map(float, values))
