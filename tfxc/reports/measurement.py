"""What a run is measured on, and how: for the metrics, the report, the card and Python."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

from tfxc.core.bounds import Count, Option
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.messages import NOTES
from tfxc.core.shared_options import ReaderOptions

if TYPE_CHECKING:
    import numpy as np

    from tfxc.data.examples.rows import Rows
    from tfxc.data.reading.formats.base import Reader
    from tfxc.data.sources.base import RowStream, Source
    from tfxc.data.sources.exclusions import Exclusions
    from tfxc.decision.decision import Decision
    from tfxc.inference.searcher import Agreement, Examples
    from tfxc.labels.slices import LabelSlices
    from tfxc.metrics.suite import MetricSuite
    from tfxc.reports.decisions import Decisions
    from tfxc.reports.repetition_curve import RepetitionCurve
    from tfxc.runs.loaded import LoadedRun

_SHOWN_LABELS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExamplesOptions(ReaderOptions):
    """The labelled examples that a run is measured on.

    Attributes:
        split: split of the run's data; None means test, else dev.
        data: readable data file instead of a split.
        reader: format of the data file; None means by its name.
        reader_options: option of the reader, e.g. label_separator=, (may be given several times).
        features: features of the data file's examples, .npz (SciPy) or .npy, for runs whose terms
            are "given"; None means those in the file.
        exclude: leave out labels of an example: those that its text has in training (train), the
            label whose text is the example's own (self; both need label texts), or those in the
            file at a path, whose lines hold an example's number, from 0, and a label; for splits,
            the path contains {split}; without a KIND, leave out none; None means the config's.
        k: cut-offs, e.g. 1,3,5; None means the config's.
        batch_size: examples per batch; None means the config's.
        prepared: folder of prepared records.
        skip_unlabelled: whether examples of the data file without labels are left out; None means
            as the config says.
    """

    split: Annotated[str | None, Option("SPLIT", excludes="examples")] = None
    data: Annotated[str | None, Option("FILE", excludes="examples", remote=True)] = None
    features: Annotated[str | None, Option("MATRIX")] = None
    exclude: Annotated[Sequence[str] | None, Option("KIND", words=True)] = None
    k: Annotated[Sequence[Count] | None, Option("K,K")] = None
    batch_size: Count | None = None
    prepared: Annotated[str, Option("FOLDER")] = "prepared"
    skip_unlabelled: Annotated[bool | None, Option(hidden=True)] = None

    def examples(self, loaded: "LoadedRun") -> "tuple[str, Examples]":
        """Returns the name of the split or the file, and the examples.

        Raises:
            ConfigError: there is no such split, or labels were added to the run.
            DataError: the data changed since training, or cannot be read.
        """
        if self.data:
            from tfxc.data.reading.held_out import Subset
            from tfxc.data.sources.base import RowStream

            if is_training_file(loaded, self.data):
                NOTES.warning(
                    f"{loaded.folder.path} was trained on examples of {self.data}: "
                    "it answers these better than others"
                )
            reader = self._reader(loaded)
            unknown: list[str] = []

            def read() -> "Iterator[Rows]":
                unknown.clear()
                return loaded.rows(reader, unknown=unknown)

            return str(self.data), RowStream(
                read, unknown, lambda: reader.left_out if isinstance(reader, Subset) else 0
            )
        if self.features:
            raise ConfigError(
                "this option is for a file of examples, not for a split",
                where="--features",
                fix="name the file with --data; a split has its own features",
            )
        from tfxc.data.sources.shards import open_source

        splits = loaded.manifest["splits"]
        split = self._split_of(loaded)
        if split not in splits:
            raise ConfigError(
                f"the run's data have no split {split!r}",
                where="--split",
                fix=f"choose one of: {', '.join(splits)}",
            )
        return split, open_source(self._prepared_data(loaded, split, "--split"), split)

    def _prepared_data(self, loaded: "LoadedRun", split: str, where: str) -> Path:
        """Returns the prepared folder, with the examples of a split that the run was made with."""
        from tfxc.data.store.manifest import Manifest
        from tfxc.data.store.preparation import ensure_prepared

        folder = ensure_prepared(loaded.config.data, self.prepared)
        if Manifest.load(folder).num_labels != loaded.manifest["num_labels"]:
            raise ConfigError(
                "labels were added to the run or removed, and its prepared data have others",
                where=where,
                fix="name a file with --data, and give --exclude without a value",
            )
        loaded.folder.check_data(folder, {"labels", "text features", f"records of {split}"})
        return folder

    def _split_of(self, loaded: "LoadedRun") -> str:
        splits = loaded.manifest["splits"]
        split = self.split or next(s for s in ("test", "dev", "train") if s in splits)
        held_out = loaded.folder.held_out_runs()
        if held_out and (split == "dev" or (self.split is None and split == "train")):
            raise ConfigError(
                "the run was trained on all examples of its training file, also on those that "
                "were held out before",
                where="--split",
                fix=f"name other examples with --data, or measure {held_out[0].path}, which was "
                "trained without its dev split",
            )
        return split

    def _reader(self, loaded: "LoadedRun") -> "Reader":
        """Returns a new reader of ``data``."""
        assert self.data is not None, "callers read a file"
        return reader_of_file(
            loaded,
            self.data,
            self.reader,
            self.reader_options,
            self.features,
            self.skip_unlabelled,
        )

    def same_rows_as(self, loaded: "LoadedRun") -> Self:
        """Returns options by which every run reads the rows of the data file that this one does."""
        return dataclasses.replace(self, skip_unlabelled=loaded.config.data.skip_unlabelled)

    def texts(self, loaded: "LoadedRun", split: str, wanted: set[int]) -> dict[int, str]:
        """Returns {example: text} of some of ``examples``, where they are texts.

        Args:
            loaded: the run.
            split: the name that ``examples`` returned.
            wanted: numbers of examples, from 0.
        """
        from tfxc.data.reading.example_texts import texts_of
        from tfxc.data.reading.held_out import open_split

        if loaded.text_features is None or (split == "train" and not self.data):
            return {}  # the training split is shuffled
        if self.data:
            return texts_of(lambda: self._reader(loaded), wanted)
        return texts_of(lambda: open_split(loaded.config.data, split), wanted)

    def excluded(self, loaded: "LoadedRun", rows: "Examples") -> "Exclusions | None":
        """Returns the labels that do not count for the examples, see ``evaluation.exclude``.

        They are the same for a split and for its file.

        Args:
            loaded: the run.
            rows: what ``examples`` returned.

        Raises:
            ConfigError: an exclusion that does not exist, or is not known for the file.
            CheckpointError: the training examples are not those of the run.
        """
        from tfxc.core.settings import SPLIT, check_exclusion
        from tfxc.data.sources.exclusions import exclusions, exclusions_of_file
        from tfxc.data.sources.shards import open_source

        data = loaded.config.data
        for kind in self.exclude or ():
            if not self.data:
                check_exclusion(kind, "--exclude")
            if kind in ("train", "self") and data.label_texts is None:
                raise ConfigError(
                    f"{kind!r} needs texts of labels, and the run's data have none",
                    where="--exclude",
                    fix="leave it out",
                )
        kinds = list(loaded.config.evaluation.exclude if self.exclude is None else self.exclude)
        if not kinds:
            return None
        if not self.data:
            prepared = self._prepared_data(loaded, "train", "--exclude")
            examples = cast("Source", rows)
            training = open_source(prepared, "train")
            return exclusions(prepared, self._split_of(loaded), kinds, examples, training)
        folder: Path | None = None
        train: Source | None = None
        if "train" in kinds:
            folder = self._prepared_data(loaded, "train", "--exclude")
            train = open_source(folder, "train")
        for place, kind in enumerate(kinds):
            if SPLIT in kind:
                kinds[place] = kind.replace(SPLIT, self._split_of_file(loaded, kind))
        return exclusions_of_file(
            self._reader(loaded),
            kinds,
            loaded.vocabulary,
            loaded.label_texts,
            data.self_part,
            folder,
            train,
        )

    def _split_of_file(self, loaded: "LoadedRun", kind: str) -> str:
        """Returns the split of the run's data that a file is."""
        from tfxc.data.reading.source_files import source_path

        assert self.data is not None, "callers read a file"
        for split in ("dev", "test", "train"):
            source = getattr(loaded.config.data, split)
            if not source:
                continue
            place = os.path.realpath(source_path(source))
            if str(self.data) == source or os.path.realpath(self.data) == place:
                return split
        raise ConfigError(
            f"{kind} is a file for each split, and {self.data} is not a split of the run",
            where="--exclude",
            fix="name the file for these examples, or write --exclude alone for none",
        )

    def batch_size_for(self, loaded: "LoadedRun") -> int:
        """Returns examples per batch."""
        return self.batch_size or loaded.config.evaluation.batch_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement(ExamplesOptions):
    """The examples a run is measured on, and what is measured.

    Attributes:
        threshold: lowest score of a predicted label, for F1; None means the config's.
        full_loss: also measure the cross-entropy over all labels, even if the config does not.
        labels: number of labels to search for each example if there is a threshold.
        max_wrong: list at most N wrong examples in the tables, highest scores first.

    Example:
        measurement = Measurement(split="dev", k=(1, 5))
        name, rows = measurement.examples(loaded)
        metrics = measurement.metrics(loaded)
        measurement.update(loaded, rows, metrics)
        metrics.result()["P@1"]
    """

    threshold: float | None = None
    full_loss: bool = False
    labels: Count = 100
    max_wrong: Count = 10_000

    def metrics(self, loaded: "LoadedRun") -> "MetricSuite":
        """Returns the metrics of the run, not yet updated.

        Raises:
            ConfigError: the run has no labels, or a cut-off is larger than their number.
        """
        from tfxc.core.declared import check_k
        from tfxc.decision.decision import Decision
        from tfxc.inference.decision import classification_of, measures_full_loss
        from tfxc.metrics.suite import build_metrics, metrics_of_decision, metrics_of_pairs

        loaded.require_labels()
        settings = loaded.config.evaluation
        splits = loaded.manifest["splits"]
        num_labels = loaded.manifest["num_labels"]
        counts = loaded.label_counts
        # As in training, a config's cut-offs that a small label set has not are left out.
        ks = tuple(self.k or (k for k in settings.k if k <= num_labels))
        for k in ks:
            check_k(k, num_labels)
        decision = self.decision(loaded)
        classification = classification_of(
            decision,
            loaded.single_label,
            num_labels,
            loaded.vocabulary.names if num_labels == 2 else (),
        )
        # Sets that only the tables know are no part of the metrics.
        rule = Decision() if classification is None else decision
        calibrated = loaded.model.decision.calibration is not None
        likely = decision.probabilities and (calibrated or not rule.best_alone)
        more = metrics_of_pairs(ks, self._trained(loaded), settings.ranks)
        return build_metrics(
            ks=ks,
            label_counts=counts,
            num_train_examples=None if counts is None else splits["train"]["examples"],
            propensity=settings.propensity,
            full_loss=self.full_loss or measures_full_loss(settings, loaded.model),
            classification=classification,
            more=more + metrics_of_decision(rule, ks, likely, counts),
        )

    def _trained(self, loaded: "LoadedRun") -> "LabelSlices | None":
        """Returns labels with and without training examples, where the latter have texts."""
        from tfxc.labels.slices import trained_slices

        counts = loaded.label_counts
        if loaded.config.data.label_texts is None or counts is None or (counts > 0).all():
            return None
        return trained_slices(counts)

    def decision(self, loaded: "LoadedRun") -> "Decision":
        """Returns the rule by which labels count as predicted."""
        from tfxc.inference.decision import decision_of

        of_config = loaded.config.evaluation.threshold
        threshold = of_config if self.threshold is None else self.threshold
        return decision_of(loaded.model, loaded.single_label, threshold)

    def decisions(self, loaded: "LoadedRun") -> "Decisions":
        """Returns ``Decisions`` of the run, not yet updated."""
        from tfxc.reports.decisions import Decisions

        return Decisions(self.decision(loaded), loaded.vocabulary.names, self.max_wrong)

    def update(
        self,
        loaded: "LoadedRun",
        rows: "Examples",
        metrics: "MetricSuite",
        decisions: "Decisions | None" = None,
        curve: "RepetitionCurve | None" = None,
        compared: "Agreement | None" = None,
    ) -> "tuple[dict[str, np.ndarray], Counter[str]]":
        """Finds the labels of the examples; updates the metrics and all else that is given.

        Returns:
            {name: per-example values}, and how often each label occurs that the run does not know.

        Raises:
            DataError: there is no example.
        """
        import numpy as np

        from tfxc.inference.searcher import Searcher

        num_labels = loaded.manifest["num_labels"]
        rule = decisions.decision if decisions else metrics.decision
        depth = rule.depth(metrics.min_predictions, num_labels, self.labels)
        full_loss = "full_loss" in metrics.names
        probabilities = rule.probabilities and (decisions is not None or not rule.best_alone)
        probabilities |= "AURC" in metrics.names
        searcher = Searcher(
            loaded.model,
            depth,
            loaded.options.search,
            full_loss,
            probabilities,
            ranks="MRR" in metrics.names,
            excluded=self.excluded(loaded, rows),
            compared=compared,
        )
        parts = []
        unknown = Counter[int]()
        watch = curve.update if curve else None
        for batch in searcher.over(rows, self.batch_size_for(loaded), "evaluating", watch):
            metrics.update(*batch)
            parts.append(metrics.per_example(*batch))
            if decisions:
                decisions.update(batch)
            unknown.update(batch.labels[batch.labels >= num_labels].tolist())
        left_out = cast("RowStream", rows).left_out() if self.data else 0
        if parts and left_out:
            NOTES.info(f"{self.data}: {left_out:,} rows without a label are left out")
        if not parts:
            raise DataError(
                f"none of the {left_out:,} rows has a label"
                if left_out
                else "there is no example to evaluate",
                where=self.data or self.split,
                fix="check the file and the reader's options",
            )
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        names: Sequence[str] = ()  # of the labels from num_labels on
        if unknown and self.data:
            names = cast("RowStream", rows).unknown
        elif unknown:  # a linear ranker without such labels needs no TensorFlow
            from tfxc.data.store.manifest import UNSEEN_LABELS_FILE
            from tfxc.data.store.preparation import ensure_prepared
            from tfxc.labels.vocabulary import LabelVocabulary

            folder = ensure_prepared(loaded.config.data, self.prepared)
            names = LabelVocabulary.load(folder / UNSEEN_LABELS_FILE).names
        return values, Counter({names[id_ - num_labels]: n for id_, n in unknown.items()})


