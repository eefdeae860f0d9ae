"""The keys of text_classifier_torch's ``config.py`` as a config of tfxc."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfxc.core.errors import ConfigError
from tfxc.imports.text_classifier.literals import read_literals
from tfxc.imports.text_classifier.stages import distillation, pruning

_NETWORKS = ("FastText", "TextCNN", "TextRNN", "TextRCNN", "Transformer")
_PRETRAINED = ("Bert", "DistilBert", "RoBerta", "ALBert", "XLNet", "Electra", "MiniLM", "DeBertaV3",
               "XLM-RoBERTa")  # fmt: skip
# The key of the network's type in the section of each stage.
_TYPES = {
    "train_small_model": "s_model_type",
    "finetune": "f_model_type",
    "distillation": "student_model_type",
    "prune": "model_type",
}
# Stages with a section of their own; the others' keys are in train_configure.
_SECTIONS = {"distillation": "distill_configure", "prune": "prune_configure"}
_METRICS = {"binary": "binary-F1", "micro": "micro-F1", "macro": "macro-F1"}
_ATTACKS = ("fgsm", "fgm", "pgd", "freelb", "awp")
_WITH_ROUNDS = ("pgd", "freelb")
# Defaults of PyTorch that differ from those here.
_OPTIMIZERS = {
    "adagrad": {"epsilon": 1e-10},
    "adadelta": {},
    "rmsprop": {},
    "sgd": {},
    "adam": {"epsilon": 1e-8},
    "adamw": {"epsilon": 1e-8},
}
# Types of values, for messages.
_KINDS = {bool: "True or False", int: "an integer", float: "a number", str: "a text",
          list: "a list", dict: "a dict"}  # fmt: skip
# What a distillation there leaves out, whatever these keys say: its loss is plain cross-entropy.
_NOT_DISTILLED = (
    "use_focal_loss", "use_poly_loss", "use_label_smoothing", "weight", "use_gan", "use_r_drop",
    "ema", "swa", "noisy_tune", "use_fp16", "use_multilabel_categorical_cross_entropy",
)  # fmt: skip
# Why keys that are on have no equivalent here.
_NO_EQUAL = {
    "use_cuda": "devices are found; --gpu chooses one",
    "cuda_device": "devices are found; --gpu chooses one",
    "mode": "each mode is a command: train, predict, evaluate, export, info",
    "support_model": "tfxc train --list encoders",
    "remove_special": "it only drops characters from a vocabulary that is built",
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

    def value(self, key: str, default: Any, *, kind: type | None = None) -> Any:
        """A value of ``train_configure``.

        Args:
            key: its key.
            default: what an absent one, or None, stands for; of the type that it must have.
            kind: the type where the default has another.

        Raises:
            ConfigError: it is of another type.
        """
        return _of_kind(self.train.get(key), default, kind or type(default), self._at(key))

    def value_of_stage(self, key: str, default: Any, *, kind: type | None = None) -> Any:
        """A value of ``section``, see ``value``."""
        return _of_kind(self.section.get(key), default, kind or type(default), self._at(key))

    def _at(self, key):
        return f"{self.path}: {key}"

    def place(self, written: str) -> Path:
        """A path of the file; relative ones begin at the folder of the file."""
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
    stage, train = values.get("stage"), values.get("train_configure")
    classes = train.get("classes") if isinstance(train, dict) else None
    if not isinstance(classes, list | tuple) or not classes:
        raise ConfigError(
            "train_configure with classes, a list of texts, expected, found "
            f"{'none' if classes is None else repr(classes)[:60]}",
            where=path,
            fix="give the config.py of a text_classifier_torch project",
        )
    wrong = next((one for one in classes if not isinstance(one, str)), None)
    if wrong is not None:
        raise ConfigError(
            f"classes, a list of texts, expected, found {wrong!r:.60} in it",
            where=path,
            fix="write the names in quotation marks",
        )
    if not isinstance(stage, str) or stage not in _TYPES:
        raise ConfigError(
            f"stage {stage!r} is none of {', '.join(_TYPES)}",
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
    model_type = _model_type(section, _TYPES[stage], path)
    if stage == "distillation" and model_type not in (*_NETWORKS, *_PRETRAINED):
        raise ConfigError(
            f"{model_type!r} is no network that is known here",
            where=f"{path}: student_model_type",
            fix=f"use one of {', '.join((*_NETWORKS, *_PRETRAINED))}",
        )
    return Project(path, values, stage, model_type)


def _of_kind(value, default, kind, where):
    """The value, or the default for None, once its type is checked."""
    if value is None:
        return default
    accepted: tuple[type, ...] = {float: (float, int), list: (list, tuple)}.get(kind, (kind,))
    # True is an integer for Python.
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(
            f"{_KINDS[kind]} expected, found {value!r:.60}",
            where=where,
            fix="correct it in config.py",
        )
    return value


def _model_type(section, key, path):
    if not isinstance(section.get(key), str):
        raise ConfigError(f"{key} expected, found {section.get(key)!r}", where=path)
    return section[key]


def mapped(project: Project, run: str | Path, label_names: str | Path, fill: bool) -> "Mapped":
    """The config of tfxc that is equal to a project's, as far as there is one.

    Args:
        project: from ``read_project``.
        run: the run folder.
        label_names: file with the classes, one per line.
        fill: whether texts are filled up to one length, as there.

    Returns:
        ``Mapped``.

    Raises:
        ConfigError: a value is missing or has no equivalent.
    """
    found = _Reading(project)
    techniques = _techniques(found)
    tree = {
        "run": str(run),
        "seed": found.get("seed", 0),
        "data": _data(found, label_names, fill),
        "encoder": _encoder(found, techniques),
        "head": {"name": "dense"},
        "objective": _objective(found),
        "techniques": techniques,
        "training": _training(found),
    }
    start = found.get("init_network_method", "xavier")
    if found.get("init_network", False) and not project.pretrained:
        tree["encoder"]["start"] = tree["head"]["start"] = start
    elif found.get("init_network", False) and project.stage == "distillation":
        found.note("init_network", "encoder pretrained begins with the weights of its folder")
    if found.get("multilabel", False):
        tree["evaluation"] = {"threshold": 0.0}  # of scores: a probability of a half
    if project.stage == "distillation":
        tree["recipe"] = distillation(found, tree["training"])
    elif project.stage == "prune":
        tree["recipe"] = pruning(found, tree["data"]["text_features"])
    elif found.get("kfold", False):
        tree["recipe"] = {"name": "kfold", "folds": found.get("fold_splits", 4)}
    return Mapped(tree, found.without_equivalent())


class Mapped(NamedTuple):
    """A config, and what has no equivalent in it.

    Attributes:
        tree: nested dict of the config.
        without_equivalent: lines ``key = value: why``.
    """

    tree: dict[str, Any]
    without_equivalent: list[str]


class _Reading:
    """Reads keys of ``train_configure`` and of the stage's own section, and notes which."""

    def __init__(self, project):
        self.project, self.notes = project, {}
        # Keys that mean something only together with others, or in other stages.
        self.read = {"classes", "checkpoints_dir", "fold_splits", "token_file", "val_file"}
        self.read_of_section = {"checkpoints_dir"}
        if not project.pretrained:
            self.passed_over = ("f_", "ptm", "noise")
        else:
            self.passed_over = (
                "s_", "embedding_dim", "num_filters", "hidden_dim", "use_attention", "encoder_num",
                "head_num",
            )  # fmt: skip
        if project.stage == "distillation":
            self.passed_over += ("f_", "s_", "noise")

    def get(self, key, default, kind=None):
        """A value of ``train_configure``, see ``Project.value``."""
        self.read.add(key)
        return self.project.value(key, default, kind=kind)

    def of_section(self, key, default, kind=None):
        """A value of ``distill_configure`` or ``prune_configure``, see ``Project.value``."""
        self.read_of_section.add(key)
        return self.project.value_of_stage(key, default, kind=kind)

    def of_stage(self, name, default):
        """``s_epoch`` and the like, ``epoch`` in the section of a distillation."""
        if self.project.stage == "distillation":
            return self.of_section(name, default)
        prefix = "s_" if self.project.stage == "train_small_model" else "f_"
        return self.get(prefix + name, default)

    @property
    def self_distilled(self):
        """Whether a student also learns what its teacher computes on the way."""
        if self.project.stage != "distillation" or self.get("kfold", False):
            return False
        return self.of_section("self_distillation", False)

    def note(self, key, why):
        """Notes that a key's value has no equivalent."""
        self.notes[key] = why

    def without_equivalent(self):
        """Lines about all that has no equivalent."""
        project, unread = self.project, {}
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
            f"{key} = {value!r:.60}: {self.notes.get(key) or _NO_EQUAL.get(key, 'no such key')}"
            for key, value in unread.items()
        ]


