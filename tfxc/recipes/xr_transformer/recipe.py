"""XR-Transformer: an encoder fine-tuned on ever finer label clusters, and a linear ranker."""

import gc
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core import registry
from tfxc.core.declared import Count, NotNegative, Positive
from tfxc.core.errors import ConfigError
from tfxc.core.messages import OUTPUT
from tfxc.data.sources.matrices import matrices
from tfxc.data.sources.shards import Source, open_source
from tfxc.inference.embedder import Embedder
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.tree_shape import tree_in_order
from tfxc.model import make_components
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.layer import Limits
from tfxc.ranker.settings import RankerSettings
from tfxc.recipes.base import Context, StagedRecipe
from tfxc.recipes.xr_linear.model import LinearModel
from tfxc.recipes.xr_linear.settings import TreeSettings, checked_settings, ranker_settings
from tfxc.recipes.xr_linear.stages import (
    estimate_lines,
    label_text_matrix,
    log,
    memory_of_ranker,
    report_lines,
    seconds_since,
)
from tfxc.recipes.xr_transformer.checks import check_fit
from tfxc.recipes.xr_transformer.embeddings import concatenated_on_disk, origin_of, write_embeddings
from tfxc.recipes.xr_transformer.levels import LevelData, Levels
from tfxc.recipes.xr_transformer.model import EncoderRanker, built_encoder
from tfxc.recipes.xr_transformer.plan import (
    Ensemble,
    Initial,
    Negatives,
    Plan,
    Planned,
    fine_tuned_levels,
    per_level,
)
from tfxc.runs.dev_examples import write_dev_examples
from tfxc.training.evaluation import Evaluation, evaluation_of_texts, labels_of
from tfxc.training.strategies import by_chief

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.store.manifest import Manifest
    from tfxc.encoders.base import Encoder
    from tfxc.runs.loaded import LoadedRun


