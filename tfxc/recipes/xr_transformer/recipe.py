"""XR-Transformer: an encoder fine-tuned on ever finer label clusters, and a linear ranker."""

import gc
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse

from tfxc.core.declared import Count, NotNegative, Positive
from tfxc.core.errors import ConfigError
from tfxc.core.messages import OUTPUT
from tfxc.data.sources.matrices import matrices
from tfxc.data.sources.shards import Source, open_source
from tfxc.inference.embedder import Embedder
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.layer import Limits
from tfxc.recipes.base import Context, StagedRecipe
from tfxc.recipes.xr_linear.model import LinearModel
from tfxc.recipes.xr_linear.settings import TreeSettings
from tfxc.recipes.xr_linear.stages import (
    calibrate,
    label_text_matrix,
    log,
    memory_of_ranker,
    report_lines,
)
from tfxc.recipes.xr_transformer.checks import planned, stage_lines, trial, unused_lines
from tfxc.recipes.xr_transformer.embeddings import concatenated_on_disk, origin_of, write_embeddings
from tfxc.recipes.xr_transformer.levels import LevelData, Levels
from tfxc.recipes.xr_transformer.model import EncoderRanker, built_encoder
from tfxc.recipes.xr_transformer.plan import Ensemble, Initial, Negatives
from tfxc.training.evaluation import Evaluation, evaluation_of_texts, labels_of
from tfxc.training.strategies import by_chief

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.manifest import Manifest
    from tfxc.encoders.base import Encoder
    from tfxc.runs.loaded import LoadedRun


FIRST_TREE = "tree-preliminary.npz"
LAST_TREE = "tree.npz"
EMBEDDINGS = "embeddings/train.npy"


