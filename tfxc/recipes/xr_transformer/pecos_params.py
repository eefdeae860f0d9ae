"""Files of parameters of PECOS (``--params-path``, libpecos 1.2) as sections of a config."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError
from tfxc.core.storage.reading import read_json
from tfxc.pretrained.folder import model_path, network_folder, read_hub_config

_LOSSES = {"hinge": "hinge", "squared-hinge": "squared_hinge"}
_SOLVERS = {
    "L2R_L2LOSS_SVC_DUAL": "squared-hinge",
    "L2R_L2LOSS_SVC_PRIMAL": "squared-hinge",  # the same minimum
    "L2R_L1LOSS_SVC_DUAL": "hinge",
    "L2R_LR_DUAL": "logistic",
}
_TREE_KEYS = ("nr_splits", "min_codes", "max_leaf_size", "spherical", "seed")
_USUAL_DROPOUT = 0.1  # of the networks themselves, as they were published
_MODELS = "${TFXC_MODELS}/"


class _Section:
    """A section of the file that remembers which of its keys have been read.

    Args:
        values: dict; a list of dicts is a chain, whose members have the same keys.
        path: keys that lead to it, joined by dots.
        where: the file.
        notes: list that what cannot be said here is appended to.
    """

    def __init__(self, values: Any, path: str, where: Path, notes: list[str]) -> None:
        self.is_chain = isinstance(values, list)
        self._members = values if self.is_chain else [values or {}]
        if not self._members or not all(isinstance(member, dict) for member in self._members):
            raise ConfigError(
                f"{values!r} is neither a section nor a list of sections",
                where=f"{where}, {path}",
                fix="write such a file with --generate-params-skeleton",
            )
        self.path = path
        self._where = where
        self._notes = notes
        self._read: set[str] = {"__meta__"}
        self._inner: list[_Section] = []

    def section(self, key: str) -> "_Section":
        """Returns the section under a key; empty if there is none."""
        self._read.add(key)
        path = f"{self.path}.{key}".lstrip(".")
        inner = _Section(self._members[0].get(key) or {}, path, self._where, self._notes)
        self._inner.append(inner)
        return inner

    def __contains__(self, key: str) -> bool:
        return any(member.get(key) is not None for member in self._members)

    def values(self, key: str, convert: Callable[[Any], Any] = lambda value: value) -> Any:
        """Returns the value of a key: of a chain a list, or one value if all are the same."""
        values = self.all_values(key, convert)
        return values[0] if all(value == values[0] for value in values) else values

    def all_values(self, key: str, convert: Callable[[Any], Any] = lambda value: value) -> list:
        """Returns the values of a key, one for each member of the chain."""
        self._read.add(key)
        try:
            return [convert(member[key]) for member in self._members]
        except (KeyError, TypeError, ValueError) as error:
            values = [member.get(key) for member in self._members]
            raise ConfigError(
                f"{values if self.is_chain else values[0]!r} cannot be converted",
                where=f"{self._where}, {self.path}.{key}",
                fix="change it, or remove it where PECOS's default is wanted",
            ) from error

    def value(self, key: str, convert: Callable[[Any], Any] = lambda value: value) -> Any:
        """Returns the one value of a key; of a chain with several the first, which is noted."""
        value = self.values(key, convert)
        if self.is_chain and isinstance(value, list) and len(value) == len(self._members):
            self._notes.append(f"{self.path}.{key}: one value for all levels here, the first")
            return value[0]
        return value

    def unread(self) -> Iterator[str]:
        """Yields the keys that nothing has read."""
        keys = dict.fromkeys(
            key for member in self._members for key in member if member[key] is not None
        )
        yield from (f"{self.path}.{key}".lstrip(".") for key in keys if key not in self._read)
        for inner in self._inner:
            yield from inner.unread()


def convert_params(path: str | Path, gpus: int = 1) -> tuple[dict[str, Any], list[str]]:
    """Converts a file of PECOS's parameters into sections of a config.

    Only what the file says is converted; where it is silent, tfxc's defaults hold, which are not
    all those of PECOS (docs/coming_from.md).

    Args:
        path: JSON file for ``--params-path`` of ``pecos.xmc.xtransformer.train`` or
            ``pecos.xmc.xlinear.train``.
        gpus: devices of the PECOS run; its batch sizes are those of one.

    Returns:
        ``(config, notes)``: sections without data and run, to be named in ``extends``; and a line
        for each key without an equivalent.

    Raises:
        ConfigError: no such file of parameters, or a value that cannot be converted.

    Example:
        >>> convert_params("params.json", gpus=8)[0]["training"]["batch_size"]  # doctest: +SKIP
        256
    """
    path = Path(path)
    notes: list[str] = []
    root = _Section(read_json(path), "", path, notes)
    train = root.section("train_params")
    prediction = root.section("pred_params")
    if "preliminary_indexer_params" in train or "matcher_params_chain" in train:
        config = _transformer(train, prediction, gpus)
    elif "hlm_args" in train:
        ranker = _ranker(train, prediction)
        config = {"recipe": {"name": "xr_linear", "ranker": ranker}}
        if "indexer_params" in root:
            config["recipe"]["tree"] = _tree(root.section("indexer_params"))
    else:
        raise ConfigError(
            "there are no train_params of pecos.xmc.xtransformer.train or pecos.xmc.xlinear.train",
            where=path,
            fix="write such a file with --generate-params-skeleton",
        )
    return config, notes + [f"{key}: no equivalent, not used" for key in root.unread()]


def _transformer(train: _Section, prediction: _Section, gpus: int) -> dict[str, Any]:
    """Returns the sections of a config with recipe ``xr_transformer``."""
    matcher = train.section("matcher_params_chain")
    matcher_prediction = prediction.section("matcher_params_chain")
    config: dict[str, Any] = {
        "encoder": {"name": "pretrained"},
        "recipe": {"name": "xr_transformer"},
    }
    tokens: dict[str, Any] = {"name": "pretrained"}
    folder = _folder(matcher)
    if folder:
        config["encoder"]["folder"] = tokens["folder"] = folder
    # How PECOS pools the states of a text with this model.
    path = model_path(folder) if folder else None
    network = network_folder(path) if path is not None else None
    if network is not None and (network / "config.json").is_file():
        family = read_hub_config(network)["model_type"]
    else:  # the name of a model of the hub has its family in it
        family = folder.lower()
    config["encoder"]["pooling"] = (
        "first" if "distilbert" in family or "xlnet" in family else "pooler"
    )
    if "truncate_length" in matcher_prediction:
        tokens["max_length"] = matcher_prediction.value("truncate_length")
    joined = {"name": "joined", "tokens": tokens, "terms": {"name": "given"}}
    config["data"] = {"text_features": joined}
    if "hidden_dropout_prob" in matcher:
        dropout = matcher.value("hidden_dropout_prob", float)
        config["encoder"]["dropout"] = dropout
        if dropout != _USUAL_DROPOUT:
            config["encoder"]["body_dropout"] = dropout
    first = _tree(train.section("preliminary_indexer_params"))
    config["head"] = {"name": "tree", **{key: first.pop(key) for key in _TREE_KEYS if key in first}}
    if "loss_function" in matcher:
        config["objective"] = matcher.value("loss_function", _objective)
    recipe = config["recipe"]
    _take(train, recipe, "do_fine_tune", "only_encoder", "fix_clustering", "max_match_clusters")
    recipe |= {"first_tree": first} if first else {}
    if "refined_indexer_params" in train:
        refined = _tree(train.section("refined_indexer_params"))
        refined.setdefault("min_codes", refined.get("nr_splits"))  # not the head's
        recipe["refined_tree"] = refined
    recipe |= _levels(matcher, matcher_prediction)
    config["training"] = _training(matcher, gpus)
    if "ranker_params" in train:
        recipe["ranker"] = _ranker(
            train.section("ranker_params"), prediction.section("ranker_params")
        )
    return config


def _folder(matcher: _Section) -> str:
    """Returns the pretrained model's folder; a checkpoint counts more than a name, as in PECOS."""
    checkpoint = matcher.value("init_model_dir", str) if "init_model_dir" in matcher else ""
    name = matcher.value("model_shortcut", str) if "model_shortcut" in matcher else ""
    if checkpoint or not name:
        return checkpoint
    is_path = os.path.isabs(name) or name.startswith((".", "~")) or Path(name).is_dir()
    return name if is_path else _MODELS + name


