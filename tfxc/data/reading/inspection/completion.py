"""Configs with gaps: what they leave out is filled in by what the training file holds."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from tfxc.core import registry
from tfxc.core.config import Config, changed, check_given, load_tree, merge, named, parse_config
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.shared_options import PRESETS, ColumnChoices, FileChoices
from tfxc.core.storage.compression import COMPRESSED
from tfxc.core.storage.files import write_json
from tfxc.data.examples.kinds import TEXT
from tfxc.data.reading.formats import detect_format, named_by_split
from tfxc.data.reading.inspection.contents import (
    Contents,
    check_labels_of_split,
    inspect,
    options_of,
)
from tfxc.data.reading.inspection.presets import (
    dual_encoder,
    has_one_level,
    model_of,
    small_encoder,
    suits_dual_encoder,
    usual_preset,
    usual_table,
)
from tfxc.data.reading.parsing.column_guess import Wanted
from tfxc.data.reading.source_files import is_builtin, staged
from tfxc.data.text.names import BAGS, TOKENS

DEV_SHARE = 0.15
_FEW_EXAMPLES = 2000
# Recipes that can be trained once more on all examples.
_REFITTED_RECIPES = ("fit", "fuse", "memory", "xr_linear")
_NETWORK = ("encoder", "head", "objective")
# Recipes other than these need no network, or make it from another run.
_NETWORK_RECIPES = ("fit", "kfold", "repetitions")
_RANKERS = ("xr_linear", "fuse")  # trained in seconds, or a minute
_ENDINGS = (*COMPRESSED, ".tar")
_SHOWN = 10  # columns
_SPLIT_NAMES = ("train", "training", "trn", "data")


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the user decides, apart from the data.

    Attributes:
        preset: one of those of ``FileChoices``; None is ``"best"`` with ``pretrained``, else the
            usual one for such data.
        pretrained: folder of a pretrained language model.
        static: static table; None is the usual one for such data, if any.
        wanted: columns that the user names.
        refit: whether the model is trained once more, with what was held out as dev split.
    """

    preset: str | None = None
    pretrained: str | None = None
    static: str | None = None
    wanted: Wanted = dataclasses.field(default_factory=Wanted)
    refit: bool = False


