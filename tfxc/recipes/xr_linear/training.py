"""Training of XR-Linear: the tree, the blocks of classifiers, the calibration."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.progress import Progress
from tfxc.data.manifest import LABELS_FILE
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.layer import Limits
from tfxc.recipes.xr_linear import stages
from tfxc.recipes.xr_linear.example_matrices import ExampleMatrices, negatives_of
from tfxc.recipes.xr_linear.model import LinearModel
from tfxc.recipes.xr_linear.settings import TreeSettings, checked_settings

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.manifest import Manifest
    from tfxc.ranker.settings import RankerSettings
    from tfxc.recipes.base import Context
    from tfxc.recipes.xr_linear.recipe import XRLinear
    from tfxc.runs.writer import RunWriter

TREE = "tree.npz"


def checked_plan(
    recipe: "XRLinear", config: "Config", manifest: "Manifest"
) -> "tuple[list[int], RankerSettings]":
    """Returns sizes of the tree's levels, and ``RankerSettings`` that fit them.

    Raises:
        ConfigError: the config does not fit the data.
    """
    stages.check_data(config, manifest, recipe.calibrate)
    tree = TreeSettings(recipe.tree, config.seed)
    tree.check_texts(config.data)
    sizes = tree.sizes(manifest.num_labels, manifest.num_features)
    matrices = ExampleMatrices(recipe.ranker)
    settings = checked_settings(matrices.settings(config.seed), sizes)
    matrices.check(config, manifest, sizes, tree)
    return sizes, settings


def train(recipe: "XRLinear", context: "Context") -> dict[str, Any]:
    """Trains into the run folder; see ``XRLinear.stages``."""
    began = time.monotonic()
    processor = time.process_time()
    config = context.config
    data_folder = context.data_folder
    run = context.folder
    features, labels = stages.training_matrices(data_folder)
    names = LabelVocabulary.load(Path(data_folder) / LABELS_FILE).names
    matrices = ExampleMatrices(recipe.ranker).load(config, context.manifest, labels, names)
    texts = partial(stages.label_text_matrix, data_folder)
    reports = train_layers(recipe, config.seed, run, features, labels, matrices, texts)
    seconds = {
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }
    for line in stages.report_lines(reports, seconds):
        stages.log(run, line)
    model = LinearModel(run.path, recipe.threads)
    stages.calibrate(model, recipe.calibrate, config, data_folder, run)
    results = stages.measure(model, config, data_folder, context.manifest)
    stages.write_metrics(run, seconds, results)
    for line in stages.headline(results):
        stages.log(run, line)
    return {"layers": reports, **seconds, "dev": {}, **results}


def train_layers(
    recipe: "XRLinear",
    seed: int,
    run: "RunWriter",
    features: np.ndarray | scipy.sparse.csr_matrix,
    labels: scipy.sparse.csr_matrix,
    matrices: Mapping[str, scipy.sparse.csr_matrix],
    texts: "Callable[[], scipy.sparse.csr_matrix] | None" = None,
) -> list[dict[str, Any]]:
    """Trains tree and classifiers; files that are there already are taken as they are.

    Args:
        recipe: with the settings.
        seed: of the config.
        run: where ``tree.npz`` and ``ranker/`` are written.
        features: X, (examples, num_features).
        labels: Y, CSR (examples, num_labels).
        matrices: what ``ExampleMatrices.load`` returns.
        texts: see ``TreeSettings.build``.

    Returns:
        What ``ranker.chain.train_ranker`` reports of each layer.
    """
    if not (run / TREE).is_file():
        with Progress("clustering labels", labels.shape[1], "labels") as progress:
            settings = TreeSettings(recipe.tree, seed)
            settings.build(features, labels, recipe.threads, texts).save(run / TREE)
            run.record_file(TREE)
            progress.advance(labels.shape[1])
    tree = ClusterTree.load(run / TREE)
    with stages.memory_of_ranker(recipe.memory_gb) as budget:
        return train_ranker(
            scipy.sparse.csr_matrix(features),
            labels,
            tree,
            run.path,
            ExampleMatrices(recipe.ranker).settings(seed),
            relevance=matrices.get("relevance_file"),
            negatives=negatives_of(matrices, tree),
            limits=Limits(budget, recipe.threads),
        )
