"""What is measured while a model is trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfxc.core.storage.reading import read_array
from tfxc.data.label_texts import has_label_texts
from tfxc.data.store.manifest import LABEL_COUNTS_FILE, LABELS_FILE, Manifest
from tfxc.inference.decision import classification_of, decision_of, measures_full_loss
from tfxc.inference.protocol import RunModel
from tfxc.inference.searcher import Searcher
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.metrics.suite import build_metrics, metrics_of_pairs
from tfxc.runs.dev_examples import MOST_ANSWERS

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.sources.base import Source
    from tfxc.data.sources.exclusions import Exclusions
    from tfxc.labels.slices import LabelSlices


# Not the run's seed: runs that are compared see the same slice.
_SLICE_SEED = 987_654_321


class Evaluation:
    """Measures a model on the splits of its data.

    Args:
        model: ``RunModel``.
        config: ``Config``.
        labels: what ``labels_of`` says of the training split.
        train: training ``Source``; None if the loss over all labels is not measured.
        dev, test: ``Source``s, or None.
        label_texts: what is known of labels and examples by their texts, or None.

    Attributes:
        metrics: ``MetricSuite`` of the dev and the test split.
        full_loss: whether the loss over all labels is one of them.
        dev_answers: best label and true labels of each of the first examples of the dev split, as
            it was measured last; see ``tfxc.runs.dev_examples``.

    Example:
        >>> labels = labels_of(folder, model.num_labels)                   # doctest: +SKIP
        >>> Evaluation(model, config, labels, train, dev).of_dev()["P@1"]  # doctest: +SKIP
        0.71
    """

    def __init__(
        self,
        model: RunModel,
        config: "Config",
        labels: tuple[bool, Sequence[str]],
        train: "Source | None",
        dev: "Source | None" = None,
        test: "Source | None" = None,
        label_texts: "EvaluationOfTexts | None" = None,
    ) -> None:
        settings = config.evaluation
        num_labels = model.num_labels
        self.dev_answers: list[tuple[int, list[int]]] = []
        self._dev = dev
        self._test = test
        self._batch_size = settings.batch_size
        self.full_loss = measures_full_loss(settings, model)
        ks = tuple(k for k in settings.k if k <= num_labels)
        single_label, names = labels
        decision = decision_of(model, single_label, settings.threshold)
        self.metrics = build_metrics(
            ks=ks,
            full_loss=self.full_loss,
            classification=classification_of(decision, single_label, num_labels, names),
            more=metrics_of_pairs(ks, label_texts and label_texts.trained, settings.ranks),
        )
        depth = self.metrics.decision.depth(self.metrics.min_predictions, num_labels)
        excluded = {} if label_texts is None else label_texts.excluded
        self._searcher = Searcher(model, depth, full_loss=self.full_loss)
        self._searchers = {
            split: Searcher(
                model, depth, full_loss=self.full_loss, ranks=settings.ranks,
                excluded=excluded.get(split),
            )
            for split in ("dev", "test")
        }  # fmt: skip
        self._slice: list[dict[str, Any]] = []
        if self.full_loss and settings.train_slice:
            assert train is not None
            self._slice = slice_batches(train, settings.train_slice, self._batch_size)

    @property
    def has_dev(self) -> bool:
        """Whether there is a dev split."""
        return self._dev is not None

    @property
    def has_any(self) -> bool:
        """Whether there is anything to measure during training."""
        return self.has_dev or bool(self._slice)

    @property
    def dev_examples(self) -> int:
        """Number of examples of the dev split; 0 without one."""
        return 0 if self._dev is None else self._dev.num_examples

    def of_dev(self) -> dict[str, float]:
        """Returns results on the dev split, ``{name: value}``; empty without one."""
        return self._results_of(self._dev, "dev")

    def of_test(self) -> dict[str, float]:
        """Returns results on the test split, ``{name: value}``; empty without one."""
        return self._results_of(self._test, "test")

    def of_training(self) -> dict[str, float]:
        """Returns the loss over all labels on the slice of the training split; empty without it."""
        if not self._slice:
            return {}
        losses = np.concatenate([self._searcher.find(batch).losses for batch in self._slice])
        known = losses[~np.isnan(losses)]
        return {"full_loss": float(known.mean(dtype=np.float64))} if len(known) else {}

    def _results_of(self, source: "Source | None", split: str) -> dict[str, float]:
        if source is None:
            return {}
        self.metrics.reset()
        answers: list[tuple[int, list[int]]] = []
        for batch in self._searchers[split].over(source, self._batch_size):
            self.metrics.update(*batch)
            if len(answers) < MOST_ANSWERS:
                best = batch.ids[:MOST_ANSWERS, 0].tolist()
                answers += zip(best, batch.labels[:MOST_ANSWERS].tolist(), strict=True)
        if split == "dev":
            self.dev_answers = answers[:MOST_ANSWERS]
        return self.metrics.result()


class EvaluationOfTexts(NamedTuple):
    """What is known of labels and examples by their texts.

    Attributes:
        trained: ``labels.slices.trained_slices``; None where all labels have training examples.
        excluded: ``Exclusions`` by split, where some are wanted.
    """

    trained: "LabelSlices | None"
    excluded: "Mapping[str, Exclusions]"


def evaluation_of_texts(
    data_folder: str | Path, kinds: Sequence[str], train: "Source | None", **splits: "Source"
) -> EvaluationOfTexts | None:
    """Returns what is known of labels without an example, and of labels that do not count.

    None where there is neither.

    Args:
        data_folder: prepared data.
        kinds: ``evaluation.exclude`` of the config.
        train: the training split; needed if there are any ``kinds``.
        **splits: those that are measured.
    """
    if not kinds and not has_label_texts(data_folder):
        return None
    from tfxc.data.sources.exclusions import exclusions

    trained = None
    if has_label_texts(data_folder):
        from tfxc.labels.slices import trained_slices

        counts = read_array(Path(data_folder) / LABEL_COUNTS_FILE)
        trained = None if (counts > 0).all() else trained_slices(counts)
    excluded = {
        name: exclusions(data_folder, name, kinds, source, train)
        for name, source in splits.items()
        if kinds and train is not None
    }
    return EvaluationOfTexts(trained, excluded)


def labels_of(data_folder: str | Path, num_labels: int) -> tuple[bool, Sequence[str]]:
    """Tells whether each training example has one label; the label names, empty of other than two.

    Args:
        data_folder: prepared data.
        num_labels: their number.
    """
    single_label = Manifest.load(data_folder).splits["train"].single_label
    path = Path(data_folder) / LABELS_FILE
    return single_label, LabelVocabulary.load(path).names if num_labels == 2 else ()


def slice_batches(source: "Source", count: int, batch_size: int) -> list[dict[str, Any]]:
    """Returns the batches of training examples that are drawn once, the same in every training on
    the set.

    Args:
        source: ``Source``.
        count: number of examples, at most as many as there are; rounded down to whole batches.
        batch_size: examples of a batch.
    """
    count = min(count, source.num_examples)
    size = min(count, batch_size)
    batches = [source.batch(_SLICE_SEED, step, size) for step in range(count // size)]
    for batch in batches:
        batch["features"] = source.kind.decode(batch["features"], source.image_shape)
    return batches
