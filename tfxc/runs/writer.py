"""Writes run folders: those of training, file by file, and others atomically."""

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pydantic

from tfxc.core.config import Config
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.storage import checksums
from tfxc.core.storage.files import atomic_file, make_folder, write_array, write_errors, write_json
from tfxc.core.storage.ownership import atomic_folder, mark
from tfxc.data.label_texts import LABEL_TEXTS_FOLDER, TEXTS_FILE
from tfxc.data.store.manifest import (
    LABEL_COUNTS_FILE,
    LABELS_FILE,
    MANIFEST_FILE,
    Manifest,
    SplitInfo,
)
from tfxc.decision.fitted import DECISION
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.metrics.interval import wilson_interval

if TYPE_CHECKING:
    from tfxc.data.text.base import TextFeatures
    from tfxc.model import XCModel


CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
ARCHITECTURE = "assets/encoder.json"
SUMMARY = "summary.json"
ENVIRONMENT = "environment.json"
KIND = "run"
# What a finished run is read from, apart from assets and folders with checksums of their own.
_FINISHED_RUN_FILES = (CONFIG, WEIGHTS, ENVIRONMENT, "tree*.npz", DECISION)

# What there is once a first step is done, in addition to the same in the folders of the parts.
PROGRESS = (
    WEIGHTS,
    SUMMARY,
    DECISION,
    "tree.npz",
    "tree-preliminary.npz",
    "checkpoints/*",
    "embeddings/*",
    "ranker/*",
    "memory/*",
)
RUNS_INSIDE = ("fold-*", "level-*", "repetition-*")  # runs of their own, and their logs
HELD_OUT = "held-out"  # begins the names of runs that were trained before the refit
TRIED = "tried.json"  # what `tfxc train --minutes` has tried before this run
TEACHER = "*teacher_logits*"  # is used again only if it is of the same teachers and data
_BEGINNING = (
    CONFIG,
    "assets",
    "log.txt",
    "metrics.jsonl",
    "teachers.txt",
    "tensorboard",
    "trackers.json",
    "wandb",
)
# What else commands write into a run unless they are given another place.
_OUTPUTS = (
    checksums.FILE,
    ENVIRONMENT,
    "evaluation-*",
    "report",
    "card.md",
    "savedmodel",
    "onnx",
    "onnx-*",
    "litert",
    "litert-*",
    "runtime",
    "runtime-*",
    ".repetition-*",
    "start",
    "concat",
    "*embeddings.npy*",
    "matched.npz",  # of a level of an XR-Transformer
    "examples.jsonl",
)
NAMES = (*(name.split("/")[0] for name in PROGRESS), *RUNS_INSIDE, TEACHER, *_BEGINNING, *_OUTPUTS)
NAMES += (HELD_OUT, f"{HELD_OUT}-*", TRIED)
NAMES += (f".new-{WEIGHTS}",)


_Number = pydantic.FiniteFloat | None  # null where it was not finite


class Summary(pydantic.BaseModel):
    """What summaries have in common; recipes add more.

    Attributes:
        dev, train, test: metrics by name.
        dev_examples: number of dev examples.
        dev_interval: 95 % interval of dev metrics by name.
        best, best_step, best_metric: dev value of the kept weights, its step and name.
    """

    model_config = pydantic.ConfigDict(extra="allow")

    steps: Annotated[int, pydantic.Field(ge=0)] = 0
    epochs: _Number = None
    seconds: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] = 0.0
    dev: dict[str, _Number] = {}
    train: dict[str, _Number] = {}
    test: dict[str, _Number] = {}
    dev_examples: int | None = None
    dev_interval: dict[str, tuple[float, float]] = {}
    best: _Number = None
    best_step: Annotated[int, pydantic.Field(ge=0)] = 0
    best_metric: str | None = None