FIRST_TREE = "tree-preliminary.npz"
LAST_TREE = "tree.npz"
EMBEDDINGS = "embeddings/train.npy"
_SHAPE = ("nr_splits", "min_codes", "max_leaf_size", "spherical", "seed")  # of a tree


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
        self.threads = threads
        if self.warmup_steps is not None and self.steps is None:
            raise ConfigError(
                "warmup_steps needs recipe.steps",
                where="recipe.warmup_steps",
                fix="add recipe.steps, or set training.schedule.warmup to a share",
            )
        if self.steps is not None and self.epochs is not None:
            raise ConfigError(
                "steps and epochs exclude each other", where="recipe.steps", fix="remove one"
            )

    def outline(
        self, config: "Config", manifest: "Manifest"
    ) -> "tuple[list[str], dict[str, Any] | None]":
        """Lists levels with their steps, what the ranker takes, and the widest level's training."""
        lines = list(self.stage_lines(config, manifest))
        return lines, self.trial(config, manifest)

    def check(self, context: Context) -> None:
        """Refuses settings that do not fit the data; prints those that are not used."""
        self.planned(context.config, context.manifest)
        for line in self.unused_lines():
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

    def planned(self, config: "Config", manifest: "Manifest") -> Planned:
        """Checks a config against its data, and says what it comes to.

        Args:
            config: ``Config``.
            manifest: the data's ``Manifest``.

        Raises:
            ConfigError: data or config do not fit the method.
        """
        check_fit(config, manifest)
        assert config.objective is not None, "``check_config`` has asked for one"
        link = registry.get("objective", config.objective.name).link
        if self.ensemble != "concat-only" and link == "softmax":
            raise ConfigError(
                f"{self.ensemble!r} needs an objective that scores each cluster by itself, and "
                f"{config.objective.name!r} does not",
                where="recipe.ensemble",
                fix="use 'concat-only', or an objective such as squared_hinge or sigmoid",
            )
        if config.decision is not None and self.only_encoder:
            raise ConfigError(
                "there are no labels to decide on: recipe.only_encoder trains no ranker",
                where="decision",
                fix="remove it",
            )
        (first, levels), (second, layers) = self.tree_settings(config, manifest)
        plan = self.plan_of(config, levels) if self.do_fine_tune else None
        if self.fix_clustering:
            second = first
            layers = levels
        return Planned(first, second, plan, self.settings_of_ranker(config, layers), levels, layers)

    def stage_lines(self, config: "Config", manifest: "Manifest") -> Iterator[str]:
        """Yields lines about what the stages will take; raises as ``planned`` does."""
        _, _, plan, ranker, levels, layers = self.planned(config, manifest)
        train = manifest.split("train")
        yield from self.unused_lines()
        if plan is not None:
            sizes = ", ".join(f"{size:,}" for size in levels)
            yield f"first tree: levels of {sizes} nodes, {plan.count} of them are fine-tuned on"
            for level in range(plan.count):
                steps = plan.steps[level]
                epochs = plan.epochs[level]
                if steps is None:
                    steps = max(1, math.ceil(epochs * train.examples / config.training.batch_size))
                line = f"  level {level + 1}: {steps:,} steps"
                if level:
                    line += f", negatives {plan.negatives[level]}"
                    line += f", the head begins with {plan.initial[level]}"
                yield line
        if self.only_encoder:
            return
        encoder, _, _ = make_components(config, **manifest.dimensions)
        width = encoder.compute_output_shape((None, manifest.num_features))[-1]
        memory = self.memory_gb
        yield f"ranker on {manifest.num_features:,} terms and vectors of {width:,}:"
        yield from estimate_lines(manifest, layers, ranker, memory, self.threads, width)

    def unused_lines(self) -> Iterator[str]:
        """Yields a line for each switch that makes other settings of the config ineffective."""
        of_ranker = ("refined_tree", "ranker", "memory_gb")
        of_levels = ("first_tree", "negatives", "initial", "epochs", "steps", "warmup_steps")
        unused = {
            "do_fine_tune is false": of_levels if not self.do_fine_tune else (),
            "only_encoder is true": of_ranker if self.only_encoder else (),
            "fix_clustering is true": ("refined_tree",) if self.fix_clustering else (),
        }
        for why, names in unused.items():
            keys = [f"recipe.{name}" for name in names if getattr(self, name) is not None]
            if self.fix_clustering and "recipe.first_tree" in keys:
                keys.remove("recipe.first_tree")  # the ranker's
            if keys:
                yield f"not used, as recipe.{why}: {', '.join(keys)}"

    def trial(self, config: "Config", manifest: "Manifest") -> dict[str, Any] | None:
        """Returns the arguments of ``build_model`` for the widest level, with a stand-in for the
        tree.

        Returns:
            dict, or None if nothing is fine-tuned.
        """
        _, _, plan, _, levels, _ = self.planned(config, manifest)
        if plan is None:
            return None
        last = plan.count - 1
        data_dependent = {"label_tree": tree_in_order(levels), "level": last}
        if last:  # whatever its negatives are: the most that a text sees
            nodes = min(plan.only_topk, levels[last - 1])
            matched = np.full((manifest.split("train").examples, plan.only_topk), -1, np.int32)
            matched[:, :nodes] = np.arange(nodes)
            data_dependent["matched"] = matched
        return data_dependent

    def tree_settings(
        self, config: "Config", manifest: "Manifest"
    ) -> tuple[tuple[TreeSettings, list[int]], tuple[TreeSettings, list[int]]]:
        """Says how the two trees are built, and the sizes of their levels.

        Args:
            config: ``Config``.
            manifest: the data's ``Manifest``.

        Returns:
            ``((first, sizes), (second, sizes))`` with ``TreeSettings`` and lists of int.

        Raises:
            ConfigError: an unknown key, or an impossible value.
        """
        assert config.head is not None, "``check_fit`` has asked for one"
        head = config.head.section()
        known = registry.arguments(registry.get("head", "tree"))
        shape = {name: head.get(name, known[name]) for name in _SHAPE if name != "seed"}
        shape["seed"] = head.get("seed", config.seed)
        above = {name: shape[name] for name in ("nr_splits", "min_codes")}
        first = TreeSettings(self.first_tree, where="recipe.first_tree", above=above)
        if first.file is None:
            section = self.first_tree or {}
            for name in _SHAPE:
                if name in section:
                    raise ConfigError(
                        "this setting belongs to the head",
                        where=f"recipe.first_tree.{name}",
                        fix=f"set head.{name}",
                    )
            where = "recipe.first_tree" if section else "head"
            first = TreeSettings({**shape, **section}, where=where, where_shape="head")
        first.check_texts(config.data)
        sizes = first.sizes(manifest.num_labels, manifest.num_features)
        second = TreeSettings(self.refined_tree, where="recipe.refined_tree", above=above)
        if second.file is None:
            section = self.refined_tree or {}
            if section.get("join") == "convex":
                raise ConfigError(
                    "'convex' needs label features of the same kind as the second tree's, terms "
                    "and encodings, but labels have no encodings",
                    where="recipe.refined_tree.join",
                    fix="set it to 'concat'",
                )
            second = TreeSettings({**shape, **section}, where="recipe.refined_tree")
        second.check_texts(config.data)
        second_sizes = second.sizes(manifest.num_labels, manifest.num_features)
        return (first, sizes), (second, second_sizes)

    def plan_of(self, config: "Config", sizes: Sequence[int]) -> Plan:
        """Returns the ``Plan`` of the fine-tuned levels.

        Args:
            config: ``Config``.
            sizes: nodes of all levels of the first tree.

        Raises:
            ConfigError: a value that is not allowed, or a list of another length than there are
                levels.
        """
        sizes = sizes[: fine_tuned_levels(sizes, self.max_match_clusters)]
        negatives = self.negatives
        if negatives is None:
            assert config.head is not None, "``check_fit`` has asked for one"
            negatives = config.head.section().get("negatives", "tfn+man")
        epochs = per_level(self.epochs, sizes, "epochs")
        plan = Plan(
            count=len(sizes),
            negatives=per_level(negatives, sizes, "negatives"),
            initial=per_level(self.initial or "linear", sizes, "initial"),
            epochs=[config.training.epochs if value is None else value for value in epochs],
            steps=per_level(self.steps, sizes, "steps"),
            warmup_steps=per_level(self.warmup_steps, sizes, "warmup_steps"),
            only_topk=self.only_topk,
            ensemble=self.ensemble,
            threshold=self.threshold,
            cost_sensitive=self.cost_sensitive,
            threads=self.threads,
        )
        for steps, warmup in zip(plan.steps, plan.warmup_steps, strict=True):
            if warmup is not None and (steps is None or warmup >= steps):
                raise ConfigError(
                    f"{warmup} warm-up steps are not fewer than the {steps} steps",
                    where="recipe.warmup_steps",
                    fix="choose fewer",
                )
        return plan

    def settings_of_ranker(self, config: "Config", sizes: Sequence[int]) -> RankerSettings:
        """Returns ``RankerSettings`` that fit the second tree.

        Args:
            config: ``Config``.
            sizes: nodes of all levels of the tree.

        Raises:
            ConfigError: a value that is not allowed, or a list of another length than there are
                levels.
        """
        section = {"threshold": 0.001, **(self.ranker or {})}
        return checked_settings(ranker_settings(section, config.seed), sizes)


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
        self.planned = recipe.planned(self.config, self.manifest)
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
        for line in report_lines(reports, seconds_since(began, processor)):
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
        write_dev_examples(self.folder, self.config, evaluation.dev_answers)
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
