"""Training of XR-Linear: the tree and the blocks of classifiers."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.progress import Progress
from tfxc.data.store.manifest import LABELS_FILE
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.layer import Limits
from tfxc.recipes.xr_linear import stages
from tfxc.recipes.xr_linear.example_matrices import ExampleMatrices, negatives_of
from tfxc.recipes.xr_linear.model import LinearModel
from tfxc.recipes.xr_linear.settings import TreeSettings

if TYPE_CHECKING:
    from tfxc.ranker.settings import RankerSettings
    from tfxc.recipes.base import Context
    from tfxc.runs.writer import RunWriter

TREE = "tree.npz"


def train(
    context: "Context",
    tree: TreeSettings,
    example_matrices: ExampleMatrices,
    *,
    text_rows: bool,
    memory_gb: float | None,
    threads: int | None,
) -> dict[str, Any]:
    """Trains into the run folder; see ``XRLinear`` and its ``stages``."""
    began = time.monotonic()
    processor = time.process_time()
    config = context.config
    data_folder = context.data_folder
    run = context.folder
    features, labels = stages.training_matrices(data_folder, text_rows)
    names = LabelVocabulary.load(Path(data_folder) / LABELS_FILE).names
    matrices = example_matrices.load(config, context.manifest, labels, names)
    texts = partial(stages.label_text_matrix, data_folder)
    reports = train_layers(
        run,
        features,
        labels,
        tree,
        example_matrices.settings(config.seed),
        matrices,
        texts,
        memory_gb=memory_gb,
        threads=threads,
    )
    seconds = stages.seconds_since(began, processor)
    for line in stages.report_lines(reports, seconds):
        stages.log(run, line)
    model = LinearModel(run.path, threads)
    return {"layers": reports, **stages.results_of(context, model, seconds)}


def train_layers(
    run: "RunWriter",
    features: np.ndarray | scipy.sparse.csr_matrix,
    labels: scipy.sparse.csr_matrix,
    tree_settings: TreeSettings,
    ranker_settings: "RankerSettings",
    matrices: Mapping[str, scipy.sparse.csr_matrix],
    texts: "Callable[[], scipy.sparse.csr_matrix] | None" = None,
    *,
    memory_gb: float | None,
    threads: int | None,
) -> list[dict[str, Any]]:
    """Trains tree and classifiers; files that are there already are taken as they are.

    Args:
        run: where ``tree.npz`` and ``ranker/`` are written.
        features: X, (examples, num_features).
        labels: Y, CSR (examples, num_labels).
        tree_settings: how the labels are clustered.
        ranker_settings: how the classifiers are trained.
        matrices: what ``ExampleMatrices.load`` returns.
        texts: see ``TreeSettings.build``.
        memory_gb, threads: see ``XRLinear``.

    Returns:
        What ``ranker.chain.train_ranker`` reports of each layer.
    """
    if not (run / TREE).is_file():
        with Progress("clustering labels", labels.shape[1], "labels") as progress:
            tree_settings.build(features, labels, threads, texts).save(run / TREE)
            run.record_file(TREE)
            progress.advance(labels.shape[1])
    tree = ClusterTree.load(run / TREE)
    with stages.memory_of_ranker(memory_gb) as budget:
        return train_ranker(
            scipy.sparse.csr_matrix(features),
            labels,
            tree,
            run.path,
            ranker_settings,
            relevance=matrices.get("relevance_file"),
            negatives=negatives_of(matrices, tree),
            limits=Limits(budget, threads),
        )