class XRTransformer(StagedRecipe):
    """Label tree, one training run per level, encoding of the texts, tree, linear ranker.

    1. A tree of the labels, by the terms of their training texts (PIFA); its shape is the head's.
    2. For each level of at most ``max_match_clusters`` nodes, from the top: the encoder continues
       from the level above, with a new head on this level's clusters, a new optimizer and
       a new schedule. Below the first level, a text sees the children of a few clusters only:
       ``negatives``.
    3. All training texts are encoded, the vectors scaled to length 1, concatenated with the terms.
    4. Another tree, by these features, unless ``fix_clustering``.
    5. A linear ranker (XR-Linear) on these features and this tree. It makes the predictions;
       the heads of the levels are no longer used.

    The data must provide tokens and terms: ``data.text_features`` ``"joined"`` (or terms only, for
    encoders of bags). Every stage leaves its files in the run folder, and a stopped run resumes
    after the last of them. Of several workers all train in step 2, each its share; the chief does
    the rest. See docs/xr_transformer.md.

    Each of ``negatives``, ``initial``, ``epochs``, ``steps`` and ``warmup_steps`` may be a list
    with one value per fine-tuned level.

    Args:
        do_fine_tune: whether there are steps 1 and 2; else the encoder stays as it is.
        only_encoder: whether to stop after step 3; such a run encodes, and finds no labels.
        fix_clustering: whether the ranker uses the tree of step 1.
        max_match_clusters: largest level that is fine-tuned on.
        negatives: ``"tfn"``: children of the true clusters; ``"man"``: of those found by a linear
            layer on the level above; ``"tfn+man"``. None means the head's.
        only_topk: clusters found for each text on each level.
        initial: what a level's head begins with: ``"linear"``, the weights of a linear layer on
            the frozen encodings of the level above; ``"weighted-linear"``, the same with positives
            weighted by how many labels they stand for; ``"inherit"``, its parents' weights;
            ``"none"``. None means ``"linear"``.
        ensemble: what finds the clusters: ``"concat-only"``, a linear layer on encodings and
            terms; ``"transformer-only"``, the level's own head; or both, by ``"average"``,
            ``"rank_average"`` or ``"round_robin"``.
        threshold: smallest weight that is kept of this linear layer.
        cost_sensitive: whether its positives are weighted, by the share of a text's labels.
        epochs, steps: length of a level's training; None means ``training.epochs``.
        warmup_steps: instead of ``training.schedule.warmup``; needs ``steps``.
        encoding_length: length to which the encodings are scaled for the second tree and the
            ranker. Below 1 where an encoder without pretraining has memorised the training texts.
        first_tree: what the labels are clustered by for the first tree, where it is not PIFA:
            ``label_embedding``, ``label_features``, ``join``, ``alpha``; or ``file``, a
            finished tree. See ``recipes.xr_linear.settings.TreeSettings``.
        refined_tree: keys of ``labels.tree_building.ClusteringSettings`` for the second tree, and
            the same keys as in ``first_tree``; those of its shape that are left out are the head's.
        ranker: keys of ``ranker.settings.RankerSettings``; ``threshold`` is 0.001 if left out.
        memory_gb: what the training of the ranker may use in addition to features and labels; None
            for no limit.
        calibrate: None, ``"isotonic"`` or ``"logistic"``: learns probabilities of the ranker's
            scores on the dev split.
        threads: of the linear layers and their search; None means all cores. The model does not
            depend on it.

    Raises:
        ConfigError: an argument out of range.

    Reference: Zhang et al., NeurIPS 2021, arXiv 2110.00685.
    """

    keeps_head = False
    uses_cluster = True

    def __init__(
        self,
        *,
        do_fine_tune: bool = True,
        only_encoder: bool = False,
        fix_clustering: bool = False,
        max_match_clusters: Count = 32768,
        negatives: Negatives | Sequence[Negatives] | None = None,
        only_topk: Count = 20,
        initial: Initial | Sequence[Initial] | None = None,
        ensemble: Ensemble = "concat-only",
        threshold: NotNegative = 0.001,
        cost_sensitive: bool = False,
        epochs: Positive | Sequence[Positive | None] | None = None,
        steps: Count | Sequence[Count | None] | None = None,
        warmup_steps: Count | Sequence[Count | None] | None = None,
        encoding_length: Positive = 1.0,
        first_tree: Mapping[str, Any] | None = None,
        refined_tree: Mapping[str, Any] | None = None,
        ranker: Mapping[str, Any] | None = None,
        memory_gb: Positive | None = None,
        calibrate: Literal["isotonic", "logistic"] | None = None,
        threads: Count | None = None,
    ) -> None:
        self.do_fine_tune = do_fine_tune
        self.only_encoder = only_encoder
        self.fix_clustering = fix_clustering
        self.max_match_clusters = max_match_clusters
        self.negatives = negatives
        self.only_topk = only_topk
        self.initial = initial
        self.ensemble = ensemble
        self.threshold = threshold
        self.cost_sensitive = cost_sensitive
        self.epochs = epochs
        self.steps = steps
        self.warmup_steps = warmup_steps
        self.encoding_length = encoding_length
        self.ranker = ranker
        self.first_tree = first_tree
        self.refined_tree = refined_tree
        self.memory_gb = memory_gb
        self.calibrate = calibrate
        self.threads = threads
        if self.warmup_steps is not None and self.steps is None:
            raise ConfigError(
                "warmup_steps needs recipe.steps",
                where="recipe.warmup_steps",
                fix="add recipe.steps, or set training.schedule.warmup to a share",
            )
        if self.steps is not None and self.epochs is not None:
            raise ConfigError(
                "steps and epochs do not go together", where="recipe.steps", fix="remove one"
            )
        if self.calibrate is not None and self.only_encoder:
            raise ConfigError(
                "there are no scores to calibrate: only_encoder trains no ranker",
                where="recipe.calibrate",
                fix="remove it",
            )

    def outline(
        self, config: "Config", manifest: "Manifest"
    ) -> "tuple[list[str], dict[str, Any] | None]":
        """Lists levels with their steps, what the ranker takes, and the widest level's training."""
        lines = list(stage_lines(self, config, manifest))
        return lines, trial(self, config, manifest)

    def check(self, context: Context) -> None:
        """Refuses settings that do not fit the data; prints those that are not used."""
        planned(self, context.config, context.manifest)
        for line in unused_lines(self):
            OUTPUT.info(line)

    def stages(self, context: Context) -> "_Stages":
        """Prepares tree, levels, encodings, second tree, ranker."""
        return _Stages(self, context)

    def assemble(self, loaded: "LoadedRun") -> EncoderRanker:
        """Returns encoder and ranker of the run."""
        encoder = built_encoder(loaded.config, loaded.dimensions)
        linear = None if self.only_encoder else LinearModel(loaded.folder.path, self.threads)
        model = EncoderRanker(encoder, linear, self.encoding_length)
        loaded.folder.load_weights(model)
        return model


