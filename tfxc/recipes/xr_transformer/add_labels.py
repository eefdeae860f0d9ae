"""New labels for a trained linear ranker: put into its tree, with the blocks they touch retrained.

The layers above the labels stay as they are, and so do the ids of the labels and the weights of
all blocks that no new label came into. The affected blocks are trained on the old examples and the
new ones together: from the new ones alone, the labels that already stood there would be forgotten.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse

from tfxc.core import registry
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.files import copy_folder
from tfxc.core.storage.reading import read_json
from tfxc.data.store.manifest import Manifest, fingerprints_of
from tfxc.decision.fitted import FittedDecision
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.label_embeddings import pifa
from tfxc.labels.tree_building import add_labels, leaf_centroids
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer
from tfxc.ranker.extended import extend_layer
from tfxc.ranker.layer import Limits
from tfxc.ranker.negatives import examples_of, scheme_of
from tfxc.ranker.problem import LayerProblem
from tfxc.ranker.relevance import relevance_of
from tfxc.ranker.search import load_layer, search
from tfxc.ranker.store import PARAMETERS, write_layer, write_parameters
from tfxc.recipes.xr_linear.stages import memory_of_ranker
from tfxc.recipes.xr_linear.training import TREE
from tfxc.recipes.xr_transformer.ranker_features import PlainFeatures
from tfxc.runs.writer import WEIGHTS, RunWriter, new_run, refuse_existing

if TYPE_CHECKING:
    from tfxc.data.examples.chunk import Chunk
    from tfxc.data.reading.formats.base import Reader
    from tfxc.ranker.settings import RankerSettings
    from tfxc.runs.loaded import LoadedRun

_RECIPES = ("xr_linear", "xr_transformer")


class Added(NamedTuple):
    """What ``add_new_labels`` did.

    Attributes:
        names: of the new labels, in the order of their ids.
        affected: blocks that were trained again.
        blocks: all blocks of the last layer.
    """

    names: list[str]
    affected: int
    blocks: int


def add_new_labels(
    loaded: "LoadedRun",
    reader: "Reader",
    output: str | Path,
    data_folder: str | Path,
    memory_gb: float | None = None,
) -> Added:
    """Writes a run that knows the labels of a file as well.

    Args:
        loaded: ``LoadedRun`` of recipe ``xr_linear`` or ``xr_transformer``; it stays as it is.
        reader: of the new examples; those of known labels count as well.
        output: the new run folder, which is written atomically.
        data_folder: the run's prepared records.
        memory_gb: instead of the recipe's.

    Returns:
        ``Added``.

    Raises:
        ConfigError: a run of another recipe, of other data, or a folder that is in use.
        DataError: the file has no label that the run does not know.
    """
    check_run(loaded, output)
    if Manifest.load(data_folder).num_labels != loaded.manifest["num_labels"]:
        raise ConfigError(
            "labels have already been added to this run",
            where=loaded.folder.path,
            fix="add all new labels at once to the trained run",
        )
    loaded.folder.check_data(data_folder, {"labels", "text features", "records of train"})
    run = loaded.folder.path
    recipe = registry.create("recipe", loaded.config.recipe.section())
    recipe.memory_gb = recipe.memory_gb if memory_gb is None else memory_gb
    ranker_features = PlainFeatures(loaded, recipe)
    if recipe.trains_network:
        from tfxc.recipes.xr_transformer.encoded_features import EncodedFeatures

        ranker_features = EncodedFeatures(loaded, recipe)
    names, features, labels = _new_examples(loaded, reader, ranker_features)
    old_features, old_labels = ranker_features.of_training(data_folder)
    tree = ClusterTree.load(run / TREE)
    known = old_labels.shape[1]
    centroids = leaf_centroids(tree, pifa(old_labels, ranker_features.of_tree(old_features)))
    embeddings = pifa(labels, ranker_features.of_tree(features))
    tree, affected = add_labels(tree, embeddings[known:], centroids)
    old_labels.resize(old_labels.shape[0], labels.shape[1])
    matrices = [scipy.sparse.csr_matrix(matrix) for matrix in (old_features, features)]
    all_features = scipy.sparse.vstack(matrices, format="csr")
    all_labels = scipy.sparse.vstack([old_labels, labels], format="csr")
    layers = [load_layer(run / "ranker" / f"layer-{number}") for number in range(tree.depth)]
    settings = ranker_features.settings(tree.sizes)
    problem = _last_problem(layers, settings, tree, all_features, all_labels, recipe.threads)
    with new_run(output) as written:
        scratch = written / "part"
        solver = settings.solvers(tree.sizes)[-1]
        with memory_of_ranker(recipe.memory_gb, "--memory-gb") as budget:
            limits = Limits(budget, recipe.threads)
            layer = extend_layer(layers[-1], affected, problem, scratch, solver, limits=limits)
        shutil.rmtree(scratch)
        last = tree.depth - 1
        for number in range(last):
            name = f"ranker/layer-{number}"
            copy_folder(run / name, written.path / name)
        write_layer(layer, written.path / "ranker" / f"layer-{last}")
        param = read_json(run / "ranker" / PARAMETERS, fix="restore the run's own files")
        write_parameters(written.path / "ranker", {**param, "num_labels": tree.num_labels})
        tree.save(written.path / TREE)
        _write_rest(loaded, written, output, names, labels)
    return Added(names, len(affected), len(layer.child_splits) - 1)


def check_run(loaded: "LoadedRun", output: str | Path) -> None:
    """Refuses a run whose ranker cannot get new labels, before its data are looked for.

    Raises:
        ConfigError: a run of another recipe, one without a ranker or without data of its own, or
            an output folder that is in use.
    """
    if loaded.config.recipe.name not in _RECIPES:
        raise ConfigError(
            f"the run is of recipe {loaded.config.recipe.name!r}, which has no linear ranker",
            where=loaded.folder.path,
            fix=f"choose a run of recipe {' or '.join(map(repr, _RECIPES))}",
        )
    if loaded.config.recipe.section().get("only_encoder"):
        raise ConfigError(
            "the run has only an encoder and no ranker",
            where=loaded.folder.path,
            fix="choose a run that was trained with recipe.only_encoder false",
        )
    refuse_existing(output)
    if "imported" in (loaded.folder.summary() or {}):
        raise ConfigError(
            "the run was imported without its training data",
            where=loaded.folder.path,
            fix="train a run on the data; it can reuse this run's tree as recipe.tree.file",
        )


class _Recorded:
    """A reader that numbers the labels it has not seen in the order in which they come."""

    def __init__(self, reader: "Reader", known: Sequence[str]) -> None:
        self._reader = reader
        self.path = reader.path
        self.names: list[str] = []
        self._known = set(known)

    def chunks(self, size: int) -> "Iterator[Chunk]":
        """Yields the reader's chunks."""
        for chunk in self._reader.chunks(size):
            for name in (str(label) for row in chunk.labels for label in row):
                if name not in self._known:
                    self._known.add(name)
                    self.names.append(name)
            yield chunk