def _objective(name: str) -> dict[str, Any]:
    loss = name.removeprefix("weighted-")
    return {"name": _LOSSES[loss], **({"weighted": True} if loss != name else {})}


def _levels(matcher: _Section, prediction: _Section) -> dict[str, Any]:
    """Returns what the recipe says of the levels that are fine-tuned."""
    recipe: dict[str, Any] = {}
    if "negative_sampling" in matcher:
        recipe["negatives"] = matcher.values("negative_sampling")
    if "bootstrap_method" in matcher:
        names = {"no-bootstrap": "none"}
        recipe["initial"] = matcher.values("bootstrap_method", lambda name: names.get(name, name))
    _take(prediction, recipe, "only_topk", ensemble="ensemble_method")
    _take(matcher, recipe, "threshold", cost_sensitive="cost_sensitive_ranker")
    steps = matcher.all_values("max_steps", int) if "max_steps" in matcher else [0]
    if all(count > 0 for count in steps):
        recipe["steps"] = steps if matcher.is_chain else steps[0]
        if "warmup_steps" in matcher:
            recipe["warmup_steps"] = matcher.values("warmup_steps", int)
    elif "num_train_epochs" in matcher:
        recipe["epochs"] = matcher.values("num_train_epochs")
    return recipe


def _training(matcher: _Section, gpus: int) -> dict[str, Any]:
    training: dict[str, Any] = {}
    if "batch_size" in matcher:
        parts = gpus
        if "gradient_accumulation_steps" in matcher:
            parts *= matcher.value("gradient_accumulation_steps", int)
        training["batch_size"] = parts * matcher.value("batch_size", int)
        training["accumulate"] = parts
    optimizer: dict[str, Any] = {"name": "adam"}
    _take(matcher, optimizer, "learning_rate", epsilon="adam_epsilon")
    decay = matcher.value("weight_decay", float) if "weight_decay" in matcher else 0
    if decay > 0:
        optimizer |= {"name": "adamw", "weight_decay": decay}
    training["optimizer"] = optimizer
    if "lr_schedule" in matcher:
        training["schedule"] = {"name": matcher.value("lr_schedule")}
    _take(matcher, training, clip_norm="max_grad_norm", log_every="logging_steps")
    return training