def _data(found, label_names, fill):
    project = found.project
    data: dict[str, Any] = {
        "name": "text_classifier",
        "train": str(project.place(found.get("train_file", ""))),
        "reader": "delimited",
        "reader_options": {"text_field": "sentence", "labels_field": "label"},
        "label_names": str(label_names),
    }
    if found.get("multilabel", False):
        data["reader_options"]["label_separator"] = ","
    if found.get("val_file", ""):
        data["dev"] = str(project.place(found.get("val_file", "")))
    elif project.stage == "distillation" or not found.get("kfold", False):
        data["dev_share"] = found.get("validation_rate", 0.15)
    found.read.add("validation_rate")
    if found.get("test_file", ""):
        data["test"] = str(project.place(found.get("test_file", "")))
    data["text_features"] = text_features(found, fill)
    return data


def text_features(found: Any, fill: bool) -> dict[str, Any]:
    """The section ``data.text_features``."""
    length = {"max_length": found.get("max_sequence_length", 512)}
    for key in ("token_level", "remove_special", "stop_words", "stop_words_file"):
        found.read.add(key)
    if found.project.pretrained:
        return {"name": "pretrained", "folder": found.get("ptm", ""), **length}
    stop_words = found.get("stop_words", False)
    if found.get("token_level", "char") == "word":
        words = {"segmenter": "jieba", "lowercase": False, "token_pattern": "[^ ]+", "min_count": 3}
        if stop_words:
            words["stop_words"] = str(found.project.place(found.get("stop_words_file", "")))
        return {"name": "words", **words, **length, "fill": fill}
    if stop_words:
        found.note("stop_words", "characters are not left out")
    if found.get("remove_special", False):
        found.note("remove_special", _NO_EQUAL["remove_special"])
    return {"name": "characters", "raw": True, **length, "fill": fill}


