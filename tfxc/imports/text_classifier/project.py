"""The settings of text_classifier_torch's ``config.py``, and which of them have been read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfxc.core.errors import ConfigError
from tfxc.imports.text_classifier.literals import read_literals

_NETWORKS = ("FastText", "TextCNN", "TextRNN", "TextRCNN", "Transformer")
_PRETRAINED = (
    "Bert",
    "DistilBert",
    "RoBerta",
    "ALBert",
    "XLNet",
    "Electra",
    "MiniLM",
    "DeBertaV3",
    "XLM-RoBERTa",
)
# The key of the network's type in the section of each stage.
_TYPES = {
    "train_small_model": "s_model_type",
    "finetune": "f_model_type",
    "distillation": "student_model_type",
    "prune": "model_type",
}
# Stages with a section of their own; the others' keys are in train_configure.
_SECTIONS = {"distillation": "distill_configure", "prune": "prune_configure"}
# Types of values, for messages.
_KINDS = {
    bool: "a truth value (True or False)",
    int: "an integer",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a dict",
}
# Why keys that are on have no equivalent here.
_REASONS = {
    "use_cuda": "tfxc uses the devices there are; --gpu chooses one",
    "cuda_device": "tfxc uses the devices there are; --gpu chooses one",
    "mode": "each mode is a command: train, predict, evaluate, export, info",
    "support_model": "tfxc train --list encoders",
}


class Project(NamedTuple):
    """What a ``config.py`` says.

    Attributes:
        path: the file.
        values: {name: value} of the file.
        stage: its ``stage``.
        model_type: name of the network.
    """

    path: Path
    values: Mapping[str, Any]
    stage: str
    model_type: str

    @property
    def train(self) -> dict[str, Any]:
        """The section ``train_configure``."""
        return self.values["train_configure"]

    @property
    def section(self) -> dict[str, Any]:
        """The section of the stage: ``distill_configure`` or ``prune_configure`` in theirs."""
        return self.values[_SECTIONS.get(self.stage, "train_configure")]

    @property
    def pretrained(self) -> bool:
        """Whether the network is a pretrained language model."""
        if self.stage == "distillation":
            return self.model_type not in _NETWORKS
        return self.stage != "train_small_model"

    def value(self, key: str, default: object, *, kind: type | None = None) -> Any:
        """Returns a value of ``train_configure``.

        Args:
            key: its key.
            default: what an absent one, or None, stands for; of the type that it must have.
            kind: the type where the default has another.

        Raises:
            ConfigError: it is of another type.
        """
        return self._checked(self.train, key, default, kind)

    def value_of_stage(self, key: str, default: object, *, kind: type | None = None) -> Any:
        """Returns a value of ``section``, see ``value``."""
        return self._checked(self.section, key, default, kind)

    def _checked(
        self, section: Mapping[str, Any], key: str, default: object, kind: type | None
    ) -> Any:
        value = section.get(key)
        if value is None:
            return default
        kind = kind or type(default)
        accepted: tuple[type, ...] = {float: (float, int), list: (list, tuple)}.get(kind, (kind,))
        # True is an integer for Python.
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(
                f"{value!r:.60} is not {_KINDS[kind]}",
                where=f"{self.path}: {key}",
                fix="correct it in config.py",
            )
        return value

    def place(self, written: str) -> Path:
        """Returns a path of the file; relative ones begin at the folder of the file."""
        return self.path.parent / written

    @property
    def checkpoint(self) -> Path:
        """The file of the trained network."""
        key = {"finetune": "f_model_name", "distillation": "student_model_name"}
        name = self.value_of_stage(key.get(self.stage, "s_model_name"), "")
        return self.place(self.value_of_stage("checkpoints_dir", "")) / name


def read_project(path: str | Path) -> Project:
    """Reads a ``config.py``, or that of a folder.

    Raises:
        ConfigError: a section or key is missing, or the stage has no equivalent.
    """
    path = Path(path)
    path = path / "config.py" if path.is_dir() else path
    values = read_literals(path)
    stage = values.get("stage")
    train = values.get("train_configure")
    classes = train.get("classes") if isinstance(train, dict) else None
    if not isinstance(classes, list | tuple) or not classes:
        raise ConfigError(
            "there is no train_configure with the list of classes"
            if classes is None
            else f"the classes are {classes!r:.60} instead of a list of texts",
            where=path,
            fix="give the config.py of a text_classifier_torch project",
        )
    wrong = next((name for name in classes if not isinstance(name, str)), None)
    if wrong is not None:
        raise ConfigError(
            f"{wrong!r:.60} in the list of classes is not a text",
            where=path,
            fix="write the names in quotation marks",
        )
    if not isinstance(stage, str) or stage not in _TYPES:
        raise ConfigError(
            f"stage must be one of {', '.join(_TYPES)}, not {stage!r}",
            where=path,
            fix="correct it in config.py",
        )
    section = values.get(_SECTIONS.get(stage, "train_configure"))
    if not isinstance(section, dict):
        raise ConfigError(
            f"stage {stage!r} has no section {_SECTIONS[stage]}",
            where=path,
            fix="add it to config.py",
        )
    key = _TYPES[stage]
    model_type = section.get(key)
    if not isinstance(model_type, str):
        raise ConfigError(
            f"{key} is {model_type!r:.60} instead of the name of a network",
            where=path,
            fix="correct it in config.py",
        )
    if stage == "distillation" and model_type not in (*_NETWORKS, *_PRETRAINED):
        raise ConfigError(
            f"{model_type!r} is not a network that tfxc knows",
            where=f"{path}: student_model_type",
            fix=f"use one of {', '.join((*_NETWORKS, *_PRETRAINED))}",
        )
    return Project(path, values, stage, model_type)


class Reading:
    """Reads keys of ``train_configure`` and of the stage's own section, and notes which.

    Args:
        project: from ``read_project``.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.notes: dict[str, str] = {}
        # Keys that mean something only together with others, or in other stages.
        self.read = {"classes", "checkpoints_dir", "fold_splits", "token_file", "val_file"}
        self.read_of_section = {"checkpoints_dir"}
        # What the names of keys begin with that have no effect on this network.
        self.passed_over: tuple[str, ...] = ("f_", "ptm", "noise")
        if project.pretrained:
            self.passed_over = ("s_", "embedding_dim", "num_filters", "hidden_dim")
            self.passed_over += ("use_attention", "encoder_num", "head_num")
        if project.stage == "distillation":
            self.passed_over += ("f_", "s_", "noise")

    def get(self, key: str, default: object, kind: type | None = None) -> Any:
        """Returns a value of ``train_configure``, see ``Project.value``."""
        self.read.add(key)
        return self.project.value(key, default, kind=kind)

    def of_section(self, key: str, default: object, kind: type | None = None) -> Any:
        """Returns a value of ``distill_configure`` or ``prune_configure``, see
        ``Project.value``.
        """
        self.read_of_section.add(key)
        return self.project.value_of_stage(key, default, kind=kind)

    def of_stage(self, name: str, default: object) -> Any:
        """Returns ``s_epoch`` and the like, ``epoch`` in the section of a distillation."""
        if self.project.stage == "distillation":
            return self.of_section(name, default)
        prefix = "s_" if self.project.stage == "train_small_model" else "f_"
        return self.get(prefix + name, default)

    @property
    def self_distilled(self) -> bool:
        """Whether a student also learns what its teacher computes on the way."""
        if self.project.stage != "distillation" or self.get("kfold", False):
            return False
        return self.of_section("self_distillation", False)

    def note(self, key: str, why: str) -> None:
        """Notes that a key's value has no equivalent."""
        self.notes[key] = why

    def without_equivalent(self) -> list[str]:
        """Returns lines about all that has no equivalent."""
        project = self.project
        unread = {}
        for key, value in project.values.items():
            if key not in ("train_configure", "stage") and not key.endswith("_configure"):
                unread[key] = value
        for key, value in project.train.items():
            passed_over = key in self.read or str(key).startswith(self.passed_over)
            if key in self.notes or not passed_over:
                unread[key] = value
        for key, value in project.section.items() if project.stage in _SECTIONS else ():
            if key in self.notes or key not in self.read_of_section:
                unread[key] = value
        return [
            f"{key} = {value!r:.60}: {self.notes.get(key) or _REASONS.get(key, 'no such key')}"
            for key, value in unread.items()
        ]