def of_unknown_labels(counts: Counter[str], loaded: "LoadedRun") -> str:
    """Says how many of the true labels a run does not know, and which; often its own, misspelt.

    Args:
        counts: how often each occurs, as ``Measurement.update`` returns it.
        loaded: the run.

    Example:
        >>> of_unknown_labels(Counter(["3.0", "3.0"]), loaded)       # doctest: +SKIP
        "2 of their labels are unknown to the run: '3.0' ('3.0' and '3' differ only in the format \
of a number)"
    """
    from tfxc.labels.look_alikes import first_twins, how_they_differ

    names = [name for name, _ in counts.most_common(_SHOWN_LABELS)]
    text = f"{counts.total():,} of their labels are unknown to the run: "
    text += ", ".join(map(repr, names)) + (", ..." if len(counts) > len(names) else "")
    twins = first_twins(names, loaded.vocabulary.names)
    return text if twins is None else f"{text} ({how_they_differ(*twins)})"


def is_training_file(loaded: "LoadedRun", file: str | Path) -> bool:
    """Tells whether a file has the bytes of the one that a run was trained on.

    Args:
        loaded: the run.
        file: which may be no file, as a folder of images; that is taken for another one.
    """
    source = (loaded.manifest.get("sources") or {}).get("train") or {}
    has_several_splits = "train" in loaded.config.data.split_options
    if source.get("sha256") is None or has_several_splits or not Path(file).is_file():
        return False
    if os.path.getsize(file) != source["bytes"]:
        return False
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == source["sha256"]