def _encoder(found, techniques):
    several = any(technique["name"] == "multi_sample_dropout" for technique in techniques)
    dropout = {"dropout": 0.0 if several else found.get("dropout_rate", 0.0)}
    kind = found.project.model_type
    attention = found.get("use_attention", False)
    keys = ("embedding_dim", "num_filters", "hidden_dim", "encoder_num", "head_num")
    embedding, filters, hidden, layers, heads = (found.get(key, None, int) for key in keys)
    if found.project.pretrained:
        encoder = {"name": "pretrained", "folder": found.get("ptm", ""), **dropout}
        if found.project.stage != "distillation":
            return encoder
        shape = found.of_section("distill_mlm_config", {})
        layers = shape.get("num_hidden_layers")
        if layers is not None:
            encoder["num_layers"] = layers
        found.note(
            "distill_mlm_config",
            "only num_hidden_layers is mapped; the student has the widths of ptm, and begins with "
            "its first layers instead of random ones",
        )
        return encoder
    of_kind = {
        "FastText": {"name": "fasttext", "hidden_dim": hidden},
        "TextCNN": {"name": "textcnn", "widths": [2, 3, 4], "num_filters": filters},
        "TextRNN": {"name": "textrnn", "hidden_dim": hidden, "attention": bool(attention)},
        "TextRCNN": {"name": "textrcnn", "hidden_dim": hidden},
        "Transformer": {"name": "transformer", "feed_forward_dim": hidden, "num_layers": layers,
                        "num_heads": heads},
    }  # fmt: skip
    if kind not in of_kind:
        raise ConfigError(
            f"a network of {', '.join(of_kind)} expected, found {kind!r}",
            where=f"{found.project.path}: s_model_type",
        )
    section = {**of_kind[kind], "embedding_dim": embedding, "initial_std": 1.0, **dropout}
    missing = [name for name, value in section.items() if value is None]
    if missing:
        raise ConfigError(
            f"the widths of {kind} expected, found none for {', '.join(missing)}",
            where=f"{found.project.path}: train_configure",
        )
    return section


