"""Trains a linear ranker over a tree of labels."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import scipy.sparse

from tfxc.core.arguments import COUNT, POSITIVE, OneOf, checked
from tfxc.core.errors import ConfigError
from tfxc.core.progress import Progress
from tfxc.core.settings import TrainingSettings
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ranker.calibration import METHODS
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.layer import Limits
from tfxc.recipes.base import Context, StagedRecipe
from tfxc.recipes.xr_linear import stages
from tfxc.recipes.xr_linear.example_matrices import ExampleMatrices, negatives_of
from tfxc.recipes.xr_linear.model import LinearModel
from tfxc.recipes.xr_linear.settings import TreeSettings

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.manifest import Manifest
    from tfxc.runs.loaded import LoadedRun


TREE = "tree.npz"


class XRLinear(StagedRecipe):
    """XR-Linear: one-versus-rest linear classifiers along a tree of label clusters, beam search.

    The config has no ``encoder``, ``head`` and ``objective``. Labels are clustered by the features
    of their examples, then the classifiers of every level are trained block by block and written to
    the disk; a stopped training run resumes after the last finished block.

    Args:
        tree: how the labels are clustered: keys of ``labels.tree_building.ClusteringSettings``, and
            ``label_embedding`` (``"pifa"`` or ``"pii"``), ``label_features``, ``join``, ``alpha``;
            or ``file``, a tree from a file. See ``recipes.xr_linear.settings.TreeSettings``.
        ranker: keys of ``ranker.settings.RankerSettings``, and ``relevance_file``,
            ``negative_labels_file`` and ``negative_clusters_file``, matrices with a row for each
            training example, see ``recipes.xr_linear.example_matrices.ExampleMatrices``.
        memory_gb: what the training of the classifiers may use in addition to features and labels;
            the label matrices of all levels count.
        calibrate: None, ``"isotonic"`` or ``"logistic"``: learns probabilities of the scores on the
            dev split.
        threads: at most this many; None means all cores. The model does not depend on it.

    Raises:
        ConfigError: an argument out of range.

    Reference: Yu et al., "PECOS", JMLR 2022, arXiv 2010.05878.
    """

    trains_network = False
    saved = "finished blocks are"

    @checked(memory_gb=POSITIVE, calibrate=OneOf(None, *METHODS), threads=COUNT | None)
    def __init__(
        self,
        *,
        tree: Mapping[str, Any] | None = None,
        ranker: Mapping[str, Any] | None = None,
        memory_gb: float = 1.0,
        calibrate: str | None = None,
        threads: int | None = None,
    ) -> None:
        TreeSettings(tree)
        ExampleMatrices(ranker)
        self.tree, self.ranker, self.memory_gb = tree, ranker, memory_gb
        self.calibrate, self.threads = calibrate, threads

    @classmethod
    def check_config(cls, config: "Config") -> None:
        """As ``Recipe.check_config``; settings of the training loop do not apply either.

        Raises:
            ConfigError: the key is named.
        """
        super().check_config(config)
        given, plain = config.training, TrainingSettings()
        useless = [
            f"training.{key}"
            for key in TrainingSettings.model_fields
            if getattr(given, key) != getattr(plain, key)
        ]
        useless += ["techniques"] if config.techniques else []
        useless += ["evaluation.full_loss"] if config.evaluation.full_loss else []
        if useless:
            raise ConfigError(
                f"{useless[0]!r} does not apply to recipe {config.recipe.name!r}",
                where=useless[0],
                fix="remove it; recipe.tree and recipe.ranker configure it",
            )

    def outline(self, config: "Config", manifest: "Manifest") -> tuple[list[str], None]:
        """Levels, blocks and memory; the clusters are not known before training."""
        stages.check_data(config, manifest, self.calibrate)
        sizes, settings = self._plan(config, manifest)
        lines = stages.estimate_lines(manifest, sizes, settings, self.memory_gb, self.threads)
        return lines, None

    def check(self, context: Context) -> None:
        """Refuses settings that do not fit the data."""
        stages.check_data(context.config, context.manifest, self.calibrate)
        self._plan(context.config, context.manifest)

    def stages(self, context: Context) -> Callable[[], dict[str, Any]]:
        """Tree, blocks of classifiers, calibration.

        Returns:
            What returns a dict ``layers`` (what ``ranker.chain.train_ranker`` reports),
            ``seconds`` and ``processor_seconds`` of this process, ``dev``, and ``test`` where it is
            asked for.
        """
        return functools.partial(self._train, context)

    def _plan(self, config, manifest):
        """Sizes of the levels, and ``RankerSettings`` that fit them."""
        tree = TreeSettings(self.tree, config.seed)
        sizes = tree.sizes(manifest.num_labels, manifest.num_features)
        matrices = ExampleMatrices(self.ranker)
        settings = matrices.settings(config.seed)
        if settings.mode != "full-model":
            raise ConfigError(
                f"mode 'full-model' expected, found {settings.mode!r}",
                where="recipe.ranker.mode",
                fix="set it to 'full-model'",
            )
        settings.check(sizes, "recipe.ranker")
        matrices.check(config, manifest, sizes, tree)
        return sizes, settings

    def _train(self, context):
        began, processor = time.monotonic(), time.process_time()
        config, data_folder, run = context.config, context.data_folder, context.folder
        features, labels = stages.training_matrices(data_folder)
        matrices = ExampleMatrices(self.ranker)
        given = matrices.load(config, context.manifest, labels)
        tree = self._tree(features, labels, config, run)
        with stages.memory_of_ranker(self.memory_gb) as budget:
            reports = train_ranker(
                scipy.sparse.csr_matrix(features),
                labels,
                tree,
                run.path,
                matrices.settings(config.seed),
                relevance=given.get("relevance_file"),
                negatives=negatives_of(given, tree),
                limits=Limits(budget, self.threads),
            )
        seconds = {
            "seconds": round(time.monotonic() - began, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
        }
        for line in stages.report_lines(reports, seconds):
            stages.log(run, line)
        model = LinearModel(run.path, self.threads)
        stages.calibrate(model, self.calibrate, config, data_folder, run)
        results = stages.measure(model, config, data_folder, context.manifest)
        stages.write_metrics(run, seconds, results)
        for line in stages.headline(results):
            stages.log(run, line)
        return {"layers": reports, **seconds, "dev": {}, **results}

    def _tree(self, features, labels, config, run):
        """The tree of the run folder; built where there is none."""
        if not (run / TREE).is_file():
            with Progress("clustering labels", labels.shape[1], "labels") as progress:
                settings = TreeSettings(self.tree, config.seed)
                settings.build(features, labels, self.threads).save(run / TREE)
                run.record_file(TREE)
                progress.advance(labels.shape[1])
        return ClusterTree.load(run / TREE)

    def assemble(self, loaded: "LoadedRun") -> LinearModel:
        """The ranker of the run folder, a ``LinearModel``."""
        return LinearModel(loaded.folder.path, self.threads)