@dataclasses.dataclass(frozen=True)
class Completed:
    """A complete config, and what it was made of.

    Attributes:
        tree: the config as a nested dict.
        contents: what the training file holds; None if it was not looked at.
        preset: name of the preset; None if there was nothing to complete.
    """

    tree: dict[str, Any]
    contents: Contents | None
    preset: str | None

    @property
    def names_told(self) -> bool:
        """Whether ``lines`` say which label names look alike, of all of the training file."""
        if self.contents is None or self.contents.findings is None:
            return False
        # Where a format tells its labels, not all of them need to be in what was looked at.
        return self.contents.complete and self.contents.findings.labels == self.contents.labels

    def lines(self) -> list[str]:
        """Returns what was found and chosen, in a few lines of text."""
        if self.contents is None:
            return []
        data = self.tree["data"]
        model = ", ".join(
            f"{part} {named(part, self.tree[part])['name']}"
            for part in (*_NETWORK, "recipe")
            if part in self.tree
        )
        training = self.tree.get("training", {})
        epochs = f", {training['epochs']:g} epochs" if "epochs" in training else ""
        names = [
            f"{split} {options['split']!r}"
            for split, options in data.get("split_options", {}).items()
            if "split" in options
        ]
        splits = f"; splits {', '.join(names)}" if names else ""
        share = data.get("dev_share")
        dev = f"; {100 * share:g} % of the examples are held out as dev split" if share else ""
        if refit := self.tree.get("refit"):
            count = refit.get("folds", 1)
            share = refit.get("share", 1 / count)
            times = "" if count == 1 else f"{count} times "
            dev = (
                f"; {times}{100 * share:g} % of the examples are held out to measure, then the "
                f"model is trained on all ({count + 1} trainings)"
            )
        return [
            f"{data['train']}: {describe(self.contents)}",
            *(f"  {line}" for line in oddities(self.contents)),
            f"preset {self.preset}: {model}{epochs}{splits}{dev}",
        ]


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a config; what it leaves out is filled in by what its training file holds.

    Args:
        path: JSON file, or the name of a config that comes with tfxc.
        overrides: texts ``"a.b=value"``; the value is JSON, or a plain string.

    Raises:
        ConfigError: no such file, bad JSON, unknown key or a value of the wrong type.
        DataError: the training file of a config with gaps cannot be read.

    Example:
        >>> load_config("configs/quickstart.json", ["training.epochs=1"]).training.epochs
        1.0
    """
    tree = load_tree(path, overrides)
    check_given(tree, str(path))  # before the data are read
    return parse_config(complete(tree, Choice()).tree, where=str(path))


def completed_of(file: str, choices: FileChoices, changes: Iterable[str]) -> Completed:
    """Returns the config of a data file, by the options of ``tfxc train FILE`` and
    ``tfxc init FILE``.

    Args:
        file: training file or folder.
        choices: what the user decides.
        changes: texts ``"a.b=value"``, see ``load_config``.

    Raises:
        ConfigError: an option does not fit the data.
        DataError: the file cannot be read, or nothing can be learned from it.
    """
    return complete(
        _given_tree(file, choices, changes), _choice(choices, choices.preset, choices.pretrained)
    )


def presets_of(file: str, choices: FileChoices, changes: Iterable[str]) -> list[Completed]:
    """Returns the configs of a data file by each preset, or by the one that the user chooses.

    Presets that make the same model are one, and a preset that what the user has set does not fit
    is left out. All hold out the same examples, and have the same run folder.

    Args:
        file: training file or folder.
        choices: what the user decides. A pretrained model is part of preset ``best``.
        changes: texts ``"a.b=value"``, see ``load_config``.

    Raises:
        ConfigError, DataError: see ``completed_of``.
    """
    tree = _given_tree(file, choices, changes)
    tree.setdefault("run", f"runs/{name_of(file)}-minutes")
    first: Completed | None = None
    found: dict[str, Completed] = {}
    for preset in PRESETS if choices.preset is None else (choices.preset,):
        choice = _choice(choices, preset, choices.pretrained if preset == "best" else None)
        try:
            completed = complete(tree, choice, first.contents if first else None)
        except ConfigError as error:
            if choices.preset is not None or error.where != "--preset":
                raise
            continue
        completed = dataclasses.replace(completed, preset=preset)  # also of a config without gaps
        first = first or completed
        if "refit" in completed.tree and "refit" in first.tree:
            completed.tree["refit"] = first.tree["refit"]
        found.setdefault(json_text(completed.tree, sort_keys=True), completed)
    return list(found.values())


def _given_tree(file: str, choices: FileChoices, changes: Iterable[str]) -> dict[str, Any]:
    """Returns what the options of a command say of a config."""
    splits = {"train": file, "dev": choices.dev, "test": choices.test}
    tree: dict[str, Any] = {"data": {key: path for key, path in splits.items() if path is not None}}
    if choices.run is not None:
        tree["run"] = choices.run
    options = reading_options(choices)
    if options:
        tree["data"]["reader_options"] = options
    changes = list(changes)
    check_given(changed({}, changes), "--set")  # what is wrong in them is not the file's fault
    return changed(tree, changes)


def _choice(choices: FileChoices, preset: str | None, pretrained: str | None) -> Choice:
    static = None if preset == "best" and choices.preset is None else choices.static
    return Choice(preset, pretrained, static, wanted_of(choices), not choices.no_refit)


def wanted_of(choices: ColumnChoices) -> Wanted:
    """Returns the columns that the options of a command name."""
    columns = (choices.text_column, choices.label_column)
    return Wanted(*(names[0] if len(names) == 1 else list(names) or None for names in columns))


def reading_options(choices: ColumnChoices) -> dict[str, Any]:
    """Returns the reader's options among those of a command."""
    return {} if choices.encoding is None else {"encoding": choices.encoding}


def write_config(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes a config to be read and edited."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, tree, indent=2)


def has_gaps(tree: Mapping[str, Any]) -> bool:
    """Tells whether a config leaves out what the data can tell: name, run or model.

    Example:
        >>> has_gaps({"data": {"train": "my.csv"}})
        True
    """
    data = tree.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get("train"), str):
        return False  # nothing to look at: whoever parses it says what is wrong
    recipe = (named("recipe", tree.get("recipe")) or {"name": "fit"}).get("name", "fit")
    network = recipe in _NETWORK_RECIPES and any(tree.get(part) is None for part in _NETWORK)
    return network or "name" not in data or "run" not in tree