def _take(section: _Section, target: dict[str, Any], *same: str, **renamed: str) -> None:
    """Copies keys that the section has into ``target``."""
    for ours, theirs in {**{key: key for key in same}, **renamed}.items():
        if theirs in section:
            target[ours] = section.value(theirs)


def _tree(section: _Section) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    _take(section, tree, *_TREE_KEYS, max_iter="kmeans_max_iter")
    return tree


def _ranker(train: _Section, prediction: _Section) -> dict[str, Any]:
    """Returns the section ``ranker`` of both recipes."""
    ranker: dict[str, Any] = {}
    norms = {"no-norm": "none", None: "none"}
    if "rel_mode" in train:
        ranker["relevance_mode"] = train.value("rel_mode")
    if "rel_norm" in train:
        ranker["relevance_norm"] = train.value("rel_norm", lambda name: norms.get(name, name))
    _take(train, ranker, "mode", ranker_levels="ranker_level")
    if ranker.get("mode") == "full-model":
        ranker.pop("ranker_levels", None)
    layers = train.section("hlm_args")
    if "neg_mining_chain" in layers:
        ranker["negatives"] = layers.values("neg_mining_chain")
    chain = layers.section("model_chain")
    for ours, theirs, convert in (
        ("cost_positive", "Cp", float),
        ("cost_negative", "Cn", float),
        ("epsilon", "eps", float),
        ("max_passes", "max_iter", int),
        ("max_nonzeros", "max_nonzeros_per_label", lambda value: value or 0),
        ("threshold", "threshold", float),
        ("loss", "solver_type", _SOLVERS.__getitem__),
    ):
        if theirs in chain:
            ranker[ours] = chain.values(theirs, convert)
    if "bias" in chain:
        ranker["bias"] = chain.value("bias", lambda value: max(0.0, float(value)))
    chain = prediction.section("hlm_args").section("model_chain")
    for key in ("only_topk", "post_processor"):
        if key in chain:
            ranker[key] = chain.values(key)
    return ranker
