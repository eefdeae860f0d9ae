"""A rehearsal: what is made for it, what it takes, and how a sample of it stands for the whole."""

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tfxc.core.messages import OUTPUT
from tfxc.core.progress import Progress, duration
from tfxc.core.resources import peak_resident_bytes
from tfxc.core.settings import Config, DataSettings
from tfxc.core.storage.files import folder_bytes
from tfxc.data.reading.builtin.synthetic.drawing import SYLLABLES
from tfxc.data.reading.builtin.synthetic.reader import Synthetic
from tfxc.data.reading.builtin.synthetic.shapes import Shape
from tfxc.data.store.feature_sets.extraction import read_labels
from tfxc.data.store.feature_sets.writer import FeatureWriter
from tfxc.data.store.manifest import Manifest, ShardInfo, SplitInfo
from tfxc.data.store.preparation import ensure_prepared
from tfxc.pretrained.stand_in import write_stand_in

if TYPE_CHECKING:
    from tfxc.runs.folder import RunFolder

Sized = TypeVar("Sized", SplitInfo, ShardInfo)


@dataclasses.dataclass
class Rehearsal:
    """A config on stand-ins, what has to be made for it, and what training it takes.

    Attributes:
        config: with the stand-ins in place of data and pretrained models.
        shape: sizes of the stand-in for the data.
        share: of the published set.
        models: {folder: name} of pretrained models to make.
        feature_sets: {folder: options of ``Synthetic``} of feature sets to make.
    """

    config: Config
    shape: Shape
    share: float
    models: Mapping[Path, str]
    feature_sets: Mapping[Path, Mapping[str, Any]]
    _costs: dict[str, Any] = dataclasses.field(default_factory=dict)
    _clock: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of the training on all examples."""
        training = self.config.training
        return max(1, math.ceil(training.epochs * self.shape.train / training.batch_size))

    def prepared(self, settings: DataSettings, root: str | Path) -> Path:
        """As ``ensure_prepared``, after what the config names and is not there has been made.

        Raises:
            ConfigError: a package is missing.
            MachineError: the disk is full.
        """
        shape = self.shape
        share = f"{self.share:.4g} of " if self.share < 1 else ""
        OUTPUT.info(
            f"rehearsal on a stand-in for {share}{settings.rehearsal}: "
            f"{shape.train + shape.dev + shape.test:,} examples, {shape.labels:,} labels"
        )
        self._clock = time.monotonic()
        for folder, name in self.models.items():
            if not folder.is_dir():
                OUTPUT.info(f"{folder}: random weights in place of those of {name}")
                write_stand_in(folder, name, small=self.share < 1, syllables=SYLLABLES)
        for folder, options in self.feature_sets.items():
            _write_feature_set(folder, options)
        folder = ensure_prepared(settings, root)
        self._costs = {
            "shape": settings.rehearsal,
            "share": self.share,
            "preparation_seconds": round(self._seconds(), 1),
            "prepared_bytes": sum(map(folder_bytes, {folder, *self.models, *self.feature_sets})),
        }
        return folder

    def finished(self, run: "RunFolder", summary: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a summary with what the rehearsal took, also written; that of a finished run as
        it is.

        Args:
            run: folder of the finished run.
            summary: what ``Recipe.run`` returned.

        Returns:
            The summary with a dict ``rehearsal``: ``shape`` and ``share``;
            ``preparation_seconds`` and ``prepared_bytes``; ``seconds`` and ``run_bytes`` of the
            training; ``peak_bytes``, the largest memory of a process.
        """
        if "rehearsal" in summary:
            return dict(summary)
        costs = {
            **self._costs,
            "seconds": round(self._seconds(), 1),
            "run_bytes": folder_bytes(run.path),
            "peak_bytes": peak_resident_bytes(),
        }
        summary = {**summary, "rehearsal": costs}
        run.write_summary(summary)
        return summary

    def _seconds(self) -> float:
        """Returns the seconds since the last call."""
        before = self._clock
        self._clock = time.monotonic()
        return self._clock - before

    def enlarged(self, manifest: Manifest) -> Manifest:
        """Returns the manifest of all examples, from that of a sample."""
        sizes = ("examples", "nonzeros", "labels")
        splits = {}
        for split, info in manifest.splits.items():
            total = self.shape.examples(source_of(split, self.shape))
            factor = total / max(info.examples, 1)
            shards = [_multiplied(s, factor, *sizes, "tokens", "bytes") for s in info.shards]
            splits[split] = _multiplied(info, factor, *sizes).model_copy(update={"shards": shards})
        return manifest.model_copy(update={"splits": splits})


def _multiplied(sizes: Sized, factor: float, *names: str) -> Sized:
    return sizes.model_copy(update={name: round(getattr(sizes, name) * factor) for name in names})


def source_of(split: str, shape: Shape) -> str:
    """Returns the split of a shape that stands in for one of a config: of dev and test, the other
    may.

    Example:
        >>> from tfxc.data.reading.builtin.synthetic.shapes import SHAPES
        >>> source_of("dev", SHAPES["bibtex"])
        'test'
    """
    substitute = {"dev": "test", "test": "dev", "train": "train"}[split]
    return split if shape.examples(split) else substitute


def summary_lines(costs: Mapping[str, Any]) -> list[str]:
    """Returns what a rehearsal took, as lines.

    Args:
        costs: ``rehearsal`` of the summary, see ``Rehearsal.finished``.
    """
    gigabytes = {name: costs[name] / 2**30 for name in ("prepared_bytes", "run_bytes")}
    return [
        f"rehearsal of {costs['shape']}, share {costs['share']:g}: preparation "
        f"{duration(costs['preparation_seconds'])}, training {duration(costs['seconds'])}",
        f"peak memory {costs['peak_bytes'] / 2**30:,.2f} GB; disk: prepared data "
        f"{gigabytes['prepared_bytes']:,.2f} GB, run {gigabytes['run_bytes']:,.2f} GB",
    ]


def _write_feature_set(folder: Path, options: Mapping[str, Any]) -> None:
    """Writes a feature set, or the rest of one that was begun."""
    reader = Synthetic(**options)
    labels = read_labels(reader)
    writer = FeatureWriter(
        folder,
        labels=labels.ids,
        num_features=reader.shape.features,
        num_labels=labels.count,
        settings={"fingerprint": reader.source_fingerprint},
        origin=options,
    )
    with writer:
        if writer.finished:
            return
        start = 0
        with Progress(f"writing {folder.name}", writer.num_examples, "examples") as progress:
            for chunk in reader.chunks():
                if not writer.is_done(start, start + len(chunk)):
                    assert isinstance(chunk.features, np.ndarray), "a stand-in of vectors"
                    writer.write(start, chunk.features)
                start += len(chunk)
                progress.advance(len(chunk))