class _Stages:
    """The stages of one run, called when it starts."""

    def __init__(self, recipe: XRTransformer, context: Context) -> None:
        self.recipe = recipe
        self.config = context.config
        self.data_folder = context.data_folder
        self.manifest = context.manifest
        self.folder = context.folder
        self.strategy = context.strategy
        self.dimensions = self.manifest.dimensions
        self.planned = planned(recipe, self.config, self.manifest)
        self.memory = int(self.config.training.memory_gb * 2**30)
        self.began = time.monotonic()
        self.source = open_source(self.data_folder, "train", self.memory)
        if self.config.training.group_by_length:
            self.source.group_by_length(self.config.training.batch_size)
        self.encoder: Encoder | None = None
        if not recipe.do_fine_tune:
            self.encoder = built_encoder(self.config, self.dimensions)

    def __call__(self) -> dict[str, Any]:
        """Runs all stages, each unless its files are there; returns the summary.

        Only the chief continues after the levels are trained.
        """
        run = self.folder
        source = self.source
        encoder = self.encoder
        terms, labels = matrices(source)
        terms.sum_duplicates()
        summaries: list[dict[str, Any]] = []
        if encoder is None:
            levels = self._levels(source, terms, labels)
            summaries = levels.train()
        if not run.chief:
            return self._summary(summaries, {})
        if encoder is None:
            assert self.planned.plan is not None, "its levels were trained"
            encoder = levels.model(self.planned.plan.count - 1).encoder
        model = EncoderRanker(encoder, None)
        run.save_weights(model)
        path = run / EMBEDDINGS
        if not path.exists():
            size = self.config.evaluation.batch_size
            origin = origin_of(self.data_folder, run)
            write_embeddings(path, Embedder(model), source, size, "embedding", origin)
        vectors = np.load(path, mmap_mode="r")
        layers: list[dict[str, Any]] = []
        if not self.recipe.only_encoder:
            length = self.recipe.encoding_length
            with concatenated_on_disk(terms, vectors, length) as features:
                layers = self._train_ranker(features, terms, labels)
            linear = LinearModel(run.path, self.recipe.threads)
            model = EncoderRanker(encoder, linear, length)
        del terms
        gc.collect()
        calibrate(model, self.recipe.calibrate, self.config, self.data_folder, run)
        return {**self._summary(summaries, self._measured(model, source)), "layers": layers}

    def _levels(
        self, source: Source, terms: scipy.sparse.csr_matrix, labels: scipy.sparse.csr_matrix
    ) -> Levels:
        assert self.planned.plan is not None, "``do_fine_tune`` is true"
        settings = self.planned.first
        by_chief(self.strategy, lambda: self._tree(FIRST_TREE, settings, terms, labels))
        tree = self._tree(FIRST_TREE, settings, terms, labels)
        targets = tree.multi_resolution(labels)
        data = LevelData(source, terms, targets, tree, self.dimensions)
        return Levels(
            self.planned.plan, self.config, self.data_folder, self.folder, data, self.strategy
        )

    def _tree(
        self,
        name: str,
        settings: TreeSettings,
        features: scipy.sparse.csr_matrix,
        labels: scipy.sparse.csr_matrix,
    ) -> ClusterTree:
        """Loads the tree of that file; builds it where there is none."""
        path = self.folder / name
        if not path.exists():
            texts = partial(label_text_matrix, self.data_folder)
            settings.build(features, labels, self.recipe.threads, texts).save(path)
            self.folder.record_file(name)
        return ClusterTree.load(path)

    def _train_ranker(
        self,
        features: scipy.sparse.csr_matrix,
        terms: scipy.sparse.csr_matrix,
        labels: scipy.sparse.csr_matrix,
    ) -> list[dict[str, Any]]:
        """Trains the ranker on ``features``, terms and vectors; reports of its layers."""
        if self.recipe.fix_clustering:
            tree = self._tree(FIRST_TREE, self.planned.first, terms, labels)
            tree.save(self.folder / LAST_TREE)
        else:
            tree = self._tree(LAST_TREE, self.planned.second, features, labels)
        OUTPUT.info(f"ranker: {', '.join(f'{size:,}' for size in tree.sizes)} nodes")
        began = time.monotonic()
        processor = time.process_time()
        with memory_of_ranker(self.recipe.memory_gb) as budget:
            reports = train_ranker(
                features,
                labels,
                tree,
                self.folder.path,
                self.planned.ranker,
                limits=Limits(budget, self.recipe.threads),
            )
        seconds = {
            "seconds": round(time.monotonic() - began, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
        }
        for line in report_lines(reports, seconds):
            log(self.folder, line)
        return reports

    def _measured(self, model: EncoderRanker, source: Source) -> dict[str, float]:
        """Measures the model on the dev split."""
        if self.recipe.only_encoder or "dev" not in self.manifest.splits:
            return {}
        dev = open_source(self.data_folder, "dev", self.memory)
        labels = labels_of(self.data_folder, model.num_labels)
        kinds = self.config.evaluation.exclude
        texts = evaluation_of_texts(self.data_folder, kinds, source, dev=dev)
        evaluation = Evaluation(model, self.config, labels, source, dev, label_texts=texts)
        results = evaluation.of_dev()
        scores = [f"{key} {100 * value:.2f}" for key, value in results.items() if key[:2] == "P@"]
        OUTPUT.info(f"dev {'  '.join(scores)}")
        return results

    def _summary(
        self, summaries: Sequence[Mapping[str, Any]], results: Mapping[str, float]
    ) -> dict[str, Any]:
        keys = ("steps", "loss", "seconds")
        return {
            "steps": sum(summary["steps"] for summary in summaries),
            "epochs": round(sum(summary["epochs"] for summary in summaries), 4),
            "seconds": round(time.monotonic() - self.began, 1),
            "levels": [{key: summary[key] for key in keys} for summary in summaries],
            "dev": results,
        }
