"""Learns the decision of a trained run, and writes it into its folder."""

from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.storage import checksums
from tfxc.data.sources.shards import open_source
from tfxc.decision.fitted import DECISION, FittedDecision
from tfxc.inference.deciding import Examined, learn_decision
from tfxc.training.evaluation import evaluation_of_texts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tfxc.core.settings import Config, DecisionSettings
    from tfxc.runs.loaded import LoadedRun

_READ_BYTES = 1 << 28  # of records at once


def decide(
    loaded: "LoadedRun", examined: "Iterable[Examined]", settings: "DecisionSettings"
) -> dict[str, float]:
    """Writes a decision into a run, in place of the one it may have.

    The loaded model has it from then on.

    Args:
        loaded: the run.
        examined: examples, and what was not trained on them: the run itself, or others like it.
        settings: the config's section.

    Returns:
        How good it is, see ``Learned``.

    Raises:
        ConfigError, DataError: as ``learn_decision``.
        MachineError: the run folder cannot be written to.
    """
    size = loaded.config.evaluation.batch_size
    names = loaded.vocabulary.names
    learned = learn_decision(examined, size, settings, label_counts(loaded), names)
    keep(loaded, learned.fitted)
    return learned.measured


def keep(loaded: "LoadedRun", fitted: FittedDecision) -> None:
    """Writes a decision into a run, in place of the one it may have; the loaded model has it, too.

    Raises:
        MachineError: the run folder cannot be written to.
    """
    with checksums.replaced(loaded.folder.path, DECISION):
        fitted.save(loaded.folder.path)
    loaded.model.decision = fitted


def label_counts(loaded: "LoadedRun") -> np.ndarray:
    """Returns the training examples of each label, int64 (num_labels,): 0 of an imported run."""
    counts = loaded.label_counts
    return np.zeros(loaded.manifest["num_labels"], np.int64) if counts is None else counts


def of_dev(loaded: "LoadedRun", config: "Config", data_folder: "Path") -> Examined:
    """Returns the dev split of a prepared folder, and a run that was not trained on it."""
    dev = open_source(data_folder, "dev", _READ_BYTES)
    kinds = config.evaluation.exclude
    train = open_source(data_folder, "train", _READ_BYTES) if kinds else None
    texts = evaluation_of_texts(data_folder, kinds, train, dev=dev)
    excluded = None if texts is None else texts.excluded.get("dev")
    return Examined(loaded.model, dev, loaded.vocabulary.names, excluded)


def decision_line(measured: dict[str, float]) -> str:
    """Returns the result as a line of text.

    Example:
        >>> decision_line(
        ...     {
        ...         "micro-F1": 0.567,
        ...         "macro-F1": 0.387,
        ...         "without a label": 0.013,
        ...         "coverage": 0.61,
        ...         "labels": 2.2,
        ...     }
        ... )
        'decision: micro-F1 56.70, macro-F1 38.70, 2.2 labels each with 61.0 % of the true ones, \
1.3 % of the examples without a label'
    """
    if not measured:
        return "decision: probabilities learned"
    shares = ", ".join(f"{name} {100 * measured[name]:.2f}" for name in ("micro-F1", "macro-F1"))
    empty = 100 * measured["without a label"]
    sets = f"{measured['labels']:.1f} labels each with {100 * measured['coverage']:.1f} %"
    without = f"{empty:.1f} % of the examples without a label"
    return f"decision: {shares}, {sets} of the true ones, {without}"
