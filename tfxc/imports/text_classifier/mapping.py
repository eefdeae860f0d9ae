"""The keys of text_classifier_torch's ``config.py`` as a config of tfxc."""

from pathlib import Path
from typing import Any, NamedTuple

from tfxc.core.errors import ConfigError
from tfxc.imports.text_classifier.project import Project, Reading
from tfxc.imports.text_classifier.stages import distillation, pruning

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
# What a distillation there leaves out, whatever these keys say: its loss is plain cross-entropy.
_NOT_DISTILLED = (
    "use_focal_loss",
    "use_poly_loss",
    "use_label_smoothing",
    "weight",
    "use_gan",
    "use_r_drop",
    "ema",
    "swa",
    "noisy_tune",
    "use_fp16",
    "use_multilabel_categorical_cross_entropy",
)


def mapped(project: Project, run: str | Path, label_names: str | Path, fill: bool) -> "Mapped":
    """Returns the config of tfxc that is equal to a project's, as far as there is one.

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
    reading = Reading(project)
    techniques = _techniques(reading)
    tree = {
        "run": str(run),
        "seed": reading.get("seed", 0),
        "data": _data(reading, label_names, fill),
        "encoder": _encoder(reading, techniques),
        "head": {"name": "dense"},
        "objective": _objective(reading),
        "techniques": techniques,
        "training": _training(reading),
    }
    start = reading.get("init_network_method", "xavier")
    if reading.get("init_network", False) and not project.pretrained:
        tree["encoder"]["start"] = tree["head"]["start"] = start
    elif reading.get("init_network", False) and project.stage == "distillation":
        reading.note("init_network", "encoder pretrained begins with the weights of its folder")
    if reading.get("multilabel", False):
        tree["evaluation"] = {"threshold": 0.0}  # of scores: a probability of a half
    if project.stage == "distillation":
        tree["recipe"] = distillation(reading, tree["training"])
    elif project.stage == "prune":
        tree["recipe"] = pruning(reading, tree["data"]["text_features"])
    elif reading.get("kfold", False):
        tree["recipe"] = {"name": "kfold", "folds": reading.get("fold_splits", 4)}
    return Mapped(tree, reading.without_equivalent())


class Mapped(NamedTuple):
    """A config, and what has no equivalent in it.

    Attributes:
        tree: nested dict of the config.
        without_equivalent: lines ``key = value: why``.
    """

    tree: dict[str, Any]
    without_equivalent: list[str]


def _data(reading: Reading, label_names: str | Path, fill: bool) -> dict[str, Any]:
    project = reading.project
    data: dict[str, Any] = {
        "name": "text_classifier",
        "train": str(project.place(reading.get("train_file", ""))),
        "reader": "delimited",
        "reader_options": {"text_field": "sentence", "labels_field": "label"},
        "label_names": str(label_names),
    }
    if reading.get("multilabel", False):
        data["reader_options"]["label_separator"] = ","
    if reading.get("val_file", ""):
        data["dev"] = str(project.place(reading.get("val_file", "")))
    elif project.stage == "distillation" or not reading.get("kfold", False):
        data["dev_share"] = reading.get("validation_rate", 0.15)
    reading.read.add("validation_rate")
    if reading.get("test_file", ""):
        data["test"] = str(project.place(reading.get("test_file", "")))
    data["text_features"] = _text_features(reading, fill)
    return data


def _text_features(reading: Reading, fill: bool) -> dict[str, Any]:
    """Returns the section ``data.text_features``."""
    length = {"max_length": reading.get("max_sequence_length", 512)}
    for key in ("token_level", "remove_special", "stop_words", "stop_words_file"):
        reading.read.add(key)
    if reading.project.pretrained:
        return {"name": "pretrained", "folder": reading.get("ptm", ""), **length}
    stop_words = reading.get("stop_words", False)
    if reading.get("token_level", "char") == "word":
        words = {"segmenter": "jieba", "lowercase": False, "token_pattern": "[^ ]+", "min_count": 3}
        if stop_words:
            words["stop_words"] = str(reading.project.place(reading.get("stop_words_file", "")))
        return {"name": "words", **words, **length, "fill": fill}
    if stop_words:
        reading.note("stop_words", "characters are not left out")
    if reading.get("remove_special", False):
        reading.note("remove_special", "it only drops characters from a vocabulary that is built")
    return {"name": "characters", "raw": True, **length, "fill": fill}


def _encoder(reading: Reading, techniques: list[dict[str, Any]]) -> dict[str, Any]:
    several = any(technique["name"] == "multi_sample_dropout" for technique in techniques)
    dropout = {"dropout": 0.0 if several else reading.get("dropout_rate", 0.0)}
    kind = reading.project.model_type
    attention = reading.get("use_attention", False)
    embedding = reading.get("embedding_dim", None, int)
    filters = reading.get("num_filters", None, int)
    hidden = reading.get("hidden_dim", None, int)
    layers = reading.get("encoder_num", None, int)
    heads = reading.get("head_num", None, int)
    if reading.project.pretrained:
        encoder = {"name": "pretrained", "folder": reading.get("ptm", ""), **dropout}
        if reading.project.stage != "distillation":
            return encoder
        shape = reading.of_section("distill_mlm_config", {})
        layers = shape.get("num_hidden_layers")
        if layers is not None:
            encoder["num_layers"] = layers
        reading.note(
            "distill_mlm_config",
            "only num_hidden_layers is mapped; the student has the widths of ptm, and begins with "
            "its first layers instead of random ones",
        )
        return encoder
    networks: dict[str, dict[str, Any]] = {
        "FastText": {"name": "fasttext", "hidden_dim": hidden},
        "TextCNN": {"name": "textcnn", "widths": [2, 3, 4], "num_filters": filters},
        "TextRNN": {"name": "textrnn", "hidden_dim": hidden, "attention": bool(attention)},
        "TextRCNN": {"name": "textrcnn", "hidden_dim": hidden},
        "Transformer": {
            "name": "transformer",
            "feed_forward_dim": hidden,
            "num_layers": layers,
            "num_heads": heads,
        },
    }
    if kind not in networks:
        raise ConfigError(
            f"{kind!r} is not a network that tfxc can build",
            where=f"{reading.project.path}: s_model_type",
            fix=f"use one of {', '.join(networks)}",
        )
    section = {**networks[kind], "embedding_dim": embedding, "initial_std": 1.0, **dropout}
    missing = [name for name, value in section.items() if value is None]
    if missing:
        raise ConfigError(
            f"{kind} has no {', '.join(missing)}",
            where=f"{reading.project.path}: train_configure",
            fix="set it in config.py",
        )
    return section


def _objective(reading: Reading) -> dict[str, Any]:
    """Returns the objective; keys that are on, but have no effect with it, are noted."""
    zlpr = "use_multilabel_categorical_cross_entropy"
    flags = ("use_label_smoothing", "use_focal_loss", "use_poly_loss", zlpr)
    on = {key: bool(reading.get(key, False)) for key in flags}
    alpha = reading.get("weight", None, list)
    factor = reading.get("smooth_factor", 0.1)
    if reading.project.stage == "distillation":
        multilabel = reading.get("multilabel", False)
        for key in _NOT_DISTILLED:
            if reading.project.train.get(key):
                reading.note(key, "a distillation there makes no use of it")
        reading.read.update(_NOT_DISTILLED)
        return {"name": "sigmoid", "reduction": "mean"} if multilabel else {"name": "softmax"}
    section: dict[str, Any]
    if reading.get("multilabel", False):
        section = {"name": "zlpr"} if on[zlpr] else {"name": "sigmoid", "reduction": "mean"}
        used = {zlpr}
    elif on["use_poly_loss"]:
        section = {"name": "poly", "focal": on["use_focal_loss"]}
        used = {"use_poly_loss", "use_focal_loss"}
    elif on["use_focal_loss"]:
        section = {"name": "focal", **({"alpha": list(alpha)} if alpha else {})}
        used = {"use_focal_loss", "weight"}
    else:
        smoothing = factor if on["use_label_smoothing"] else 0.0
        section = {"name": "softmax", "label_smoothing": smoothing}
        used = {"use_label_smoothing"}
    for key, value in {**on, "weight": alpha}.items():
        if value and key not in used:
            reading.note(key, f"objective {section['name']} has no use for it")
    return section


def _techniques(reading: Reading) -> list[dict[str, Any]]:
    techniques: list[dict[str, Any]] = []
    rate = reading.get("dropout_rate", 0.0)
    intensity = reading.get("noise_lambda", 0.12)
    distilled = reading.project.stage == "distillation"
    if reading.get("noisy_tune", False) and reading.project.pretrained and not distilled:
        techniques.append({"name": "noisy_tune", "intensity": intensity})
    if reading.get("use_gan", False) and not distilled:
        method = reading.get("gan_method", "")
        rounds = reading.get("attack_round", 3)
        if method not in _ATTACKS:
            reading.note("gan_method", f"the attacks of tfxc are {', '.join(_ATTACKS)}")
        elif method == "fgsm":
            techniques.append({"name": method, "epsilon": 0.2})
        else:
            with_rounds = {"rounds": rounds} if method in _WITH_ROUNDS else {}
            techniques.append({"name": method, **with_rounds})
    if reading.get("use_r_drop", False) and not distilled:
        techniques.append({"name": "rdrop"})
    rounds = reading.get("dropout_round", 1)
    if reading.get("multisample_dropout", False) and rounds > 1:
        techniques.append({"name": "multi_sample_dropout", "rounds": rounds, "rate": rate})
    if reading.get("ema", False) and not distilled:
        techniques.append({"name": "ema"})
    for key in ("gan_method", "attack_round", "swa_start_step", "swa_lr", "anneal_epochs"):
        reading.read.add(key)
    if reading.get("swa", False) and not distilled:
        reading.note("swa", "add technique swa: its start is in epochs, there in steps")
    return techniques


def _training(reading: Reading) -> dict[str, Any]:
    name = reading.get("optimizer", "AdamW").lower()
    if name not in _OPTIMIZERS:
        raise ConfigError(
            f"{name!r} is not an optimizer of tfxc",
            where=f"{reading.project.path}: optimizer",
            fix=f"use one of {', '.join(_OPTIMIZERS)}",
        )
    rate = reading.of_stage("learning_rate", 1e-3)
    kind = reading.get("scheduler_type", "linear")
    steps = reading.get("num_warmup_steps", -1)
    schedule: dict[str, Any] = {"name": "constant"}
    # A self-distillation has a schedule whatever warmup says.
    if reading.get("warmup", False) or reading.self_distilled:
        schedule = {"name": kind, "warmup": 0.1 if steps == -1 else 0.0}
        if steps > 0:
            reading.note("num_warmup_steps", "training.schedule.warmup is a share of all steps")
    training: dict[str, Any] = {
        "batch_size": reading.of_stage("batch_size", 16),
        "epochs": reading.of_stage("epoch", 10),
        "log_every": reading.of_stage("print_per_batch", 50),
        "optimizer": {"name": name, "learning_rate": rate, **_OPTIMIZERS[name]},
        "schedule": schedule,
    }
    metric = _METRICS.get(reading.get("metrics_average", "micro"), "samples-F1")
    patience = reading.of_stage("patient", 3)
    if reading.of_stage("is_early_stop", False):
        training["early_stopping"] = {"metric": metric, "patience": patience}
    else:
        training |= {"keep": "best", "watch": metric}
    if reading.get("use_fp16", False) and reading.project.stage != "distillation":
        training["precision"] = "mixed_float16"
    reading.of_stage("model_name", "")
    reading.of_stage("model_type", "")
    return training
