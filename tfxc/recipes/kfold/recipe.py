"""Trains K models, each without one fold of the training split, and averages their scores."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge

from tfxc.core import registry
from tfxc.core.declared import Count
from tfxc.core.errors import ConfigError
from tfxc.core.messages import OUTPUT
from tfxc.data.sources.folds import Fold
from tfxc.encoders.bases.repeated import Repeated
from tfxc.model import XCModel, build_model
from tfxc.ops.tables.large_weights import without_starts
from tfxc.parallel import workers
from tfxc.recipes.base import Context, RecipeOfRuns, StartPart
from tfxc.recipes.bases.processes import train_in_processes
from tfxc.recipes.kfold.averaged_head import Averaged
from tfxc.training.job import TrainingJob
from tfxc.training.start.run_start import RunStart

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.sources.base import ArraySource, Source
    from tfxc.data.store.manifest import Manifest
    from tfxc.inference.protocol import RunModel
    from tfxc.runs.loaded import LoadedRun


class KFold(RecipeOfRuns):
    """K-fold cross-validation that keeps its K models.

    The training split is divided into K folds with equal shares of each label. Model f is trained
    on the examples outside fold f and measured on those inside, which take the place of the dev
    split; so ``data.dev_share``, which would keep examples out of all folds, is refused.
    ``assemble`` returns one model whose scores are the mean of the K models' scores (logits). Each
    model has its own run folder, ``fold-00`` and so on; finished ones are not trained again, so
    the same command resumes after a stop.

    Args:
        folds: K, at least 2.
        parallel: folds that are trained at a time, each in a process of its own; with 1 they are
            trained one after the other in this one. Where there are GPUs, each process has one, in
            turn.
        start, start_part, trust: what each fold begins with, see recipe ``fit``. A run that was
            trained on the same examples has seen what the folds are measured on.

    Raises:
        ConfigError: fewer than 2 folds.
    """

    unit = "fold"
    uses_cluster = True

    def __init__(
        self,
        *,
        folds: Annotated[int, Ge(2)] = 5,
        parallel: Count = 1,
        start: str | None = None,
        start_part: StartPart = "model",
        trust: bool = False,
    ) -> None:
        self.folds = folds
        self.parallel = parallel
        self.start = start
        self.start_part = start_part
        self.trust = trust

    @classmethod
    def check_config(cls, config: "Config") -> None:
        """Checks as ``Recipe`` does; also refuses a dev share, whose examples would be in no fold.

        Raises:
            ConfigError: see above.
        """
        super().check_config(config)
        for key in ("exclude", "ranks"):
            if getattr(config.evaluation, key):
                raise ConfigError(
                    "it needs a split of the data, and recipe 'kfold' measures on its folds",
                    where=f"evaluation.{key}",
                    fix="remove it",
                )
        if config.data.dev_share is not None:
            raise ConfigError(
                f"no model would learn from the share {config.data.dev_share:g}: the folds of "
                "recipe 'kfold' take the place of the dev split",
                where="data.dev_share",
                fix="remove it (--set data.dev_share=null)",
            )

    def num_models(self, config: "Config") -> int:
        """Returns K."""
        return self.folds

    def one_model(self, config: "Config", repetition: int | None) -> "tuple[Config, int | None]":
        """Returns one fold's model, by default the first.

        Raises:
            ConfigError: there is no such fold, or the scores of the head cannot be averaged.
        """
        assert config.head is not None, "``check_config`` has asked for one"
        if not registry.get("head", config.head.name).full_softmax:
            raise ConfigError(
                "recipe 'kfold' needs a head with a score for each label, and "
                f"{config.head.name!r} has none",
                where="recipe.name",
                fix="use such a head, e.g. 'dense'",
            )
        self.check_number(repetition, self.folds)
        return config, None

    def train(self, context: Context) -> dict[str, Any]:
        """Trains one fold (``context.repetition``) or all that are not finished.

        Returns:
            The fold's summary; for all folds dict ``folds`` (the summaries) and ``dev``, the mean
            of each metric over the folds, with ``dev_deviation`` and ``dev_examples``, of all.
        """
        if context.repetition is not None:
            return self._train_fold(context, context.repetition, **context.start_options)
        if self.parallel > 1 or workers() is not None:
            train_in_processes(context, self, self.folds, self.parallel)
            folders = self.trained(context.folder, range(self.folds))
            summaries = [folder.summary() or {} for folder in folders]
        else:
            summaries = []
            for number in range(self.folds):
                OUTPUT.info(f"fold {number} of 0 .. {self.folds - 1}")
                # The first fold's start removes an earlier run with all its folds.
                anew = context.fresh and number == 0
                summaries.append(self._train_fold(context, number, fresh_parent=anew))
        before = context.folder.summary()
        if before is not None and before.get("folds") == summaries:
            return before  # with its decision
        names = summaries[0].get("dev", {})
        values = {name: [fold["dev"][name] for fold in summaries] for name in names}
        summary = {
            "steps": sum(fold["steps"] for fold in summaries),
            "dev": {name: float(np.mean(v)) for name, v in values.items()},
            "dev_deviation": {name: float(np.std(v, ddof=1)) for name, v in values.items()},
            "dev_examples": context.manifest.split("train").examples,
            "folds": summaries,
        }
        return context.folder.write_summary(summary)

    def _train_fold(self, context: Context, number: int, **options: Any) -> dict[str, Any]:
        """Trains a fold unless it is finished; ``options`` are arguments of ``TrainingJob.run``."""
        fold = Fold(number, self.folds, context.config.seed)
        path = self.path_of(context.run, number)
        return FoldJob(context, path, fold, self.run_start()).run(**options)

    def assemble(self, loaded: "LoadedRun") -> XCModel:
        """Returns one model that averages all folds.

        Raises:
            CheckpointError: a fold has no weights yet; it is named.
        """
        folders = self.trained(loaded.folder, range(self.folds))
        models = []
        sizes = loaded.dimensions
        for number, folder in enumerate(folders):
            outside = Fold(number, self.folds).num_outside(sizes["num_examples"])
            with without_starts():
                models.append(build_model(loaded.config, **{**sizes, "num_examples": outside}))
            folder.load_weights(models[-1])
        encoder = Repeated([model.encoder for model in models])
        head = Averaged([model.head for model in models])
        return XCModel(encoder, head, models[0].objective)

    def assemble_streamed(self, loaded: "LoadedRun") -> "RunModel":
        """Returns a model with one fold in memory at a time, see ``StreamedFolds``.

        Raises:
            CheckpointError: a fold has no weights yet; it is named.
        """
        from tfxc.recipes.kfold.streamed import StreamedFolds

        return StreamedFolds(loaded, self.checked(loaded.folder, range(self.folds)))


class FoldJob(TrainingJob):
    """Trains on the examples outside a fold; those inside take the place of the dev split.

    Args:
        context: ``Context`` of the whole run.
        path: run folder of the fold.
        fold: ``Fold``.
        start: what the model begins with, or None.
    """

    def __init__(
        self, context: Context, path: Path, fold: Fold, start: RunStart | None = None
    ) -> None:
        super().__init__(
            context.config, context.data_folder, path, parent_run=context.run, start=start
        )
        self._fold = fold

    @functools.cached_property
    def _sources(self) -> "tuple[ArraySource, ArraySource]":
        return self._fold.sources(super().open_source("train"))

    def splits(self, manifest: "Manifest") -> set[str]:
        """Returns those of the data, and dev."""
        return {*manifest.splits, "dev"}

    def open_source(self, split: str) -> "Source":
        """Returns the examples outside the fold for train, those inside for dev."""
        if split not in ("train", "dev"):
            return super().open_source(split)
        return self._sources[split == "dev"]
