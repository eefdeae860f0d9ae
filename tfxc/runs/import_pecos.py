"""A model that PECOS has trained as a run folder, which predict, evaluate and export take."""

from pathlib import Path

import numpy as np

from tfxc.core.config import parse_config
from tfxc.core.errors import DataError
from tfxc.core.files import atomic_folder, read_json, write_array
from tfxc.data.kinds import SPARSE
from tfxc.data.manifest import LABEL_COUNTS_FILE, LABELS_FILE, Manifest, SplitInfo
from tfxc.data.sources.matrices import load_matrix
from tfxc.data.text.pecos_vectorizer import load_pecos_vectorizer
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.ranker.pecos_import import write_pecos_model
from tfxc.runs.folder import KIND, NAMES, RunFolder

_WHERE = "The run was imported from PECOS and has no data of its own: name a file with --data"


def import_run(folder, output, *, names=None, vectorizer=None, train_labels=None):
    """Writes a PECOS XR-Linear model as a run of recipe ``xr_linear``.

    Args:
        folder: what PECOS's ``XLinearModel.save`` wrote.
        output: the run folder; appears whole or not at all, an older one is replaced.
        names: file with a label name per line, in the order of the labels; None numbers them.
        vectorizer: folder of the PECOS text vectoriser that made the features; None for features
            that are given.
        train_labels: file of the training label matrix (``.npz`` or ``.npy``), which tells how
            frequent the labels are; without it there are no propensity-scored metrics and tables.

    Returns:
        ``ClusterTree`` of the labels.

    Raises:
        DataError: a file is missing or damaged, or they do not fit together.
        UserError: the output holds something else.

    Example:
        >>> import_run("pecos/model", "runs/imported", names="labels.txt")  # doctest: +SKIP
        ClusterTree(sizes=[2, 4, 8, 22])
    """
    output = Path(output)
    with atomic_folder(output, KIND, NAMES) as scratch:
        tree = write_pecos_model(folder, scratch)
        assets = scratch / "assets"
        assets.mkdir()
        _vocabulary(names, tree.num_labels).save(assets / LABELS_FILE)
        width = read_json(scratch / "ranker" / "param.json")["num_features"]
        settings = None
        if vectorizer is not None:
            settings = _write_vectorizer(vectorizer, width, assets / "text_features")
        counts, split = _counts(train_labels, tree.num_labels)
        if counts is not None:
            write_array(assets / LABEL_COUNTS_FILE, counts)
        name = "pecos"
        Manifest(
            name=name,
            settings_fingerprint="",
            layout="blocks",
            feature_kind=SPARSE.name,
            num_features=width,
            num_labels=tree.num_labels,
            num_unseen_labels=0,
            text_features=settings,
            row_normalise=None,
            sources={},
            splits={"train": split},
        ).save(assets)
        data = {"name": name, "train": "unknown", "text_features": settings, "where": _WHERE}
        config = {"run": str(output), "data": data, "recipe": {"name": "xr_linear"}}
        text = parse_config(config).to_json() + "\n"
        (scratch / "config.json").write_text(text, encoding="utf-8")
        summary = {"imported": str(folder), "dev": {}}
        RunFolder(scratch).write_summary(summary)
    return tree


def _vocabulary(path, num_labels):
    if path is None:
        return LabelVocabulary([str(number) for number in range(num_labels)])
    found = LabelVocabulary.load(path)
    if len(found.names) != num_labels:
        raise DataError(
            f"{num_labels:,} names expected, one for each label, {len(found.names):,} found",
            where=path,
        )
    return found


def _write_vectorizer(folder, width, output):
    """Writes the vectoriser as ours; returns its settings."""
    features = load_pecos_vectorizer(folder)
    if features.num_features != width:
        raise DataError(
            f"a vectoriser of the model's {width:,} features expected, "
            f"{features.num_features:,} found",
            where=folder,
        )
    features.save(output)
    return {"name": features.name, **features.settings()}


def _counts(path, num_labels):
    """Examples of each label, or None, and ``SplitInfo`` of the training split."""
    if path is None:
        sizes = dict.fromkeys(("examples", "labels", "min_labels", "max_labels"), 0)
        return None, SplitInfo(**sizes, nonzeros=0, without_labels=0, unseen_labels=0, shards=[])
    matrix = load_matrix(path)
    if matrix.shape[1] != num_labels:
        raise DataError(
            f"a column for each of the {num_labels:,} labels expected, {matrix.shape[1]:,} found",
            where=path,
        )
    present = matrix != 0
    lengths = np.asarray(present.sum(axis=1)).ravel()
    counts = np.asarray(present.sum(axis=0)).ravel().astype(np.int64)
    return counts, SplitInfo(
        examples=len(lengths),
        nonzeros=0,
        labels=int(lengths.sum()),
        min_labels=int(lengths.min()),
        max_labels=int(lengths.max()),
        without_labels=int((lengths == 0).sum()),
        unseen_labels=0,
        shards=[],
    )
