"""Makes a trained run smaller: fewer heads, narrower layers, a smaller vocabulary."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.declared import Count
from tfxc.core.errors import ConfigError
from tfxc.core.messages import OUTPUT
from tfxc.core.storage.files import make_folder
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import LABELS_FILE
from tfxc.data.text.registry import load_text_features
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.recipes.base import Context, Recipe
from tfxc.recipes.prune.smaller_model import (
    check_model,
    check_targets,
    choose_kept,
    smaller_model,
    vocabulary_rows,
)
from tfxc.runs.folder import RunFolder
from tfxc.runs.loaded import LoadedRun, load_run
from tfxc.training.evaluation import Evaluation, labels_of, slice_batches
from tfxc.training.job import TrainingJob

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.store.manifest import Manifest


# What the two configs have to agree in, as the weights go from one model to the other.
_SHARED_KEYS = ("seed", "encoder", "head")
_START = "start"  # folder of the pruned weights that the training begins with


class Prune(Recipe):
    """A smaller copy of a finished run, optionally fine-tuned.

    The layers of encoders ``pretrained`` and ``transformer`` lose the heads and the inner units
    that matter least to the loss on training examples (``recipes.prune.importance``), in several
    steps. The vocabulary loses the tokens that occur less often than
    ``data.text_features.min_count``, if that is larger than the source's: for token features
    ``characters``, ``words`` and ``pretrained``, and any encoder of tokens. Importance is
    measured on texts in the smaller vocabulary. Config and data are otherwise the source's.

    Args:
        source: run folder of the finished run.
        num_heads: heads of each layer at the end, or None to keep them.
        feed_forward_dim: inner units of each layer at the end, or None to keep them.
        uneven_heads: whether ``num_heads`` is a mean and the heads are chosen over all layers, at
            least one of each.
        iters: number of pruning steps.
        examples: training examples used to measure importance, at most as many as there are.
        finetune: whether the smaller model is trained, as ``training`` says.
        trust: whether modules that the source's config names are imported, see docs/trust.md.

    Raises:
        ConfigError: an argument out of range.

    Reference: Michel et al. 2019, arXiv 1905.10650; Yang et al. 2022, TextPruner, arXiv 2203.15996.
    """

    def __init__(
        self,
        *,
        source: str,
        num_heads: Count | None = None,
        feed_forward_dim: Count | None = None,
        uneven_heads: bool = False,
        iters: Count = 4,
        examples: Count = 2048,
        finetune: bool = True,
        trust: bool = False,
    ) -> None:
        self.source = source
        self.num_heads = num_heads
        self.feed_forward_dim = feed_forward_dim
        self.uneven_heads = uneven_heads
        self.iters = iters
        self.examples = examples
        self.finetune = finetune
        self.trust = trust

    @classmethod
    def check_config(cls, config: "Config") -> None:
        """Checks as ``Recipe`` does; also refuses several workers.

        Raises:
            ConfigError: the key is named.
        """
        super().check_config(config)
        if config.training.strategy == "multi_worker":
            raise ConfigError(
                "pruning runs in one process, and 'multi_worker' has several",
                where="training.strategy",
                fix="use 'mirrored' or 'none'",
            )

    def outline(self, config: "Config", manifest: "Manifest") -> tuple[list[str], None]:
        """Says what is pruned; the sizes of what is then trained are those of the source."""
        after = f", then trains {config.training.epochs:g} epochs" if self.finetune else ""
        return [f"prunes the run {self.source}{after}"], None

    def train(self, context: Context) -> dict[str, Any]:
        """Prunes into the run folder, and trains there.

        Raises:
            ConfigError: the source cannot be pruned to these sizes.
        """
        config = context.config
        run = context.folder
        if context.fresh or not any((run / "checkpoints").glob("*")):
            self._prune(context, load_run(self.source, self.trust))
        if not self.finetune:
            return run.summary() or {}
        # A finished run has no start any more; where it is extended, its own shape is the one.
        start = RunFolder(run / _START) if (run / _START).exists() else run
        job = TrainingJob(config, context.data_folder, run.path, start=start)
        summary = job.run(**{**context.start_options, "fresh": False})
        shutil.rmtree(run / _START, ignore_errors=True)
        return summary

    def check(self, context: Context) -> None:
        """Refuses a source that does not fit, as far as that is seen before it is loaded."""
        path = Path(self.source)
        target = Path(context.run)
        if not os.path.lexists(path / "summary.json"):
            raise ConfigError(
                f"there is no finished run in {path}",
                where="recipe.source",
                fix="train it first",
            )
        if os.path.realpath(path) == os.path.realpath(target):
            raise ConfigError(
                f"{path} is the folder of the source itself",
                where="run",
                fix="name a new folder",
            )
        source = load_run(path, self.trust)
        for name in _SHARED_KEYS:
            source_value = getattr(source.config, name)
            value = getattr(context.config, name)
            if value != source_value:
                raise ConfigError(
                    f"{value!r} differs from the source's {source_value!r}",
                    where=name,
                    fix=f"copy {name} from {path / 'config.json'}",
                )
        names = LabelVocabulary.load(Path(context.data_folder) / LABELS_FILE).names
        if names != source.vocabulary.names:
            raise ConfigError(
                f"the labels are not the {len(source.vocabulary):,} of the source",
                where="data",
                fix="prune with the data the run was trained on",
            )

    def _prune(self, context: Context, source: LoadedRun) -> None:
        """Writes the pruned run, finished unless it is to be trained."""
        config = context.config
        data_folder = context.data_folder
        run = context.folder
        manifest = context.manifest
        # Texts are read as the source's, except for the vocabulary.
        before = source.manifest.get("text_features") or {}
        after = manifest.text_features or {}
        for key in {**before, **after}:
            if key in ("min_count", "folder"):  # the checksum shows whether a folder is the same
                continue
            if before.get(key) != after.get(key):
                raise ConfigError(
                    f"{after.get(key)!r} differs from the source's {before.get(key)!r}",
                    where=f"data.text_features.{key}",
                    fix="change nothing but min_count",
                )
        rows = None
        if source.text_features is not None:
            features = load_text_features(Path(data_folder) / "text_features")
            rows = vocabulary_rows(source.text_features, features, self.source)
        sizes = (self.num_heads, self.feed_forward_dim)
        if rows is None and sizes == (None, None):
            raise ConfigError(
                "there is nothing to prune: neither heads, inner units nor tokens",
                where="recipe",
                fix="set num_heads, feed_forward_dim, or a data.text_features.min_count that drops "
                "tokens",
            )
        model = source.model
        kept = None
        check_model(model, self.source)
        check_targets(model.encoder, *sizes, self.uneven_heads, self.source)
        memory = int(config.training.memory_gb * 2**30)
        train = open_source(data_folder, "train", memory)
        if sizes != (None, None):
            batch_size = config.training.batch_size // config.training.accumulate
            batches = slice_batches(train, self.examples, batch_size)
            if rows is not None:
                for batch in batches:
                    batch["features"] = rows[batch["features"]].astype("int32")
            kept = choose_kept(model, batches, *sizes, self.iters, self.uneven_heads)
        dimensions = manifest.dimensions
        shape = source.folder.architecture()
        if shape is not None:
            dimensions["architecture"] = shape
        smaller = smaller_model(model, config, dimensions, kept, rows)
        context.start()
        if self.finetune:  # not yet the run's own: nothing is lost before the first step
            make_folder(run / _START)
            RunFolder(run / _START).save_weights(smaller)
        else:
            run.save_weights(smaller)
            dev = open_source(data_folder, "dev", memory) if "dev" in manifest.splits else None
            labels = labels_of(data_folder, smaller.num_labels)
            results = Evaluation(smaller, config, labels, train, dev).of_dev()
            scores = [
                f"{key} {100 * value:.2f}" for key, value in results.items() if key[:2] == "P@"
            ]
            OUTPUT.info(f"pruned; dev {'  '.join(scores)}" if scores else "pruned")
            run.write_summary({"steps": 0, "epochs": 0.0, "seconds": 0.0, "dev": results})