def _new_examples(
    loaded: "LoadedRun", reader: "Reader", ranker_features: PlainFeatures
) -> tuple[list[str], Any, scipy.sparse.csr_matrix]:
    """Reads new names, X and Y of the file, Y over old and new labels."""
    recorded = _Recorded(reader, loaded.vocabulary.names)
    blocks = list(loaded.rows(recorded))
    if not recorded.names:
        raise DataError(
            "all labels are known to the run",
            where=reader.path,
            fix="name a file with examples of new labels",
        )
    count = loaded.manifest["num_labels"] + len(recorded.names)
    features, labels = zip(
        *(ranker_features.of_rows(block, count) for block in blocks), strict=True
    )
    labels = scipy.sparse.vstack(labels, format="csr")
    if not scipy.sparse.issparse(features[0]):
        return recorded.names, np.concatenate(features), labels
    features = scipy.sparse.vstack(features, format="csr")
    features.sum_duplicates()
    return recorded.names, features, labels


def _last_problem(
    layers: Sequence[ChunkedLayer],
    settings: "RankerSettings",
    tree: ClusterTree,
    features: scipy.sparse.csr_matrix,
    labels: scipy.sparse.csr_matrix,
    threads: int | None,
) -> LayerProblem:
    """Returns what the last layer of a ranker with these layers learns from."""
    values = settings.of_layers(tree.sizes)
    targets = tree.multi_resolution(labels)
    examples = None
    if tree.depth > 1:
        scheme = scheme_of(values["negatives"][-1])
        predicted = None
        if "man" in scheme:
            predicted = search(
                layers[:-1],
                features,
                values["only_topk"][:-1],
                values["post_processor"][:-1],
                bias=settings.bias,
                threads=threads,
            )
        examples = examples_of(scheme, above=targets[-2], predicted=predicted)
    modes = (settings.relevance_mode, settings.relevance_norm)
    relevance = relevance_of(targets, tree, *modes)[-1]
    return LayerProblem(features, targets[-1], tree.parents[-1], examples, relevance)


def _write_rest(
    loaded: "LoadedRun",
    written: RunWriter,
    output: str | Path,
    names: Sequence[str],
    labels: scipy.sparse.csr_matrix,
) -> None:
    """Writes config, assets, decision, the encoder's weights and summary."""
    run = loaded.folder.path
    assets = written / "assets"
    written.write_config(loaded.config.model_copy(update={"run": str(output)}))
    copy_folder(run / "assets", assets)
    counts = np.asarray(labels.sum(axis=0)).ravel().astype(np.int64)
    assert loaded.label_counts is not None, "a run with training data has them"
    counts[: len(loaded.label_counts)] += loaded.label_counts
    manifest = Manifest.load(assets)
    train = manifest.split("train")
    train.examples += labels.shape[0]
    train.labels += labels.nnz
    manifest.num_labels = labels.shape[1]
    vocabulary = LabelVocabulary([*loaded.vocabulary.names, *names])
    written.write_assets(manifest, vocabulary, counts)
    manifest.fingerprints = fingerprints_of(assets, {})  # no prepared data hold these examples
    manifest.save(assets)
    if (run / WEIGHTS).is_file():
        shutil.copyfile(run / WEIGHTS, written / WEIGHTS)
    decision = FittedDecision.load(run, loaded.manifest["num_labels"])
    decision.with_labels(len(vocabulary.names)).save(written.path)
    summary = {**(loaded.folder.summary() or {}), "dev": {}, "added_labels": len(names)}
    written.write_summary(summary)