def complete(
    tree: Mapping[str, Any], choice: Choice, contents: Contents | None = None
) -> Completed:
    """Returns a config without gaps: what the tree says comes before what is found.

    Args:
        tree: a config as a nested dict; at least ``data.train``.
        choice: preset and columns.
        contents: what the training file holds, where it was looked at before.

    Raises:
        ConfigError: the preset does not fit the data.
        DataError: the training file cannot be read, or nothing can be learned from it.

    Example:
        >>> complete({"data": {"train": "my.csv"}}, Choice()).tree["run"]     # doctest: +SKIP
        'runs/my'
    """
    tree = merge({}, tree)
    if not has_gaps(tree):
        return Completed(dict(tree), None, None)
    data = tree["data"]
    if contents is None:
        contents = inspect(
            data["train"], choice.wanted, data.get("reader"), data.get("reader_options")
        )
    name = name_of(data["train"])
    usual = "balanced" if _describes_network(tree) else usual_preset(contents)
    preset = choice.preset or ("best" if choice.pretrained else usual)
    folder = name if preset == usual else f"{name}-{preset}"
    defaults: dict[str, Any] = {
        "run": f"runs/{folder}",
        "data": {"name": name, "train": data["train"], **_splits(data, contents, choice)},
    }
    defaults = merge(defaults, _fitting_model(tree, contents, preset, choice))
    if tree.get("refit"):
        defaults["data"].pop("dev_share", None)
    elif not any(data.get(key, defaults["data"].get(key)) for key in ("dev", "dev_share")):
        defaults.pop("decision", None)  # learned on the dev split
    if (tree.get("evaluation") or {}).get("threshold") is not None:  # says which labels count
        defaults.get("decision", {}).pop("labels", None)
    completed = merge(defaults, tree)
    recipe = named("recipe", completed.get("recipe", "fit")).get("name", "fit")
    share = completed["data"].get("dev_share")
    if choice.refit and share and "refit" not in tree and recipe in _REFITTED_RECIPES:
        folds = None
        if recipe in _RANKERS and "dev_share" not in data:
            folds = folds_of(contents.examples, contents.labels, contents.several_labels)
        del completed["data"]["dev_share"]
        completed["refit"] = {"share": share} if folds is None else {"folds": folds}
    return Completed(completed, contents, preset)


def folds_of(examples: int, labels: int, several_labels: bool) -> int | None:
    """Returns in how many folds a linear ranker holds out every example; None: one part is enough.

    A part of few examples would say little. Which of several labels are returned is learned the
    better, the more examples there are to learn it from: where a training takes seconds, of all.

    Args:
        examples, labels: numbers of them.
        several_labels: whether an example has several.

    Example:
        >>> folds_of(500, 20, False), folds_of(10_000, 20, True), folds_of(10_000, 20, False)
        (5, 3, None)
    """
    if examples < _FEW_EXAMPLES:
        return 5
    return 3 if several_labels and has_one_level(examples, labels) else None


def name_of(path: str) -> str:
    """Returns the name of a data set by its file's.

    Example:
        >>> name_of("data/My questions.csv.gz"), name_of("images/"), name_of("cats/train.csv")
        ('My-questions', 'images', 'cats')
    """
    file = Path(path.removeprefix("builtin:").removeprefix("hf:"))
    while file.suffix.lower() in _ENDINGS:
        file = file.with_suffix("")
    stem = file.stem if file.suffix else file.name
    if stem.lower() in _SPLIT_NAMES and file.parent.name:
        stem = file.parent.name  # the folder says more than "train"
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)
    return plain.strip("-._") or "data"


