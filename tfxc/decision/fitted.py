"""What a run has learned of its decision, and its file."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.storage.files import write_json
from tfxc.core.storage.reading import read_json
from tfxc.decision.calibration import Calibration
from tfxc.decision.decision import Decision

#: The file of a run.
DECISION = "decision.json"
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
        """Returns the decision for more labels: the new ones have the others' median threshold,
        and their median gain.
        """
        if self.rule is None:
            return self
        arrays: dict[str, Any] = {}
        for name, known in (("of_labels", self.rule.of_labels), ("gains", self.rule.gains)):
            if known is not None:
                more = np.full(num_labels - len(known), np.median(known), np.float32)
                arrays[name] = np.concatenate([known, more])
        return dataclasses.replace(self, rule=dataclasses.replace(self.rule, **arrays))

    def content(self) -> dict[str, Any]:
        """Returns what ``of`` makes the same decision of, as JSON takes it."""
        return {
            "format": _FORMAT,
            "calibration": None if self.calibration is None else self.calibration.content(),
            "rule": None if self.rule is None else self.rule.content(),
        }

    @classmethod
    def of(cls, content: Mapping[str, Any], num_labels: int) -> "FittedDecision":
        """Returns the decision that ``content`` describes.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it describes none, or one of other
                labels.
        """
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT}")
        calibration = content["calibration"]
        rule = content["rule"]
        return cls(
            None if calibration is None else Calibration.of(calibration),
            None if rule is None else Decision.of(rule, num_labels),
        )

    def save(self, folder: Path) -> None:
        """Writes ``DECISION`` into a run folder; without any decision, there is none then."""
        if self.calibration is not None or self.rule is not None:
            write_json(folder / DECISION, self.content(), indent=None)
        else:
            (folder / DECISION).unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, num_labels: int) -> "FittedDecision":
        """Reads the file that ``save`` wrote; without it there is no decision.

        Raises:
            DataError: the file is damaged, or does not fit the labels.
        """
        path = folder / DECISION
        if not path.is_file():
            return cls()
        content = read_json(path, fix=_AGAIN)
        try:
            return cls.of(content, num_labels)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"this is not a decision ({error})", where=path, fix=_AGAIN) from error
