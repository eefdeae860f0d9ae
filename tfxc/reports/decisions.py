"""What a run decides for each example: its labels, precision, recall and F1, and the tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.metrics.classification import positive_label
from tfxc.metrics.per_label import PerLabel
from tfxc.metrics.probability_errors import RiskCoverage
from tfxc.metrics.reliability import Reliability
from tfxc.metrics.returned import SetSizes
from tfxc.reports.tables import average_rows, write_tables

if TYPE_CHECKING:
    from tfxc.decision.decision import Decision
    from tfxc.inference.searcher import SearchResult
    from tfxc.runs.loaded import LoadedRun

_RANKS = 5  # that have a reliability diagram of their own


class Decisions:
    """Collects the predicted labels, and writes them.

    Args:
        decision: ``Decision``, see ``tfxc.training.evaluation.decision_of``.
        names: label names by id.
        most: wrong examples to keep.

    Attributes:
        per_label: ``PerLabel``.
        reliability: {what is counted: ``Reliability``}, where scores are probabilities.
        risk: ``RiskCoverage``, where scores are probabilities; else None.
        sizes: ``SetSizes``; None where the best label alone is returned.
    """

    def __init__(self, decision: "Decision", names: Sequence[str], most: int) -> None:
        self.decision = decision
        self.per_label = PerLabel(len(names), decision, most, positive_label(names))
        self.reliability: dict[str, Reliability] = {}
        self.risk: RiskCoverage | None = None
        self.sizes: SetSizes | None = None
        if decision.probabilities:
            self.risk = RiskCoverage()
            self.reliability["best label of each example"] = Reliability()
            if not decision.best_alone:
                for rank in range(2, _RANKS + 1):
                    self.reliability[f"label at rank {rank}"] = Reliability(first=rank, last=rank)
                self.reliability["all labels searched"] = Reliability(last=None)
        if not decision.best_alone:
            self.sizes = SetSizes(decision)

    def update(self, result: "SearchResult") -> None:
        """Counts the labels of a batch.

        Raises:
            ConfigError: as ``PerLabel.update``.
        """
        self.per_label.update(*result)
        for metric in (*self.reliability.values(), self.risk, self.sizes):
            if metric is not None:
                metric.update(*result)

    @property
    def scores(self) -> str:
        """What the scores of predictions are called."""
        return "probabilities" if self.decision.probabilities else "scores"

    def write_tables(
        self, folder: str | Path, loaded: "LoadedRun", texts: Mapping[int, str]
    ) -> tuple[list[tuple[Any, ...]], ...]:
        """Writes the three tables; arguments see ``write``; returns the rows of the three."""
        names = loaded.vocabulary.names
        counts = loaded.label_counts
        assert counts is not None  # see ``LoadedRun.require_counts``
        return write_tables(folder, self.per_label, names, counts, texts, self.scores)

    def write(self, folder: str | Path, loaded: "LoadedRun", texts: Mapping[int, str]) -> str:
        """Writes the three tables.

        Args:
            folder: created if necessary.
            loaded: ``LoadedRun``.
            texts: {example: text} of wrong examples, possibly empty.

        Returns:
            The averages and what was written, as text.
        """
        from tfxc.core.storage.files import atomic_files

        folder = Path(folder)
        per_label = self.per_label
        with atomic_files(folder) as scratch:
            self.write_tables(scratch, loaded, texts)
        rows = average_rows(per_label, loaded.vocabulary.names)
        width = max(len(name) for name, *_ in rows)
        lines = [
            f"of the {self.decision}, in %:",
            " ".ljust(width) + "  precision   recall       F1",
        ]
        for name, *values in rows:
            cells = "".join(f"{100 * value:9.2f}" for value in values)
            lines.append(f"{name.ljust(width)}  {cells}")
        lines.append(f"accuracy: {100 * per_label.classification.result()['accuracy']:.2f}")
        num_kept = len(per_label.wrong)
        if num_kept < per_label.num_wrong:
            lines.append(
                f"of {per_label.num_wrong:,} wrong examples the {num_kept:,} most confident are "
                "kept"
            )
        if per_label.pairs_left_out:
            lines.append("of the confused pairs the most frequent million is kept")
        lines.append(f"written: {folder}/labels.csv, confusions.csv and wrong.csv")
        return "\n".join(lines)
