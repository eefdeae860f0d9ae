"""The config of a run: JSON in, validated settings out.

Order of precedence: defaults < ``extends`` < the file < ``--set a.b=value``. An unknown key is an
error that names the nearest known one. Nothing here imports TensorFlow.
"""

import contextlib
import json
from pathlib import Path
from typing import Any, Literal

import pydantic

from tfxc.errors import ConfigError
from tfxc.registry import nearest

SPLITS = ("train", "dev", "test")

Positive = pydantic.PositiveInt


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class About(_Section):
    """What a config stands for: paper, command, expected score and cost."""

    paper: str = ""
    command: str = ""
    expected: str = ""
    cost: str = ""


class DataSettings(_Section):
    """Where a data set comes from and how it is prepared.

    Attributes:
        name: the set's name, used as a folder name.
        train, dev, test: paths (``~`` and ``${VAR}`` are expanded) or ``"builtin:<name>"``.
        reader: the format's name; None recognises it by the file's name and first line.
        reader_options: keyword arguments of the reader.
        split_options: further reader options of single splits, e.g.
            ``{"dev": {"split": "tst"}}``.
        text_features: what turns texts into features, e.g. ``{"name": "tfidf"}``; None takes the
            features as the format gives them.
        label_names: file with one label name per line. It names the labels of a format that
            numbers them, and is the complete list of the allowed ones for a format that names them.
        min_label_count: labels rarer than this in the training split are left out.
        normalise: ``"l2"`` scales every row of given features to length 1.
        layout: layout of the records, see ``tfxc.data.records``.
        shard_examples: at most this many examples in a shard.
        seed: of the shuffling at writing time.
        where: one sentence: where the set comes from and which folder is expected. Shown when a
            file is missing.

    Example:
        >>> DataSettings(name="bibtex", train="~/data/bibtex/train.txt.xz").layout
        'blocks'
    """

    name: str = pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    train: str
    dev: str | None = None
    test: str | None = None
    reader: str | None = None
    reader_options: dict[str, Any] = {}
    split_options: dict[Literal["train", "dev", "test"], dict[str, Any]] = {}
    text_features: dict[str, Any] | None = None
    label_names: str | None = None
    min_label_count: Positive = 1
    normalise: Literal["l2"] | None = None
    layout: Literal["blocks", "examples"] = "blocks"
    shard_examples: Positive = 65536
    seed: pydantic.NonNegativeInt = 0
    where: str | None = None

    @pydantic.model_validator(mode="after")
    def _features_are_normalised_once(self):
        if self.text_features is not None and self.normalise is not None:
            raise ConfigError(
                "rows of given features are normalised here, but the features are made from text",
                where="data.normalise",
                fix="remove normalise and set the normalisation in text_features",
            )
        return self

    def sources(self):
        """The paths of the given splits, by split, training split first."""
        paths = {split: getattr(self, split) for split in SPLITS}
        return {split: path for split, path in paths.items() if path is not None}


class Method(pydantic.BaseModel):
    """A method by name; its other keys are its constructor's arguments."""

    model_config = pydantic.ConfigDict(extra="allow")
    name: str

    def section(self):
        """The section as a plain dict."""
        return self.model_dump()


class EarlyStopping(_Section):
    """Stop when ``metric`` on the dev split has not risen for ``patience`` evaluations."""

    metric: str = "P@1"
    patience: Positive = 3
    min_delta: float = 0.0


class TrainingSettings(_Section):
    """The training loop. ``batch_size`` is the global batch of one weight update."""

    batch_size: Positive = 256
    epochs: pydantic.PositiveFloat = 10
    optimizer: Method = Method(name="adam")
    schedule: Method = Method(name="constant")
    clip_norm: pydantic.PositiveFloat | None = None
    accumulate: Positive = 1
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    strategy: Literal["none", "mirrored", "multi_worker"] = "none"
    devices: list[str] | None = None
    evaluate_every: Positive | None = None
    early_stopping: EarlyStopping | None = None
    keep: Literal["best", "last"] = "last"
    checkpoint_every: Positive | None = None
    log_every: Positive = 50
    memory_gb: pydantic.PositiveFloat = 2.0


class EvaluationSettings(_Section):
    """What is reported: cut-offs k, and the batch size of the search.

    ``propensity`` is (A, B) of Jain et al. or the name of a data set family; ``threshold`` is the
    score from which a label counts as predicted, for F1.
    """

    k: list[Positive] = [1, 3, 5]
    batch_size: Positive = 256
    threshold: float | None = None
    propensity: tuple[float, float] | str = "default"


