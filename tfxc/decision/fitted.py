"""What a run has learned of its decision, and its files."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.storage.files import write_array, write_json
from tfxc.core.storage.reading import read_array, read_json
from tfxc.decision.calibration import Calibration
from tfxc.decision.decision import Decision

#: Files of a run.
DECISION = "decision.json"
THRESHOLDS = "decision_thresholds.npy"
_FORMAT = 1
_AGAIN = "restore the run's own files, or run tfxc decide again"


@dataclasses.dataclass(frozen=True, eq=False)
class FittedDecision:
    """How a run's scores become probabilities, and which labels it returns.

    Attributes:
        calibration: of the scores; None where they stay, or the model has probabilities.
        rule: which labels are returned; None where none was learned.
    """

    calibration: Calibration | None = None
    rule: Decision | None = None

    def with_labels(self, num_labels: int) -> "FittedDecision":
        """Returns the decision for more labels: the new ones have the others' median threshold."""
        if self.rule is None or self.rule.of_labels is None:
            return self
        known = self.rule.of_labels
        more = np.full(num_labels - len(known), np.median(known), np.float32)
        rule = dataclasses.replace(self.rule, of_labels=np.concatenate([known, more]))
        return dataclasses.replace(self, rule=rule)

    def save(self, folder: Path) -> list[str]:
        """Writes what there is into a run folder; returns the names of the files."""
        if self.calibration is None and self.rule is None:
            return []
        rule: dict[str, Any] | None = None
        names = [DECISION]
        if self.rule is not None:
            rule = dataclasses.asdict(self.rule) | {"of_labels": self.rule.of_labels is not None}
            if self.rule.of_labels is not None:
                write_array(folder / THRESHOLDS, self.rule.of_labels)
                names.append(THRESHOLDS)
        calibration = None if self.calibration is None else self.calibration.content()
        content = {"format": _FORMAT, "calibration": calibration, "rule": rule}
        write_json(folder / DECISION, content, indent=None)
        return names

    @classmethod
    def load(cls, folder: Path, num_labels: int) -> "FittedDecision":
        """Reads the files that ``save`` wrote; without any there is nothing in it.

        Raises:
            DataError: a file is damaged, or does not fit the labels.
        """
        path = folder / DECISION
        if not path.is_file():
            return cls()
        content = read_json(path, fix=_AGAIN)
        try:
            if content["format"] != _FORMAT:
                raise ValueError(f"its format is not {_FORMAT}")
            calibration = content["calibration"]
            rule = content["rule"]
            if rule is not None:
                own = rule.pop("of_labels")
                of_labels = read_array(folder / THRESHOLDS, fix=_AGAIN) if own else None
                if of_labels is not None and of_labels.shape != (num_labels,):
                    raise ValueError(
                        f"it has thresholds of {len(of_labels):,} labels, not {num_labels:,}"
                    )
                rule = Decision(**rule, of_labels=of_labels)
            return cls(None if calibration is None else Calibration.of(calibration), rule)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"this is not a decision ({error})", where=path, fix=_AGAIN) from error
