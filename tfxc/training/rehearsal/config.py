"""The config of a rehearsal: stand-ins in place of data, pretrained models and earlier runs."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.settings import SPLIT, SPLITS, Config, DataSettings
from tfxc.data.reading.builtin.synthetic.shapes import SHAPES, Shape, find_shape
from tfxc.data.reading.source_files import BUILTIN, NAMES
from tfxc.data.store.feature_sets.preparation import LAYOUT as FEATURE_SET
from tfxc.data.store.manifest import Manifest, SplitInfo
from tfxc.pretrained.folder import model_path
from tfxc.pretrained.stand_in import check_model
from tfxc.training.rehearsal.rehearsal import Rehearsal, source_of

SUFFIX = "-rehearsal"
# Examples of a split that are enough to plan with, unless a vocabulary is learned from all; fewer
# where preparing them takes longer.
SAMPLE = 1024
SAMPLE_OF_LONG = 256
_LONG = ("texts", "both", "images", "files")
# Keys of a recipe that name other runs: those of their rehearsals are meant.
_RUNS = ("teachers", "source", "start")
_LEARNING = ("tfidf", "pecos_tfidf", "words", "characters")
_DATA = "rehearsal-data"  # folders next to the prepared ones
_MODELS = "rehearsal-models"


def rehearsed(config: Config, share: float, root: str | Path, *, sample: bool = False) -> Rehearsal:
    """Returns a config on a stand-in of the shape that ``data.rehearsal`` names; nothing is written
    yet.

    Data, given features, pretrained models that are not there, and the runs that a recipe begins
    with are replaced; so is the run folder, by one whose name ends in "-rehearsal".

    Args:
        config: ``Config``.
        share: of the examples and labels, see ``Shape.scaled``.
        root: folder of prepared data, for what has to be made.
        sample: whether the first examples are enough, to plan with.

    Raises:
        ConfigError: no shape is named, it does not fit the config, or it is not known what stands
            in for a pretrained model.
    """
    data = config.data
    if data.rehearsal is None:
        raise ConfigError(
            "a rehearsal needs the name of a shape",
            where="data.rehearsal",
            fix=f"set it to one of: {', '.join(SHAPES)}",
        )
    shape = find_shape(data.rehearsal).scaled(share)
    options = {"shape": data.rehearsal, "share": share, "form": _form(config, shape)}
    labels = _fitting_labels(config, shape, find_shape(data.rehearsal).labels)
    if labels != shape.labels:
        shape = dataclasses.replace(shape, labels=labels)
        options["labels"] = labels
    most = None
    if sample and _kind(data.text_features) not in _LEARNING:
        most = SAMPLE_OF_LONG if options["form"] in _LONG else SAMPLE
    tree = config.model_dump(mode="json", exclude_unset=True)
    tree["run"] = config.run.rstrip("/") + SUFFIX
    models = _replace_models(tree, Path(root) / _MODELS, small=share < 1)
    sets = _replace_data(tree["data"], data, _splits(data, shape, most), options, Path(root))
    tree["data"] |= {} if sets else {"num_labels": shape.labels}
    for key in _RUNS:
        runs = tree.get("recipe", {}).get(key)
        if runs:
            texts = isinstance(runs, str)
            names = [run.rstrip("/") + SUFFIX for run in ([runs] if texts else runs)]
            tree["recipe"][key] = names[0] if texts else names
    if config.evaluation.exclude:  # files are about other examples
        tree["evaluation"]["exclude"] = [
            kind for kind in config.evaluation.exclude if SPLIT not in kind
        ]
    return Rehearsal(parse_config(tree, "rehearsal"), shape, share, models, sets)


def _fitting_labels(config: Config, shape: Shape, most: int) -> int:
    """Returns the number of labels: twice as many and so on where recipe or head ask for more.

    A list with a setting for each level of a tree of labels fits a tree of so many levels, and a
    head of 10,000 buckets at least as many labels.
    """
    recipe = registry.create("recipe", config.recipe.section())
    labels = shape.labels
    while labels < most:
        try:
            lines, _ = recipe.outline(config, _planned_manifest(config, shape, labels))
            if config.head is not None and not lines:
                registry.create("head", config.head.section(), num_labels=labels)
            return labels
        except ConfigError as error:
            if not str(error.where).startswith(("recipe", "head")):
                return labels  # nothing that more labels would change
            labels = min(2 * labels, most)
    return labels


def _planned_manifest(config: Config, shape: Shape, labels: int) -> Manifest:
    """Returns what the config's recipe sees of the data."""
    texts = config.data.text_features
    if texts is not None:
        kinds = {"joined": "joined"} | dict.fromkeys(("tfidf", "pecos_tfidf", "static"), "sparse")
        feature_kind = kinds.get(texts["name"], "tokens")
    else:
        kinds = {"vectors": "dense", "features": "sparse"}
        feature_kind = kinds.get(shape.forms[0], "image")
    split = SplitInfo(
        examples=shape.train,
        nonzeros=int(shape.train * shape.nonzeros),
        min_labels=1,
        labels=int(shape.train * shape.labels_per_example),
        max_labels=2,
        without_labels=0,
        unseen_labels=0,
        shards=[],
    )
    return Manifest(
        name=config.data.name,
        settings_fingerprint="",
        layout="blocks",
        num_labels=labels,
        feature_kind=feature_kind,
        num_features=shape.features,
        num_unseen_labels=0,
        text_features=None,
        row_normalise=None,
        sources={},
        splits=dict.fromkeys(config.data.sources(), split),
    )


