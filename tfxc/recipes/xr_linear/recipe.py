"""A linear ranker over a tree of labels.

Its training is in ``training``: what opens a run imports neither that nor the training's settings.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from tfxc.core.declared import Count, Positive
from tfxc.core.errors import ConfigError
from tfxc.recipes.base import Context, StagedRecipe, refuse_settings_of_networks
from tfxc.recipes.xr_linear.model import LinearModel

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.store.manifest import Manifest
    from tfxc.ranker.settings import RankerSettings
    from tfxc.runs.loaded import LoadedRun


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
        label_text_rows: whether the text of each label (``data.label_texts``) is one more example
            of it. This helps where texts of labels and examples are of the same kind, and harms
            elsewhere. ``"held_out"`` trains both ways without a fifth of the training examples, and
            takes the texts if they raise P@1 on it by 2 points; with ``refit``, if they do on
            average of the trainings before.
        memory_gb: what the training of the classifiers may use in addition to features and labels;
            the label matrices of all levels count. None sets no limit: as many blocks are trained
            at a time as there are threads.
        threads: at most this many; None means all cores. The model does not depend on it.

    Raises:
        ConfigError: an argument out of range; those inside ``tree`` and ``ranker`` are checked
            before a training, see ``check_config``.

    Reference: Yu et al., "PECOS", JMLR 2022, arXiv 2010.05878.
    """

    trains_network = False
    uses_cluster = True
    refits = True
    saved = "finished blocks are"

    def __init__(
        self,
        *,
        tree: Mapping[str, Any] | None = None,
        ranker: Mapping[str, Any] | None = None,
        label_text_rows: bool | Literal["held_out"] = False,
        memory_gb: Positive | None = None,
        threads: Count | None = None,
    ) -> None:
        self.tree = tree
        self.ranker = ranker
        self.label_text_rows = label_text_rows
        self.memory_gb = memory_gb
        self.threads = threads

    @classmethod
    def check_config(cls, config: "Config") -> None:
        """Checks as ``Recipe`` does; also the sections ``tree`` and ``ranker``.

        Settings of the training loop are refused.

        Raises:
            ConfigError: the key is named.
        """
        from tfxc.recipes.xr_linear.example_matrices import ExampleMatrices
        from tfxc.recipes.xr_linear.settings import TreeSettings

        super().check_config(config)
        section = config.recipe.section()
        TreeSettings(section.get("tree"))
        ExampleMatrices(section.get("ranker"))
        if section.get("label_text_rows"):
            check_text_rows(config, section.get("ranker"))
        refuse_settings_of_networks(config, "remove it; recipe.tree and recipe.ranker configure it")

    def outline(self, config: "Config", manifest: "Manifest") -> tuple[list[str], None]:
        """Lists levels, blocks and memory; the clusters are not known before training."""
        from tfxc.recipes.xr_linear.memory import clustering_bytes, memory_lines
        from tfxc.recipes.xr_linear.settings import TreeSettings
        from tfxc.recipes.xr_linear.stages import estimate_lines

        sizes, settings = self._checked_plan(config, manifest)
        clustering = clustering_bytes(manifest, TreeSettings(self.tree, config.seed))
        lines = estimate_lines(
            manifest, sizes, settings, self.memory_gb, self.threads, clustering=clustering
        )
        return [*lines, *memory_lines(config, manifest, sizes)], None

    def check(self, context: Context) -> None:
        """Refuses settings that do not fit the data."""
        from tfxc.recipes.xr_linear.stages import check_memory

        sizes, settings = self._checked_plan(context.config, context.manifest)
        check_memory(context.manifest, sizes, settings, self.memory_gb)

    def stages(self, context: Context) -> Callable[[], dict[str, Any]]:
        """Prepares tree and blocks of classifiers.

        Returns:
            What returns a dict ``layers`` (what ``ranker.chain.train_ranker`` reports),
            ``seconds`` and ``processor_seconds`` of this process, ``dev``, and ``test`` where it is
            asked for.
        """
        from tfxc.recipes.xr_linear.example_matrices import ExampleMatrices
        from tfxc.recipes.xr_linear.settings import TreeSettings
        from tfxc.recipes.xr_linear.training import train

        seed = context.config.seed
        return functools.partial(
            train,
            context,
            TreeSettings(self.tree, seed),
            ExampleMatrices(self.ranker),
            text_rows=self.label_text_rows,
            memory_gb=self.memory_gb,
            threads=self.threads,
        )

    def _checked_plan(
        self, config: "Config", manifest: "Manifest"
    ) -> "tuple[list[int], RankerSettings]":
        """Returns sizes of the tree's levels, and ``RankerSettings`` that fit them.

        Raises:
            ConfigError: the config does not fit the data.
        """
        from tfxc.recipes.xr_linear.example_matrices import ExampleMatrices
        from tfxc.recipes.xr_linear.settings import TreeSettings, checked_settings
        from tfxc.recipes.xr_linear.stages import check_data

        check_data(config, manifest)
        tree = TreeSettings(self.tree, config.seed)
        tree.check_texts(config.data)
        sizes = tree.sizes(manifest.num_labels, manifest.num_features)
        matrices = ExampleMatrices(self.ranker)
        settings = checked_settings(matrices.settings(config.seed), sizes)
        matrices.check(config, manifest, sizes, tree)
        return sizes, settings

    def assemble(self, loaded: "LoadedRun") -> LinearModel:
        """Returns the ranker of the run folder, a ``LinearModel``."""
        return LinearModel(loaded.folder.path, self.threads)


def check_text_rows(config: "Config", ranker: Mapping[str, Any] | None) -> None:
    """Refuses texts of labels as examples where there are none, or with matrices of the others.

    Raises:
        ConfigError: the key is named.
    """
    from tfxc.recipes.xr_linear.settings import MATRIX_FILES

    where = "recipe.label_text_rows"
    if config.data.label_texts is None:
        raise ConfigError(
            "it needs data.label_texts", where=where, fix="name their file there, or remove it"
        )
    for key in MATRIX_FILES:
        if (ranker or {}).get(key) is not None:
            raise ConfigError(
                f"recipe.ranker.{key} has no rows for the texts of labels",
                where=where,
                fix="remove one of them",
            )