def describe(contents: Contents) -> str:
    """Returns what a file holds, as one line of text."""
    about = "" if contents.complete else "about "
    least = "" if contents.complete else "at least "
    each = f"{contents.labels_each:.1f} labels each" if contents.several_labels else "one each"
    parts = [f"format {contents.format}, {about}{contents.examples:,} examples"]
    columns = {
        "encoding": "encoding",
        "text_field": "texts",
        "labels_field": "labels",
        "label_separator": "separator",
    }
    for key, what in columns.items():
        column = contents.options.get(key)
        if column is not None:
            if isinstance(column, str):
                shown = repr(column)
            elif key == "text_field":  # joined
                shown = " + ".join(map(repr, column))
            else:  # columns that are a label each
                shown = f"in {len(column):,} columns of 0 and 1, {column[0]!r} to {column[-1]!r}"
            parts.append(f"{what} {shown}")
    parts.append(f"{least}{contents.labels:,} labels, {each}")
    if contents.kind == "text":
        parts.append(f"texts of {contents.length} {contents.tokens} (median)")
    elif contents.image_shape is not None:
        parts.append("images of {} x {} x {}".format(*contents.image_shape))
    else:
        parts.append(f"{contents.kind} features")
    return ", ".join(parts)


def oddities(contents: Contents, everything: bool = False) -> list[str]:
    """Returns what else a file holds, and what is odd in it, a line each.

    Args:
        contents: of the file.
        everything: whether also to say what does not occur.

    Example:
        >>> oddities(Contents("delimited", {}, "text", 5, 2, 1.0, True, unused=["id"]))
        ["columns not used: 'id'"]
    """
    lines = []
    if contents.unused:
        more = f" and {len(contents.unused) - _SHOWN:,} more" * (len(contents.unused) > _SHOWN)
        lines.append(f"columns not used: {', '.join(map(repr, contents.unused[:_SHOWN]))}{more}")
    found = contents.findings
    if found is None:
        return lines
    if contents.kind == "text":
        language = f"probably {found.language}, " if found.language else ""
        length, row = found.longest
        lines.append(f"texts: {language}the longest has {length:,} characters (row {row:,})")
    findings = found.findings(contents.skips_unlabelled)
    lines += [str(finding) for finding in findings if finding.count or everything]
    if not everything and any(finding.count and finding.to_settle for finding in findings):
        lines.append("what to do about these: `tfxc check FILE`")
    return lines


def _describes_network(tree: Mapping[str, Any]) -> bool:
    """Tells whether the user has chosen something that only networks have, or read."""
    parts = any(tree.get(part) for part in (*_NETWORK, "techniques", "training"))
    recipe = (tree.get("recipe") or {}).get("name")
    return (
        parts or recipe in _NETWORK_RECIPES or (recipe is None and _text_features(tree) in TOKENS)
    )


def _text_features(tree: Mapping[str, Any]) -> str | None:
    """Returns the name of the text features that the user has chosen."""
    return (named("text_features", tree["data"].get("text_features")) or {}).get("name")


def _fitting_model(
    tree: Mapping[str, Any], contents: Contents, preset: str, choice: Choice
) -> dict[str, Any]:
    """Returns the preset's sections, without those that the user's recipe has no use for."""
    recipe = (tree.get("recipe") or {}).get("name")
    preset = {"xr_linear": "fast", "fuse": "balanced"}.get(recipe or "", preset)
    encoder = (tree.get("encoder") or {}).get("name")
    texts = _text_features(tree)
    network = recipe not in _RANKERS and _describes_network(tree)
    static = choice.static
    parts = {name: tree.get(name) for name in (*_NETWORK, "techniques", "training")}
    parts["recipe"] = recipe in _NETWORK_RECIPES
    others = {"data.text_features": texts, **parts, "--pretrained": choice.pretrained}
    chosen = [name for name, value in others.items() if value]
    if static is not None and chosen:
        raise ConfigError(
            f"a static table is part of the linear ranker that the preset chooses, and {chosen[0]} "
            "chooses another model",
            where="--static",
            fix=f"leave it out, or leave {chosen[0]} out",
        )
    parts["data.text_features"] = texts in TOKENS
    chosen = [name for name, value in parts.items() if value]
    if choice.preset == "fast" and chosen and contents.kind != "image":
        raise ConfigError(
            f"preset fast is a linear ranker, to which {chosen[0]} does not apply",
            where="--preset",
            fix=f"leave it out, choose balanced, or leave {chosen[0]} out",
        )
    if static is None and not texts and choice.pretrained is None:
        static = usual_table(contents, preset)
    model = model_of(contents, preset, choice.pretrained, encoder, static)
    if recipe is not None and recipe not in (*_NETWORK_RECIPES, *_RANKERS):
        return {key: value for key, value in model.items() if key == "data"}
    reads_terms = texts in BAGS
    if network and "recipe" in model:
        small = "bag_mlp" if reads_terms else small_encoder(contents)
        model = model_of(contents, preset, None, small)
    elif reads_terms and encoder is None and choice.pretrained is None and "encoder" in model:
        model = model_of(contents, preset, None, "bag_mlp")
    if "label_texts" in tree["data"] and tree["data"]["label_texts"] is None:
        model.get("recipe", {}).pop("label_text_rows", None)
    if not _reads_label_texts(tree, contents, preset):
        return model
    if contents.kind == TEXT.name and not (encoder or texts or choice.pretrained):
        return dual_encoder(contents)
    if contents.several_labels:
        # Of cosines, which have no bias, the other objectives call nearly every label true.
        model["objective"] = {"name": "decoupled_softmax"}
    return model