def _kind(text_features: Mapping[str, Any] | None) -> str | None:
    """Returns the name of the text features, of joined ones that of the terms."""
    section = text_features or {}
    terms = section.get("terms")
    if isinstance(terms, Mapping):
        return terms.get("name")
    return terms or section.get("name")


def _form(config: Config, shape: Shape) -> str:
    """Returns in what form the reader of the config delivers its examples, see ``Synthetic``."""
    data = config.data
    form = shape.forms[0]
    if data.text_features is not None:
        form = "both" if _kind(data.text_features) == "given" else "texts"
    elif data.images is not None:
        form = "files" if data.images.store == "encoded" else "images"
    if form not in shape.forms:
        raise ConfigError(
            f"this config reads {form}, but the shape {data.rehearsal!r} has "
            f"{' or '.join(shape.forms)}",
            where="data.rehearsal",
            fix="name a shape of such a set",
        )
    return form


def _splits(data: DataSettings, shape: Shape, most: int | None) -> dict[str, dict[str, Any]]:
    """Returns {split: options of ``Synthetic``} of the splits that the config has.

    Args:
        most: examples of a sample, or None for all.
    """
    options: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        if getattr(data, split):
            source = source_of(split, shape)
            options[split] = {"split": source}
            if most is not None and most < shape.examples(source):
                options[split]["examples"] = most
    return options


def _replace_data(
    tree: dict[str, Any],
    data: DataSettings,
    splits: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, Any],
    root: Path,
) -> dict[Path, dict[str, Any]]:
    """Changes section ``data``; returns the feature sets to make."""
    for key in ("reader", "label_names", "max_line_bytes", "where"):
        tree.pop(key, None)
    if data.label_texts is not None:
        tree["label_texts"] = NAMES  # a stand-in has no file of texts
    tree["name"] = data.name + SUFFIX
    if data.reader != FEATURE_SET:
        tree |= dict.fromkeys(splits, f"{BUILTIN}synthetic")
        tree |= {"reader_options": options, "split_options": splits}
        return {}
    key = hashlib.sha256(json_text([options, splits], sort_keys=True).encode()).hexdigest()[:8]
    folder = root / _DATA / f"{options['shape']}-{key}"
    tree |= {split: str(folder / split) for split in splits}
    tree["reader"] = FEATURE_SET
    return {folder / split: {**options, **more} for split, more in splits.items()}


def _replace_models(tree: dict[str, Any], root: Path, small: bool) -> dict[Path, str]:
    """Changes the folders of pretrained models that are not there; returns those to make."""
    models: dict[Path, str] = {}
    texts = tree["data"].get("text_features")
    if isinstance(texts, dict) and texts.get("name") == "static":
        # Without the table, which may not be there: next to terms its columns are few.
        tree["data"]["text_features"] = texts.get("terms") or {"name": "tfidf"}
    for section in ("encoder", "data.text_features", "data.text_features.tokens"):
        node: Any = tree
        for part in section.split("."):
            node = (node.get(part) if isinstance(node, dict) else None) or {}
        written = node.get("folder") if isinstance(node, dict) else None
        folder = model_path(written) if isinstance(written, str) else None
        if isinstance(written, str) and folder is not None and not folder.is_dir():
            name = Path(written).name
            check_model(name, f"{section}.folder")
            folder = root / (f"{name}-small" if small else name)
            node["folder"] = str(folder)
            models[folder] = name
    return models
