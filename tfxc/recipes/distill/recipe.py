"""Trains a student that also learns what trained teachers predict for its examples."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import MinLen

from tfxc.core import registry
from tfxc.core.declared import NotNegative, Positive
from tfxc.core.errors import CheckpointError, ConfigError
from tfxc.core.interrupts import StopAtOnce
from tfxc.core.messages import OUTPUT
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import LABELS_FILE, Manifest
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.recipes.base import Context, Recipe, StartPart
from tfxc.recipes.distill.layer_matching import Matches
from tfxc.recipes.distill.match_settings import (
    check_layered,
    check_same_features,
    number_or_pair,
    read_matches,
    teacher_encoder,
)
from tfxc.recipes.distill.objective import Distillation, TemperatureSettings
from tfxc.recipes.distill.teacher_logits import (
    computation_of,
    confidence,
    is_written,
    rows_of,
    save_origin,
    teacher_columns,
    write_teacher_logits,
)
from tfxc.runs import resuming
from tfxc.runs.loaded import load_run
from tfxc.training.job import TrainingJob
from tfxc.training.strategies import by_chief, make_strategy

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.runs.folder import RunFolder


LOGITS = "teacher_logits.npy"
ORIGIN = "teachers.txt"


class Distill(Recipe):
    """One student, one training run, with teachers.

    The student may be any model and read its texts in any way: the teachers, finished runs, read
    the same raw training file with their own features. Several teachers (the folds of a ``kfold``
    run are one) are averaged, or teach one after the other, each in its share of the steps
    (``turns``). Their logits are computed once for each training example and kept in the run
    folder.

    The loss is ``hard_weight L + (1 - hard_weight) D``, with L the objective and D the distance of
    the student's logits from the teachers' (``ops.divergence.teacher_divergence``). Weight and
    temperature may be pairs, interpolated linearly over the steps from the first value to the
    second.

    ``matches`` add distances between intermediate results of both. The one teacher's encoder then
    runs in the student's training step, so both have to read the same features; student and
    teacher are of encoder ``pretrained`` or ``transformer``. See docs/training.md, "Matches".

    Args:
        teachers: run folder or list of run folders.
        turns: shares of the steps that the teachers have one after the other, in the order of
            ``teachers``, of any sum: ``[1, 1]`` halves the training. Empty: all speak at once.
        hard_weight: weight of the true labels, 0 to 1.
        temperature: T, positive.
        distance: ``"kl"``, ``"ce"`` or ``"mse"``.
        squared: whether D counts T^2 times (Hinton et al.); no difference to ``"mse"``.
        temperature_scheduler: ``"constant"``; ``"flsw"`` or ``"cwsm"`` lower the temperature of an
            example that is harder than the batch's mean, see ``ops.divergence.difficulty``.
        beta: by how much.
        gamma: exponent of ``"flsw"``.
        matches: list of dicts ``layer_teacher``, ``layer_student``, ``loss``, ``weight`` (1; may be
            a pair), ``projection`` (null, ``"linear"``, ``"relu"``, ``"tanh"``) and ``feature``
            (``"hidden"`` or ``"attention"``, as the loss requires).
        start_layers: numbers of the teacher's layers from which the student's are initialised, with
            its table of words; as many as the student has.
        trust: whether modules that a teacher's config names are imported, see docs/trust.md.
        start, start_part: the run whose weights the student begins with, see recipe ``fit``.

    Raises:
        ConfigError: an argument out of range.

    Reference: Hinton et al. 2015, arXiv 1503.02531; Yang et al. 2020, TextBrewer, arXiv
    2002.12620.
    """

    def __init__(
        self,
        *,
        teachers: Annotated[Sequence[str], MinLen(1)] | str,
        turns: Sequence[float] = (),
        hard_weight: float | Sequence[float] = 0.1,
        temperature: float | Sequence[float] = 4.0,
        distance: Literal["kl", "ce", "mse"] = "kl",
        squared: bool = True,
        temperature_scheduler: Literal["constant", "flsw", "cwsm"] = "constant",
        beta: NotNegative = 1.0,
        gamma: Positive = 1.0,
        matches: Sequence[Mapping[str, Any]] = (),
        start_layers: Sequence[int] = (),
        trust: bool = False,
        start: str | None = None,
        start_part: StartPart = "model",
    ) -> None:
        self.start = start
        self.start_part = start_part
        self.trust = trust
        if start is not None and start_layers:
            raise ConfigError(
                "start and start_layers exclude each other",
                where="recipe.start_layers",
                fix="remove one of them",
            )
        self.teachers = [teachers] if isinstance(teachers, str) else list(teachers)
        count = len(self.teachers)
        if len(turns) not in (0, count) or not all(share > 0 for share in turns):
            raise ConfigError(
                f"must be {count} positive numbers, one for each teacher, not {turns!r}",
                where="recipe.turns",
                fix=f"give numbers such as {[1] * count}, or leave it out",
            )
        self.turns = tuple(turns)
        self.hard_weight = number_or_pair(hard_weight, 0, 1, "recipe.hard_weight")
        self.temperature = number_or_pair(temperature, 1e-3, 1e3, "recipe.temperature")
        self.distance = distance
        self.squared = squared and distance != "mse"
        self.tempering = TemperatureSettings(temperature_scheduler, float(beta), float(gamma))
        self.matches = read_matches(matches)
        self.start_layers = tuple(start_layers)
        if (self.matches or self.start_layers) and count > 1:
            raise ConfigError(
                f"matches and start_layers work with one teacher, not with {count}",
                where="recipe.teachers",
                fix="give one, or remove matches and start_layers",
            )

    @classmethod
    def check_config(cls, config: "Config") -> None:
        """Checks as ``Recipe`` does; also refuses a head that does not score all labels."""
        super().check_config(config)
        if config.head is not None and config.head.name == "label_text":
            raise ConfigError(
                "head 'label_text' does not score all labels in training, which a student needs",
                where="head.name",
                fix="choose another head; runs with this one can be teachers",
            )

    def check(self, context: Context) -> None:
        """Refuses teachers that are not finished runs or that know other labels; they are named."""
        names = LabelVocabulary.load(Path(context.data_folder) / LABELS_FILE).names
        for teacher in self.teachers:
            if not (Path(teacher) / "config.json").is_file():
                raise ConfigError(
                    f"there is no finished run in {teacher}",
                    where="recipe.teachers",
                    fix="train the teacher first",
                )
            teacher_columns(load_run(teacher, self.trust), teacher, names)
        if resuming.extended_from(context.folder, context.config) is not None:
            self._refuse_other_logits(context.folder, context.manifest, names)

    def train(self, context: Context) -> dict[str, Any]:
        """Asks the teachers, then trains the student into the run folder.

        Raises:
            ConfigError: a teacher does not fit; it is named.
            CheckpointError: a teacher has been trained again since the run began.
        """
        job = StudentJob(self, context, self.technique(context))
        return job.run(**context.start_options)

    def technique(self, context: Context) -> Distillation:
        """Returns the student's loss with its teachers."""
        return Distillation(
            [rows_of(Path(context.run) / name) for name in self._teachers_by_file],
            self.hard_weight,
            self.temperature,
            self.distance,
            self.squared,
            self.tempering,
            self._matches(context.config, context.data_folder),
            self.turns or (1.0,),
        )

    @property
    def _teachers_by_file(self) -> dict[str, list[str]]:
        """{file of logits: teachers whose mean it is}, in the order of their turns."""
        if not self.turns:
            return {LOGITS: self.teachers}
        return {f"turn-{n}-{LOGITS}": [teacher] for n, teacher in enumerate(self.teachers)}

    def _matches(self, config: "Config", data_folder: str | Path) -> Matches | None:
        """Returns what runs the teacher in the student's step, or None."""
        if not (self.matches or self.start_layers):
            return None
        (teacher,) = self.teachers
        assert config.encoder is not None, "``check_config`` has asked for one"
        check_layered(config.encoder.name, "encoder.name")
        teacher_config = load_run(teacher, self.trust).config
        assert teacher_config.encoder is not None, "only recipe 'xr_linear' has none"
        check_layered(teacher_config.encoder.name, f"{teacher} encoder.name")
        if teacher_config.recipe.name == "kfold":
            raise ConfigError(
                "matches and start_layers need a single model, and a run of 'kfold' has several",
                where="recipe.teachers",
                fix="give one of its folds' models, trained by itself",
            )
        check_same_features(data_folder, teacher)
        encoder = functools.partial(teacher_encoder, teacher, self.trust)
        return Matches(self.matches, encoder, self.start_layers)

    def compute_teacher_logits(
        self, config: "Config", data_folder: str | Path, run: "RunFolder"
    ) -> None:
        """Writes the teachers' logits into the ``RunFolder``, unless they are there."""

        def write() -> None:
            manifest = Manifest.load(data_folder)
            names = LabelVocabulary.load(Path(data_folder) / LABELS_FILE).names
            self._refuse_other_logits(run, manifest, names)
            save_origin(run / ORIGIN, self.teachers)
            source = open_source(data_folder, "train", int(config.training.memory_gb * 2**30))
            with StopAtOnce("finished examples are"):
                for name, teachers in self._teachers_by_file.items():
                    write_teacher_logits(
                        run / name,
                        teachers,
                        config.data,
                        manifest,
                        source,
                        names,
                        trust=self.trust,
                    )

        by_chief(make_strategy(config.training), write)
        assert config.objective is not None, "``check_config`` has asked for one"
        if registry.get("objective", config.objective.name).link != "softmax":
            return
        # Nothing is learned at a temperature that leaves nearly nothing of the best label.
        first = self.temperature[0]
        for turn, name in enumerate(self._teachers_by_file):
            who = f"teacher of turn {turn}" if self.turns else "teachers"
            line = f"{who}: highest probability {confidence(run / name, 1.0):.2f} on average"
            if first != 1:
                line += f", {confidence(run / name, first):.2f} at temperature {first:g}"
            OUTPUT.info(line)

    def _refuse_other_logits(
        self, run: "RunFolder", manifest: Manifest, names: Sequence[str]
    ) -> None:
        """Refuses to continue a student whose teachers' logits are not there any more."""
        for name, teachers in self._teachers_by_file.items() if run.has_progress() else ():
            if not is_written(run / name, computation_of(teachers, manifest, names)):
                raise CheckpointError(
                    f"{name} of the student is missing, or belongs to other teachers or data",
                    where=run.path,
                    fix="restore the file and the teachers, or start over with --fresh",
                )


class StudentJob(TrainingJob):
    """Trains the student, once the teachers' logits are written.

    Args:
        recipe: ``Distill``.
        context: ``Context``.
        technique: ``Distillation``.
    """

    def __init__(self, recipe: "Distill", context: Context, technique: Distillation) -> None:
        start = recipe.run_start()
        super().__init__(context.config, context.data_folder, context.run, start=start)
        self._recipe = recipe
        self._technique = technique

    def extra_techniques(self) -> list[Distillation]:
        """Returns the loss with the teachers."""
        return [self._technique]

    def on_begin(self) -> None:
        """Asks the teachers."""
        self._recipe.compute_teacher_logits(self.config, self.data_folder, self.folder)
