"""A linear ranker, a memory of examples and texts of labels, fused."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfxc.core.declared import Count, Natural, Positive, Share
from tfxc.core.errors import ConfigError
from tfxc.core.storage.reading import read_array
from tfxc.data.reading.source_files import expand
from tfxc.ranker.fusion.memory import Places
from tfxc.recipes.base import Context
from tfxc.recipes.memory.recipe import Memory
from tfxc.recipes.xr_linear.model import LinearModel

if TYPE_CHECKING:
    import scipy.sparse

    from tfxc.core.settings import Config
    from tfxc.data.store.manifest import Manifest
    from tfxc.runs.writer import RunWriter

_WRITE_GROUPS = "write it with numpy.save"


class Fuse(Memory):
    """The ranker of ``xr_linear``, the sources of ``memory``, and small trees that weigh them.

    What the ranker, the nearest examples and the nearest texts find are the candidates, some 130
    for each example. Boosted trees give each its score by what all sources say of it, compared with
    the other candidates. They are fitted on training examples that the sources were made without; a
    part of their rare labels loses all examples then, and another part the ranker, so that the
    trees learn what a new label looks like. At last the sources are made of all examples.

    Args:
        tree, ranker, memory_gb: see ``xr_linear``, without matrices of the training examples.
        ranker_reads: blocks of features that the ranker reads: ``"first"``, words, or ``"all"``,
            also n-grams of characters and vectors of a table, where there are any.
        neighbours, power, label_texts, tail_places, rare, threads: see ``memory``.
        fusion: ``"trees"``, or ``"sum"``: the sources are added up and nothing is held out, for
            queries that the training examples do not resemble.
        held_out: training examples that trees are fitted on, about. Examples that repeat the text
            of their label are not.
        new_labels: share of their rare labels without examples; as many more are unknown to the
            ranker alone, as those of ``add-labels --data``, and half of these have no text.
        label_text_rows: whether the text of each label is one more example for the ranker, see
            ``xr_linear``; ``"held_out"`` trains the ranker both ways and takes what has the higher
            P@1 on the held-out examples.
        groups_file: ``.npy`` file of integers, one for each example of the training file in its
            order; those with the same number are held out together. None: each on its own.

    Raises:
        ConfigError: an argument out of range.

    Reference: Yu et al., "PECOS", JMLR 2022, arXiv 2010.05878, for the ranker; the fusion is our
    own.
    """

    def __init__(
        self,
        *,
        tree: Mapping[str, Any] | None = None,
        ranker: Mapping[str, Any] | None = None,
        memory_gb: Positive | None = None,
        ranker_reads: Literal["first", "all"] = "first",
        neighbours: Count = 50,
        power: Positive = 2.0,
        label_texts: bool = True,
        tail_places: Places = 0,
        rare: Natural = 5,
        threads: Count | None = None,
        fusion: Literal["trees", "sum"] = "trees",
        held_out: Count = 4000,
        new_labels: Share = 0.1,
        label_text_rows: bool | Literal["held_out"] = False,
        groups_file: str | None = None,
    ) -> None:
        super().__init__(
            neighbours=neighbours,
            power=power,
            label_texts=label_texts,
            tail_places=tail_places,
            rare=rare,
            threads=threads,
        )
        self.tree = tree
        self.ranker = ranker
        self.memory_gb = memory_gb
        self.ranker_reads = ranker_reads
        self.fusion = fusion
        self.held_out = held_out
        self.new_labels = new_labels
        self.label_text_rows = label_text_rows
        self.groups_file = groups_file
        unused = {
            "label_text_rows": (label_text_rows == "held_out", "set it to true or false"),
            "groups_file": (groups_file is not None, "remove it"),
        }
        for name, (is_given, fix) in unused.items():
            if is_given and fusion == "sum":
                raise ConfigError('with fusion "sum" nothing is held out', where=name, fix=fix)

    @classmethod
    def check_config(cls, config: "Config") -> None:
        """Checks as ``memory`` does; also the sections ``tree`` and ``ranker``."""
        from tfxc.recipes.xr_linear.recipe import check_text_rows
        from tfxc.recipes.xr_linear.settings import TreeSettings, ranker_settings

        super().check_config(config)
        section = config.recipe.section()
        TreeSettings(section.get("tree"))
        ranker_settings(section.get("ranker"))
        if section.get("label_text_rows"):
            check_text_rows(config, section.get("ranker"))

    def check_data(self, config: "Config", manifest: "Manifest") -> None:
        """Refuses data that the sources cannot be made of."""
        from tfxc.recipes.xr_linear.settings import TreeSettings, checked_settings, ranker_settings

        super().check_data(config, manifest)
        tree = TreeSettings(self.tree, config.seed)
        if tree.reads_texts:
            raise ConfigError(
                "the texts of labels are a source of their own here",
                where="recipe.tree.label_features",
                fix="remove it",
            )
        sizes = tree.sizes(manifest.num_labels, manifest.num_features)
        checked_settings(ranker_settings(self.ranker, config.seed), sizes)
        if self.groups_file is not None:
            self._check_groups(self.groups_file, config, manifest)

    def _check_groups(self, file: str, config: "Config", manifest: "Manifest") -> None:
        """Refuses groups that are not those of the training examples."""
        if config.data.dev_share is not None or config.refit is not None:
            raise ConfigError(
                "it has a number for each training example, so the dev split cannot be a part of "
                "the training file",
                where="recipe.groups_file",
                fix="write the dev examples into a file of their own",
            )
        groups = read_array(expand(file), fix=_WRITE_GROUPS)
        count = manifest.split("train").examples
        if groups.shape != (count,) or groups.dtype.kind not in "iu":
            raise ConfigError(
                f"there are {groups.shape} {groups.dtype} instead of an integer for each of "
                f"{count:,} training examples",
                where="recipe.groups_file",
                fix="write one for each example of the training file, in its order",
            )

    def fill(self, context: Context) -> None:
        """Fits the trees, then trains the ranker and writes the memory."""
        from tfxc.ops.csr import unit_rows
        from tfxc.ranker.fusion.memory import ExampleMemory
        from tfxc.recipes.fuse.fitting import chosen_examples, fitted_trees
        from tfxc.recipes.xr_linear.settings import TreeSettings, ranker_settings
        from tfxc.recipes.xr_linear.stages import (
            label_text_matrix,
            log,
            training_matrices,
            with_text_rows,
        )
        from tfxc.recipes.xr_linear.training import train_layers

        data_folder = context.data_folder
        features, labels = training_matrices(data_folder)
        texts = self.texts(context)
        settings = self.settings(context)
        seed = context.config.seed
        tree = TreeSettings(self.tree, seed)
        rules = ranker_settings(self.ranker, seed)
        width = settings.blocks[1 if self.ranker_reads == "first" else -1]

        def train(
            run: "RunWriter",
            some: "scipy.sparse.csr_matrix",
            of_them: "scipy.sparse.csr_matrix",
            text_rows: bool,
        ) -> LinearModel:
            if text_rows:
                some, of_them = with_text_rows(some, of_them, label_text_matrix(data_folder))
            train_layers(
                run,
                unit_rows(some[:, :width].copy()),
                of_them,
                tree,
                rules,
                {},
                memory_gb=self.memory_gb,
                threads=self.threads,
            )
            return LinearModel(run.path, self.threads)

        trees = None
        choices = [False, True] if self.label_text_rows == "held_out" else [self.label_text_rows]
        text_rows = choices[0]
        if self.fusion == "trees":
            groups = self.groups(context, labels)
            chosen = chosen_examples(features, labels, texts, settings, self.held_out, groups, seed)
            log(
                context.folder,
                f"{np.count_nonzero(chosen):,} of {len(chosen):,} training examples are held out "
                "for the fusion",
            )
            trees, text_rows, precision = fitted_trees(
                features,
                labels,
                texts,
                settings,
                train,
                choices,
                chosen,
                new_labels=self.new_labels,
                groups=groups,
                seed=seed,
                threads=self.threads,
            )
            if len(choices) > 1:
                log(
                    context.folder,
                    f"P@1 of the ranker on them: {100 * precision[False]:.2f}, with texts of "
                    f"labels as examples {100 * precision[True]:.2f}",
                )
        train(context.folder, features, labels, text_rows)
        numbers = np.arange(labels.shape[1], dtype=np.int32)
        memory = ExampleMemory.of(settings, features, labels, texts)
        dataclasses.replace(memory, ranker_labels=numbers, trees=trees).save(context.run)

    def groups(self, context: Context, labels: "scipy.sparse.csr_matrix") -> np.ndarray | None:
        """Returns the group of each training example, in the order of the prepared data, or None.

        Raises:
            DataError: the file is damaged, or the training file is not the one that was prepared.
        """
        if self.groups_file is None:
            return None
        from tfxc.data.store.manifest import LABELS_FILE
        from tfxc.data.store.records.reading_order import check_order, reading_order
        from tfxc.labels.vocabulary import LabelVocabulary

        groups = read_array(expand(self.groups_file), fix=_WRITE_GROUPS)
        data = context.config.data
        names = LabelVocabulary.load(context.data_folder / LABELS_FILE).names
        order = reading_order(context.manifest, data)
        check_order(np.split(labels.indices, labels.indptr[1:-1]), data, names, order)
        return groups[order]