def _reads_label_texts(tree: Mapping[str, Any], contents: Contents, preset: str) -> bool:
    """Tells whether the head is one of label texts: the user's, or that of preset ``best``.

    Raises:
        ConfigError: there are no texts for such a head.
    """
    head = tree.get("head") or {}
    label_texts = tree["data"].get("label_texts")
    if head.get("name") == "label_text":
        if contents.kind == TEXT.name and not (label_texts or contents.named_labels):
            raise ConfigError(
                "head 'label_text' reads texts of labels, and these have names without words",
                where="data.label_texts",
                fix="name a file of their texts",
            )
        return True
    if preset != "best" or not label_texts or tree.get("recipe"):
        return False
    others = {**tree, "head": head if "name" in head else None}  # else it is settings of the head
    return not _describes_network(others) and suits_dual_encoder(contents)


def _splits(data: Mapping[str, Any], contents: Contents, choice: Choice) -> dict[str, Any]:
    """Returns where dev and test are, and the options by which each split is read."""
    options = dict(contents.options)
    split_options = {"train": {"split": options.pop("split")}} if contents.splits else {}
    settings: dict[str, Any] = {}
    for split in ("dev", "test"):
        held_out = split == "dev" and "dev_share" in data
        if data.get(split) is None and split in contents.splits and not held_out:
            settings[split] = data["train"]
            split_options[split] = {"split": contents.splits[split]}
        elif data.get(split) is not None:
            split_options[split] = _options_of_split(split, data, contents, choice)
    if data.get("dev") is None and "dev" not in settings and "dev_share" not in data:
        settings["dev_share"] = DEV_SHARE
    if contents.skips_unlabelled:
        settings["skip_unlabelled"] = True
    split_options = {split: chosen for split, chosen in split_options.items() if chosen}
    if options:
        settings["reader_options"] = options
    if split_options:
        settings["split_options"] = split_options
    return settings


def _options_of_split(
    split: str, data: Mapping[str, Any], contents: Contents, choice: Choice
) -> dict[str, Any]:
    """Returns the options of dev or test where they are not those of the training file."""
    path = data[split]
    if is_builtin(path):
        return {}
    source = staged(path, f"data.{split}")
    if path == data["train"]:
        return {"split": contents.splits[split]} if split in contents.splits else {}
    if data.get("reader") is None and (name := detect_format(source)) != contents.format:
        raise ConfigError(
            f"the file has the format {name}, but the training file has {contents.format}",
            where=path,
            fix="convert one of them",
        )
    if "text_field" not in contents.options and not contents.splits:
        return {}
    wanted = choice.wanted
    labels = contents.options.get("labels_field")
    if isinstance(labels, list):  # the same in all splits, whatever else is 0 and 1 in this one
        wanted = dataclasses.replace(wanted, labels=labels)
    given = {key: value for key, value in data.get("reader_options", {}).items() if key != "split"}
    of_split = data.get("split_options", {}).get(split, {})
    given |= of_split
    with named_by_split(split, of_split):
        reader, options = options_of(source, wanted, data.get("reader"), role=split, given=given)
    if options.get("labels_field") != labels:
        check_labels_of_split(source, reader, {**given, **options}, labels)
    # What holds for the training file does not for this one where nothing was found in it.
    assert reader is not None, "a file has a format"
    parameters = signature(registry.get("reader", reader)).parameters
    defaults = {
        key: parameters[key].default
        for key in contents.options
        if key in parameters and key not in given
    }
    options = defaults | options
    options.pop("label_separator", None)
    return {key: value for key, value in options.items() if contents.options.get(key) != value}