class Config(_Section):
    """Everything a run needs. Method sections are held against their constructors."""

    about: About = About()
    seed: int = 0
    run: str
    data: DataSettings
    encoder: Method
    head: Method
    objective: Method
    techniques: list[Method] = []
    recipe: Method = Method(name="fit")
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    def to_json(self):
        """The resolved config as indented JSON text."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)


def load_config(path, overrides=()):
    """Reads a config file.

    Args:
        path: JSON file.
        overrides: texts ``"a.b=value"``; the value is JSON, or a plain string.

    Raises:
        ConfigError: no such file, bad JSON, unknown key or a value of the wrong type.

    Example:
        >>> load_config("configs/quickstart.json", ["training.epochs=1"]).training.epochs
        1.0
    """
    tree = _read(Path(path), ())
    for text in overrides:
        _override(tree, text)
    return parse_config(tree, where=str(path))


def parse_config(tree, where="config"):
    """Validates a nested dict as a ``Config``; errors name the key and the nearest known one."""
    try:
        return Config.model_validate(tree)
    except pydantic.ValidationError as error:
        raise _readable(error, where) from None


def _read(path, seen):
    if path.resolve() in seen:
        raise ConfigError("'extends' leads back to this file", where=path, fix="break the circle")
    if not path.is_file():
        raise ConfigError("no such config file", where=path, fix=_neighbours(path))
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or not even UTF-8
        line = getattr(error, "lineno", 1)
        raise ConfigError(f"not valid JSON: {error}", where=f"{path}:{line}") from None
    if not isinstance(tree, dict):
        raise ConfigError("a JSON object is expected", where=path, fix="begin the file with {")
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"'extends' expects a file name, found {base!r}", where=path)
    return merge(_read(path.parent / base, (*seen, path.resolve())), tree)


def _neighbours(path):
    found = sorted(p.name for p in path.parent.glob("*.json")) if path.parent.is_dir() else []
    return f"configs there: {', '.join(found)}" if found else "check the path"


def merge(base, change):
    """``base`` with ``change`` laid over it, dict by dict.

    A method section whose ``name`` changes is replaced as a whole: the arguments of another
    method mean nothing to it.
    """
    result = dict(base)
    for key, value in change.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        if both and value.get("name", old.get("name")) == old.get("name"):
            result[key] = merge(old, value)
        else:
            result[key] = value
    return result


def _override(tree, text):
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ConfigError(f"--set expects key=value, found {text!r}", fix="e.g. training.epochs=3")
    with contextlib.suppress(json.JSONDecodeError):  # a plain string needs no quotes
        value = json.loads(value)
    *parents, last = key.split(".")
    node = tree
    for part in parents:
        node = _child(node, part, key)
    if isinstance(node, list):
        node[_index(node, last, key)] = value
    elif last == "name" and node.get("name") != value:
        node.clear()  # another method: the old one's arguments mean nothing to it
        node["name"] = value
    else:
        node[last] = value


def _child(node, part, key):
    if isinstance(node, list):
        return node[_index(node, part, key)]
    child = node.setdefault(part, {})
    if not isinstance(child, dict | list):
        raise ConfigError(f"{part!r} holds a value, not a section", where=f"--set {key}")
    return child


def _index(node, part, key):
    if not part.isdigit() or int(part) >= len(node):
        problem = f"{part!r} is no position in a list of {len(node)}"
        raise ConfigError(problem, where=f"--set {key}", fix="count from 0")
    return int(part)


def _readable(error, where):
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        return ConfigError(
            f"unknown key {key!r}{nearest(path[-1], known)}",
            where=where,
            fix=f"known keys here: {', '.join(known)}",
        )
    if first["type"] == "missing":
        return ConfigError(f"{key!r} is missing", where=where, fix=f"add {key!r}")
    return ConfigError(
        f"{key}: {first['msg'].lower()}, found {first.get('input')!r}",
        where=where,
        fix="give a value of that kind",
    )


def _known_keys(path):
    model = Config
    for part in path:
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        options = [inner, *getattr(inner, "__args__", ())]
        model = next((o for o in options if hasattr(o, "model_fields")), None)
        if model is None:
            return []
    return sorted(model.model_fields)
