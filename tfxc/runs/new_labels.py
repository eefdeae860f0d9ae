"""New labels for a run with head ``label_text``, by their texts alone: nothing is trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.core.storage.files import copy_folder
from tfxc.data.label_texts import LABEL_TEXTS_FOLDER, TEXTS_FILE
from tfxc.data.label_texts.prepared import features_of, shortened, write_texts
from tfxc.data.reading.label_texts import read_new_label_texts
from tfxc.data.store.manifest import Manifest, fingerprints_of
from tfxc.inference.embedder import vectors_of_texts
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import build_model
from tfxc.ops.tables.large_weights import assign_rows, without_starts
from tfxc.runs.writer import new_run, refuse_existing

if TYPE_CHECKING:
    from tfxc.model import XCModel
    from tfxc.runs.loaded import LoadedRun

_BLOCK = 65_536  # labels that are copied at a time


def add_labels_by_text(loaded: "LoadedRun", path: str | Path, output: str | Path) -> list[str]:
    """Writes a run that finds the labels of a file as well.

    The vectors of the old labels, and all other weights, stay as they are, bit for bit.

    Args:
        loaded: ``LoadedRun`` of recipe ``fit`` with head ``label_text``; it stays as it is.
        path: JSON lines ``{"label": ..., "text": ...}``, all labels new.
        output: the new run folder, which is written atomically.

    Returns:
        list: names of the new labels, in the order of their ids.

    Raises:
        ConfigError: a run with another head or recipe, or a folder that is in use.
        DataError: the file cannot be read, or has a label that the run knows.

    Example:
        >>> add_labels_by_text(load_run("runs/bot"), "new.jsonl", "runs/bot2")  # doctest: +SKIP
        ['order_pizza']
    """
    check_run(loaded, output)
    texts = read_new_label_texts(path, loaded.vocabulary)
    extended = with_labels(loaded, texts)
    names = list(texts)
    manifest = Manifest.model_validate(extended.manifest)
    with new_run(output) as run:
        run.write_config(loaded.config.model_copy(update={"run": str(output)}))
        assets = run / "assets"
        copy_folder(loaded.folder / "assets", assets)
        run.write_assets(manifest, extended.vocabulary, extended.label_counts)
        with open(assets / LABEL_TEXTS_FOLDER / TEXTS_FILE, "a", encoding="utf-8") as stream:
            write_texts(stream, names, list(texts.values()))
        manifest.fingerprints = fingerprints_of(assets, {})  # no prepared data hold these labels
        manifest.save(assets)
        run.save_weights(extended.model)
        extended.model.decision.save(run.path)
        summary = {**(loaded.folder.summary() or {}), "dev": {}, "added_labels": len(names)}
        run.write_summary(summary)
    return names


def with_labels(loaded: "LoadedRun", texts: Mapping[str, str]) -> "LoadedRun":
    """Returns a run that finds more labels, in memory; the other one stays as it is.

    Args:
        loaded: ``LoadedRun`` of recipe ``fit`` with head ``label_text``.
        texts: at least one, by names of labels that are new to the run.

    Returns:
        ``LoadedRun``, whose new labels have the ids after the others.

    Example:
        >>> extended = with_labels(loaded, {"order_pizza": "order a pizza"})  # doctest: +SKIP
    """
    old = loaded.manifest["num_labels"]
    vectors = encoded_texts(loaded, list(texts.values()))
    manifest = {**loaded.manifest, "num_labels": old + len(texts)}
    with without_starts():
        model = build_model(
            loaded.config, **{**loaded.dimensions, "num_labels": manifest["num_labels"]}
        )
    _copy(loaded.model, model, old)
    model.decision = loaded.model.decision.with_labels(manifest["num_labels"])
    assign_rows(model.head.label_vectors.value, old, vectors)
    counts = loaded.label_counts
    if counts is not None:
        counts = np.append(counts, np.zeros(len(texts), counts.dtype))
    vocabulary = LabelVocabulary([*loaded.vocabulary.names, *texts])
    return loaded.replaced(model, manifest, vocabulary, counts)


def check_run(loaded: "LoadedRun", output: str | Path) -> None:
    """Refuses a run that cannot get new labels by their texts.

    Raises:
        ConfigError: its head or recipe is another, or the output folder is in use.
    """
    if not takes_labels(loaded):
        head = loaded.config.head
        with_head = "without a head" if head is None else f"with head {head.name!r}"
        raise ConfigError(
            f"a run of recipe {loaded.config.recipe.name!r} {with_head} cannot get labels by their "
            "texts (--label-texts)",
            where=loaded.folder.path,
            fix="train one of recipe 'fit' with head 'label_text'; to a linear ranker labels are "
            "added with --data",
        )
    refuse_existing(output)


def takes_labels(loaded: "LoadedRun") -> bool:
    """Tells whether ``with_labels`` can add labels to a run."""
    head = loaded.config.head
    return head is not None and head.name == "label_text" and loaded.config.recipe.name == "fit"


def encoded_texts(loaded: "LoadedRun", texts: list[str]) -> np.ndarray:
    """Returns vectors of texts as a run's head compares them: float32 (texts, dim), of length 1.

    Args:
        loaded: of a run with head ``label_text`` and text features.
        texts: in any order.
    """
    model = loaded.model
    rows = shortened(features_of(texts, loaded.text_features), model.head.label_length)
    return vectors_of_texts(model, rows)


def _copy(model: "XCModel", extended: "XCModel", old: int) -> None:
    """Gives a model with more labels the weights of another; new labels have zeros."""
    for source, target in zip(model.weights, extended.weights, strict=True):
        if source.shape == target.shape:
            target.assign(source)
            continue
        for begin in range(0, old, _BLOCK):
            rows = source.value[begin : min(begin + _BLOCK, old)]
            assign_rows(target.value, begin, rows)
