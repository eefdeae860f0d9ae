"""Training of XR-Linear: the tree and the blocks of classifiers."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse

from tfxc.core.progress import Progress
from tfxc.core.storage.locks import scratch_folder
from tfxc.data.reading.held_out import held_out_examples, queries_of
from tfxc.data.store.manifest import LABELS_FILE
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.fusion.titles import title_examples
from tfxc.ranker.layer import Limits
from tfxc.ranker.search import Ranker
from tfxc.recipes.xr_linear import stages
from tfxc.recipes.xr_linear.example_matrices import ExampleMatrices, negatives_of
from tfxc.recipes.xr_linear.model import LinearModel
from tfxc.recipes.xr_linear.settings import TreeSettings
from tfxc.runs.writer import RunWriter

if TYPE_CHECKING:
    from tfxc.ranker.settings import RankerSettings
    from tfxc.recipes.base import Context

TREE = "tree.npz"
_HELD_OUT = 0.2
#: Gain of P@1 from which on texts of labels are examples. Less than that turned into a loss where
#: texts name what is not their label: with all examples, the texts help less and harm as much.
ENOUGH_GAIN = 0.02


def train(
    context: "Context",
    tree: TreeSettings,
    example_matrices: ExampleMatrices,
    *,
    text_rows: bool | Literal["held_out"],
    memory_gb: float | None,
    threads: int | None,
) -> dict[str, Any]:
    """Trains into the run folder; see ``XRLinear`` and its ``stages``."""
    began = time.monotonic()
    processor = time.process_time()
    config = context.config
    data_folder = context.data_folder
    run = context.folder
    features, labels = stages.training_matrices(data_folder)
    names = LabelVocabulary.load(Path(data_folder) / LABELS_FILE).names
    matrices = example_matrices.load(config, context.manifest, labels, names)
    into = partial(
        train_layers,
        tree_settings=tree,
        ranker_settings=example_matrices.settings(config.seed),
        matrices=matrices,
        texts=partial(stages.label_text_matrix, data_folder),
        memory_gb=memory_gb,
        threads=threads,
    )
    gains: dict[str, float] = {}
    if text_rows == "held_out":
        if context.held_out:
            summaries = [held_out.folder.summary() or {} for held_out in context.held_out]
            gain = float(np.mean([summary["text_rows_gain"] for summary in summaries]))
        else:
            examples = stages.label_text_matrix(data_folder)
            gain = text_rows_gain(into, features, labels, examples, config.seed, run.path)
        gains = {"text_rows_gain": gain}
        text_rows = gain >= ENOUGH_GAIN
        taken = "taken" if text_rows else "left out"
        line = f"texts of labels as examples change P@1 by {100 * gain:+.1f}: they are {taken}"
        stages.log(run, line)
    if text_rows:
        examples = stages.label_text_matrix(data_folder)
        features, labels = stages.with_text_rows(features, labels, examples)
    reports = into(run, features, labels)
    seconds = stages.seconds_since(began, processor)
    for line in stages.report_lines(reports, seconds):
        stages.log(run, line)
    model = LinearModel(run.path, threads)
    return {"layers": reports, **gains, **stages.results_of(context, model, seconds)}


def text_rows_gain(
    train: "Callable[[RunWriter, scipy.sparse.csr_matrix, scipy.sparse.csr_matrix], object]",
    features: np.ndarray | scipy.sparse.csr_matrix,
    labels: scipy.sparse.csr_matrix,
    texts: scipy.sparse.csr_matrix,
    seed: int,
    parent: Path,
) -> float:
    """Returns how much P@1 changes if the texts of labels are examples, too, -1 to 1.

    Args:
        train: trains a ranker into a folder.
        features: X, (examples, num_features).
        labels: Y, CSR (examples, num_labels).
        texts: see ``stages.with_text_rows``.
        seed: of the examples that are held out and measured: a fifth of those that are no titles.
        parent: of the folders to train in; the workers of a cluster see it.
    """
    features = scipy.sparse.csr_matrix(features)
    usable = queries_of(title_examples(features, labels, texts))
    chosen = np.zeros(len(usable), bool)
    chosen[usable] = held_out_examples(np.flatnonzero(usable), _HELD_OUT, seed)
    rest = features[~chosen], labels[~chosen]
    right = []
    for examples in (rest, stages.with_text_rows(*rest, texts)):
        with scratch_folder("text-rows", parent) as folder:
            train(RunWriter(folder), *examples)
            ids, _ = Ranker.load(folder).predict(features[chosen], 1)
        is_true = np.ravel(labels[chosen][np.arange(len(ids)), ids[:, 0]])
        right.append(int(np.count_nonzero(is_true * (ids[:, 0] >= 0))))
    return (right[1] - right[0]) / max(1, int(chosen.sum()))


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
