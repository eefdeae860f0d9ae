"""Another run's weights as the start of a training."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.data.store.manifest import LABELS_FILE, Manifest
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import XCModel, build_model, own_precision
from tfxc.runs.folder import RunFolder
from tfxc.runs.loaded import LoadedRun, load_run
from tfxc.training.optimization.rates import weight_name

if TYPE_CHECKING:
    import keras

    from tfxc.core.config import Config
    from tfxc.encoders.base import Encoder
    from tfxc.heads.base import Head

PARTS = {"model": ("encoder", "head"), "encoder": ("encoder",)}
_WHERE = "recipe.start"


class RunStart:
    """The weights that a finished run has ended with; a ``training.job.Start``.

    What an objective keeps of each example is not taken, and neither is the optimizer's state.

    Args:
        path: run folder.
        part: ``"model"``: encoder and head, for the same labels in the same order; ``"encoder"``:
            the encoder alone, whatever the labels.
        trust: whether modules that the run's config names are imported, see docs/trust.md.
        repetition: number of the repetition to take of a run of recipe ``repetitions``; None for
            the whole model.

    Example:
        >>> start = RunStart("runs/first", part="encoder")
        >>> TrainingJob(config, data_folder, "runs/second", start=start).run()  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | Path,
        part: str = "model",
        trust: bool = False,
        repetition: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.part = part
        self.trust = trust
        self.repetition = repetition

    @property
    def folder(self) -> RunFolder:
        """The folder that holds the weights."""
        if self.repetition is None:
            return RunFolder(self.path)
        return RunFolder(self.path / f"repetition-{self.repetition:02d}")

    def check(self, config: "Config", data_folder: str | Path) -> None:
        """Refuses a run that does not fit, as far as that is seen before a model is built.

        Raises:
            ConfigError: it is not finished, is the run itself or one without a network, or has
                other labels or text features.
        """
        if not os.path.lexists(self.folder / "summary.json"):
            raise ConfigError(
                f"there is no finished run in {self.folder.path}",
                where=_WHERE,
                fix="train it first",
            )
        run = Path(os.path.realpath(config.run))
        start = Path(os.path.realpath(self.path))
        if run == start or run in start.parents:
            raise ConfigError(
                f"{self.path} is {'this run itself' if run == start else 'inside this run'}",
                where=_WHERE,
                fix="name a new folder with --set run=...; more epochs need no start",
            )
        loaded = load_run(self.path, self.trust)
        if not registry.get("recipe", loaded.config.recipe.name).keeps_checkpoints:
            raise ConfigError(
                f"recipe {loaded.config.recipe.name!r} did not train {self.path} as one network",
                where=_WHERE,
                fix="name another run",
            )
        names = LabelVocabulary.load(Path(data_folder) / LABELS_FILE).names
        if self.part == "model" and names != loaded.vocabulary.names:
            raise ConfigError(
                f"the data's {len(names):,} labels are not the {len(loaded.vocabulary):,} labels "
                f"of {self.path} in their order",
                where=_WHERE,
                fix="add recipe.start_part='encoder', or name a run on the same labels",
            )
        fingerprint = Manifest.load(data_folder).fingerprints.get("text features")
        if fingerprint != loaded.manifest.get("fingerprints", {}).get("text features"):
            raise ConfigError(
                f"the text features, or their vocabulary, differ from those of {self.path}",
                where=_WHERE,
                fix="copy data.text_features and data.train from its config.json; for another "
                "training file, use text features that do not depend on it, such as 'pretrained'",
            )

    def architecture(self) -> dict | None:
        """Returns the shape of the run's encoder where its config does not say it."""
        return self.folder.architecture()

    def load_weights(self, model: XCModel) -> None:
        """Copies encoder and head, or the encoder alone; not what a head counts in the data.

        Args:
            model: a built ``XCModel``.

        Raises:
            ConfigError: the first weight whose shape differs is named with both shapes.
        """
        if model.sharded_tables and self.part == "model":
            raise ConfigError(
                "start_part 'model' cannot set weights that head.sharded or head.update 'fused' "
                "shards over replicas",
                where=_WHERE,
                fix="leave that out, train on one device, or add recipe.start_part='encoder'",
            )
        with own_precision():
            loaded: LoadedRun = load_run(self.path, self.trust)
            if self.repetition is None:
                trained: Any = loaded.model
            else:
                trained = build_model(
                    loaded.config, **loaded.dimensions, repetition=self.repetition
                )
                self.folder.load_weights(trained)
        pairs = [
            pair
            for kind in PARTS[self.part]
            for pair in self._pairs(kind, getattr(model, kind), getattr(trained, kind))
        ]
        counted = {id(getattr(model.head, name)) for name in model.head.data_statistics}
        for target, source in pairs:
            if id(target) not in counted:
                target.assign(source)

    def _pairs(
        self, kind: str, new: "Encoder | Head", trained: "Encoder | Head"
    ) -> "list[tuple[keras.Variable, keras.Variable]]":
        """Returns (variable, variable to copy) of two layers that have to be alike."""
        if type(new) is not type(trained):
            raise self._unlike(f"{kind} is", type(new).__name__, type(trained).__name__)
        if new.hash_seeds != trained.hash_seeds:
            raise self._unlike(f"{kind} hashes by seeds", new.hash_seeds, trained.hash_seeds)
        pairs = list(zip(new.weights, trained.weights, strict=False))
        for target, source in pairs:
            if target.shape != source.shape:
                name = weight_name(kind, new, target)
                raise self._unlike(f"{name} has shape", tuple(target.shape), tuple(source.shape))
        if len(new.weights) != len(trained.weights):
            raise self._unlike(f"{kind} has weights:", len(new.weights), len(trained.weights))
        return pairs

    def _unlike(self, what: str, new: object, trained: object) -> ConfigError:
        return ConfigError(
            f"{what} {new}, but {trained} in {self.path}",
            where=_WHERE,
            fix=f"copy encoder and head from {self.path / 'config.json'}",
        )
