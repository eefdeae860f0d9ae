"""The stages ``distillation`` and ``prune`` of text_classifier_torch as recipes."""

from typing import Any

from tfxc.core.errors import ConfigError
from tfxc.imports.text_classifier.project import Reading


def distillation(reading: Reading, training: dict[str, Any]) -> dict[str, Any]:
    """Returns the section ``recipe`` of stage ``distillation``.

    Args:
        reading: the keys, see ``Reading``; what has no equivalent is noted there.
        training: section ``training``; with folds its epochs are multiplied, a part for each.

    Raises:
        ConfigError: a value has no equivalent.
    """
    teacher = reading.of_section("teacher_model_name", "")
    folder = reading.project.place(reading.get("checkpoints_dir", ""))
    for key in ("teacher_model_type", "student_model_type", "student_model_name"):
        reading.read_of_section.add(key)
    recipe: dict[str, Any] = {
        "name": "distill",
        "teachers": [str(folder / teacher)],
        "hard_weight": reading.of_section("alpha", 0.1),
        "temperature": reading.of_section("temperature", 1.0),
        "distance": reading.of_section("distillation_method", "ce"),
        "squared": False,
    }
    why = "a teacher is a run of tfxc, not this checkpoint: give it to tfxc distill --teacher RUN"
    if reading.get("kfold", False):
        count = reading.get("fold_splits", 4)
        recipe["teachers"] = [str(folder / f"{teacher}_{n}") for n in range(1, count + 1)]
        recipe["turns"] = [1] * count
        training["epochs"] *= count
        why = "teachers are runs of tfxc, not checkpoints: name them in recipe.teachers"
    reading.note("teacher_model_name", why)
    of_matches = reading.of_section("intermediate_matches", [], list)
    if reading.self_distilled:
        recipe["hard_weight"] = 0.0
        reading.note("alpha", "a self-distillation there learns nothing from the true labels")
        recipe["matches"] = [_match(reading, *numbered) for numbered in enumerate(of_matches, 1)]
    elif of_matches:
        reading.note("intermediate_matches", "only a self-distillation without folds uses them")
    if recipe["distance"] == "mse":
        compared = "logits are compared here, divided by the temperature there"
        if not reading.self_distilled:
            compared = "logits are compared here, logarithms with probabilities there"
        reading.note("distillation_method", compared)
    return recipe


def _match(reading: Reading, number: int, section: object) -> dict[str, Any]:
    """Returns one of ``intermediate_matches`` as a match of recipe ``distill``."""
    where = f"{reading.project.path}: intermediate_matches, number {number}"
    if not isinstance(section, dict) or not {"layer_T", "layer_S", "loss"} <= section.keys():
        raise ConfigError(
            f"{section!r:.80} lacks layer_T, layer_S or loss",
            where=where,
            fix='write it as {"layer_T": 12, "layer_S": 3, "feature": "hidden", '
            '"loss": "hidden_mse", "weight": 1}',
        )
    # The attention inside the first layer is number 0 there, 1 here.
    first = int(section.get("feature") == "attention")
    match: dict[str, Any] = {}
    for ours, theirs in (("layer_teacher", "layer_T"), ("layer_student", "layer_S")):
        layers = section[theirs]
        several = isinstance(layers, list | tuple)
        if not all(type(layer) is int for layer in (layers if several else [layers])):
            raise ConfigError(
                f"{theirs} is {layers!r:.60}, which is not the number of a layer",
                where=where,
                fix="correct it in config.py",
            )
        match[ours] = [layer + first for layer in layers] if several else layers + first
    match |= {key: section[key] for key in ("feature", "loss", "weight") if key in section}
    if section.get("proj"):
        name, *sizes = section["proj"]
        match["projection"] = name
        if len(sizes) > 2 and sizes[2]:
            reading.note("intermediate_matches", "projections learn as the network does")
    return match


def pruning(reading: Reading, text_features: dict[str, Any]) -> dict[str, Any]:
    """Returns the section ``recipe`` of stage ``prune``.

    Args:
        reading: the keys, see ``Reading``; what has no equivalent is noted there.
        text_features: section ``data.text_features``, which says what the vocabulary loses.
    """
    where = reading.of_section("where", "vocabulary")
    for key in ("model_type", "prune_model_name"):
        reading.read_of_section.add(key)
    least = reading.of_section("min_count", 1)
    heads = reading.of_section("num_attention_heads", None, int)
    units = reading.of_section("intermediate_size", None, int)
    iters = reading.of_section("iters", 4)
    folder = reading.project.place(reading.of_section("teacher_checkpoint_dir", ""))
    source = folder / reading.of_section("teacher_model_name", "")
    recipe: dict[str, Any] = {"name": "prune", "source": str(source), "finetune": False}
    reading.note(
        "teacher_model_name",
        "the source is a run of tfxc, not this checkpoint: name it with --set recipe.source=RUN",
    )
    if reading.of_section("from_config", False):
        reading.note(
            "from_config", "the encoder must be that of the run: copy it from its config.json"
        )
    if where != "transformer":
        text_features["min_count"] = least
    if where != "vocabulary":
        recipe |= {"num_heads": heads, "feed_forward_dim": units, "iters": iters}
    return recipe