def _objective(found):
    """The objective; keys that are on, but have no effect with it, are noted."""
    zlpr = "use_multilabel_categorical_cross_entropy"
    flags = ("use_label_smoothing", "use_focal_loss", "use_poly_loss", zlpr)
    smoothing, focal, poly, several = on = [bool(found.get(key, False)) for key in flags]
    alpha, factor = found.get("weight", None, list), found.get("smooth_factor", 0.1)
    if found.project.stage == "distillation":
        link = "sigmoid" if found.get("multilabel", False) else "softmax"
        _note_what_is_not_distilled(found)
        return {"name": link} if link == "softmax" else {"name": link, "reduction": "mean"}
    if found.get("multilabel", False):
        section = {"name": "zlpr"} if several else {"name": "sigmoid", "reduction": "mean"}
        used = (zlpr,)
    elif poly:
        section, used = {"name": "poly", "focal": focal}, ("use_poly_loss", "use_focal_loss")
    elif focal:
        section, used = {"name": "focal"}, ("use_focal_loss", "weight")
        section |= {"alpha": list(alpha)} if alpha else {}
    else:
        section = {"name": "softmax", "label_smoothing": factor if smoothing else 0.0}
        used = ("use_label_smoothing",)
    for key, value in zip((*flags, "weight"), (*on, alpha), strict=True):
        if value and key not in used:
            found.note(key, f"objective {section['name']} has no use for it")
    return section


def _note_what_is_not_distilled(found):
    for key in _NOT_DISTILLED:
        if found.project.train.get(key):
            found.note(key, "a distillation there makes no use of it")
    found.read.update(_NOT_DISTILLED)


def _techniques(found):
    techniques: list[dict[str, Any]] = []
    rate, intensity = found.get("dropout_rate", 0.0), found.get("noise_lambda", 0.12)
    distilled = found.project.stage == "distillation"
    if found.get("noisy_tune", False) and found.project.pretrained and not distilled:
        techniques.append({"name": "noisy_tune", "intensity": intensity})
    if found.get("use_gan", False) and not distilled:
        techniques += _attack(found)
    if found.get("use_r_drop", False) and not distilled:
        techniques.append({"name": "rdrop"})
    rounds = found.get("dropout_round", 1)
    if found.get("multisample_dropout", False) and rounds > 1:
        techniques.append({"name": "multi_sample_dropout", "rounds": rounds, "rate": rate})
    if found.get("ema", False) and not distilled:
        techniques.append({"name": "ema"})
    for key in ("gan_method", "attack_round", "swa_start_step", "swa_lr", "anneal_epochs"):
        found.read.add(key)
    if found.get("swa", False) and not distilled:
        found.note("swa", "add technique swa: its start is in epochs, there in steps")
    return techniques


def _attack(found):
    method, rounds = found.get("gan_method", ""), found.get("attack_round", 3)
    if method not in _ATTACKS:
        found.note("gan_method", f"one of {', '.join(_ATTACKS)} expected")
        return []
    if method == "fgsm":
        return [{"name": "fgsm", "epsilon": 0.2}]
    return [{"name": method, **({"rounds": rounds} if method in _WITH_ROUNDS else {})}]


def _training(found):
    name = found.get("optimizer", "AdamW").lower()
    if name not in _OPTIMIZERS:
        raise ConfigError(
            f"one of {', '.join(_OPTIMIZERS)} expected, found {name!r}",
            where=f"{found.project.path}: optimizer",
        )
    rate = found.of_stage("learning_rate", 1e-3)
    training: dict[str, Any] = {
        "batch_size": found.of_stage("batch_size", 16),
        "epochs": found.of_stage("epoch", 10),
        "log_every": found.of_stage("print_per_batch", 50),
        "optimizer": {"name": name, "learning_rate": rate, **_OPTIMIZERS[name]},
        "schedule": _schedule(found),
    }
    metric = _METRICS.get(found.get("metrics_average", "micro"), "samples-F1")
    patience = found.of_stage("patient", 3)
    if found.of_stage("is_early_stop", False):
        training["early_stopping"] = {"metric": metric, "patience": patience}
    else:
        training |= {"keep": "best", "watch": metric}
    if found.get("use_fp16", False) and found.project.stage != "distillation":
        training["precision"] = "mixed_float16"
    found.of_stage("model_name", "")
    found.of_stage("model_type", "")
    return training


def _schedule(found):
    kind, steps = found.get("scheduler_type", "linear"), found.get("num_warmup_steps", -1)
    warmup = found.get("warmup", False)
    if not warmup and not found.self_distilled:  # the latter has a schedule whatever it says
        return {"name": "constant"}
    if steps > 0:
        found.note("num_warmup_steps", "training.schedule.warmup is a share of all steps")
    return {"name": kind, "warmup": 0.1 if steps == -1 else 0.0}
