"""A model that PECOS has trained as a run folder, which predict, evaluate and export read."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.config import parse_config
from tfxc.core.errors import DataError
from tfxc.core.storage.reading import read_json
from tfxc.data.examples.kinds import SPARSE
from tfxc.data.reading.parsing.arrays import load_matrix
from tfxc.data.text.pecos import load_pecos_vectorizer
from tfxc.labels.label_matrix import label_matrix
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.ranker.pecos.model import COPY, write_pecos_model
from tfxc.runs.writer import manifest_of, new_run, split_of

if TYPE_CHECKING:
    from tfxc.data.text.pecos import PecosTfidfFeatures
    from tfxc.labels.cluster_tree import ClusterTree


#: What a run without its data says of them.
WHERE = "The run was imported from PECOS, without its data: name a file with --data"

# What ``param.json`` calls the models that ``tfxc.imports.pecos_transformer`` reads.
_TRANSFORMERS = ("XTransformer", "TransformerMatcher")


def is_transformer(folder: str | Path) -> bool:
    """Whether a folder of PECOS says that it is an XR-Transformer."""
    path = Path(folder) / "param.json"
    return path.is_file() and read_json(path, fix=COPY).get("model") in _TRANSFORMERS


def import_run(
    folder: str | Path,
    output: str | Path,
    *,
    names: str | Path | None = None,
    vectorizer: str | Path | None = None,
    train_labels: str | Path | None = None,
) -> "ClusterTree":
    """Writes a PECOS XR-Linear model as a run of recipe ``xr_linear``.

    Args:
        folder: what PECOS's ``XLinearModel.save`` wrote.
        output: the run folder, which is written atomically; an older one is replaced.
        names: file with a label name per line, in the order of the labels; None numbers them.
        vectorizer: folder of the PECOS text vectoriser that made the features; None for features
            that are given.
        train_labels: file of the training label matrix (``.npz`` or ``.npy``), which shows how
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
    with new_run(output) as run:
        tree = write_pecos_model(folder, run.path)
        vocabulary = LabelVocabulary.of(names, tree.num_labels)
        width = read_json(run / "ranker" / "param.json")["num_features"]
        features = None if vectorizer is None else vectorizer_of(vectorizer, width)
        counts, lengths = read_label_counts(train_labels, tree.num_labels)
        manifest = manifest_of(
            "pecos",
            num_labels=tree.num_labels,
            split=split_of(lengths),
            text_features=features,
            feature_kind=SPARSE.name,
            num_features=width,
        )
        settings = manifest.text_features
        data = {"name": "pecos", "train": "unknown", "text_features": settings, "where": WHERE}
        config = {"run": str(output), "data": data, "recipe": {"name": "xr_linear"}}
        run.write_config(parse_config(config))
        run.write_assets(manifest, vocabulary, counts, features)
        run.write_summary({"imported": str(folder), "dev": {}})
    return tree


def vectorizer_of(folder: str | Path, width: int) -> "PecosTfidfFeatures":
    """Returns a vectoriser of PECOS as tfxc's text features.

    Args:
        folder: what PECOS's ``Vectorizer.save`` wrote.
        width: features that the model reads.

    Raises:
        DataError: a file is missing or damaged, or it makes another number of features.
    """
    features = load_pecos_vectorizer(folder)
    if features.num_features != width:
        raise DataError(
            f"the vectoriser makes {features.num_features:,} features, the model reads {width:,}",
            where=folder,
            fix="give the vectoriser that the model was trained with",
        )
    return features


def read_label_counts(
    path: str | Path | None, num_labels: int
) -> tuple[np.ndarray | None, Sequence[int] | np.ndarray]:
    """Returns how frequent the labels are in a matrix of training labels.

    Args:
        path: file of the matrix (n, num_labels), ``.npz`` or ``.npy``, or None.
        num_labels: number of labels.

    Returns:
        Examples of each label, int64 (num_labels,), or None; and labels of each training example.

    Raises:
        DataError: the file is missing or damaged, has another number of columns, or an entry is
            −1, see ``label_matrix``.
    """
    if path is None:
        return None, ()
    matrix = label_matrix(load_matrix(path), path)
    if matrix.shape[1] != num_labels:
        raise DataError(
            f"the matrix has {matrix.shape[1]:,} columns instead of one for each of the "
            f"{num_labels:,} labels",
            where=path,
            fix="give the label matrix that the model was trained with",
        )
    return np.bincount(matrix.indices, minlength=num_labels), np.diff(matrix.indptr)