class RunWriter:
    """Writes the files of one run folder, and checksums of them.

    First ``write_config`` and the assets (``copy_assets``, or ``write_assets`` without prepared
    data), then ``save_weights`` or what else the recipe finds labels with, and at last
    ``write_summary``: a run with a summary is finished.

    Args:
        path: the folder; made when first written to.
        chief: whether this process writes; of several workers only the chief does.
    """

    def __init__(self, path: str | Path, chief: bool = True) -> None:
        self.path = Path(path)
        self.chief = chief

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def mark(self) -> None:
        """Makes the folder one that tfxc writes."""
        mark(self.path, KIND, NAMES)

    def write_config(self, config: Config) -> None:
        """Writes ``config.json``."""
        with atomic_file(self / CONFIG) as stream:
            stream.write(config.to_json() + "\n")

    def write_assets(
        self,
        manifest: Manifest,
        vocabulary: LabelVocabulary,
        label_counts: np.ndarray | None = None,
        text_features: "TextFeatures | None" = None,
    ) -> None:
        """Writes the assets of a run that has no prepared data to copy them from.

        Args:
            manifest: see ``manifest_of``.
            vocabulary: the labels' names.
            label_counts: training examples of each label, int64 (num_labels,), or None.
            text_features: fitted text features, or None.

        Raises:
            DataError: a name cannot be written as one line.
        """
        assets = self / "assets"
        make_folder(assets)
        vocabulary.save(assets / LABELS_FILE)
        if label_counts is not None:
            write_array(assets / LABEL_COUNTS_FILE, label_counts)
        if text_features is not None:
            text_features.save(assets / "text_features")
        manifest.save(assets)

    def write_label_texts(self, vocabulary: LabelVocabulary, texts: Sequence[str]) -> None:
        """Writes the texts of the labels, by id; nothing without any."""
        if texts:
            make_folder(self / "assets" / LABEL_TEXTS_FOLDER)
            from tfxc.data.label_texts.prepared import write_texts

            with atomic_file(self / "assets" / LABEL_TEXTS_FOLDER / TEXTS_FILE) as stream:
                write_texts(stream, vocabulary.names, texts)

    def copy_assets(self, data_folder: str | Path) -> None:
        """Copies manifest, names and texts of labels, and text features into the run.

        Repetitions that start together do so at the same time; each file is written atomically.
        """
        data_folder = Path(data_folder)
        assets = self / "assets"
        names = [data_folder / name for name in (MANIFEST_FILE, LABELS_FILE, LABEL_COUNTS_FILE)]
        names += [*(data_folder / LABEL_TEXTS_FOLDER).glob(TEXTS_FILE)]
        texts = (data_folder / "text_features").rglob("*")
        for path in [*names, *(path for path in texts if path.is_file())]:
            target = assets / path.relative_to(data_folder)
            with atomic_file(target, "wb") as copy, open(path, "rb") as original:
                shutil.copyfileobj(original, copy)

    def save_weights(self, model: "XCModel") -> None:
        """Writes the model's weights; the old file stays until the new one is complete.

        Every worker has to take part: one may hold weights that the chief has to collect.

        Raises:
            UserError: the disk is full or the folder cannot be written to.
        """
        from tfxc.runs.weights_file import write_weights

        with contextlib.ExitStack() as collected:
            for table in model.sharded_tables:
                collected.enter_context(table.collected(keep=self.chief))
            if self.chief:
                scratch = self / f".new-{WEIGHTS}"
                try:
                    with write_errors(self / WEIGHTS):
                        write_weights(model, scratch)
                        scratch.replace(self / WEIGHTS)
                        if model.encoder.architecture is not None:
                            write_json(self / ARCHITECTURE, model.encoder.architecture)
                finally:
                    scratch.unlink(missing_ok=True)

    def write_summary(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Writes ``summary.json``; its presence says that training is finished.

        Before it, ``environment.json`` and checksums of what a finished run is read from are
        written.

        Returns:
            The summary; number of dev examples and interval of P@1 on them are added.
        """
        summary = {**summary, **self._interval(summary)}
        if not self.chief:
            return summary
        devices = []
        if "tensorflow" in sys.modules:  # what does without it uses no GPU
            import tensorflow as tf

            details = tf.config.experimental.get_device_details
            gpus = tf.config.list_physical_devices("GPU")
            devices = [details(gpu).get("device_name", gpu.name) for gpu in gpus]
        from tfxc.core.environment import Environment

        environment = Environment.now(devices).model_dump()
        text = json_text(summary, indent=2)
        if (self / SUMMARY).exists():  # a finished run stays one that can be read
            with checksums.replaced(self.path, ENVIRONMENT, SUMMARY):
                write_json(self / ENVIRONMENT, environment)
                write_json(self / SUMMARY, summary)
            return summary
        write_json(self / ENVIRONMENT, environment)
        content = text.encode()
        paths = [path for name in _FINISHED_RUN_FILES for path in self.path.glob(name)]
        names = [path.relative_to(self.path).as_posix() for path in paths]
        known = {SUMMARY: (len(content), hashlib.sha256(content).hexdigest())}
        self.record(names, known)
        with atomic_file(self / SUMMARY) as stream:
            stream.write(text)
        return summary

    def _interval(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the interval of P@1 on the dev split, where it was measured on one."""
        share = (summary.get("dev") or {}).get("P@1")
        examples = summary.get("dev_examples")
        path = self / "assets" / MANIFEST_FILE
        if "dev_interval" in summary or share is None:
            return {}
        if examples is None and path.is_file():
            split = Manifest.load(path.parent).splits.get("dev")
            examples = None if split is None else split.examples
        if not examples:
            return {}
        interval = list(wilson_interval(share, examples))
        return {"dev_examples": examples, "dev_interval": {"P@1": interval}}

    def record_file(self, name: str) -> None:
        """Adds the checksum of a finished stage's file, from which a later start resumes."""
        checksums.add(self.path, name)

    def record(self, names: Iterable[str], known: dict[str, tuple[int, str]] | None = None) -> None:
        assets = [path for path in (self / "assets").rglob("[!.]*") if path.is_file()]
        names = [*names, *(path.relative_to(self.path).as_posix() for path in assets)]
        checksums.record(self.path, names, known)


def refuse_existing(output: str | Path) -> None:
    """Refuses a place for a new run where there is something already.

    Raises:
        ConfigError: the folder exists.
    """
    if Path(output).exists():
        raise ConfigError("the folder already exists", where=output, fix="choose another one")


@contextlib.contextmanager
def new_run(output: str | Path) -> Iterator[RunWriter]:
    """Yields a ``RunWriter`` of a run that is written atomically.

    Args:
        output: the run folder; an older run there is replaced.

    Raises:
        UserError: the folder holds something else than a run.

    Example:
        >>> with new_run("runs/imported") as run:  # doctest: +SKIP
        ...     run.write_config(config)
        ...     run.write_assets(manifest, vocabulary)
        ...     run.write_summary({"dev": {}})
    """
    with atomic_folder(output, KIND, NAMES) as scratch:
        yield RunWriter(scratch)


def manifest_of(
    name: str,
    *,
    num_labels: int,
    split: SplitInfo,
    text_features: "TextFeatures | None" = None,
    **features: Any,
) -> Manifest:
    """Returns the ``Manifest`` of a run without prepared data.

    Args:
        name: of the data.
        num_labels: number of labels.
        split: of the training examples, see ``split_of``.
        text_features: fitted text features, or None.
        features: ``feature_kind``, ``num_features``, and where they differ from the default
            ``vocabulary_size``, ``image_shape`` and ``row_normalise``.
    """
    settings = None
    if text_features is not None:
        settings = {"name": text_features.name, **text_features.settings()}
    fixed = {"settings_fingerprint": "", "layout": "blocks", "num_unseen_labels": 0, "sources": {}}
    return Manifest(
        name=name,
        num_labels=num_labels,
        text_features=settings,
        splits={"train": split},
        **{"row_normalise": None, **fixed, **features},
    )


def split_of(lengths: Sequence[int] | np.ndarray) -> SplitInfo:
    """Returns what is known of training examples by their numbers of labels, none of them prepared.

    Args:
        lengths: labels of each example, int (n,); empty if the examples are unknown.

    Example:
        >>> split_of([1, 0, 2]).without_labels
        1
    """
    lengths = np.asarray(lengths, np.int64)
    return SplitInfo(
        examples=len(lengths),
        nonzeros=0,
        labels=int(lengths.sum()),
        min_labels=int(lengths.min()) if len(lengths) else 0,
        max_labels=int(lengths.max(initial=0)),
        without_labels=int((lengths == 0).sum()),
        unseen_labels=0,
        shards=[],
    )