def reader_of_file(
    loaded: "LoadedRun",
    path: str | Path,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
    features: str | None = None,
    skip_unlabelled: bool | None = None,
) -> "Reader":
    """Returns the reader of a file for a run; what is not given is as in the run's own data.

    Args:
        loaded: the run.
        path: the file.
        name: of the reader.
        options: of the reader.
        features: matrix of the features of its examples, or None.
        skip_unlabelled: whether examples without labels are left out.

    Raises:
        ConfigError: no such reader, or an option it has not.
        DataError: the file cannot be read.
    """
    from tfxc.core.settings import MAX_LINE_BYTES
    from tfxc.core.storage.compression import ending_of
    from tfxc.data.reading.formats import open_reader
    from tfxc.data.reading.given_features import with_features
    from tfxc.data.reading.held_out import Subset
    from tfxc.data.reading.source_files import options_of_file

    data = loaded.config.data
    arguments = {}
    longest = MAX_LINE_BYTES
    # What was said about the training file says nothing about a file of another format.
    if name is None and ending_of(path) == ending_of(data.train):
        name = data.reader
        longest = data.max_line_bytes
        arguments = options_of_file(data, path)
    arguments = {**arguments, **(options or {})}
    reader = open_reader(path, name, longest, **arguments)
    reader = with_features(reader, features, loaded.input_kind)
    skips = data.skip_unlabelled if skip_unlabelled is None else skip_unlabelled
    # A part of a reader's examples has all that a reader has.
    return cast("Reader", Subset(reader)) if skips else reader
